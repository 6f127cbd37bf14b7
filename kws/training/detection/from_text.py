"""From a phrase to folders of synthetic clips that a detector can be trained on: the phrase, alone
and in context; confusables, which sound like it; ordinary sentences. The same engines speak all of
them, so that synthetic speech as such says nothing. (A phrase with its own pronunciation is an
exception: only some engines can say it.)

    FOLDER/confusables.txt             confusables; written once, then the user's to edit
    FOLDER/words/PHRASE/*.wav          and words/CONFUSABLE/*.wav, alone and in the same carriers
    FOLDER/in_context/PHRASE/*.wav     the phrase in carriers (`kws.synth.carriers`)
    FOLDER/in_context/places.csv       where it lies in them, by forced alignment
    FOLDER/sentences/*/*.wav

Files that exist are not made again, and places that are in the table are not sought again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import ClassVar

import numpy as np

from kws.audio import recordings
from kws.errors import DataError
from kws.files import write_atomically
from kws.synth import phonemes, phrase
from kws.synth.carriers import draw_carriers, holds, load_sentences
from kws.synth.confusables import explain_unknown_words, pronunciations
from kws.synth.corpus import format_confusables, read_phrase_list
from kws.synth.engines import registry
from kws.synth.engines.base import SpeechEngine
from kws.synth.plan import (
    PlannedClip,
    Sentence,
    file_under_word,
    plan_clips,
    plan_sentences,
)
from kws.synth.render import speak
from kws.terminal.progress import progress_bar
from kws.training.data.keyword_data import DataFolders
from kws.training.data.places import read_places, write_places

MAX_CONFUSABLES = 60  # words that share phones; parts and other orders of the phrase come on top
IN_CONTEXT_FRACTION = 0.5  # of the clips of the phrase; in the others it stands alone
# Clips per clip of the phrase: of each confusable, alone and in carriers; of all sentences.
CONFUSABLE_CLIP_RATIO, CONFUSABLE_IN_CONTEXT_RATIO, SENTENCE_CLIP_RATIO = 0.0075, 0.0025, 0.2
WORDS, IN_CONTEXT, SENTENCES = "words", "in_context", "sentences"
CONFUSABLES_FILE = "confusables.txt"

logger = logging.getLogger("kws")


@dataclass(frozen=True)
class SynthConfig:
    """What to synthesize: clips of the phrase, alone and in context, in the pronunciations of
    `phonemes` (ARPAbet) if there are any, else as it is spelled."""

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
    in_context = next(planned for planned in plan if planned.subfolder == IN_CONTEXT)
    _locate_missing(config, in_context, folders.data / IN_CONTEXT)
    planned_paths = {path for planned in plan for path in planned.paths(folders.data)}
    return replace(
        folders,
        data=folders.data / WORDS,
        negatives=(folders.data / SENTENCES, *folders.negatives),
        in_context=(folders.data / IN_CONTEXT, *folders.in_context),
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


def _locate_missing(config: SynthConfig, in_context: _PlannedFolder, folder: Path) -> None:
    """Adds the clips that the table of places lacks to it."""
    # The command line imports this module to show its options, without torch.
    from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE, shipped_checkpoint
    from kws.training.model.torch_engine import load_network
    from kws.training.phones.places import locate_phrase

    places = read_places(folder)
    missing = [
        clip
        for clip in in_context.clips
        if clip.file.as_posix() not in places and (folder / clip.file).exists()
    ]
    checkpoint = shipped_checkpoint(PHONE_RECOGNIZER_FILE)
    if not missing or checkpoint is None:
        return
    network = load_network(checkpoint)
    try:
        for clip in progress_bar(missing, "finding the phrase", unit="clip"):
            samples = recordings.read(folder / clip.file)
            places[clip.file.as_posix()] = locate_phrase(
                network, samples, clip.text, config.text, _pronunciation(config, clip)
            )
    finally:
        write_places(folder, places)


def _pronunciation(config: SynthConfig, clip: PlannedClip) -> dict[str, str]:
    """The phrase as it is said in a clip, where that is not as it is spelled."""
    if "phonemes" not in clip.settings:
        return {}
    return {config.text: phonemes.to_kokoro(str(clip.settings["phonemes"]))}


def _plan_folders(
    config: SynthConfig, confusables: Sequence[str], engines: Sequence[SpeechEngine]
) -> list[_PlannedFolder]:
    in_context_clips = round(config.clips * IN_CONTEXT_FRACTION)
    clips_per_confusable = max(round(config.clips * CONFUSABLE_CLIP_RATIO), 1)
    phrase_clips = plan_clips(
        [config.text], config.clips - in_context_clips, engines, config.seed, config.arpabet
    )
    confusable_clips = plan_clips(confusables, clips_per_confusable, engines, config.seed)
    carriers = draw_carriers(config.text, in_context_clips, config.seed, config.pronunciations)
    return [
        _PlannedFolder(WORDS, "the phrase", phrase_clips),
        _PlannedFolder(WORDS, "confusables", confusable_clips),
        _PlannedFolder(
            IN_CONTEXT, "the phrase in context", _plan_in_context(config, carriers, engines)
        ),
        _PlannedFolder(
            WORDS,
            "confusables in context",
            _plan_confusables_in_context(config, confusables, carriers, engines),
        ),
        _PlannedFolder(SENTENCES, "sentences", _plan_ordinary_sentences(config, engines)),
    ]


def _plan_in_context(
    config: SynthConfig, carriers: Sequence[str], engines: Sequence[SpeechEngine]
) -> list[PlannedClip]:
    sentences = [Sentence(each.format(config.text), config.text) for each in carriers]
    clips = plan_sentences(sentences, engines, config.seed, config.arpabet)
    return [file_under_word(clip, config.name) for clip in clips]


def _plan_confusables_in_context(
    config: SynthConfig,
    confusables: Sequence[str],
    carriers: Sequence[str],
    engines: Sequence[SpeechEngine],
) -> list[PlannedClip]:
    """Clips of each confusable in carriers of the phrase, so that these do not give the phrase
    away; without those that say the phrase: "rocket" in "hey {}"."""
    clips_per_confusable = max(round(config.clips * CONFUSABLE_IN_CONTEXT_RATIO), 1)
    clips = []
    for confusable in confusables:
        name = phrase.folder_name(confusable)
        rng = np.random.default_rng([config.seed, *name.encode()])
        drawn = rng.choice(carriers, min(clips_per_confusable, len(carriers)), replace=False)
        texts = [str(carrier).format(confusable) for carrier in drawn]
        sentences = [
            Sentence(text, confusable)
            for text in texts
            if not holds(text, config.text, config.pronunciations)
        ]
        planned = plan_sentences(sentences, engines, config.seed)
        clips += [file_under_word(clip, name) for clip in planned]
    return clips


def _plan_ordinary_sentences(
    config: SynthConfig, engines: Sequence[SpeechEngine]
) -> list[PlannedClip]:
    sentences = load_sentences(config.text, config.pronunciations)
    count = max(round(config.clips * SENTENCE_CLIP_RATIO), 1)
    order = np.random.default_rng(config.seed).permutation(len(sentences))
    drawn = [Sentence(sentences[i]) for i in islice(cycle(order), count)]
    return plan_sentences(drawn, engines, config.seed)


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
