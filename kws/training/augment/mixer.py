"""Training examples: the word somewhere in a few seconds of other speech, noise or silence.

An example is a pure function of its random generator, a batch of (seed, step). So a run can stop
and go on at any step, with any number of workers, and see the same examples. Per example numpy only
lays clips side by side; all that can be done for a whole batch at once (rooms, noise, gain) happens
in `augment`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kws.audio.recordings import SAMPLE_RATE
from kws.training.data.clips import Bank, extent

FADE_SAMPLES = 80  # 5 ms: no click where clips meet
MARGIN_SAMPLES = 800  # 50 ms of a clip are kept before and after its word
# Of the examples without the word: one clip stands as a word would, so that standing alone
# says nothing.
DECOYS = 0.4
REPEATS = 0.2  # of the examples with the word: it was said shortly before, too
# Of what stands alone: its noise begins and ends with it, as that of a recording that is played or
# cut out does.
RECORDED = 0.3
ROOM_TONE_DB = (0.0, 25.0)  # which is so much fainter than other noise
# Of the logarithm of the tempo within a clip (standard deviation), at points so far apart.
SWAY, SWAY_SECONDS = 0.15, 0.12


@dataclass(frozen=True)
class Source:
    """A bank of clips and how often it is drawn from."""

    bank: Bank
    weight: float


@dataclass(frozen=True)
class Word:
    """Recordings of one word. `placed` [n, 2]: where the word begins and ends in each clip, in
    seconds; NaN where unknown.

    Of several, each is drawn from in proportion to its weight; that is the square root of the
    number of its clips where none is given.
    """

    name: str
    bank: Bank
    placed: np.ndarray
    weight: float | None = None

    @property
    def odds(self) -> float:
        return len(self.bank) ** 0.5 if self.weight is None else self.weight


def placed_word(name: str, bank: Bank) -> Word:
    """A word whose clips hold nothing else: its place is where the clip's sound is."""
    return Word(name, bank, np.array([extent(wave) for wave in bank]).reshape(-1, 2))


def unplaced_word(name: str, bank: Bank) -> Word:
    """A word said somewhere in longer clips."""
    return Word(name, bank, np.full((len(bank), 2), np.nan))


Moved = Callable[[np.ndarray], np.ndarray]  # to where times of a clip, in seconds, have come


class Batch(NamedTuple):
    """`audio` [B, N]; `word` [B]: index of the word, -1 for none; `places` [B, 2, 2]: seconds from
    the clip's beginning at which the word begins and ends, once or twice, NaN for what is not there
    or not known; `noise` [B, N]: what `augment` mixes in."""

    audio: Tensor
    word: Tensor
    places: Tensor
    noise: Tensor


class _Spoken(NamedTuple):
    """Samples of a clip, the samples at which its word begins and ends, and whether that
    is known."""

    wave: np.ndarray
    first: int
    last: int
    known: bool


class Mixer(Dataset):
    """Batch number `step` for every step. Words may stand several times in `words` (placed and
    unplaced clips)."""

    def __init__(
        self,
        names: Sequence[str],
        words: Sequence[Word],
        negatives: Sequence[Source],
        noises: Bank | None,
        *,
        clip_seconds: float,
        earliest_end_seconds: float,
        batch: int = 128,
        positive_fraction: float = 0.4,
        speeds: tuple[float, float] = (0.82, 1.22),
        seed: int = 0,
    ):
        self.names, self.words, self.negatives, self.noises = list(names), words, negatives, noises
        self.samples = round(clip_seconds * SAMPLE_RATE)
        self.earliest_end = round(earliest_end_seconds * SAMPLE_RATE)
        self.batch, self.positive_fraction, self.speeds, self.seed = (
            batch,
            positive_fraction,
            speeds,
            seed,
        )
        # 10 s of each, made once: the transform would cost more than all else in a mix.
        slopes = np.linspace(0, 2, 16)
        self._coloured = [
            coloured_noise(10 * SAMPLE_RATE, slope, np.random.default_rng(seed)) for slope in slopes
        ]
        self._word_odds = _odds([word.odds for word in words])
        self._negative_odds = _odds([source.weight for source in negatives])

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        return self.collate([self.example(rng) for _ in range(self.batch)])

    def collate(self, examples: list[tuple]) -> Batch:
        audio, word, places, noise = zip(*examples, strict=True)
        return Batch(
            torch.from_numpy(np.stack(audio)),
            torch.from_numpy(np.array(word)),
            torch.from_numpy(np.stack(places)),
            torch.from_numpy(np.stack(noise)),
        )

    def example(self, rng: np.random.Generator) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
        noise, places = self._noise(rng), np.full((2, 2), np.nan)
        if rng.random() < self.positive_fraction:
            word = self.words[rng.choice(len(self.words), p=self._word_odds)]
            audio, places, span = self._with_word(word, int(rng.integers(len(word.bank))), rng)
            return audio, self.names.index(word.name), places, recorded(noise, span, rng)
        if rng.random() < DECOYS:
            wave = self._negative(rng)
            audio, start = self._around(_Spoken(_faded(wave), 0, len(wave), False), rng)
            return audio, -1, places, recorded(noise, (start, start + len(wave)), rng)
        return self._speech(self.samples, rng), -1, places, noise

    def _with_word(
        self, word: Word, index: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """A clip of the word somewhere in other sounds, its places [2, 2], and the samples at which
        it begins and ends."""
        spoken, places = self._spoken(word, index, rng), np.full((2, 2), np.nan)
        audio, start = self._around(spoken, rng)
        if spoken.known:
            places[0] = start + spoken.first, start + spoken.last
            if rng.random() < REPEATS:
                before = self._spoken(word, index, rng)
                earlier = start - len(before.wave) - int(rng.integers(SAMPLE_RATE // 2))
                # Else nothing but silence around it.
                audio[: max(earlier + len(before.wave), 0)] *= rng.random() < 0.3
                _add(audio, before.wave, earlier)
                places[1] = earlier + before.first, earlier + before.last
        return audio, places / SAMPLE_RATE, (start + spoken.first, start + spoken.last)

    def _spoken(self, word: Word, index: int, rng: np.random.Generator) -> _Spoken:
        wave, moved = self._at_speed(word.bank[index], rng)
        place = moved(word.placed[index])
        if np.isnan(place).any():
            return _Spoken(_faded(wave), 0, len(wave), False)
        first, last = (round(seconds * SAMPLE_RATE) for seconds in place)
        cut = max(first - MARGIN_SAMPLES, 0)
        return _Spoken(_faded(wave[cut : last + MARGIN_SAMPLES]), first - cut, last - cut, True)

    def _around(self, spoken: _Spoken, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """A clip at a random place, and the sample at which it starts; its surroundings end and
        begin some way off, or are silence."""
        last = spoken.last
        latest = self.samples - 3200  # room for the frames that are to fire
        # A clip that fits is not cut off at its beginning.
        earliest = min(max(self.earliest_end, last), latest - 1)
        start = int(rng.integers(earliest, latest)) - last if last < latest else latest - last
        audio = self._surroundings(start + spoken.first, start + last, rng)
        _add(audio, spoken.wave, start)
        return audio, start

    def _surroundings(self, first: int, last: int, rng: np.random.Generator) -> np.ndarray:
        audio = np.zeros(self.samples, np.float32)
        before, after = rng.integers(0, SAMPLE_RATE // 2, 2)
        if rng.random() < 0.6 and first - before > 0:
            audio[: first - before] = _faded(self._speech(first - before, rng))
        if rng.random() < 0.6 and last + after < self.samples:
            audio[last + after :] = _faded(self._speech(self.samples - last - after, rng))
        return audio

    def _speech(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Other speech: clips of random sources one after the other, with or without pauses."""
        audio = np.zeros(length, np.float32)
        at = -int(rng.integers(0, SAMPLE_RATE // 2))
        while at < length:
            wave = self._negative(rng)
            _add(audio, _faded(wave), at)
            at += len(wave) + int(rng.integers(0, SAMPLE_RATE // 3))
        return audio

    def _negative(self, rng: np.random.Generator) -> np.ndarray:
        bank = self.negatives[rng.choice(len(self.negatives), p=self._negative_odds)].bank
        return self._at_speed(_cut(bank[int(rng.integers(len(bank)))], self.samples, rng), rng)[0]

    def _at_speed(self, wave: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Moved]:
        """Half the clips a little faster or slower, and so from a smaller or larger speaker, who
        lingers on some sounds and hurries over others; and to where a time in the clip moves."""
        if rng.random() < 0.5 or not len(wave):
            return wave, lambda seconds: seconds
        before, after = swaying(len(wave), float(rng.uniform(*self.speeds)), rng)
        at = np.interp(np.arange(after[-1]), after, before)
        moved = np.interp(at, np.arange(len(wave)), wave).astype(np.float32)
        return moved, lambda seconds: np.interp(seconds * SAMPLE_RATE, before, after) / SAMPLE_RATE

    def _noise(self, rng: np.random.Generator) -> np.ndarray:
        """A stretch of recorded noise, of babble, or of coloured noise, at unit level."""
        kind = rng.random()
        if kind < 0.5 and self.noises:
            noise = _looped(
                _cut(self.noises[int(rng.integers(len(self.noises)))], self.samples, rng),
                self.samples,
            )
        elif kind < 0.65:
            speakers = (self._speech(self.samples, rng) for _ in range(int(rng.integers(2, 5))))
            noise = sum(speakers, np.zeros(self.samples, np.float32))
        else:
            noise = _cut(self._coloured[int(rng.integers(len(self._coloured)))], self.samples, rng)
        return (noise / (np.sqrt(np.mean(noise**2)) + 1e-9)).astype(np.float32)


def swaying(samples: int, rate: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a clip, every 10 ms, and where they come to lie in one that is played at this rate
    on the whole, but unevenly."""
    before = np.linspace(0, samples, max(samples // (SAMPLE_RATE // 100), 1) + 1)
    points = np.arange(0, samples + 2 * SWAY_SECONDS * SAMPLE_RATE, SWAY_SECONDS * SAMPLE_RATE)
    slowness = np.exp(np.interp(before[1:], points, rng.normal(0, SWAY, len(points))))
    after = np.concatenate([[0], np.cumsum(slowness)])
    return before, after * (samples / rate / after[-1])


def recorded(noise: np.ndarray, span: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Now and then the faint noise of a recording that begins and ends less than a second off a
    sound. Spoken clips have none, and people's recordings all do: without this it says "no word of
    ours" where words are spoken clips alone."""
    if rng.random() >= RECORDED:
        return noise
    before, after = rng.integers(0, SAMPLE_RATE, 2)
    around = slice(max(span[0] - int(before), 0), max(span[1] + int(after), 0))
    quiet = np.zeros_like(noise)
    quiet[around] = noise[around] * np.float32(10 ** (-rng.uniform(*ROOM_TONE_DB) / 20))
    return quiet


def coloured_noise(samples: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Noise whose power falls as 1 / f^slope: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-slope / 2)
    spectrum[0] = 0
    return np.fft.irfft(spectrum, samples).astype(np.float32)


def _odds(weights: list[float]) -> np.ndarray:
    return np.array(weights) / sum(weights)


def _cut(wave: np.ndarray, longest: int, rng: np.random.Generator) -> np.ndarray:
    start = int(rng.integers(max(len(wave) - longest, 0) + 1))
    return wave[start : start + longest]


def _looped(wave: np.ndarray, length: int) -> np.ndarray:
    return np.resize(wave, length) if len(wave) else np.zeros(length, np.float32)


def _faded(wave: np.ndarray) -> np.ndarray:
    """A wave whose ends rise and fall over 5 ms; changes it in place."""
    length = min(FADE_SAMPLES, len(wave) // 2)
    ramp = np.arange(1, length + 1, dtype=np.float32) / (length + 1)
    wave[:length] *= ramp
    wave[len(wave) - length :] *= ramp[::-1]
    return wave


def _add(audio: np.ndarray, wave: np.ndarray, at: int) -> None:
    """Adds a wave at a place that may lie partly outside."""
    start, end = max(at, 0), min(at + len(wave), len(audio))
    if start < end:
        audio[start:end] += wave[start - at : end - at]
