"""Clips held in memory as 16-bit samples."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kws.audio import recordings
from kws.audio.formats import to_float32, to_int16
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import AudioError, DataError
from kws.training.data.clips import Clip

MAX_WORD_SECONDS = 60.0
MIN_WORD_SECONDS = 0.05
SILENCE_PEAK = 1e-4  # a recording with a lower peak holds neither noise nor a word
SILENT_RECORDING = "there is no sound in it. Record it again."
TOO_LONG_FOR_A_WORD = "are too long for one word. Cut it, or put it among the negatives."
MAX_UNREADABLE_FRACTION = 0.1  # of the clips

Warn = Callable[[str], None]
Progress = Callable[[Iterable], Iterable]  # wraps an iterable to show how far it has come


@dataclass(frozen=True)
class ClipDataset:
    """Clips and their samples in one int16 array: clip i at `samples[starts[i]:starts[i + 1]]`."""

    clips: tuple[Clip, ...]
    samples: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> np.ndarray:
        """Samples of one clip, a new float32 array in ±1."""
        return to_float32(self.int16_clip(index))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def int16_clip(self, index: int) -> np.ndarray:
        """Samples of one clip, a view."""
        return self.samples[self.starts[index] : self.starts[index + 1]]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    def select(self, predicate: Callable[[Clip], bool]) -> "ClipDataset":
        """The clips for which `predicate` holds."""
        indices = [i for i, clip in enumerate(self.clips) if predicate(clip)]
        return pack_clips([self.clips[i] for i in indices], [self.int16_clip(i) for i in indices])

    def select_split(self, split: str) -> "ClipDataset":
        """The clips of one split: "train", "validation" or "test"."""
        return self.select(lambda clip: clip.split == split)

    def fingerprint(self) -> str:
        """Changes when any clip or the order of the clips does."""
        names = "".join(f"{clip.label}/{clip.path.name}\n" for clip in self.clips)
        name_bytes = np.frombuffer(names.encode("utf-8", "surrogateescape"), np.uint8)
        return digest(self.samples, self.starts, name_bytes)[:16]


def digest(*arrays: np.ndarray) -> str:
    """SHA-256 of the bytes of arrays, one after the other, without copying gigabytes."""
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def pack_clips(clips: Sequence[Clip], waves: Sequence[np.ndarray]) -> ClipDataset:
    """A data set of clips and their int16 samples."""
    starts = np.concatenate([[0], np.cumsum([len(wave) for wave in waves], dtype=np.int64)])
    return ClipDataset(tuple(clips), np.concatenate([*waves, np.zeros(0, np.int16)]), starts)


def concatenate_datasets(datasets: Sequence[ClipDataset]) -> ClipDataset:
    """All clips of several data sets, in their order."""
    return pack_clips(
        [clip for dataset in datasets for clip in dataset.clips],
        [dataset.int16_clip(i) for dataset in datasets for i in range(len(dataset))],
    )


def load_clips(
    clips: Sequence[Clip],
    *,
    max_seconds: float = float("inf"),
    too_long_message: str = TOO_LONG_FOR_A_WORD,
    warn: Warn,
    progress: Progress = iter,
    max_unreadable_fraction: float = MAX_UNREADABLE_FRACTION,
) -> ClipDataset:
    """Decodes clips. Those that cannot be read, or are longer than `max_seconds`, are named with
    `warn` and left out.

    Raises DataError when more than `max_unreadable_fraction` of them are left out.
    """

    def decode(clip: Clip) -> np.ndarray | str:
        """int16 samples, or what is wrong with the clip."""
        try:
            wave = recordings.read(clip.path)
        except AudioError as error:
            return str(error)
        seconds = len(wave) / SAMPLE_RATE
        if seconds > max_seconds:
            return f"{clip.path}: {seconds:.1f} s {too_long_message}"
        return to_int16(wave)

    with ThreadPoolExecutor() as pool:
        decoded = list(progress(pool.map(decode, clips)))
    problems = [each for each in decoded if isinstance(each, str)]
    warn_about_unreadable(problems, len(clips), warn, max_unreadable_fraction)
    usable = [
        (clip, wave) for clip, wave in zip(clips, decoded, strict=True) if not isinstance(wave, str)
    ]
    return pack_clips([clip for clip, _ in usable], [wave for _, wave in usable])


def warn_about_unreadable(
    problems: Sequence[str],
    clip_count: int,
    warn: Warn,
    max_fraction: float = MAX_UNREADABLE_FRACTION,
) -> None:
    """Names every clip that is left out. Raises DataError when these are more than a fraction of
    all clips."""
    for problem in problems:
        warn(f"left out: {problem}")
    if len(problems) > max_fraction * clip_count:
        raise DataError(
            f"{len(problems)} of {clip_count} clips cannot be used, the first: {problems[0]} "
            "Repair or remove them."
        )


def peak(wave: np.ndarray) -> float:
    """The largest magnitude of audio in ±1; up to `SILENCE_PEAK` counts as no sound."""
    return float(np.abs(wave).max(initial=0.0))


def drop_silent_clips(
    dataset: ClipDataset, warn: Warn, min_seconds: float = MIN_WORD_SECONDS
) -> ClipDataset:
    """The clips that hold sound and are at least `min_seconds` long. Others are named with
    `warn`."""
    problems = {}
    for clip, wave in zip(dataset.clips, dataset, strict=True):
        if peak(wave) <= SILENCE_PEAK:
            problems[clip] = SILENT_RECORDING
        elif len(wave) < min_seconds * SAMPLE_RATE:
            milliseconds = 1000 * len(wave) / SAMPLE_RATE
            problems[clip] = f"{milliseconds:.0f} ms are too short for a word. Record it again."
    for clip in sorted(problems, key=lambda clip: clip.path):
        warn(f"left out: {clip.path}: {problems[clip]}")
    return dataset.select(lambda clip: clip not in problems) if problems else dataset
