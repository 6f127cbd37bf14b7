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

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from kws.errors import DataError
from kws.synth import phonemes, phrase
from kws.synth.confusables import guesses, pronunciations
from kws.synth.corpus import neighbour_lines, progress, read_list
from kws.synth.engines import registry
from kws.synth.engines.base import Engine
from kws.synth.plan import Clip, planned, spoken_as
from kws.synth.render import speak
from kws.terminal.printers import replace_file
from kws.training.data.keyword_data import Folders

NEIGHBOURS = 60  # words that share sounds; their parts and orders come on top
NEIGHBOUR_CLIPS, SENTENCE_CLIPS = 0.015, 0.005  # of each, for one clip of the phrase
CARRIED_CLIPS = 0.2  # of all carriers together
WORDS, CARRIED, SENTENCES = "words", "carried", "sentences"


@dataclass(frozen=True)
class Speech:
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
        return phrase.folder_name(phrase.checked(self.phrase))

    @property
    def sounds(self) -> tuple[str, ...]:
        """The ways to pronounce it, each a letter for a sound. Raises SynthError where that cannot
        be found out."""
        given = [phonemes.to_kokoro(phonemes.checked(each)) for each in self.pronunciations]
        return pronunciations(phrase.checked(self.phrase), given)


def spoken(
    speech: Speech, folders: Folders, *, say: Callable[[str], None], warn: Callable[[str], None]
) -> Folders:
    """The folders, with those of spoken clips below `folders.data`; speaks what is missing there.
    Clips of other plans are left out.

    Raises KwsError where the phrase cannot be spoken.
    """
    text, said = phrase.checked(speech.phrase), tuple(map(phonemes.checked, speech.pronunciations))
    found = registry.found(piper_voices=speech.piper_voices)
    for remark in (*phrase.remarks(speech.phrase), *guesses(text)) if not said else ():
        warn(remark)
    for engine, lack in found.lacking:
        warn(f"{engine.name} does not speak, it needs {lack}: {engine.install}")
    neighbours = _neighbours(text, said, folders.data, say)
    plans = _plans(speech, text, said, neighbours, found.ready)
    for place, what, clips in plans:
        if any(not (folders.data / place / clip.file).exists() for clip in clips):
            say(f"speaking {what}: {len(clips)} clips")
            for trouble in speak(
                clips, found.ready, folders.data / place, progress=progress
            ).troubles:
                warn(trouble)
    planned_files = {
        folders.data / place / clip.file for place, _, clips in plans for clip in clips
    }
    places = {place for place, _, clips in plans if clips}
    return replace(
        folders,
        data=folders.data / WORDS,
        negatives=(folders.data / SENTENCES, *folders.negatives),
        phrases=(*([folders.data / CARRIED] if CARRIED in places else []), *folders.phrases),
        alike=True,
        left_out=frozenset(
            path for path in folders.data.rglob("*.wav") if path not in planned_files
        ),
    )


def _plans(
    speech: Speech,
    text: str,
    said: Sequence[str],
    neighbours: Sequence[str],
    ready: Sequence[Engine],
) -> list[tuple[str, str, list[Clip]]]:
    """Where each kind of clips belongs, what it is, and the clips."""
    few, rare = (max(round(speech.clips * share), 1) for share in (NEIGHBOUR_CLIPS, SENTENCE_CLIPS))
    # Engines say these as they are spelled.
    carriers = [] if said else [carrier.format(text) for carrier in _lines("carriers.txt")]
    each = max(round(speech.clips * CARRIED_CLIPS / max(len(carriers), 1)), 1)
    sentences = [
        line
        for line in _lines("sentences.txt")
        if f" {text} " not in f" {' '.join(re.findall(r'[a-z]+', line.lower()))} "
    ]
    carried = [spoken_as(clip, speech.name) for clip in planned(carriers, each, ready, speech.seed)]
    return [
        (WORDS, "the phrase", planned([text], speech.clips, ready, speech.seed, said)),
        (WORDS, "what sounds like it", planned(neighbours, few, ready, speech.seed)),
        (CARRIED, "the phrase within a few words", carried),
        (SENTENCES, "sentences", planned(sentences, rare, ready, speech.seed)),
    ]


def _neighbours(
    text: str, pronunciations: Sequence[str], folder: Path, say: Callable[[str], None]
) -> list[str]:
    """What the list says; those of which a folder could not be told from the phrase's are
    passed over."""
    path = folder / "neighbours.txt"
    if not path.exists():
        replace_file(path, (neighbour_lines(text, pronunciations, NEIGHBOURS) + "\n").encode())
        say(
            f"{path} lists what sounds like '{text}': edit it, and give the same command again, "
            "to have other words told from it"
        )
    listed = list(dict.fromkeys(map(phrase.checked, read_list(path))))
    if text in listed:
        raise DataError(f"{path}: lists '{text}' itself. Delete that line.")
    return list(
        {
            phrase.folder_name(each): each
            for each in listed
            if phrase.folder_name(each) != phrase.folder_name(text)
        }.values()
    )


def _lines(name: str) -> list[str]:
    return [
        line
        for line in (files("kws.synth") / name).read_text(encoding="utf-8").splitlines()
        if line
    ]
