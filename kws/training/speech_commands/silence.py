"""Silence of a classification data set: clips of one second from recordings of background noise.

Every recording is cut in three, so that no sample of noise is in two splits: the first 60 % are for
training, then 20 % each for validation and test.
"""

import numpy as np

from kws.audio.recordings import SAMPLE_RATE
from kws.errors import DataError
from kws.training.data.clips import BACKGROUND
from kws.training.data.dataset import ClipDataset, pack_clips
from kws.training.speech_commands.dataset import CLIP_SAMPLES

# As fractions of a recording.
_SPLIT_RANGES = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}


def split_noise(noises: ClipDataset, split: str) -> ClipDataset:
    """The samples of each recording that belong to "train", "validation" or "test"."""
    begin, end = _SPLIT_RANGES[split]
    waves = [noises.int16_clip(i) for i in range(len(noises))]
    return pack_clips(
        noises.clips, [wave[round(begin * len(wave)) : round(end * len(wave))] for wave in waves]
    )


def cut_silence_clips(
    noises: ClipDataset, count: int, rng: np.random.Generator, place: str
) -> np.ndarray:
    """`count` clips int16 [count, 16000], spread evenly over all recordings of noise. They
    overlap where there is too little of it. place: the folders, for the message.

    Raises DataError where no recording is as long as one clip.
    """
    if not count:
        return np.zeros((0, CLIP_SAMPLES), np.int16)
    # Positions at which a clip may begin, of each recording.
    position_counts = np.maximum(np.diff(noises.starts) - CLIP_SAMPLES + 1, 0)
    total = position_counts.sum()
    if not total:
        smallest_fraction = min(end - begin for begin, end in _SPLIT_RANGES.values())
        raise DataError(
            f"{place}: no noise long enough to cut silence from. Put recordings of at least "
            f"{CLIP_SAMPLES / SAMPLE_RATE / smallest_fraction:.0f} s into {BACKGROUND}."
        )
    positions = ((np.arange(count) + rng.random(count)) / count * total).astype(np.int64)
    last_positions = np.cumsum(position_counts)
    recording = np.searchsorted(last_positions, positions, side="right")
    first_positions = last_positions - position_counts
    starts = noises.starts[recording] + positions - first_positions[recording]
    return np.stack([noises.samples[start : start + CLIP_SAMPLES] for start in starts])


def apply_gains(silence: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Each clip [k, 16000] at its gain [k], 0 to 1."""
    return np.round(silence * gains[:, None]).astype(np.int16)
