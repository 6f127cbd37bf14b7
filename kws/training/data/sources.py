"""What training examples are drawn from: recordings of words, and of anything else."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kws.audio.endpoints import find_endpoints
from kws.audio.recordings import SAMPLE_RATE
from kws.training.data.clips import Clip
from kws.training.data.dataset import ClipDataset


@dataclass(frozen=True)
class NegativeSource:
    """Clips without the words. Each source is drawn from in proportion to its weight."""

    dataset: ClipDataset
    weight: float


@dataclass(frozen=True)
class WordClips:
    """Recordings of one word. `endpoints` [n, 2]: start and end of the word in each clip, in
    seconds; NaN where unknown. `in_context`: other speech surrounds the word in its clip.

    Each is drawn from in proportion to its weight, by default the square root of its clip count.
    """

    name: str
    dataset: ClipDataset
    endpoints: np.ndarray
    weight: float | None = None
    in_context: bool = False

    @property
    def sampling_weight(self) -> float:
        return len(self.dataset) ** 0.5 if self.weight is None else self.weight

    def select(self, predicate: Callable[[Clip], bool]) -> "WordClips":
        """The clips for which `predicate` holds."""
        mask = np.array([predicate(clip) for clip in self.dataset.clips], bool)
        return replace(self, dataset=self.dataset.select(predicate), endpoints=self.endpoints[mask])

    def select_split(self, split: str) -> "WordClips":
        """The clips of one split: "train", "validation" or "test"."""
        return self.select(lambda clip: clip.split == split)

    def sound_seconds(self) -> np.ndarray:
        """Length [n] of the word in each clip; of the whole clip where its place is unknown."""
        clip_seconds = np.diff(self.dataset.starts) / SAMPLE_RATE
        start, end = self.endpoints.T
        return np.where(np.isnan(end - start), clip_seconds, end - start)


def aligned_word(name: str, dataset: ClipDataset) -> WordClips:
    """A word whose clips hold nothing else: it lies where the clip's sound does."""
    endpoints = np.array([find_endpoints(wave) for wave in dataset]).reshape(-1, 2)
    return WordClips(name, dataset, endpoints)


def word_in_context(name: str, dataset: ClipDataset, endpoints: np.ndarray) -> WordClips:
    """A word at known places of longer speech. endpoints [n, 2]: in seconds of each clip."""
    return WordClips(name, dataset, endpoints, in_context=True)


def unaligned_word(name: str, dataset: ClipDataset) -> WordClips:
    """A word that lies somewhere in longer clips."""
    return WordClips(name, dataset, np.full((len(dataset), 2), np.nan))
