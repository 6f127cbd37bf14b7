"""From a phrase to folders of spoken clips that a detector can learn from: the phrase, alone and
within sentences; what sounds like it and is not it; ordinary sentences. All are spoken by the same
engines (but for a phrase with a pronunciation of its own, which only some can say), so that being
spoken says nothing.

    FOLDER/neighbours.txt          what sounds like the phrase; found once, then a user's to edit
    FOLDER/words/PHRASE/*.wav      and words/NEIGHBOUR/*.wav
    FOLDER/carried/PHRASE/*.wav    the phrase somewhere in a few words
    FOLDER/sentences/*/*.wav

What is there is not spoken again.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from kws.errors import DataError
from kws.files import write_atomically
from kws.synth import phonemes, phrase
from kws.synth.confusables import explain_unknown_words, pronunciations
from kws.synth.corpus import format_confusables, progress, read_phrase_list
from kws.synth.engines import registry
from kws.synth.engines.base import SpeechEngine
from kws.synth.plan import PlannedClip, file_under_word, plan_clips
from kws.synth.render import speak
from kws.training.data.keyword_data import DataFolders

MAX_CONFUSABLES = 60  # words that share sounds; their parts and orders come on top
CONFUSABLE_CLIP_RATIO, SENTENCE_CLIP_RATIO = 0.015, 0.005  # of each, for one clip of the phrase
IN_CONTEXT_CLIP_RATIO = 0.2  # of all carriers together
WORDS, IN_CONTEXT, SENTENCES = "words", "carried", "sentences"

logger = logging.getLogger("kws")


@dataclass(frozen=True)
class SynthConfig:
    """What is to be spoken: clips of the phrase, and how it is pronounced (ARPAbet), if not
    as spelled."""

    phrase: str
    clips: int = 800
    seed: int = 0
    pronunciations: tuple[str, ...] = ()
    piper_voices: tuple[str, ...] = ()
    # Of the first round: with the second, and the speaking, within half an hour on two cores.
    epochs: ClassVar[int] = 12

    @property
    def name(self) -> str:
        """The word as a model names it."""
        return phrase.folder_name(phrase.normalize(self.phrase))

    @property
    def sounds(self) -> tuple[str, ...]:
        """The ways to pronounce it, each a letter for a sound. Raises SynthError where that cannot
        be found out."""
        kokoro_phones = [
            phonemes.to_kokoro(phonemes.normalize(each)) for each in self.pronunciations
        ]
        return pronunciations(phrase.normalize(self.phrase), kokoro_phones)


def spoken(speech: SynthConfig, folders: DataFolders) -> DataFolders:
    """The folders, with those of spoken clips below `folders.data`; speaks what is missing there.
    Clips of other plans are left out.

    Raises KwsError where the phrase cannot be spoken.
    """
    text, arpabet = (
        phrase.normalize(speech.phrase),
        tuple(map(phonemes.normalize, speech.pronunciations)),
    )
    found = registry.found(piper_voices=speech.piper_voices)
    for note in (
        (*phrase.explain_capitals(speech.phrase), *explain_unknown_words(text))
        if not arpabet
        else ()
    ):
        logger.warning(note)
    for engine, requirement in found.unavailable:
        logger.warning(f"{engine.name} does not speak, it needs {requirement}: {engine.install}")
    confusables = _load_confusables(text, arpabet, folders.data)
    clip_plans = _plan_folders(speech, text, arpabet, confusables, found.available)
    for subfolder, description, clips in clip_plans:
        if any(not (folders.data / subfolder / clip.file).exists() for clip in clips):
            logger.info(f"speaking {description}: {len(clips)} clips")
            for error_message in speak(
                clips, found.available, folders.data / subfolder, progress=progress
            ).error_messages:
                logger.warning(error_message)
    planned_paths = {
        folders.data / subfolder / clip.file for subfolder, _, clips in clip_plans for clip in clips
    }
    subfolders = {subfolder for subfolder, _, clips in clip_plans if clips}
    return replace(
        folders,
        data=folders.data / WORDS,
        negatives=(folders.data / SENTENCES, *folders.negatives),
        in_context=(
            *([folders.data / IN_CONTEXT] if IN_CONTEXT in subfolders else []),
            *folders.in_context,
        ),
        confusables=True,
        excluded=frozenset(
            path for path in folders.data.rglob("*.wav") if path not in planned_paths
        ),
    )


def _plan_folders(
    speech: SynthConfig,
    text: str,
    arpabet: Sequence[str],
    confusables: Sequence[str],
    available: Sequence[SpeechEngine],
) -> list[tuple[str, str, list[PlannedClip]]]:
    """Where each kind of clips belongs, what it is, and the clips."""
    clips_per_confusable, clips_per_sentence = (
        max(round(speech.clips * share), 1)
        for share in (CONFUSABLE_CLIP_RATIO, SENTENCE_CLIP_RATIO)
    )
    # Engines say these as they are spelled.
    carriers = [] if arpabet else [carrier.format(text) for carrier in _read_lines("carriers.txt")]
    each = max(round(speech.clips * IN_CONTEXT_CLIP_RATIO / max(len(carriers), 1)), 1)
    sentences = [
        line
        for line in _read_lines("sentences.txt")
        if f" {text} " not in f" {' '.join(re.findall(r'[a-z]+', line.lower()))} "
    ]
    in_context_clips = [
        file_under_word(clip, speech.name)
        for clip in plan_clips(carriers, each, available, speech.seed)
    ]
    return [
        (WORDS, "the phrase", plan_clips([text], speech.clips, available, speech.seed, arpabet)),
        (
            WORDS,
            "what sounds like it",
            plan_clips(confusables, clips_per_confusable, available, speech.seed),
        ),
        (IN_CONTEXT, "the phrase within a few words", in_context_clips),
        (SENTENCES, "sentences", plan_clips(sentences, clips_per_sentence, available, speech.seed)),
    ]


def _load_confusables(text: str, pronunciations: Sequence[str], folder: Path) -> list[str]:
    """What the list says; those of which a folder could not be told from the phrase's are
    passed over."""
    path = folder / "neighbours.txt"
    if not path.exists():
        write_atomically(
            path, (format_confusables(text, pronunciations, MAX_CONFUSABLES) + "\n").encode()
        )
        logger.info(
            f"{path} lists what sounds like '{text}': edit it, and give the same command again, "
            "to have other words told from it"
        )
    listed_phrases = list(dict.fromkeys(map(phrase.normalize, read_phrase_list(path))))
    if text in listed_phrases:
        raise DataError(f"{path}: lists '{text}' itself. Delete that line.")
    return list(
        {
            phrase.folder_name(each): each
            for each in listed_phrases
            if phrase.folder_name(each) != phrase.folder_name(text)
        }.values()
    )


def _read_lines(name: str) -> list[str]:
    return [
        line
        for line in (files("kws.synth") / name).read_text(encoding="utf-8").splitlines()
        if line
    ]
