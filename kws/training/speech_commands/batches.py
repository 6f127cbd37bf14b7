"""Batches of one-second clips to classify.

A batch is a pure function of (seed, step). The worker only picks clips; what touches every sample
is done for the whole batch at once, on the device that trains (`augment_batch`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kws.audio.recordings import SAMPLE_RATE
from kws.training.augment.config import AugmentConfig
from kws.training.augment.waveform import augment
from kws.training.data.dataset import ClipDataset
from kws.training.data.noise import make_coloured_noises
from kws.training.speech_commands.config import ClassifierTrainConfig
from kws.training.speech_commands.dataset import CLIP_SAMPLES, SILENCE, UNKNOWN, LabeledClips
from kws.training.speech_commands.unknowns import SpeechClips, SyntheticUnknowns

NOISE_RMS = 3000.0  # of int16 samples: as loud as speech
COLOURED_NOISE_FRACTION = 0.25
TEMPO_FRACTION = 0.7  # of the clips play at another speed


class ClassificationBatch(NamedTuple):
    """`clips` int16 [B, 16000]; `label` [B]; `start` [B]: sample at which a clip begins; `rate`
    [B]: its speed; `noise` int16 [B, N]; `phones` [B, L]: of the word, the first `lengths` [B]
    count, -1 where they are unknown."""

    clips: Tensor
    label: Tensor
    start: Tensor
    rate: Tensor
    noise: Tensor
    phones: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> "ClassificationBatch":
        return ClassificationBatch(*(tensor.to(device) for tensor in self))


@dataclass(frozen=True)
class DrawnClip:
    """Samples int16 [16000]; the word, "" for silence, None for what is no word."""

    samples: np.ndarray
    word: str | None


@dataclass(frozen=True)
class UnknownKind:
    """A kind of synthetic unknown word, and its fraction of all unknown words."""

    draw: Callable[[np.random.Generator], np.ndarray]
    fraction: float
    matches_room_tone: bool = True


class ClassificationBatches(Dataset):
    """Batch number `step` for every step."""

    def __init__(
        self,
        clips: LabeledClips,
        classes: tuple[str, ...],
        noise: ClipDataset,
        speech: SpeechClips,
        samples: int,
        train_config: ClassifierTrainConfig,
        *,
        lead: int = 0,
        phone_ids: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ):
        """speech: other recordings, may be empty. samples: length of an example, of which the first
        `lead` hold silence. phone_ids: the phones of words, for a network that learns them."""
        self.clips, self.train_config, self.samples, self.lead = clips, train_config, samples, lead
        self.phone_ids: dict[str, Sequence[int]] = {"": (), **phone_ids}
        self.unknown_label = classes.index(UNKNOWN) if UNKNOWN in classes else -1
        self.silence_label = classes.index(SILENCE) if SILENCE in classes else -1
        self.rows_by_word = [_rows_by_word(clips, label) for label in range(len(classes))]
        weights = np.ones(len(classes))
        weights[np.array(classes) == UNKNOWN] = train_config.unknown_weight
        self.class_probabilities = weights / weights.sum()
        word_labels = [i for i, name in enumerate(classes) if not name.startswith("_")]
        word_rows = np.flatnonzero(np.isin(clips.labels, word_labels))
        self.unknowns = SyntheticUnknowns(clips, word_rows, speech)
        self.unknown_kinds = _unknown_kinds(self.unknowns, train_config)
        fractions = [kind.fraction for kind in self.unknown_kinds]
        recorded_fraction = max(1 - sum(fractions), 0.0)
        self.unknown_probabilities = np.array([*fractions, recorded_fraction])
        self.out_of_corpus = speech.out_of_corpus
        self.out_of_corpus_rows = {
            word: np.flatnonzero(np.array(speech.words) == word) for word in sorted({*speech.words})
        }
        self.coloured_noise = np.concatenate(
            [
                np.round(wave / np.abs(wave).max() * 32767).astype(np.int16)
                for wave in make_coloured_noises(8, train_config.seed)
            ]
        )
        self.recorded_noise = (
            np.resize(normalize_levels(noise), max(len(noise.samples), samples + 1))
            if len(noise.samples)
            else self.coloured_noise
        )

    def __getitem__(self, step: int) -> ClassificationBatch:
        rng, config = np.random.default_rng((self.train_config.seed, step)), self.train_config
        rows = self._draw_rows(rng)
        drawn = [self._draw_clip(int(row), rng) for row in rows]
        phones, lengths = self._encode_phones([clip.word for clip in drawn])
        max_shift = config.shift_seconds * SAMPLE_RATE
        centre = self.lead + (self.samples - self.lead - CLIP_SAMPLES) // 2
        start = centre + rng.uniform(-max_shift, max_shift, len(rows))
        slowest, fastest = np.log(config.speed_range)
        rate = np.exp(rng.uniform(slowest, fastest, len(rows)))
        rate[rng.random(len(rows)) >= TEMPO_FRACTION] = 1.0
        return ClassificationBatch(
            clips=torch.from_numpy(np.stack([clip.samples for clip in drawn])),
            label=torch.from_numpy(self.clips.labels[rows]),
            start=torch.from_numpy(start.astype(np.float32)),
            rate=torch.from_numpy(rate.astype(np.float32)),
            noise=torch.from_numpy(
                np.stack([self._cut_noise(self.samples, rng) for _ in range(len(rows))])
            ),
            phones=torch.from_numpy(phones),
            lengths=torch.from_numpy(lengths),
        )

    def _draw_rows(self, rng: np.random.Generator) -> np.ndarray:
        if not self.train_config.balanced:
            return rng.integers(len(self.clips), size=self.train_config.batch)
        labels = rng.choice(
            len(self.rows_by_word), size=self.train_config.batch, p=self.class_probabilities
        )
        words = [self.rows_by_word[label] for label in labels]
        rows = [each[rng.integers(len(each))] for each in words]
        return np.array([each[rng.integers(len(each))] for each in rows])

    def _draw_clip(self, row: int, rng: np.random.Generator) -> DrawnClip:
        """The clip of a row, or one that takes its place."""
        label = int(self.clips.labels[row])
        if label == self.silence_label:
            return self._draw_silence(row, rng)
        if label == self.unknown_label:
            return self._draw_unknown(row, rng)
        return self._draw_known(row, rng)

    def _draw_silence(self, row: int, rng: np.random.Generator) -> DrawnClip:
        if rng.random() >= self.train_config.random_silence_fraction:
            return self._recorded_clip(row)
        noise = self._cut_noise(CLIP_SAMPLES, rng) * 10 ** rng.uniform(-2, 0)
        return DrawnClip(noise.astype(np.int16), "")

    def _draw_unknown(self, row: int, rng: np.random.Generator) -> DrawnClip:
        kind = rng.choice(len(self.unknown_probabilities), p=self.unknown_probabilities)
        if kind < len(self.unknown_kinds):
            return DrawnClip(self._draw_synthetic(self.unknown_kinds[kind], rng), None)
        word = self.clips.words[row]
        fraction = self.train_config.out_of_corpus_unknown_fraction
        if word in self.out_of_corpus_rows and rng.random() < fraction:
            return self._draw_out_of_corpus(word, rng)
        return self._recorded_clip(row)

    def _draw_synthetic(self, kind: UnknownKind, rng: np.random.Generator) -> np.ndarray:
        samples = kind.draw(rng)
        return self._match_room_tone(samples, rng) if kind.matches_room_tone else samples

    def _draw_known(self, row: int, rng: np.random.Generator) -> DrawnClip:
        label, word = int(self.clips.labels[row]), self.clips.words[row]
        if rng.random() < self.train_config.same_word_splice_fraction:
            return DrawnClip(self.unknowns.splice_same_word(label, rng), word)
        fraction = self.train_config.out_of_corpus_fraction
        if word in self.out_of_corpus_rows and rng.random() < fraction:
            return self._draw_out_of_corpus(word, rng)
        return self._recorded_clip(row)

    def _recorded_clip(self, row: int) -> DrawnClip:
        return DrawnClip(self.clips.samples[row], self.clips.words[row])

    def _draw_out_of_corpus(self, word: str, rng: np.random.Generator) -> DrawnClip:
        """A word as it is recorded in another data set."""
        samples = self.out_of_corpus[rng.choice(self.out_of_corpus_rows[word])]
        return DrawnClip(self._match_room_tone(samples, rng), word)

    def _match_room_tone(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Most clips from elsewhere, as if they had been recorded for this data set."""
        if rng.random() < self.train_config.match_room_tone_fraction:
            return self.unknowns.match_room_tone(samples, rng)
        return samples

    def _cut_noise(self, length: int, rng: np.random.Generator) -> np.ndarray:
        is_coloured = rng.random() < COLOURED_NOISE_FRACTION
        noise = self.coloured_noise if is_coloured else self.recorded_noise
        start = int(rng.integers(len(noise) - length))
        return noise[start : start + length]

    def _encode_phones(self, words: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """Phones [B, L] of words, and their numbers [B]; -1 for what has no known phones."""
        max_length = max(map(len, self.phone_ids.values()))
        phones = np.zeros((len(words), max_length), np.int64)
        lengths = np.full(len(words), -1)
        for i, word in enumerate(words):
            if word is not None and word in self.phone_ids:
                lengths[i] = len(self.phone_ids[word])
                phones[i, : lengths[i]] = self.phone_ids[word]
        return phones, lengths


def _unknown_kinds(unknowns: SyntheticUnknowns, config: ClassifierTrainConfig) -> list[UnknownKind]:
    """The kinds that there is audio for."""
    kinds = [
        UnknownKind(unknowns.reverse_word, config.reversed_fraction, matches_room_tone=False),
        UnknownKind(unknowns.shuffle_segments, config.shuffled_fraction),
    ]
    if unknowns.has_several_words:
        fraction = config.cross_word_splice_fraction
        kinds.append(UnknownKind(unknowns.splice_two_words, fraction, matches_room_tone=False))
    if len(unknowns.speech.continuous):
        kinds.append(UnknownKind(unknowns.other_speech, config.other_speech_fraction))
        kinds.append(UnknownKind(unknowns.cut_snippet, config.snippet_fraction))
    if len(unknowns.speech.isolated):
        kinds.append(UnknownKind(unknowns.isolated, config.isolated_fraction))
    return kinds


def normalize_levels(noise: ClipDataset) -> np.ndarray:
    """All recordings one after the other, int16, each at the same level."""
    waves = [noise.int16_clip(i).astype(np.float32) for i in range(len(noise))]
    normalized = [
        wave * (NOISE_RMS / (np.sqrt(np.mean(wave**2)) + 1)) for wave in waves if len(wave)
    ]
    return np.clip(np.concatenate(normalized), -32768, 32767).astype(np.int16)


def _rows_by_word(clips: LabeledClips, label: int) -> list[np.ndarray]:
    """Rows of a class, those of each word apart."""
    words, in_class = np.array(clips.words), clips.labels == label
    return [np.flatnonzero(in_class & (words == word)) for word in np.unique(words[in_class])]


def place_clips(clips: Tensor, start: Tensor, rate: Tensor, samples: int) -> Tensor:
    """Clips [B, n] int16 as audio [B, samples] float32 in ±1: from sample `start` [B] on, at speed
    `rate` [B], silence elsewhere."""
    position = (torch.arange(samples, device=clips.device) - start[:, None]) * rate[:, None]
    whole = position.floor()
    audio = torch.nn.functional.pad(clips, (1, 2)).float() / 32768
    index = whole.long().clamp(-1, clips.shape[1]) + 1
    return torch.lerp(audio.gather(1, index), audio.gather(1, index + 1), position - whole)


def center_clips(clips: Tensor, samples: int, lead: int = 0) -> Tensor:
    """Clips [B, n] int16 in the middle of audio [B, samples] after its first `lead` samples,
    silence around them."""
    centre = lead + (samples - lead - clips.shape[1]) // 2
    start = torch.full((len(clips),), float(centre), device=clips.device)
    return place_clips(clips, start, torch.ones_like(start), samples)


def augment_batch(
    batch: ClassificationBatch,
    rooms: Tensor,
    samples: int,
    config: AugmentConfig,
    generator: torch.Generator,
) -> Tensor:
    """Audio [B, samples] of a batch as microphones might record it. rooms [R, K]: impulse
    responses."""
    audio = place_clips(batch.clips, batch.start, batch.rate, samples)
    noise = batch.noise.float()
    noise = noise / (noise.square().mean(1, keepdim=True).sqrt() + 1.0)
    return augment(audio, noise, rooms, config, generator)
