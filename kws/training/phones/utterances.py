"""What is said, sound by sound: short recordings with their pronunciation, laid one after the
other, to learn reading from.

The letters are those of `kws.synth.confusables.sounds`: one for a sound, without stress. Batches,
like those of `mixing`, are pure functions of (seed, step).
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

BLANK = "_"
PHONES = "bdfhijklmnpstuvwzæðŋɑɔəɛɜɡɪɹʃʊʌʒʤʧθAIOWYᵊᵻɾ"
MERGED_PHONES = {"T": "ɾ", "ɒ": "ɑ", "a": "æ", "e": "ɛ", "r": "ɹ", "g": "ɡ", "Q": "O"}
PAUSE_SECONDS = (0.0, 0.25)  # between two recordings in one example
SPEED_RANGE = (0.85, 1.18)


@dataclass(frozen=True)
class Utterances:
    """Recordings, each with the letters of its sounds, and how often this source is drawn from."""

    dataset: ClipDataset
    phonemes: tuple[str, ...]
    weight: float


class UtteranceBatch(NamedTuple):
    """`audio` [B, N]; `phones` [B, L]: indices into BLANK + LETTERS, of which the first `lengths`
    [B] count; `noise` [B, N]."""

    audio: Tensor
    phones: Tensor
    lengths: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> "UtteranceBatch":
        return UtteranceBatch(*(tensor.to(device) for tensor in self))


def to_phones(phonemes: str) -> str:
    """Sounds in the letters that are learned; what is not among them is left out."""
    merged = (MERGED_PHONES.get(letter, letter) for letter in phonemes)
    return "".join(letter for letter in merged if letter in PHONES)


class UtteranceDataset(Dataset):
    """Batch number `step` for every step. Utterances follow each other until an example is full;
    before the first there is silence of `lead_samples`, as the network gives no frame before it has
    heard that much."""

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
        """Changes when what is learned from does."""
        transcripts = hashlib.sha256(
            "/".join(each for source in self.sources for each in source.phonemes).encode()
        ).hexdigest()
        return "-".join(
            [
                *(source.dataset.fingerprint()[:8] for source in self.sources),
                transcripts[:8],
                self.noises.fingerprint()[:8],
            ]
        )

    def __getitem__(self, step: int) -> UtteranceBatch:
        rng = np.random.default_rng((self.seed, step))
        audio, transcripts, noise = zip(
            *(self._example(rng) for _ in range(self.batch)), strict=True
        )
        phones = np.zeros((self.batch, max(map(len, transcripts))), np.int64)
        for row, each in zip(phones, transcripts, strict=True):
            row[: len(each)] = [PHONES.index(letter) + 1 for letter in each]
        lengths = np.array([len(each) for each in transcripts], np.int64)
        return UtteranceBatch(
            *(
                torch.from_numpy(part)
                for part in (np.stack(audio), phones, lengths, np.stack(noise))
            )
        )

    def _example(self, rng: np.random.Generator) -> tuple[np.ndarray, str, np.ndarray]:
        audio, transcripts = np.zeros(self.samples, np.float32), ""
        at = self.lead_samples + int(rng.integers(SAMPLE_RATE // 4))
        while True:
            wave, phonemes = self._utterance(rng)
            if at + len(wave) > self.samples:
                break
            audio[at : at + len(wave)] += wave
            transcripts += phonemes
            at += len(wave) + round(rng.uniform(*PAUSE_SECONDS) * SAMPLE_RATE)
        return audio, transcripts, self._noise(rng)

    def _utterance(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        source = self.sources[rng.choice(len(self.sources), p=self._probabilities)]
        index = int(rng.integers(len(source.dataset)))
        rate = float(np.exp(rng.uniform(*np.log(SPEED_RANGE))))
        wave = source.dataset[index] * np.float32(10 ** (rng.uniform(-6, 6) / 20))
        return np.interp(np.arange(0, len(wave) - 1, rate), np.arange(len(wave)), wave).astype(
            np.float32
        ), source.phonemes[index]

    def _noise(self, rng: np.random.Generator) -> np.ndarray:
        """A stretch of recorded or of coloured noise, at unit level."""
        if rng.random() < 0.6 and len(self.noises):
            wave = self.noises[int(rng.integers(len(self.noises)))]
            noise = np.resize(
                wave[int(rng.integers(max(len(wave) - self.samples, 0) + 1)) :][: self.samples],
                self.samples,
            )
        else:
            wave = self._coloured[int(rng.integers(len(self._coloured)))]
            noise = wave[int(rng.integers(len(wave) - self.samples)) :][: self.samples]
        return (noise / (np.sqrt(np.mean(noise**2)) + 1e-9)).astype(np.float32)
