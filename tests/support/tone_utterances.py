"""Utterances of tones that stand for phones."""

import numpy as np
from sounds import RATE, make_dataset, quiet, tone

from kws.training.data.dataset import pack_clips
from kws.training.phones.utterances import UtteranceDataset, Utterances

LEAD_SAMPLES = RATE // 5


def make_utterances(seed: int = 0, batch: int = 8) -> UtteranceDataset:
    """A low tone is "b", a high one "d", both one after the other "bd"."""
    low, high = tone(0.15, 500), tone(0.15, 2000)
    dataset = make_dataset(low, high, np.concatenate([low, quiet(0.05), high]))
    return UtteranceDataset(
        [Utterances(dataset, ("b", "d", "bd"), 1.0)],
        pack_clips([], []),
        samples=RATE,
        lead_samples=LEAD_SAMPLES,
        batch=batch,
        seed=seed,
    )
