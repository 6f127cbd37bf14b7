"""Test streams: each clip of a word once per noise level, in some seconds of noise, at a random
position or at given ones.

A stream is a pure function of the seed, the number of the clip, and the number of the noise level
and position. Any stream can be made again, for example to listen to it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from kws.audio.endpoints import find_endpoints
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import DataError
from kws.training.data.dataset import SILENCE_PEAK, ClipDataset, peak
from kws.training.data.noise import make_coloured_noise

CLEAN = None  # the noise level of a stream without noise
LEAD_SECONDS = 2.0
TAIL_SECONDS = 1.5
_PINK_SECONDS = 60.0
_MAX_DRAWS = 20


@dataclass(frozen=True)
class EmbeddedWord:
    """Samples [n] at 16 kHz, float32, in which a word lies from `start` to `end` (seconds)."""

    audio: np.ndarray
    start: float
    end: float


@dataclass(frozen=True)
class EvaluationStream:
    """Clip number `clip` at `lead_seconds` of a stream. The word itself lies from `start` to `end`,
    in seconds of the stream."""

    clip: int
    snr_db: float | None
    lead_seconds: float
    start: float
    end: float
    rng_key: tuple[int, ...]  # seeds the stream's random numbers


class EvaluationStreams:
    """The test streams of one word.

    dataset: clips of the word, each with a sound in it. seconds: length of a stream. positions:
    where the clips begin, in seconds of the stream, each once per noise level; a random position if
    there are none. Every clip fits into the rest of a stream after the last position.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        noises: Sequence[np.ndarray],
        *,
        snrs_db: Sequence[float | None],
        seconds: float,
        seed: int,
        positions: Sequence[float] = (),
    ):
        self.dataset, self.noises, self.seconds = dataset, noises, seconds
        self.all = [
            stream
            for clip in range(len(dataset))
            for stream in self._make_streams(clip, snrs_db, positions, seed)
        ]

    def audio(self, stream: EvaluationStream) -> np.ndarray:
        """Samples [seconds × 16 000] of a stream, float32. Loud noise may exceed ±1."""
        wave = self.dataset[stream.clip]
        noise = None
        if stream.snr_db is not CLEAN:
            noise = _excerpt(
                self.noises, self._samples, np.random.default_rng((*stream.rng_key, 1))
            )
        return embed_word(
            wave,
            np.array([stream.start, stream.end]) - stream.lead_seconds,
            stream.snr_db,
            noise=noise,
            lead_seconds=stream.lead_seconds,
            tail_seconds=self.seconds - stream.lead_seconds - len(wave) / SAMPLE_RATE,
        ).audio

    @property
    def _samples(self) -> int:
        return round(self.seconds * SAMPLE_RATE)

    def _make_streams(
        self,
        clip: int,
        snrs_db: Sequence[float | None],
        positions: Sequence[float],
        seed: int,
    ) -> Iterator[EvaluationStream]:
        wave = self.dataset[clip]
        start, end = find_endpoints(wave)
        last_sample = self._samples - len(wave)
        places: Sequence[float | None] = positions or (None,)
        for number, (snr_db, position) in enumerate(product(snrs_db, places)):
            rng_key = (seed, clip, number)
            if position is None:
                first_sample = int(np.random.default_rng(rng_key).integers(last_sample + 1))
            else:
                first_sample = round(position * SAMPLE_RATE)
            lead = first_sample / SAMPLE_RATE
            yield EvaluationStream(clip, snr_db, lead, lead + start, lead + end, rng_key)


def embed_word(
    wave: np.ndarray,
    endpoints: np.ndarray | tuple[float, float],
    snr_db: float | None = CLEAN,
    *,
    seed: int = 0,
    noise: np.ndarray | None = None,
    lead_seconds: float = LEAD_SECONDS,
    tail_seconds: float = TAIL_SECONDS,
) -> EmbeddedWord:
    """A clip between two stretches of silence, in noise at `snr_db` or in none.

    wave: samples of the clip. endpoints: where the word lies in it, in seconds. noise: samples,
    repeated as needed; pink noise made from `seed` if not given. The level of the word is that of
    its louder half.
    """
    start, end = endpoints
    lead, tail = (
        np.zeros(round(seconds * SAMPLE_RATE)) for seconds in (lead_seconds, tail_seconds)
    )
    audio = np.concatenate([lead, wave, tail]).astype(np.float32)
    if snr_db is not CLEAN:
        audio = audio + _scale_noise(
            _fit_noise(noise, len(audio), seed), _louder_half_power(wave, start, end), snr_db
        )
    return EmbeddedWord(audio, lead_seconds + start, lead_seconds + end)


def drop_silent_noises(waves: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The recordings that hold a sound. Raises DataError if there are none."""
    noises = [wave for wave in waves if peak(wave) > SILENCE_PEAK]
    if not noises:
        raise DataError(
            "the background recordings hold nothing but silence. Give other ones with --background."
        )
    return noises


def pink_noise(seed: int) -> list[np.ndarray]:
    """One minute of pink noise, for streams without recorded noise."""
    return [make_coloured_noise(int(_PINK_SECONDS * SAMPLE_RATE), 1.0, np.random.default_rng(seed))]


def _louder_half_power(wave: np.ndarray, start: float, end: float) -> np.floating:
    """Mean power of the louder half of the samples between `start` and `end` (seconds)."""
    first, last = int(start * SAMPLE_RATE), int(end * SAMPLE_RATE)
    powers = np.sort(wave[first:last].astype(np.float64) ** 2)
    return powers[(last - first) // 2 :].mean()


def _fit_noise(noise: np.ndarray | None, samples: int, seed: int) -> np.ndarray:
    if noise is None:
        return make_coloured_noise(samples, 1.0, np.random.default_rng(seed))
    return np.resize(noise, samples)


def _scale_noise(noise: np.ndarray, word_power: np.floating, snr_db: float) -> np.ndarray:
    noise_power = np.mean(noise**2)
    return noise * np.float32(np.sqrt(word_power / noise_power * 10 ** (-snr_db / 10)))


def _excerpt(noises: Sequence[np.ndarray], samples: int, rng: np.random.Generator) -> np.ndarray:
    """Excerpts of random noises, joined until they are long enough. An excerpt without any sound
    is drawn again."""
    for _ in range(_MAX_DRAWS):
        parts, length = [], 0
        while length < samples:
            noise = noises[int(rng.integers(len(noises)))]
            start = int(rng.integers(max(len(noise) - samples, 0) + 1))
            parts.append(noise[start : start + samples - length])
            length += len(parts[-1])
        excerpt = np.concatenate(parts)
        if peak(excerpt) > SILENCE_PEAK:
            return excerpt
    return np.resize(noise[np.abs(noise).argmax() :], samples)
