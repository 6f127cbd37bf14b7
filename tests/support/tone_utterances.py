"""Utterances of tones that stand for phones."""

import numpy as np
from sounds import make_dataset, quiet, tone

from kws.training.data.dataset import pack_clips
from kws.training.phones.utterances import UtteranceDataset, Utterances

PHONES_OF_TONES = ("b", "d", "bd")


def make_source(weight: float = 1.0) -> Utterances:
    """A low tone is "b", a high one "d", both one after the other "bd"."""
    low, high = tone(0.15, 500), tone(0.15, 2000)
    dataset = make_dataset(low, high, np.concatenate([low, quiet(0.05), high]))
    return Utterances(dataset, PHONES_OF_TONES, weight)


def make_utterances(seed: int = 0, batch_seconds: float = 12.0) -> UtteranceDataset:
    return UtteranceDataset(
        [make_source()], pack_clips([], []), batch_seconds=batch_seconds, seed=seed
    )
