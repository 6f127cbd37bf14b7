"""The classification protocols of Speech Commands: which clips a network learns from, which it is
validated on, and which it is tested on.

docs/how-to/speech-commands.md says which published figures each may be compared with. A protocol is
a `ProtocolSpec`: its words, how speakers are split, and how many other words ("_unknown_") and how
much background noise ("_silence_") validation and test hold. Training always gets all clips of
other words; the batches decide how often each is drawn.

Sources: arXiv 1804.03209, and the TensorFlow example that came with it,
speech_commands/input_data.py.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

import numpy as np

from kws.audio.folders import normalize_name
from kws.errors import DataError
from kws.training.data.clips import BACKGROUND, Clip, find_clips
from kws.training.data.dataset import (
    ClipDataset,
    Progress,
    Warn,
    concatenate_datasets,
    load_clips,
    pack_clips,
)
from kws.training.data.splits import SPLITS
from kws.training.speech_commands.dataset import (
    CLIP_SAMPLES,
    SILENCE,
    UNKNOWN,
    LabeledClips,
    load_split,
)
from kws.training.speech_commands.silence import apply_gains, cut_silence_clips, split_noise
from kws.training.speech_commands.splits import (
    find_archive_clips,
    find_word_clips,
    split_at_random,
    split_by_lists,
    split_by_speaker_hash,
)

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
EIGHT_COMMANDS = tuple(word for word in COMMANDS if word not in ("on", "off"))
_V1_WORDS = (
    *COMMANDS,
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"),
)
WORDS = {
    "0.01": _V1_WORDS,
    "0.02": (*_V1_WORDS, "backward", "follow", "forward", "learn", "visual"),
}
_NO_SILENCE = np.zeros((0, CLIP_SAMPLES), np.int16)
PACK_WORDS = ("yes", "no", "down", "up", "happy", "cat", "bed")
# Never in training nor validation of pack-9-unseen.
HELD_OUT = ("left", "right", "on", "off", "stop", "go")


@dataclass(frozen=True)
class ProtocolSpec:
    """The rule of a protocol.

    others: number of unknown clips, and of silent ones, in validation and test: a fraction of all
        clips of the words, as in the TensorFlow example; "mean" of the words' counts; or None for
        neither class
    version: of the published data set, which is then split by its lists, otherwise by the hash
    held_out: words that only the test may hold
    min_train_clips: of each word, so that a part of the data set is not taken for the whole
    draws_words_evenly: validation and test hold as many unknown clips of one word as of another,
        where they can; all those of the test speakers are a test set of their own, "unknown"
    clips_per_word: number of clips of each word, which are split at random, whoever speaks
    """

    words: tuple[str, ...]
    others: float | str | None
    version: str | None = None
    held_out: tuple[str, ...] = ()
    min_train_clips: int = 0
    draws_words_evenly: bool = False
    clips_per_word: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return (*self.words, *((UNKNOWN, SILENCE) if self.others else ()))


PROTOCOLS: Mapping[str, ProtocolSpec] = {
    "v2-12": ProtocolSpec(COMMANDS, 0.1, "0.02"),
    "v1-12": ProtocolSpec(COMMANDS, 0.1, "0.01"),
    "v2-35": ProtocolSpec(tuple(sorted(WORDS["0.02"])), None, "0.02"),
    "sc-8": ProtocolSpec(EIGHT_COMMANDS, 0.1, min_train_clips=500, draws_words_evenly=True),
    "mini-8": ProtocolSpec(tuple(sorted(EIGHT_COMMANDS)), None, clips_per_word=1000),
    "pack-9": ProtocolSpec(PACK_WORDS, "mean"),
    "pack-9-unseen": ProtocolSpec(PACK_WORDS, "mean", held_out=HELD_OUT),
    "custom": ProtocolSpec((), "mean"),
}


@dataclass(frozen=True)
class Protocol:
    """Clips of one protocol. Labels index `classes`: the words, then "_unknown_" and "_silence_"
    where the protocol has them.

    extra_test_sets: further test sets by name ("list", "unknown", "unseen")
    noise: the training part of the background recordings, to augment with
    test_set_description: which test set `test` is, to print beside its accuracy
    held_out: words that nothing may be learned from
    """

    name: str
    classes: tuple[str, ...]
    train: LabeledClips
    validation: LabeledClips
    test: LabeledClips
    extra_test_sets: dict[str, LabeledClips]
    noise: ClipDataset
    test_set_description: str
    held_out: tuple[str, ...] = ()


def load(
    name: str,
    folder: Path,
    *more_folders: Path,
    words: Sequence[str] = (),
    test_archive: Path | None = None,
    splits: Collection[str] = SPLITS,
    seed: int = 0,
    warn: Warn,
    progress: Progress = iter,
) -> Protocol:
    """Reads the clips of a protocol, one of PROTOCOLS, from folders in Speech Commands layout.

    more_folders: further parts of the data set; a published version is one folder
    words: those of protocol "custom"
    test_archive: the unpacked official test archive of a 12-word protocol, by default the folder
        speech_commands_test_set_v0.0X beside the data set, where `kws download` puts it
    splits: those to read, the others stay empty; "test" is enough to evaluate a model
    seed: draws the clips of other words and the clips of noise; figures are comparable only with
        the same seed

    Raises DataError where the folders are not what the protocol needs.
    """
    spec = _resolve_spec(name, words)
    folders = tuple({each.resolve(): each for each in (folder, *more_folders)}.values())
    place = ", ".join(map(str, folders))
    clips = [clip for each in folders for clip in find_word_clips(each, spec.words)]
    spec = _adapt_spec(name, spec, {clip.label for clip in clips}, folders)
    archive = _find_test_archive(name, spec, folder, test_archive)
    clips_by_split = _split_clips(spec, clips, folder, seed, warn)
    if spec.clips_per_word:
        _require_clips(name, spec.words, clips, spec.clips_per_word, "clips", place)
    if "train" in splits:
        train_clips = clips_by_split["train"]
        _require_clips(name, spec.words, train_clips, spec.min_train_clips, "training clips", place)
    noise = _load_noise(folders, spec, warn, progress)
    noises = {split: split_noise(noise, split) for split in SPLITS}
    loader = _SplitLoader(spec, noises, place, seed, warn, progress)
    loaded = {
        split: loader.load_split(split, clips_by_split[split])
        if split in splits
        else loader.empty()
        for split in SPLITS
    }
    extra_test_sets, test_set_description = {}, _describe_test_set(spec)
    if spec.draws_words_evenly:
        extra_test_sets["unknown"] = loader.load_unknown(clips_by_split["test"])
    if spec.held_out:
        extra_test_sets["unseen"] = loader.load_unseen(clips_by_split["test"])
    if archive:
        extra_test_sets["list"] = loaded["test"]
        loaded["test"] = loader.load_archive(archive, clips_by_split["train"])
        test_set_description = f"the official test archive ({archive.name})"
    return Protocol(
        name=name,
        classes=spec.classes,
        **loaded,
        extra_test_sets=extra_test_sets,
        noise=noises["train"],
        test_set_description=test_set_description,
        held_out=spec.held_out,
    )


def _resolve_spec(name: str, words: Sequence[str]) -> ProtocolSpec:
    if name not in PROTOCOLS:
        raise DataError(f"'{name}' is no protocol. Take one of {', '.join(PROTOCOLS)}.")
    spec = PROTOCOLS[name]
    if spec.words and words:
        raise DataError(
            f"protocol {name} has words of its own. Leave yours out, or take protocol 'custom'."
        )
    if not spec.words and not words:
        raise DataError(f"protocol {name}: no words given. Name the words to tell apart.")
    return replace(spec, words=spec.words or tuple(dict.fromkeys(map(normalize_name, words))))


def _adapt_spec(
    name: str, spec: ProtocolSpec, present: set[str], folders: Sequence[Path]
) -> ProtocolSpec:
    """The rule, without held-out words that the folders lack. Raises DataError where their words
    are not those that the rule needs."""
    place = ", ".join(map(str, folders))
    needed = WORDS[spec.version] if spec.version else spec.words
    missing = [word for word in needed if word not in present]
    others = sorted(present - set(needed))
    if spec.version and len(folders) > 1:
        raise DataError(
            f"{place}: protocol {name} is defined on one folder, that of version {spec.version}. "
            "Give it alone."
        )
    if missing:
        raise DataError(
            f"{place}: protocol {name} needs clips of {', '.join(missing)}. "
            f"Words there: {', '.join(sorted(present))}. Give another one."
        )
    if spec.version and others:
        raise DataError(
            f"{place}: {', '.join(others)} not in version {spec.version}, on which {name} is "
            "defined. Give its own folder."
        )
    if spec.others and not spec.version and not others:
        raise DataError(
            f"{place}: nothing but {', '.join(spec.words)}; "
            "other words are needed to learn what is none of them. Add some."
        )
    held_out = tuple(word for word in spec.held_out if word in others)
    return replace(spec, held_out=held_out if len(held_out) < len(others) else ())


def _split_clips(
    spec: ProtocolSpec, clips: Sequence[Clip], folder: Path, seed: int, warn: Warn
) -> dict[str, list[Clip]]:
    if spec.version:
        return split_by_lists(clips, folder, warn)
    if spec.clips_per_word is None:
        return split_by_speaker_hash(clips)
    clips_by_word = [[clip for clip in clips if clip.label == word] for word in spec.words]
    return split_at_random([_draw_clips(each, spec.clips_per_word, seed) for each in clips_by_word])


def _require_clips(
    name: str, words: Sequence[str], clips: Iterable[Clip], least: int, kind: str, place: str
) -> None:
    """Raises DataError where there are fewer clips of a word."""
    counts = Counter(clip.label for clip in clips)
    scarce = [f"{counts[word]} of {word}" for word in words if counts[word] < least]
    if scarce:
        raise DataError(
            f"{place}: protocol {name} needs {least} {kind} of each word, and there are "
            f"{', '.join(scarce)}. Give the folders with the others too."
        )


def _load_noise(
    folders: Sequence[Path],
    spec: ProtocolSpec,
    warn: Warn,
    progress: Progress,
) -> ClipDataset:
    noise_folders = [folder / BACKGROUND for folder in folders if (folder / BACKGROUND).is_dir()]
    if noise_folders:
        return concatenate_datasets(
            [load_clips(find_clips(each), warn=warn, progress=progress) for each in noise_folders]
        )
    if spec.others:
        raise DataError(
            f"{folders[0] / BACKGROUND}: no such folder; silence is cut from the noise in it. "
            "Put recordings of noise there."
        )
    return pack_clips([], [])


def _find_test_archive(
    name: str, spec: ProtocolSpec, folder: Path, archive_option: Path | None
) -> Path | None:
    if spec.words != COMMANDS or spec.version is None:
        if archive_option:
            raise DataError(
                f"{archive_option}: the official test archive has no place in protocol {name}. "
                "Leave it out."
            )
        return None
    default_archive = folder.resolve().parent / f"speech_commands_test_set_v{spec.version}"
    return archive_option or (default_archive if default_archive.is_dir() else None)


def _describe_test_set(spec: ProtocolSpec) -> str:
    if spec.clips_per_word:
        return f"a tenth of {spec.clips_per_word} clips of each word, drawn at random"
    description = "the test speakers by the hash rule"
    if spec.version:
        description = f"testing_list.txt of version {spec.version}"
    if spec.others == "mean":
        description += "; unknown and silence each as many as the mean of the words"
    elif spec.others:
        description += f" with {spec.others:.0%} unknown and {spec.others:.0%} silence added"
    return description


@dataclass(frozen=True)
class _SplitLoader:
    """Loads the splits of one protocol. `noises`: the background noise of each split; `place`: the
    folders, for messages."""

    spec: ProtocolSpec
    noises: dict[str, ClipDataset]
    place: str
    seed: int
    warn: Warn
    progress: Progress

    def load_split(self, split: str, clips: Sequence[Clip]) -> LabeledClips:
        """The words, other words and silence; the latter two as many as the rule says, except that
        training gets all other words."""
        targets = [clip for clip in clips if clip.label in self.spec.words]
        others = [clip for clip in clips if clip.label not in self.spec.words]
        for word in sorted(set(self.spec.words) - {clip.label for clip in targets}):
            self.warn(f"{self.place}: no clips of '{word}' in the {split} split.")
        if self.spec.others is None:
            return self._load(targets)
        if split != "test":
            others = [clip for clip in others if clip.label not in self.spec.held_out]
        unknown_count = self._count_unknown(split, len(targets))
        if split != "train":
            if len(others) < unknown_count:
                self.warn(
                    f"{self.place}: {len(others)} clips of other words in the {split} split, "
                    f"the protocol asks for {unknown_count}."
                )
            evenly = self.spec.draws_words_evenly
            others = _draw_clips(others, unknown_count, self.seed, evenly=evenly)
        return self._load([*targets, *others], self._cut_silence(split, unknown_count))

    def load_unknown(self, clips: Sequence[Clip]) -> LabeledClips:
        """All clips of other words."""
        return self._load([clip for clip in clips if clip.label not in self.spec.words])

    def load_unseen(self, clips: Sequence[Clip]) -> LabeledClips:
        """The clips of words that only the test may hold."""
        return self._load([clip for clip in clips if clip.label in self.spec.held_out])

    def load_archive(self, folder: Path, training: Sequence[Clip]) -> LabeledClips:
        """The official test archive. Warns of speakers that are in training too."""
        spoken, silent = find_archive_clips(folder, self.spec.words)
        shared = {clip.speaker for clip in spoken} & {clip.speaker for clip in training}
        if shared:
            self.warn(f"{folder}: {len(shared)} of its speakers are in the train split too.")
        return self._load(spoken, self._load(silent).samples)

    def empty(self) -> LabeledClips:
        return self._load([])

    def _count_unknown(self, split: str, target_count: int) -> int:
        if self.spec.others == "mean" or split == "train":
            return round(target_count / len(self.spec.words))
        assert isinstance(self.spec.others, float)
        return math.ceil(target_count * self.spec.others)

    def _cut_silence(self, split: str, count: int) -> np.ndarray:
        """Clips of noise as they are; at gains from 0 to 1 in validation and test where the rule is
        that of the TensorFlow example."""
        rng = np.random.default_rng((self.seed, SPLITS.index(split)))
        silence = cut_silence_clips(self.noises[split], count, rng, self.place)
        if isinstance(self.spec.others, float) and split != "train":
            return apply_gains(silence, rng.random(count))
        return silence

    def _load(self, clips: Sequence[Clip], silence: np.ndarray = _NO_SILENCE) -> LabeledClips:
        return load_split(clips, silence, self.spec.classes, warn=self.warn, progress=self.progress)


def _draw_clips(
    clips: Iterable[Clip], count: int, seed: int, *, evenly: bool = False
) -> list[Clip]:
    """`count` clips in an order that depends on the seed and their own names alone, so that new
    clips do not change the order of old ones. evenly: one clip of each word in turn."""

    def key(clip: Clip) -> bytes:
        return hashlib.sha1(f"{seed}/{clip.label}/{clip.path.name}".encode()).digest()

    drawn = sorted(clips, key=key)
    return (_take_words_in_turn(drawn) if evenly else drawn)[:count]


def _take_words_in_turn(clips: Iterable[Clip]) -> list[Clip]:
    turns: Counter[str] = Counter()
    clips_with_turn = []
    for clip in clips:
        clips_with_turn.append((turns[clip.label], clip))
        turns[clip.label] += 1
    return [clip for _, clip in sorted(clips_with_turn, key=itemgetter(0))]
