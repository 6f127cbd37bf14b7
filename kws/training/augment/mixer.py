"""Training examples of a keyword: the word somewhere in a few seconds of other speech or silence,
and noise to be added to it.

A batch is a pure function of (seed, step), so a run can stop and resume at any step, with any
number of workers, and see the same examples. Here numpy only lays clips side by side; what can be
done for a whole batch at once (rooms, noise, gain) happens in `kws.training.augment.waveform`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kws.audio.recordings import SAMPLE_RATE
from kws.training.augment.config import (
    DEFAULT_MIX,
    FIRING_SAMPLES,
    MARGIN_SAMPLES,
    MAX_CUT_CONTEXT_SAMPLES,
    MixConfig,
)
from kws.training.data.dataset import ClipDataset
from kws.training.data.noise import make_coloured_noises
from kws.training.data.sources import NegativeSource, WordClips

FADE_SAMPLES = 80  # 5 ms, against clicks where clips meet
TEMPO_STEP_SAMPLES = SAMPLE_RATE // 100
MAX_UTTERANCES = 2  # of the word in one example
NO_WORD = -1


class Batch(NamedTuple):
    """`audio` [B, N]; `word` [B]: index, -1 for none; `endpoints` [B, 2, 2]: start and end of the
    word in seconds from the beginning, for one or two utterances, NaN where there is none or it is
    unknown; `noise` [B, N]: to be added, at unit level; `recorded` [B, 2]: first sample of the
    recording and the one after its last, between which there is no digital silence."""

    audio: Tensor
    word: Tensor
    endpoints: Tensor
    noise: Tensor
    recorded: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(tensor.to(device) for tensor in self))


@dataclass(frozen=True)
class Boundaries:
    """Start and end of a sound, in samples."""

    start: int
    end: int

    def shift(self, samples: int) -> "Boundaries":
        return Boundaries(self.start + samples, self.end + samples)


@dataclass(frozen=True)
class PreparedClip:
    """A clip to be placed. `sound`: where something is said. `word`: where the word is; where that
    is unknown, or there is none, the same as `sound`."""

    wave: np.ndarray
    sound: Boundaries
    word: Boundaries
    is_aligned: bool

    @classmethod
    def unaligned(cls, wave: np.ndarray) -> "PreparedClip":
        whole = Boundaries(0, len(wave))
        return cls(_fade(wave), whole, whole, is_aligned=False)


@dataclass(frozen=True)
class Example:
    """`audio` and `noise` [N]; where the recording begins and ends; index of the word, and its
    utterances where they are known."""

    audio: np.ndarray
    noise: np.ndarray
    recorded: Boundaries
    word: int = NO_WORD
    utterances: tuple[Boundaries, ...] = ()


@dataclass(frozen=True)
class Tempo:
    """An uneven change of tempo: the sample `before` [K] of a clip lies at `after` [K] then."""

    before: np.ndarray
    after: np.ndarray

    @classmethod
    def draw(
        cls, samples: int, speed: float, config: MixConfig, rng: np.random.Generator
    ) -> "Tempo":
        """For a clip that plays at this speed on the whole."""
        before = np.linspace(0, samples, max(samples // TEMPO_STEP_SAMPLES, 1) + 1)
        knot_samples = config.tempo_knot_seconds * SAMPLE_RATE
        knots = np.arange(0, samples + 2 * knot_samples, knot_samples)
        log_stretch = rng.normal(0, config.tempo_deviation, len(knots))
        stretch = np.exp(np.interp(before[1:], knots, log_stretch))
        after = np.concatenate([[0], np.cumsum(stretch)])
        return cls(before, after * (samples / speed / after[-1]))

    def resample(self, wave: np.ndarray) -> np.ndarray:
        """The clip at its new tempo, and so at another pitch."""
        positions = np.interp(np.arange(self.after[-1]), self.after, self.before)
        return np.interp(positions, np.arange(len(wave)), wave).astype(np.float32)

    def move(self, seconds: np.ndarray) -> np.ndarray:
        """Where times of the clip lie then."""
        return np.interp(seconds * SAMPLE_RATE, self.before, self.after) / SAMPLE_RATE


class ExampleMixer(Dataset):
    """Batch number `step` for every step. `words` may hold several sources of a word."""

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
        config: MixConfig = DEFAULT_MIX,
        seed: int = 0,
    ):
        """earliest_end_seconds: before which no word ends, as the network gives no score there."""
        self.names, self.words, self.negatives, self.noises = list(names), words, negatives, noises
        self.samples = round(clip_seconds * SAMPLE_RATE)
        self.earliest_end = round(earliest_end_seconds * SAMPLE_RATE)
        self.batch, self.config, self.seed = batch, config, seed
        self._coloured_noises = make_coloured_noises(16, seed)
        self._word_probabilities = _normalize([word.sampling_weight for word in words])
        self._negative_probabilities = _normalize([source.weight for source in negatives])

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        return collate([self.example(rng) for _ in range(self.batch)])

    def example(self, rng: np.random.Generator) -> Example:
        if rng.random() < self.config.positive_fraction:
            return self._positive(rng)
        if rng.random() < self.config.isolated_negative_fraction:
            return self._isolated_negative(rng)
        some = Boundaries(*sorted(rng.integers(self.samples, size=2).tolist()))
        recorded = self._draw_recorded(some, rng)
        return Example(self._other_speech(self.samples, rng), self._noise(rng), recorded)

    def _positive(self, rng: np.random.Generator) -> Example:
        """A clip of a word in other sounds, perhaps twice."""
        word = self.words[rng.choice(len(self.words), p=self._word_probabilities)]
        index = int(rng.integers(len(word.dataset)))
        clip = self._word_clip(word, index, rng)
        start = self._draw_start(clip, rng)
        audio = self._place(clip, start, rng)
        utterances: tuple[Boundaries, ...] = (clip.word.shift(start),) if clip.is_aligned else ()
        if clip.is_aligned and rng.random() < self.config.repeat_fraction:
            utterances += (self._add_earlier(audio, self._word_clip(word, index, rng), start, rng),)
        noise = add_room_tone(self._noise(rng), clip.sound.shift(start), self.config, rng)
        first = min(utterance.start for utterance in (*utterances, clip.word.shift(start)))
        recorded = self._draw_recorded(Boundaries(first, clip.word.shift(start).end), rng)
        return Example(audio, noise, recorded, self.names.index(word.name), utterances)

    def _isolated_negative(self, rng: np.random.Generator) -> Example:
        """A clip of something else, placed like a word."""
        clip = PreparedClip.unaligned(self._negative_clip(rng))
        start = self._draw_start(clip, rng)
        audio = self._place(clip, start, rng)
        noise = add_room_tone(self._noise(rng), clip.sound.shift(start), self.config, rng)
        return Example(audio, noise, self._draw_recorded(clip.sound.shift(start), rng))

    def _draw_recorded(self, sound: Boundaries, rng: np.random.Generator) -> Boundaries:
        """Where the recording begins and ends: some begin shortly before a sound, some end shortly
        after it, as files do that are cut to one word."""
        start, end = 0, self.samples
        if rng.random() < self.config.recording_cut_fraction:
            start = max(sound.start - int(rng.integers(MAX_CUT_CONTEXT_SAMPLES)), start)
        if rng.random() < self.config.recording_cut_fraction:
            end = min(sound.end + int(rng.integers(MAX_CUT_CONTEXT_SAMPLES)), end)
        return Boundaries(start, end)

    def _word_clip(self, word: WordClips, index: int, rng: np.random.Generator) -> PreparedClip:
        """A clip of a word at any tempo. Where the place of the word is known, the clip is cut to
        the word and its margins, or to some of the speech around it."""
        wave, endpoints = word.dataset[index], word.endpoints[index]
        if tempo := self._draw_tempo(wave, rng):
            wave, endpoints = tempo.resample(wave), tempo.move(endpoints)
        if np.isnan(endpoints).any():
            return PreparedClip.unaligned(wave)
        place = Boundaries(*(round(seconds * SAMPLE_RATE) for seconds in endpoints))
        if word.in_context:
            before, after = self._draw_context(place, len(wave), rng)
        else:
            before = after = MARGIN_SAMPLES
        first = max(place.start - before, 0)
        cropped = _fade(wave[first : place.end + after])
        moved = place.shift(-first)
        sound = Boundaries(0, len(cropped)) if word.in_context else moved
        return PreparedClip(cropped, sound, moved, is_aligned=True)

    def _draw_context(
        self, place: Boundaries, samples: int, rng: np.random.Generator
    ) -> tuple[int, int]:
        """How many samples are kept before a word and after it: all, or a random stretch that may
        be empty, as speech begins and ends right beside some words."""
        before, after = place.start, max(samples - place.end, 0)
        if rng.random() < self.config.context_cut_fraction:
            before = min(before, int(rng.integers(MAX_CUT_CONTEXT_SAMPLES)))
        if rng.random() < self.config.context_cut_fraction:
            after = min(after, int(rng.integers(MAX_CUT_CONTEXT_SAMPLES)))
        return before, after

    def _draw_start(self, clip: PreparedClip, rng: np.random.Generator) -> int:
        """Where a clip begins, so that its word ends after `earliest_end` and leaves time to fire.
        A word that fits is not cut off at its beginning."""
        word_samples = clip.word.end - clip.word.start
        latest_end = self.samples - FIRING_SAMPLES
        if word_samples >= latest_end:
            return latest_end - clip.word.end
        earliest_end = min(max(self.earliest_end, word_samples), latest_end - 1)
        return int(rng.integers(earliest_end, latest_end)) - clip.word.end

    def _place(self, clip: PreparedClip, start: int, rng: np.random.Generator) -> np.ndarray:
        """Audio with the clip, and other speech or silence up to half a second before and after
        it."""
        audio = np.zeros(self.samples, np.float32)
        pause_before, pause_after = rng.integers(0, SAMPLE_RATE // 2, 2)
        before = start + clip.sound.start - pause_before
        after = start + clip.sound.end + pause_after
        if rng.random() < self.config.context_fraction and before > 0:
            audio[:before] = _fade(self._other_speech(before, rng))
        if rng.random() < self.config.context_fraction and after < self.samples:
            audio[after:] = _fade(self._other_speech(self.samples - after, rng))
        _add_at(audio, clip.wave, start)
        return audio

    def _add_earlier(
        self, audio: np.ndarray, clip: PreparedClip, before: int, rng: np.random.Generator
    ) -> Boundaries:
        """Adds a clip that ends less than half a second before a sample. Returns where its word
        is."""
        end = before - int(rng.integers(SAMPLE_RATE // 2))
        if rng.random() >= self.config.repeat_context_fraction:
            audio[: max(end, 0)] = 0
        _add_at(audio, clip.wave, end - len(clip.wave))
        return clip.word.shift(end - len(clip.wave))

    def _other_speech(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Negative clips one after the other, with or without pauses."""
        audio = np.zeros(length, np.float32)
        at = -int(rng.integers(0, SAMPLE_RATE // 2))
        while at < length:
            wave = self._negative_clip(rng)
            _add_at(audio, _fade(wave), at)
            at += len(wave) + int(rng.integers(0, SAMPLE_RATE // 3))
        return audio

    def _negative_clip(self, rng: np.random.Generator) -> np.ndarray:
        """A clip of a random source at any tempo, at most as long as an example."""
        source = self.negatives[rng.choice(len(self.negatives), p=self._negative_probabilities)]
        wave = source.dataset[int(rng.integers(len(source.dataset)))]
        wave = _random_crop(wave, self.samples, rng)
        tempo = self._draw_tempo(wave, rng)
        return tempo.resample(wave) if tempo else wave

    def _draw_tempo(self, wave: np.ndarray, rng: np.random.Generator) -> Tempo | None:
        """Another tempo for half of the clips."""
        if rng.random() < 0.5 or not len(wave):
            return None
        speed = float(rng.uniform(*self.config.speed_range))
        return Tempo.draw(len(wave), speed, self.config, rng)

    def _noise(self, rng: np.random.Generator) -> np.ndarray:
        """Recorded noise, babble or coloured noise, at unit level. Without recordings, babble takes
        their share."""
        recorded = self.config.recorded_noise_fraction if self.noises else 0.0
        coloured = 1 - self.config.recorded_noise_fraction - self.config.babble_fraction
        kinds, probabilities = (
            ("recorded", "babble", "coloured"),
            (recorded, 1 - recorded - coloured, coloured),
        )
        kind = rng.choice(kinds, p=probabilities)
        if kind == "recorded":
            noise = self._recorded_noise(rng)
        elif kind == "babble":
            speakers = int(rng.integers(2, 5))
            noise = np.sum([self._other_speech(self.samples, rng) for _ in range(speakers)], axis=0)
        else:
            colour = int(rng.integers(len(self._coloured_noises)))
            noise = _random_crop(self._coloured_noises[colour], self.samples, rng)
        return (noise / (np.sqrt(np.mean(noise**2)) + 1e-9)).astype(np.float32)

    def _recorded_noise(self, rng: np.random.Generator) -> np.ndarray:
        assert self.noises
        wave = self.noises[int(rng.integers(len(self.noises)))]
        wave = _random_crop(wave, self.samples, rng)
        return np.resize(wave, self.samples) if len(wave) else np.zeros(self.samples, np.float32)


def collate(examples: Sequence[Example]) -> Batch:
    endpoints = np.full((len(examples), MAX_UTTERANCES, 2), np.nan)
    for row, example in zip(endpoints, examples, strict=True):
        for place, utterance in zip(row, example.utterances, strict=False):
            place[:] = utterance.start / SAMPLE_RATE, utterance.end / SAMPLE_RATE
    return Batch(
        torch.from_numpy(np.stack([example.audio for example in examples])),
        torch.tensor([example.word for example in examples]),
        torch.from_numpy(endpoints),
        torch.from_numpy(np.stack([example.noise for example in examples])),
        torch.tensor([(each.recorded.start, each.recorded.end) for each in examples]),
    )


def add_room_tone(
    noise: np.ndarray, sound: Boundaries, config: MixConfig, rng: np.random.Generator
) -> np.ndarray:
    """For a fraction of the examples, fainter noise that begins and ends less than a second from a
    sound. Recordings of people hold such noise, and synthetic speech does not: without it a network
    learns that noise means "not the word" where all its words are synthetic."""
    if rng.random() >= config.room_tone_fraction:
        return noise
    before, after = rng.integers(0, SAMPLE_RATE, 2)
    span = slice(max(sound.start - int(before), 0), max(sound.end + int(after), 0))
    gain = np.float32(10 ** (-rng.uniform(*config.room_tone_db) / 20))
    room_tone = np.zeros_like(noise)
    room_tone[span] = noise[span] * gain
    return room_tone


def _normalize(weights: list[float]) -> np.ndarray:
    return np.array(weights) / sum(weights)


def _random_crop(wave: np.ndarray, max_length: int, rng: np.random.Generator) -> np.ndarray:
    start = int(rng.integers(max(len(wave) - max_length, 0) + 1))
    return wave[start : start + max_length]


def _fade(wave: np.ndarray) -> np.ndarray:
    """Lets both ends of a wave rise and fall over 5 ms, in place."""
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
