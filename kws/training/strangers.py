"""Words that are none of the known ones, where a data set holds too few: known ones backwards or spliced, other speech, snippets of it."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from kws.audio import SAMPLE_RATE
from kws.training.clips import Bank, extent
from kws.training.part import CLIP_SAMPLES, Part

CROSSFADE_SAMPLES = SAMPLE_RATE // 50
SNIPPET_SECONDS = (0.25, 0.8)


class Strangers:
    """Draws clips int16 [16000]. `words`: rows of `part` that hold known words; `speech` [n, 16000]: pieces without them."""

    def __init__(self, part: Part, words: np.ndarray, speech: np.ndarray):
        self.part, self.words, self.speech = part, words, speech

    @cached_property
    def _extents(self) -> np.ndarray:
        """Samples [n, 2] at which the sound of each known word begins and ends."""
        seconds = [extent(self.part.samples[row].astype(np.float32) / 32768) for row in self.words]
        return np.round(np.array(seconds) * SAMPLE_RATE).astype(int)

    def backwards(self, rng: np.random.Generator) -> np.ndarray:
        """A known word played backwards."""
        return self.part.samples[rng.choice(self.words), ::-1]

    def spliced(self, rng: np.random.Generator) -> np.ndarray:
        """The beginning of one known word and the end of another: neither the one nor the other."""
        first, second = self._two_words(rng)
        cuts = [int(np.interp(rng.uniform(0.25, 0.65), (0, 1), self._extents[i])) for i in (first, second)]
        begun, ended = (self.part.samples[self.words[i]].astype(np.float32) for i in (first, second))
        level = _level(begun, self._extents[first]) / _level(ended, self._extents[second])
        ended = np.roll(ended, cuts[0] - cuts[1]) * level
        share = np.clip((np.arange(CLIP_SAMPLES) - cuts[0]) / CROSSFADE_SAMPLES + 0.5, 0, 1)
        return np.clip(begun * (1 - share) + ended * share, -32768, 32767).astype(np.int16)

    def other_speech(self, rng: np.random.Generator) -> np.ndarray:
        """A piece of other speech."""
        return self.speech[rng.integers(len(self.speech))]

    def snippet(self, rng: np.random.Generator) -> np.ndarray:
        """As much of other speech as a word is long, standing alone as a word does."""
        length = round(rng.uniform(*SNIPPET_SECONDS) * SAMPLE_RATE)
        start = int(rng.integers(CLIP_SAMPLES - length + 1))
        edge = np.minimum(np.arange(CLIP_SAMPLES) - start, start + length - np.arange(CLIP_SAMPLES))
        return (self.other_speech(rng) * np.clip(edge / CROSSFADE_SAMPLES, 0, 1)).astype(np.int16)

    def _two_words(self, rng: np.random.Generator) -> tuple[int, int]:
        first = int(rng.integers(len(self.words)))
        others = np.flatnonzero(self.part.labels[self.words] != self.part.labels[self.words[first]])
        return first, int(rng.choice(others)) if len(others) else first


def speech_pieces(banks: Sequence[Bank]) -> np.ndarray:
    """Every second [n, 16000] of recordings, half overlapping, that is not mostly pause: louder than a tenth of its recording.

    What is shorter than a second stands in the middle of silence.
    """
    pieces = [np.zeros((0, CLIP_SAMPLES), np.int16)]
    for bank in banks:
        for first, last in zip(bank.starts, bank.starts[1:], strict=False):
            if last > first:
                starts = range(first, max(last - CLIP_SAMPLES, first) + 1, CLIP_SAMPLES // 2)
                cut = np.stack([_centred(bank.samples[at : min(at + CLIP_SAMPLES, last)]) for at in starts])
                level = (cut.astype(np.float32) ** 2).mean(axis=1)
                pieces.append(cut[level > 0.1 * level.max()])
    return np.concatenate(pieces)


def _centred(wave: np.ndarray) -> np.ndarray:
    room = CLIP_SAMPLES - len(wave)
    return np.pad(wave, (room // 2, room - room // 2))


def _level(wave: np.ndarray, span: np.ndarray) -> float:
    return float(np.sqrt(np.mean(wave[span[0] : span[1]] ** 2) + 1.0))
