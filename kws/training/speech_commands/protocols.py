"""The classification protocols of Speech Commands: which clips a network learns from, which it is
chosen by, and which it is judged by.

docs/how-to/speech-commands.md says what each is, and which published figures it may be compared with. A protocol
is a `ProtocolSpec`: its words, how speakers are split, and how much of other words ("_unknown_") and of
background noise ("_silence_") goes into the parts that judge. Training always gets all clips of
other words; how often each is heard is for the training loop to say.

Sources: arXiv 1804.03209, and the TensorFlow example that came with it,
speech_commands/input_data.py.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kws.audio.folders import normalize_name
from kws.errors import DataError
from kws.training.data.clips import BACKGROUND, Clip, find_clips
from kws.training.data.dataset import ClipDataset, load_clips, pack_clips
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
    split_by_lists,
    split_by_speaker_hash,
)

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
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
    """`others`: size of unknown and of silence, each, where clips are fixed: a share of all target
    clips, or "mean" of the targets' counts, or None for neither class. `version`: of the published
    data set, whose lists then split it; else the hash rule does."""

    words: tuple[str, ...]
    others: float | str | None
    version: str | None = None
    held_out: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return (*self.words, *((UNKNOWN, SILENCE) if self.others else ()))


PROTOCOLS: Mapping[str, ProtocolSpec] = {
    "v2-12": ProtocolSpec(COMMANDS, 0.1, "0.02"),
    "v1-12": ProtocolSpec(COMMANDS, 0.1, "0.01"),
    "v2-35": ProtocolSpec(tuple(sorted(WORDS["0.02"])), None, "0.02"),
    "pack-9": ProtocolSpec(PACK_WORDS, "mean"),
    "pack-9-unseen": ProtocolSpec(PACK_WORDS, "mean", held_out=HELD_OUT),
    "custom": ProtocolSpec((), "mean"),
}


@dataclass(frozen=True)
class Protocol:
    """Clips of one protocol. Labels index `classes`: the targets, then "_unknown_" and "_silence_"
    where the protocol has them.

    `extra_test_sets`: further test sets by name ("list", "unseen"); `noise`: background recordings to augment
    with, their training stretches only; `test_set_description`: which test set `test` is, in words to print
    beside its accuracy; `held_out`: words that nothing may be learned of.
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
    *,
    words: Sequence[str] = (),
    test_archive: Path | None = None,
    wanted: Collection[str] = SPLITS,
    seed: int = 0,
    warn: Callable[[str], None],
    progress: Callable[[Iterable], Iterable] = iter,
) -> Protocol:
    """Reads the clips of a protocol, one of PROTOCOLS, from a folder in Speech Commands layout.

    `words`: the targets of protocol "custom". `test_archive`: the unpacked official test archive of
    a 12-word protocol, by default the folder speech_commands_test_set_v0.0X beside `folder`, where
    `kws download` puts it. `wanted`: the parts to be read, the others are empty; to judge, "test"
    is enough. `seed` draws the clips of other words and the pieces of noise: leave it alone where
    figures are to be compared, also between runs that learn with different seeds.

    Raises DataError where the folder is not what the protocol needs.
    """
    spec = _resolve_spec(name, words)
    clips = find_word_clips(folder, spec.words)
    spec = _adapt_spec(name, spec, {clip.label for clip in clips}, folder)
    archive = _find_test_archive(name, spec, folder, test_archive)
    clips_by_split = (
        split_by_lists(clips, folder, warn) if spec.version else split_by_speaker_hash(clips)
    )
    noises = _load_noise(folder, spec, warn, progress)
    builder = _SplitBuilder(
        spec, {part: split_noise(noises, part) for part in SPLITS}, folder, seed, warn, progress
    )
    train, validation, test = (
        builder.part(part, clips_by_split[part]) if part in wanted else builder.empty()
        for part in SPLITS
    )
    extra_test_sets, test_set_description = {}, _describe_test_set(spec)
    if spec.held_out:
        extra_test_sets["unseen"] = builder.unseen(clips_by_split["test"])
    if archive:
        extra_test_sets["list"], test, test_set_description = (
            test,
            builder.archive(archive, clips_by_split["train"]),
            f"the official test archive ({archive.name})",
        )
    return Protocol(
        name,
        spec.classes,
        train,
        validation,
        test,
        extra_test_sets,
        builder.noises["train"],
        test_set_description,
        spec.held_out,
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


def _adapt_spec(name: str, spec: ProtocolSpec, present: set[str], folder: Path) -> ProtocolSpec:
    """The rule for the words that are there. Raises DataError where they are not what it needs."""
    wanted = WORDS[spec.version] if spec.version else spec.words
    missing = [word for word in wanted if word not in present]
    others = sorted(present - set(wanted))
    if missing:
        raise DataError(
            f"{folder}: protocol {name} needs clips of {', '.join(missing)}. "
            f"Words there: {', '.join(sorted(present))}. Give another one."
        )
    if spec.version and others:
        raise DataError(
            f"{folder}: {', '.join(others)} not in version {spec.version}, on which {name} is "
            "defined. Give its own folder."
        )
    if not spec.version and not others:
        raise DataError(
            f"{folder}: nothing but {', '.join(spec.words)}; "
            "other words are needed to learn what is none of them. Add some."
        )
    held_out = tuple(word for word in spec.held_out if word in others)
    return replace(spec, held_out=held_out if len(held_out) < len(others) else ())


def _load_noise(
    folder: Path,
    spec: ProtocolSpec,
    warn: Callable[[str], None],
    progress: Callable[[Iterable], Iterable],
) -> ClipDataset:
    if (folder / BACKGROUND).is_dir():
        return load_clips(find_clips(folder / BACKGROUND), warn=warn, progress=progress)
    if spec.others:
        raise DataError(
            f"{folder / BACKGROUND}: no such folder; silence is cut from the noise in it. "
            "Put recordings of noise there."
        )
    return pack_clips([], [])


def _find_test_archive(
    name: str, spec: ProtocolSpec, folder: Path, archive_option: Path | None
) -> Path | None:
    if spec.words != COMMANDS or spec.version is None:
        if archive_option:
            raise DataError(
                f"{archive_option}: the official test archive has no place in protocol {name}. Leave it out."
            )
        return None
    default_archive = folder.resolve().parent / f"speech_commands_test_set_v{spec.version}"
    return archive_option or (default_archive if default_archive.is_dir() else None)


def _describe_test_set(spec: ProtocolSpec) -> str:
    if spec.version is None:
        return (
            "the test speakers by the hash rule; "
            "unknown and silence each as many as the mean of the words"
        )
    added = (
        f" with {spec.others:.0%} unknown and {spec.others:.0%} silence added"
        if spec.others
        else ""
    )
    return f"testing_list.txt of version {spec.version}{added}"


@dataclass(frozen=True)
class _SplitBuilder:
    """Makes the parts of one protocol. `noises`: the stretches of each part."""

    spec: ProtocolSpec
    noises: dict[str, ClipDataset]
    folder: Path
    seed: int
    warn: Callable[[str], None]
    progress: Callable[[Iterable], Iterable]

    def part(self, part: str, clips: Sequence[Clip]) -> LabeledClips:
        """Targets, other words and silence; the latter two as many as the rule says, but all other
        words in training."""
        targets = [clip for clip in clips if clip.label in self.spec.words]
        others = [clip for clip in clips if clip.label not in self.spec.words]
        for word in sorted(set(self.spec.words) - {clip.label for clip in targets}):
            self.warn(f"{self.folder}: no clips of '{word}' in the {part} part.")
        if self.spec.others is None:
            return self._load(targets, _NO_SILENCE)
        if part != "test":
            others = [clip for clip in others if clip.label not in self.spec.held_out]
        unknown_count = self._count_unknown(part, len(targets))
        if part != "train":
            if len(others) < unknown_count:
                self.warn(
                    f"{self.folder}: {len(others)} clips of other words in the {part} part, "
                    f"{unknown_count} wished for."
                )
            others = _draw_clips(others, unknown_count, self.seed)
        return self._load([*targets, *others], self._cut_silence(part, unknown_count))

    def unseen(self, clips: Sequence[Clip]) -> LabeledClips:
        """All clips of words that are in no part but the test."""
        return self._load([clip for clip in clips if clip.label in self.spec.held_out], _NO_SILENCE)

    def empty(self) -> LabeledClips:
        return self._load([], _NO_SILENCE)

    def archive(self, folder: Path, train: Sequence[Clip]) -> LabeledClips:
        """The official test archive; tells of speakers that stand in the training part too."""
        spoken, silent = find_archive_clips(folder, self.spec.words)
        shared = {clip.speaker for clip in spoken} & {clip.speaker for clip in train}
        if shared:
            self.warn(f"{folder}: {len(shared)} of its speakers are in the training part too.")
        return self._load(spoken, self._load(silent, _NO_SILENCE).samples)

    def _count_unknown(self, part: str, targets: int) -> int:
        share = self.spec.others
        if share == "mean" or part == "train":
            return round(targets / len(self.spec.words))
        assert isinstance(share, float)
        return math.ceil(targets * share)

    def _cut_silence(self, part: str, count: int) -> np.ndarray:
        """Pieces of noise: as they are, or, where the TensorFlow example's rule holds, at gains
        from 0 to 1 in the parts that judge."""
        rng = np.random.default_rng((self.seed, SPLITS.index(part)))
        silence = cut_silence_clips(self.noises[part], count, rng, self.folder / BACKGROUND)
        return (
            apply_gains(silence, rng.random(count))
            if self.spec.version and part != "train"
            else silence
        )

    def _load(self, clips: Sequence[Clip], silence: np.ndarray) -> LabeledClips:
        return load_split(clips, silence, self.spec.classes, warn=self.warn, progress=self.progress)


def _draw_clips(clips: Sequence[Clip], count: int, seed: int) -> list[Clip]:
    """`count` clips in a random order that depends on the seed and their own names alone, so that
    new clips do not redraw the old."""
    return sorted(
        clips,
        key=lambda clip: hashlib.sha1(f"{seed}/{clip.label}/{clip.path.name}".encode()).digest(),
    )[:count]
