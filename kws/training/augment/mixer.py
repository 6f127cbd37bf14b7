"""Training examples: the word somewhere in a few seconds of other speech, noise or silence.

An example is a pure function of its random generator, a batch of (seed, step). So a run can stop
and go on at any step, with any number of workers, and see the same examples. Per example numpy only
lays clips side by side; all that can be done for a whole batch at once (rooms, noise, gain) happens
in `augment`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kws.audio.recordings import SAMPLE_RATE
from kws.training.data.dataset import ClipDataset
from kws.training.data.noise import make_coloured_noises
from kws.training.data.sources import NegativeSource, WordClips

FADE_SAMPLES = 80  # 5 ms: no click where clips meet
FIRING_SAMPLES = 3200  # 0.2 s after a word, in which the network is to fire
MARGIN_SAMPLES = 800  # 50 ms of a clip are kept before and after its word
# Of the examples without the word: one clip stands as a word would, so that standing alone
# says nothing.
ISOLATED_NEGATIVE_FRACTION = 0.4
REPEAT_FRACTION = 0.2  # of the examples with the word: it was said shortly before, too
# Of what stands alone: its noise begins and ends with it, as that of a recording that is played or
# cut out does.
ROOM_TONE_FRACTION = 0.3
ROOM_TONE_DB = (0.0, 25.0)  # which is so much fainter than other noise
# Of the logarithm of the tempo within a clip (standard deviation), at points so far apart.
TEMPO_DEVIATION, TEMPO_KNOT_SECONDS = 0.15, 0.12


TimeMap = Callable[[np.ndarray], np.ndarray]  # to where times of a clip, in seconds, have come


class Batch(NamedTuple):
    """`audio` [B, N]; `word` [B]: index of the word, -1 for none; `endpoints` [B, 2, 2]: seconds from
    the clip's beginning at which the word begins and ends, once or twice, NaN for what is not there
    or not known; `noise` [B, N]: what `augment` mixes in."""

    audio: Tensor
    word: Tensor
    endpoints: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(tensor.to(device) for tensor in self))


class _PlacedClip(NamedTuple):
    """Samples of a clip, the samples at which its word begins and ends, and whether that
    is known."""

    wave: np.ndarray
    first: int
    last: int
    is_aligned: bool


class ExampleMixer(Dataset):
    """Batch number `step` for every step. Words may stand several times in `words` (placed and
    unplaced clips)."""

    def __init__(
        self,
        names: Sequence[str],
        words: Sequence[WordClips],
        negatives: Sequence[NegativeSource],
        noises: ClipDataset | None,
        *,
        clip_seconds: float,
        earliest_end_seconds: float,
        batch: int = 128,
        positive_fraction: float = 0.4,
        speed_range: tuple[float, float] = (0.82, 1.22),
        seed: int = 0,
    ):
        self.names, self.words, self.negatives, self.noises = list(names), words, negatives, noises
        self.samples = round(clip_seconds * SAMPLE_RATE)
        self.earliest_end = round(earliest_end_seconds * SAMPLE_RATE)
        self.batch, self.positive_fraction, self.speed_range, self.seed = (
            batch,
            positive_fraction,
            speed_range,
            seed,
        )
        self._coloured = make_coloured_noises(16, seed)
        self._word_probabilities = _normalize_weights([word.sampling_weight for word in words])
        self._negative_probabilities = _normalize_weights([source.weight for source in negatives])

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        return self.collate([self.example(rng) for _ in range(self.batch)])

    def collate(self, examples: list[tuple]) -> Batch:
        audio, word, endpoints, noise = zip(*examples, strict=True)
        return Batch(
            torch.from_numpy(np.stack(audio)),
            torch.from_numpy(np.array(word)),
            torch.from_numpy(np.stack(endpoints)),
            torch.from_numpy(np.stack(noise)),
        )

    def example(self, rng: np.random.Generator) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
        noise, endpoints = self._noise_clip(rng), np.full((2, 2), np.nan)
        if rng.random() < self.positive_fraction:
            word = self.words[rng.choice(len(self.words), p=self._word_probabilities)]
            audio, endpoints, span = self._positive_example(
                word, int(rng.integers(len(word.dataset))), rng
            )
            return audio, self.names.index(word.name), endpoints, add_room_tone(noise, span, rng)
        if rng.random() < ISOLATED_NEGATIVE_FRACTION:
            wave = self._negative_clip(rng)
            audio, start = self._place_in_context(
                _PlacedClip(_fade(wave), 0, len(wave), False), rng
            )
            return audio, -1, endpoints, add_room_tone(noise, (start, start + len(wave)), rng)
        return self._other_speech(self.samples, rng), -1, endpoints, noise

    def _positive_example(
        self, word: WordClips, index: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """A clip of the word somewhere in other sounds, its places [2, 2], and the samples at which
        it begins and ends."""
        placed, endpoints = self._keyword_clip(word, index, rng), np.full((2, 2), np.nan)
        audio, start = self._place_in_context(placed, rng)
        if placed.is_aligned:
            endpoints[0] = start + placed.first, start + placed.last
            if rng.random() < REPEAT_FRACTION:
                before = self._keyword_clip(word, index, rng)
                repeat_start = start - len(before.wave) - int(rng.integers(SAMPLE_RATE // 2))
                # Else nothing but silence around it.
                audio[: max(repeat_start + len(before.wave), 0)] *= rng.random() < 0.3
                _add_at(audio, before.wave, repeat_start)
                endpoints[1] = repeat_start + before.first, repeat_start + before.last
        return audio, endpoints / SAMPLE_RATE, (start + placed.first, start + placed.last)

    def _keyword_clip(self, word: WordClips, index: int, rng: np.random.Generator) -> _PlacedClip:
        wave, moved = self._change_tempo(word.dataset[index], rng)
        clip_endpoints = moved(word.endpoints[index])
        if np.isnan(clip_endpoints).any():
            return _PlacedClip(_fade(wave), 0, len(wave), False)
        first, last = (round(seconds * SAMPLE_RATE) for seconds in clip_endpoints)
        cut = max(first - MARGIN_SAMPLES, 0)
        return _PlacedClip(_fade(wave[cut : last + MARGIN_SAMPLES]), first - cut, last - cut, True)

    def _place_in_context(
        self, placed: _PlacedClip, rng: np.random.Generator
    ) -> tuple[np.ndarray, int]:
        """A clip at a random place, and the sample at which it starts; its surroundings end and
        begin some way off, or are silence."""
        last = placed.last
        max_end = self.samples - FIRING_SAMPLES
        # A clip that fits is not cut off at its beginning.
        min_end = min(max(self.earliest_end, last), max_end - 1)
        start = int(rng.integers(min_end, max_end)) - last if last < max_end else max_end - last
        audio = self._context(start + placed.first, start + last, rng)
        _add_at(audio, placed.wave, start)
        return audio, start

    def _context(self, first: int, last: int, rng: np.random.Generator) -> np.ndarray:
        audio = np.zeros(self.samples, np.float32)
        before, after = rng.integers(0, SAMPLE_RATE // 2, 2)
        if rng.random() < 0.6 and first - before > 0:
            audio[: first - before] = _fade(self._other_speech(first - before, rng))
        if rng.random() < 0.6 and last + after < self.samples:
            audio[last + after :] = _fade(self._other_speech(self.samples - last - after, rng))
        return audio

    def _other_speech(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Other speech: clips of random sources one after the other, with or without pauses."""
        audio = np.zeros(length, np.float32)
        at = -int(rng.integers(0, SAMPLE_RATE // 2))
        while at < length:
            wave = self._negative_clip(rng)
            _add_at(audio, _fade(wave), at)
            at += len(wave) + int(rng.integers(0, SAMPLE_RATE // 3))
        return audio

    def _negative_clip(self, rng: np.random.Generator) -> np.ndarray:
        dataset = self.negatives[
            rng.choice(len(self.negatives), p=self._negative_probabilities)
        ].dataset
        return self._change_tempo(
            _random_crop(dataset[int(rng.integers(len(dataset)))], self.samples, rng), rng
        )[0]

    def _change_tempo(
        self, wave: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, TimeMap]:
        """Half the clips a little faster or slower, and so from a smaller or larger speaker, who
        lingers on some sounds and hurries over others; and to where a time in the clip moves."""
        if rng.random() < 0.5 or not len(wave):
            return wave, lambda seconds: seconds
        before, after = perturb_tempo(len(wave), float(rng.uniform(*self.speed_range)), rng)
        at = np.interp(np.arange(after[-1]), after, before)
        moved = np.interp(at, np.arange(len(wave)), wave).astype(np.float32)
        return moved, lambda seconds: np.interp(seconds * SAMPLE_RATE, before, after) / SAMPLE_RATE

    def _noise_clip(self, rng: np.random.Generator) -> np.ndarray:
        """A stretch of recorded noise, of babble, or of coloured noise, at unit level."""
        kind = rng.random()
        if kind < 0.5 and self.noises:
            noise = _loop(
                _random_crop(self.noises[int(rng.integers(len(self.noises)))], self.samples, rng),
                self.samples,
            )
        elif kind < 0.65:
            speakers = (
                self._other_speech(self.samples, rng) for _ in range(int(rng.integers(2, 5)))
            )
            noise = sum(speakers, np.zeros(self.samples, np.float32))
        else:
            noise = _random_crop(
                self._coloured[int(rng.integers(len(self._coloured)))], self.samples, rng
            )
        return (noise / (np.sqrt(np.mean(noise**2)) + 1e-9)).astype(np.float32)


def max_word_seconds(clip_seconds: float, slowest_speed: float) -> float:
    """Longest sound of a word, in seconds, that fits into an example when it is played at its
    slowest: with the margin before it, and the time after it in which the network is to fire."""
    free_samples = clip_seconds * SAMPLE_RATE - FIRING_SAMPLES - MARGIN_SAMPLES
    return free_samples / SAMPLE_RATE * slowest_speed


def perturb_tempo(
    samples: int, rate: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a clip, every 10 ms, and where they come to lie in one that is played at this rate
    on the whole, but unevenly."""
    before = np.linspace(0, samples, max(samples // (SAMPLE_RATE // 100), 1) + 1)
    points = np.arange(
        0, samples + 2 * TEMPO_KNOT_SECONDS * SAMPLE_RATE, TEMPO_KNOT_SECONDS * SAMPLE_RATE
    )
    stretch_factors = np.exp(
        np.interp(before[1:], points, rng.normal(0, TEMPO_DEVIATION, len(points)))
    )
    after = np.concatenate([[0], np.cumsum(stretch_factors)])
    return before, after * (samples / rate / after[-1])


def add_room_tone(noise: np.ndarray, span: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Now and then the faint noise of a recording that begins and ends less than a second off a
    sound. Spoken clips have none, and people's recordings all do: without this it says "no word of
    ours" where words are spoken clips alone."""
    if rng.random() >= ROOM_TONE_FRACTION:
        return noise
    before, after = rng.integers(0, SAMPLE_RATE, 2)
    around = slice(max(span[0] - int(before), 0), max(span[1] + int(after), 0))
    room_tone = np.zeros_like(noise)
    room_tone[around] = noise[around] * np.float32(10 ** (-rng.uniform(*ROOM_TONE_DB) / 20))
    return room_tone


def _normalize_weights(weights: list[float]) -> np.ndarray:
    return np.array(weights) / sum(weights)


def _random_crop(wave: np.ndarray, max_length: int, rng: np.random.Generator) -> np.ndarray:
    start = int(rng.integers(max(len(wave) - max_length, 0) + 1))
    return wave[start : start + max_length]


def _loop(wave: np.ndarray, length: int) -> np.ndarray:
    return np.resize(wave, length) if len(wave) else np.zeros(length, np.float32)


def _fade(wave: np.ndarray) -> np.ndarray:
    """A wave whose ends rise and fall over 5 ms; changes it in place."""
    length = min(FADE_SAMPLES, len(wave) // 2)
    ramp = np.arange(1, length + 1, dtype=np.float32) / (length + 1)
    wave[:length] *= ramp
    wave[len(wave) - length :] *= ramp[::-1]
    return wave


def _add_at(audio: np.ndarray, wave: np.ndarray, at: int) -> None:
    """Adds a wave at a place that may lie partly outside."""
    start, end = max(at, 0), min(at + len(wave), len(audio))
    if start < end:
        audio[start:end] += wave[start - at : end - at]
