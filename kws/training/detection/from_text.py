"""From a phrase to folders of synthetic clips that a detector can be trained on: the phrase, alone
and in context; confusables, which sound like it; ordinary sentences. The same engines speak all of
them, so that synthetic speech as such says nothing. (A phrase with its own pronunciation is an
exception: only some engines can say it.)

    FOLDER/confusables.txt             confusables; written once, then the user's to edit
    FOLDER/words/PHRASE/*.wav          and words/CONFUSABLE/*.wav
    FOLDER/in_context/PHRASE/*.wav     the phrase within a few words
    FOLDER/sentences/*/*.wav

Files that exist are not made again.
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
from kws.synth.corpus import format_confusables, read_phrase_list
from kws.synth.engines import registry
from kws.synth.engines.base import SpeechEngine
from kws.synth.plan import PlannedClip, file_under_word, plan_clips
from kws.synth.render import speak
from kws.training.data.keyword_data import DataFolders

MAX_CONFUSABLES = 60  # words that share phones; parts and other orders of the phrase come on top
# Clips per clip of the phrase: of each confusable, of each sentence, of all carrier phrases.
CONFUSABLE_CLIP_RATIO, SENTENCE_CLIP_RATIO, IN_CONTEXT_CLIP_RATIO = 0.015, 0.005, 0.2
WORDS, IN_CONTEXT, SENTENCES = "words", "in_context", "sentences"
CONFUSABLES_FILE = "confusables.txt"

logger = logging.getLogger("kws")


@dataclass(frozen=True)
class SynthConfig:
    """What to synthesize: clips of the phrase, in the pronunciations of `phonemes` (ARPAbet) if
    there are any, else as it is spelled."""

    phrase: str
    clips: int = 800
    seed: int = 0
    phonemes: tuple[str, ...] = ()
    piper_voices: tuple[str, ...] = ()
    # Of the first stage: the whole training, synthesis included, takes half an hour on two cores.
    epochs: ClassVar[int] = 12

    @property
    def text(self) -> str:
        """The phrase as it is spoken."""
        return phrase.normalize(self.phrase)

    @property
    def name(self) -> str:
        """The word as a model names it."""
        return phrase.folder_name(self.text)

    @property
    def arpabet(self) -> tuple[str, ...]:
        return tuple(map(phonemes.normalize, self.phonemes))

    @property
    def pronunciations(self) -> tuple[str, ...]:
        """Pronunciations of the phrase, one letter a phone. Raises SynthError where they are
        unknown."""
        return pronunciations(self.text, [phonemes.to_kokoro(each) for each in self.arpabet])


@dataclass(frozen=True)
class _PlannedFolder:
    """Clips of one kind, and the subfolder they belong to."""

    subfolder: str
    description: str
    clips: list[PlannedClip]

    def paths(self, folder: Path) -> list[Path]:
        return [folder / self.subfolder / clip.file for clip in self.clips]


def synthesize_folders(config: SynthConfig, folders: DataFolders) -> DataFolders:
    """Synthesizes the clips that `folders.data` lacks. Returns the folders with those of the clips
    added; clips of other plans in there are excluded.

    Raises KwsError where the phrase cannot be spoken.
    """
    engines = _select_engines(config)
    confusables = _load_confusables(config, folders.data)
    plan = _plan_folders(config, confusables, engines)
    for planned in plan:
        if not all(path.exists() for path in planned.paths(folders.data)):
            _synthesize(planned, engines, folders.data)
    planned_paths = {path for planned in plan for path in planned.paths(folders.data)}
    in_context = folders.in_context
    if any(planned.subfolder == IN_CONTEXT and planned.clips for planned in plan):
        in_context = (folders.data / IN_CONTEXT, *in_context)
    return replace(
        folders,
        data=folders.data / WORDS,
        negatives=(folders.data / SENTENCES, *folders.negatives),
        in_context=in_context,
        confusables=True,
        excluded=frozenset(folders.data.rglob("*.wav")) - planned_paths,
    )


def _select_engines(config: SynthConfig) -> Sequence[SpeechEngine]:
    """The engines that work here. Warns of those that do not, and of words that may be spoken in
    another way than meant."""
    selection = registry.select_engines(piper_voices=config.piper_voices)
    if not config.phonemes:
        for note in phrase.explain_capitals(config.phrase):
            logger.warning(note)
        for note in explain_unknown_words(config.text):
            logger.warning(note)
    for engine, requirement in selection.unavailable:
        logger.warning(f"{engine.name} is not used, it needs {requirement}: {engine.install}")
    return selection.available


def _synthesize(planned: _PlannedFolder, engines: Sequence[SpeechEngine], folder: Path) -> None:
    logger.info(f"synthesizing {planned.description}: {len(planned.clips)} clips")
    result = speak(planned.clips, engines, folder / planned.subfolder)
    for message in result.error_messages:
        logger.warning(message)


def _plan_folders(
    config: SynthConfig, confusables: Sequence[str], engines: Sequence[SpeechEngine]
) -> list[_PlannedFolder]:
    clips_per_confusable = max(round(config.clips * CONFUSABLE_CLIP_RATIO), 1)
    clips_per_sentence = max(round(config.clips * SENTENCE_CLIP_RATIO), 1)
    phrase_clips = plan_clips([config.text], config.clips, engines, config.seed, config.arpabet)
    confusable_clips = plan_clips(confusables, clips_per_confusable, engines, config.seed)
    sentence_clips = plan_clips(
        _sentences_without(config.text), clips_per_sentence, engines, config.seed
    )
    return [
        _PlannedFolder(WORDS, "the phrase", phrase_clips),
        _PlannedFolder(WORDS, "confusables", confusable_clips),
        _PlannedFolder(IN_CONTEXT, "the phrase in context", _plan_in_context(config, engines)),
        _PlannedFolder(SENTENCES, "sentences", sentence_clips),
    ]


def _plan_in_context(config: SynthConfig, engines: Sequence[SpeechEngine]) -> list[PlannedClip]:
    """Clips of the phrase in carrier phrases; none of a phrase with its own pronunciation, as
    engines say words in a sentence as they are spelled."""
    if config.phonemes:
        return []
    texts = [carrier.format(config.text) for carrier in _read_lines("carriers.txt")]
    clips_per_text = max(round(config.clips * IN_CONTEXT_CLIP_RATIO / len(texts)), 1)
    clips = plan_clips(texts, clips_per_text, engines, config.seed)
    return [file_under_word(clip, config.name) for clip in clips]


def _sentences_without(text: str) -> list[str]:
    return [line for line in _read_lines("sentences.txt") if not _contains(line, text)]


def _contains(sentence: str, text: str) -> bool:
    words = " ".join(re.findall(r"[a-z]+", sentence.lower()))
    return f" {text} " in f" {words} "


def _load_confusables(config: SynthConfig, folder: Path) -> list[str]:
    """The confusables of the list, which is written if it is missing; without those that would
    share a folder with another one or with the phrase. Raises DataError where the phrase itself is
    listed."""
    path = folder / CONFUSABLES_FILE
    if not path.exists():
        content = format_confusables(config.text, config.arpabet, MAX_CONFUSABLES) + "\n"
        write_atomically(path, content.encode())
        logger.info(
            f"{path} lists what sounds like '{config.text}': edit it, and run the same command "
            "again, to train against other words"
        )
    listed_phrases = [phrase.normalize(line) for line in read_phrase_list(path)]
    if config.text in listed_phrases:
        raise DataError(f"{path}: lists '{config.text}' itself. Delete that line.")
    by_folder = {phrase.folder_name(each): each for each in dict.fromkeys(listed_phrases)}
    by_folder.pop(config.name, None)
    return list(by_folder.values())


def _read_lines(name: str) -> list[str]:
    lines = (files("kws.synth") / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line]
