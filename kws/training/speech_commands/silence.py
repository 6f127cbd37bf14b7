"""Silence of a classification data set: pieces of one second from recordings of background noise.

Every recording is cut into three stretches, so that no sample of noise stands in two parts: the
first 60 % are for training, then 20 % each for validation and test.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kws.audio.recordings import SAMPLE_RATE
from kws.errors import DataError
from kws.training.data.dataset import ClipDataset, pack_clips
from kws.training.speech_commands.dataset import CLIP_SAMPLES

# As shares of a recording.
_SPLIT_RANGES = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}


def split_noise(noises: ClipDataset, part: str) -> ClipDataset:
    """The samples of each recording that belong to one part ("train", "validation" or "test")."""
    waves = [
        noises.samples[begin:end]
        for begin, end in zip(noises.starts, noises.starts[1:], strict=False)
    ]
    bounds = [[round(share * len(wave)) for share in _SPLIT_RANGES[part]] for wave in waves]
    return pack_clips(
        noises.clips, [wave[begin:end] for wave, (begin, end) in zip(waves, bounds, strict=True)]
    )


def cut_silence_clips(
    noises: ClipDataset, count: int, rng: np.random.Generator, where: Path
) -> np.ndarray:
    """`count` pieces int16 [count, 16000], spread evenly over all recordings; they overlap where
    there is too little noise for them.

    Raises DataError where no recording is as long as one piece; `where` names their folder.
    """
    if not count:
        return np.zeros((0, CLIP_SAMPLES), np.int16)
    # Places at which a piece may begin, per recording.
    start_counts = np.maximum(np.diff(noises.starts) - CLIP_SAMPLES + 1, 0)
    if not start_counts.sum():
        needed = (
            CLIP_SAMPLES / SAMPLE_RATE / min(end - begin for begin, end in _SPLIT_RANGES.values())
        )
        raise DataError(
            f"{where}: no noise long enough to cut silence from. "
            f"Put recordings of at least {needed:.0f} s there."
        )
    start_positions = ((np.arange(count) + rng.random(count)) / count * start_counts.sum()).astype(
        np.int64
    )
    return np.stack(
        [
            noises.samples[start : start + CLIP_SAMPLES]
            for start in _sample_starts(start_positions, start_counts, noises.starts)
        ]
    )


def apply_gains(silence: np.ndarray, gains: Sequence[float] | np.ndarray) -> np.ndarray:
    """Each piece [k, 16000] at its gain [k], 0 to 1."""
    return np.round(silence * np.asarray(gains)[:, None]).astype(np.int16)


def _sample_starts(
    start_positions: np.ndarray, start_counts: np.ndarray, starts: np.ndarray
) -> np.ndarray:
    ends = np.cumsum(start_counts)
    recording = np.searchsorted(ends, start_positions, side="right")
    return starts[recording] + start_positions - (ends - start_counts)[recording]
