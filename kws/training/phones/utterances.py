"""Recordings with their phones, in batches of examples of about the same length.

An example begins with a recording, whole, and goes on with others as long as they fit. Recordings
are sorted into classes of length, so that sentences of fifteen seconds stand beside each other and
not beside single words. A batch is a pure function of (seed, index).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kws.audio.recordings import SAMPLE_RATE
from kws.training.augment.codec import code_opus
from kws.training.data.dataset import ClipDataset
from kws.training.data.noise import make_coloured_noises
from kws.training.model.phone_set import PHONES

LENGTH_CLASSES_SECONDS = (4, 8, 16)  # longer recordings are not used
MARGIN_SAMPLES = SAMPLE_RATE * 3 // 10  # around the recordings, beside these seconds
PAUSE_SECONDS = (0.0, 0.25)  # between two recordings of an example
MIN_ROOM_SAMPLES = SAMPLE_RATE // 2  # for another recording
SPEED_RANGE = (0.85, 1.18)
GAIN_DB = (-6.0, 6.0)  # of each recording
RECORDED_NOISE_FRACTION = 0.6  # of the examples; the others have coloured noise
CODED_FRACTION = 0.1  # of the recordings, beside those that come so; coding is slow
OPUS_BITS_PER_SECOND = (8_000, 40_000)


@dataclass(frozen=True)
class Utterances:
    """Recordings, each with its phones, and how often this source is drawn."""

    dataset: ClipDataset
    phonemes: tuple[str, ...]
    weight: float


class UtteranceBatch(NamedTuple):
    """`audio` [B, N]; `phones` [B, L]: indices into BLANK + PHONES, of which the first `lengths`
    [B] count; `noise` [B, N]."""

    audio: Tensor
    phones: Tensor
    lengths: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> "UtteranceBatch":
        return UtteranceBatch(*(tensor.to(device) for tensor in self))


class UtteranceDataset(Dataset):
    """Batches by their index, each with about `batch_seconds` of audio."""

    def __init__(
        self,
        sources: Sequence[Utterances],
        noises: ClipDataset,
        *,
        batch_seconds: float,
        seed: int,
    ):
        self.sources, self.noises = sources, noises
        self.batch_seconds, self.seed = batch_seconds, seed
        self._shelf = _Shelf.fill(sources)
        self._coloured = make_coloured_noises(16, seed)

    def fingerprint(self) -> str:
        """Changes with the recordings, their phones and the noise."""
        transcripts = "/".join(each for source in self.sources for each in source.phonemes)
        parts = [
            *(source.dataset.fingerprint() for source in self.sources),
            hashlib.sha256(transcripts.encode()).hexdigest(),
            self.noises.fingerprint(),
        ]
        return "-".join(part[:8] for part in parts)

    def __getitem__(self, index: int) -> UtteranceBatch:
        rng = np.random.default_rng((self.seed, index))
        length_class = self._shelf.draw_class(rng)
        count = max(round(self.batch_seconds / LENGTH_CLASSES_SECONDS[length_class]), 1)
        examples = [self._example(length_class, rng) for _ in range(count)]
        lengths = [len(each.phones) for each in examples]
        phones = np.zeros((count, max(lengths)), np.int64)
        for row, each in zip(phones, examples, strict=True):
            row[: len(each.phones)] = [PHONES.index(phone) + 1 for phone in each.phones]
        return UtteranceBatch(
            torch.from_numpy(np.stack([each.audio for each in examples])),
            torch.from_numpy(phones),
            torch.tensor(lengths),
            torch.from_numpy(np.stack([each.noise for each in examples])),
        )

    def _example(self, length_class: int, rng: np.random.Generator) -> "_Example":
        """A recording of this length, and others that fit behind it."""
        length = LENGTH_CLASSES_SECONDS[length_class] * SAMPLE_RATE + MARGIN_SAMPLES
        audio, phones = np.zeros(length, np.float32), ""
        start = int(rng.integers(MARGIN_SAMPLES))
        place: int | None = self._shelf.draw_first(length_class, rng)
        while place is not None:
            source = self.sources[self._shelf.source[place]]
            index = self._shelf.index[place]
            wave = _vary(source.dataset[index], length - start, rng)
            audio[start : start + len(wave)] += wave
            phones += source.phonemes[index]
            start += len(wave) + round(rng.uniform(*PAUSE_SECONDS) * SAMPLE_RATE)
            place = self._shelf.draw_shorter(length - start, rng)
        return _Example(audio, phones, self._noise(length, rng))

    def _noise(self, samples: int, rng: np.random.Generator) -> np.ndarray:
        """Recorded or coloured noise, at unit level."""
        if rng.random() < RECORDED_NOISE_FRACTION and len(self.noises):
            wave = self.noises[int(rng.integers(len(self.noises)))]
        else:
            wave = self._coloured[int(rng.integers(len(self._coloured)))]
        start = int(rng.integers(max(len(wave) - samples, 0) + 1))
        noise = np.resize(wave[start : start + samples], samples)
        return (noise / (np.sqrt(np.mean(noise**2)) + 1e-9)).astype(np.float32)


class _Example(NamedTuple):
    audio: np.ndarray
    phones: str
    noise: np.ndarray


def _vary(wave: np.ndarray, room: int, rng: np.random.Generator) -> np.ndarray:
    """A recording at another speed, at which it fits, and level; some of them coded."""
    wave = wave * np.float32(10 ** (rng.uniform(*GAIN_DB) / 20))
    if rng.random() < CODED_FRACTION:
        wave = code_opus(wave, int(rng.uniform(*OPUS_BITS_PER_SECOND)))
    speed = max(float(np.exp(rng.uniform(*np.log(SPEED_RANGE)))), len(wave) / room)
    times = np.arange(0, len(wave) - 1, speed)
    return np.interp(times, np.arange(len(wave)), wave).astype(np.float32)


@dataclass(frozen=True)
class _Shelf:
    """The recordings of all sources, the shortest first: of which source, which of them, and how
    long [n]. `audio` and `draws` [n + 1]: summed up to each, its share of the audio, and of the
    draws that give it this share."""

    source: np.ndarray
    index: np.ndarray
    samples: np.ndarray
    audio: np.ndarray
    draws: np.ndarray

    @classmethod
    def fill(cls, sources: Sequence[Utterances]) -> "_Shelf":
        samples = np.concatenate([np.diff(each.dataset.starts) for each in sources])
        source = np.repeat(np.arange(len(sources)), [len(each.dataset) for each in sources])
        index = np.concatenate([np.arange(len(each.dataset)) for each in sources])
        draws = np.array([each.weight / each.dataset.seconds for each in sources])[source]
        order = np.argsort(samples, kind="stable")
        order = order[: np.searchsorted(samples[order], _CLASS_SAMPLES[-1], side="right")]
        return cls(
            source[order],
            index[order],
            samples[order],
            np.cumsum([0.0, *(draws * samples)[order]]),
            np.cumsum([0.0, *draws[order]]),
        )

    def draw_class(self, rng: np.random.Generator) -> int:
        """A class of length, by its share of the audio."""
        place = _draw(self.audio, 0, len(self.samples), rng)
        return int(np.searchsorted(_CLASS_SAMPLES, self.samples[place]))

    def draw_first(self, length_class: int, rng: np.random.Generator) -> int:
        """A recording of a class that is not empty."""
        limits = np.searchsorted(self.samples, [0, *_CLASS_SAMPLES], side="right")
        return _draw(self.audio, limits[length_class], limits[length_class + 1], rng)

    def draw_shorter(self, samples: int, rng: np.random.Generator) -> int | None:
        """A recording of at most so many samples; None where there is none, or hardly room."""
        count = int(np.searchsorted(self.samples, samples, side="right"))
        return _draw(self.draws, 0, count, rng) if count and samples >= MIN_ROOM_SAMPLES else None


_CLASS_SAMPLES = np.array(LENGTH_CLASSES_SECONDS) * SAMPLE_RATE


def _draw(cumulative: np.ndarray, first: int, last: int, rng: np.random.Generator) -> int:
    """A number from `first` to `last` - 1, each with the probability by which its sum grows."""
    value = rng.uniform(cumulative[first], cumulative[last])
    place = int(np.searchsorted(cumulative, value, side="right")) - 1
    return min(max(place, first), last - 1)
