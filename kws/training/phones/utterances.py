"""Utterances with their phones: short recordings one after the other, with pauses and noise.

A batch is a pure function of (seed, index).
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
from kws.training.data.dataset import ClipDataset
from kws.training.data.noise import make_coloured_noises
from kws.training.model.phone_set import PHONES

PAUSE_SECONDS = (0.0, 0.25)  # between two recordings of an example
SPEED_RANGE = (0.85, 1.18)
GAIN_DB = (-6.0, 6.0)  # of each recording
RECORDED_NOISE_FRACTION = 0.6  # of the examples; the others have coloured noise


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
    """Batches by their index. Utterances follow each other until an example of `samples` is full;
    the first `lead_samples` are silent, as the network gives no frame before its receptive field is
    filled."""

    def __init__(
        self,
        sources: Sequence[Utterances],
        noises: ClipDataset,
        *,
        samples: int,
        lead_samples: int,
        batch: int,
        seed: int,
    ):
        self.sources, self.noises = sources, noises
        self.samples, self.lead_samples, self.batch, self.seed = samples, lead_samples, batch, seed
        weights = np.array([source.weight for source in sources])
        self._probabilities = weights / weights.sum()
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
        examples = [self._example(rng) for _ in range(self.batch)]
        lengths = [len(each.phones) for each in examples]
        phones = np.zeros((self.batch, max(lengths)), np.int64)
        for row, each in zip(phones, examples, strict=True):
            row[: len(each.phones)] = [PHONES.index(phone) + 1 for phone in each.phones]
        return UtteranceBatch(
            torch.from_numpy(np.stack([each.audio for each in examples])),
            torch.from_numpy(phones),
            torch.tensor(lengths),
            torch.from_numpy(np.stack([each.noise for each in examples])),
        )

    def _example(self, rng: np.random.Generator) -> "_Example":
        audio, phones = np.zeros(self.samples, np.float32), ""
        start = self.lead_samples + int(rng.integers(SAMPLE_RATE // 4))
        while True:
            wave, wave_phones = self._utterance(rng)
            end = start + len(wave)
            if end > self.samples:
                break
            audio[start:end] += wave
            phones += wave_phones
            start = end + round(rng.uniform(*PAUSE_SECONDS) * SAMPLE_RATE)
        return _Example(audio, phones, self._noise(rng))

    def _utterance(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A recording at another speed and level, and its phones."""
        source = self.sources[rng.choice(len(self.sources), p=self._probabilities)]
        index = int(rng.integers(len(source.dataset)))
        speed = float(np.exp(rng.uniform(*np.log(SPEED_RANGE))))
        wave = source.dataset[index] * np.float32(10 ** (rng.uniform(*GAIN_DB) / 20))
        times = np.arange(0, len(wave) - 1, speed)
        resampled = np.interp(times, np.arange(len(wave)), wave).astype(np.float32)
        return resampled, source.phonemes[index]

    def _noise(self, rng: np.random.Generator) -> np.ndarray:
        """Recorded or coloured noise, at unit level."""
        if rng.random() < RECORDED_NOISE_FRACTION and len(self.noises):
            wave = self.noises[int(rng.integers(len(self.noises)))]
            start = int(rng.integers(max(len(wave) - self.samples, 0) + 1))
            noise = np.resize(wave[start : start + self.samples], self.samples)
        else:
            wave = self._coloured[int(rng.integers(len(self._coloured)))]
            start = int(rng.integers(len(wave) - self.samples))
            noise = wave[start : start + self.samples]
        return (noise / (np.sqrt(np.mean(noise**2)) + 1e-9)).astype(np.float32)


class _Example(NamedTuple):
    audio: np.ndarray
    phones: str
    noise: np.ndarray
