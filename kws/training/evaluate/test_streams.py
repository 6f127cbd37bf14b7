"""Streams to be judged by: each clip of a word once per level of noise, in some seconds of it: at a
random place, or at given ones.

A stream is a pure function of the seed, the number of the clip and the number of the noise level
and place, so that any of them can be made again to be listened to.
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
from kws.training.evaluate.scored_words import embed_in_noise

CLEAN = None  # the noise level of a stream without noise
_RANDOM_POSITION = None
_PINK_SECONDS = 60.0
_MAX_DRAWS = 20


@dataclass(frozen=True)
class EvaluationStream:
    """Clip number `clip` at `lead_seconds`; the word itself lies from `start` to `end` (seconds of
    the stream)."""

    clip: int
    snr_db: float | None
    lead_seconds: float
    start: float
    end: float
    rng_key: tuple[int, ...]  # of its random numbers


class EvaluationStreams:
    """The streams of one word. `dataset`: its clips, each with a sound in it. `positions`: seconds of
    a stream at which a clip begins, each once per level of noise; none: anywhere. From there on a
    stream of so many `seconds` has room for every clip."""

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
            for stream in self._make_streams(clip, snrs_db, positions or (_RANDOM_POSITION,), seed)
        ]

    def audio(self, stream: EvaluationStream) -> np.ndarray:
        """Samples [seconds × 16 000] of a stream, float32; loud noise may go beyond ±1."""
        wave = self.dataset[stream.clip]
        noise = (
            None
            if stream.snr_db is CLEAN
            else _excerpt(self.noises, self._samples, np.random.default_rng((*stream.rng_key, 1)))
        )
        tail = self.seconds - stream.lead_seconds - len(wave) / SAMPLE_RATE
        return embed_in_noise(
            wave,
            np.array([stream.start, stream.end]) - stream.lead_seconds,
            stream.snr_db,
            seed=0,
            noise=noise,
            lead_seconds=stream.lead_seconds,
            tail_seconds=tail,
        )

    @property
    def _samples(self) -> int:
        return round(self.seconds * SAMPLE_RATE)

    def _make_streams(
        self,
        clip: int,
        snrs_db: Sequence[float | None],
        positions: Sequence[float | None],
        seed: int,
    ) -> Iterator[EvaluationStream]:
        wave = self.dataset[clip]
        start, end = find_endpoints(wave)
        for number, (snr_db, position) in enumerate(product(snrs_db, positions)):
            rng_key = (seed, clip, number)
            if position is _RANDOM_POSITION:
                lead = (
                    int(np.random.default_rng(rng_key).integers(self._samples - len(wave) + 1))
                    / SAMPLE_RATE
                )
            else:
                lead = round(position * SAMPLE_RATE) / SAMPLE_RATE
            yield EvaluationStream(clip, snr_db, lead, lead + start, lead + end, rng_key)


def drop_silent_noises(waves: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Those recordings that hold a sound. Raises DataError where none does."""
    noises = [wave for wave in waves if peak(wave) > SILENCE_PEAK]
    if not noises:
        raise DataError(
            "the background recordings hold nothing but silence. Give other ones with --background."
        )
    return noises


def pink_noise(seed: int) -> list[np.ndarray]:
    """A minute of it, to take parts of where no recorded noise is given."""
    return [make_coloured_noise(int(_PINK_SECONDS * SAMPLE_RATE), 1.0, np.random.default_rng(seed))]


def _excerpt(noises: Sequence[np.ndarray], samples: int, rng: np.random.Generator) -> np.ndarray:
    """Parts of random noises, one after the other until they are long enough. What holds no sound
    at all is drawn again."""
    for _ in range(_MAX_DRAWS):
        parts, length = [], 0
        while length < samples:
            noise = noises[int(rng.integers(len(noises)))]
            start = int(rng.integers(max(len(noise) - samples, 0) + 1))
            parts.append(noise[start : start + samples - length])
            length += len(parts[-1])
        part = np.concatenate(parts)
        if np.abs(part).max() > SILENCE_PEAK:
            return part
    return np.resize(noise[np.abs(noise).argmax() :], samples)
