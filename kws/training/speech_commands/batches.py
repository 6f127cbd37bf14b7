"""Clips of one second to tell apart: drawn class by class, heard at another time, tempo and level,
in rooms and noise, two at once.

A batch is a pure function of (seed, step). The worker only picks rows; what touches samples is done
for the whole batch at once, on the device that trains.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kws.audio.recordings import SAMPLE_RATE
from kws.training.augment.waveform import add_noise, add_reverberation, apply_gain, equalize
from kws.training.data.dataset import ClipDataset
from kws.training.data.noise import make_coloured_noise
from kws.training.fit.config import TrainConfig
from kws.training.speech_commands.dataset import CLIP_SAMPLES, SILENCE, UNKNOWN, LabeledClips
from kws.training.speech_commands.unknowns import SpeechClips, SyntheticUnknowns

NOISE_RMS = 3000.0  # root mean square: as loud as speech


@dataclass(frozen=True)
class ClassifierTrainConfig(TrainConfig):
    """How to train on clips. Each ingredient is off at zero (`speed_range`: at 1)."""

    epochs: int = 40
    steps_per_epoch: int = 100
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    snr_db: tuple[float, float] = (0.0, 30.0)
    speed_range: tuple[float, float] = (0.87, 1.15)
    shift_seconds: float = 0.1
    noisy_fraction: float = 0.4
    room_fraction: float = 0.15
    gain_fraction: float = 0.5
    mel_masks: int = 1
    max_mel_mask_bands: int = 7  # bands
    time_masks: int = 1
    max_time_mask_hops: int = 20  # hops
    mixup: float = 0.15  # fraction of the batches' clips that are laid over another
    label_smoothing: float = 0.05
    balanced: bool = True  # every class as often, and every word of one, rather than every clip
    # How often an unknown word is drawn, for each time that a known one is.
    unknown_weight: float = 2.5
    # Of the unknown words, the fractions that are made up:
    reversed_fraction: float = 0.05  # known ones played backwards
    cross_word_splice_fraction: float = (
        0.1  # the beginning of one known word and the end of another
    )
    shuffled_fraction: float = 0.1  # pieces of known ones in any order
    other_speech_fraction: float = 0.05  # a second of other speech
    snippet_fraction: float = 0.1  # as much of it as a word is long, standing alone
    isolated_fraction: float = 0.15  # other recordings as short as a word
    # Of the words of the data set:
    out_of_corpus_fraction: float = 0.15  # known ones said in another data set, where they are
    out_of_corpus_unknown_fraction: float = 0.4  # and unknown ones
    same_word_splice_fraction: float = 0.1  # the beginning of one recording and the end of another
    # Of what comes from elsewhere, laid over what is heard before a word of the data set.
    room_tone_fraction: float = 0.8
    # Of the silence, cut from all noise at any place and level, rather than the protocol's
    # own pieces.
    random_silence_fraction: float = 0.7
    equalized_fraction: float = 0.5  # through a random filter


def learning_rate(init_from: Path | None) -> float:
    """The highest, where none is wished for: lower with a trunk, as what has been learned is to be
    changed, not made anew."""
    return 2e-3 if init_from else ClassifierTrainConfig.learning_rate


class ClassificationBatch(NamedTuple):
    """`clips` int16 [B, 16000], `label` [B], `start` [B]: sample at which a clip begins, `rate`
    [B]: its speed, `noise` int16 [B, N]; `phones` [B, L]: what is said, of which the first
    `lengths` [B] count; -1 where nobody knows."""

    clips: Tensor
    label: Tensor
    start: Tensor
    rate: Tensor
    noise: Tensor
    phones: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> "ClassificationBatch":
        return ClassificationBatch(*(tensor.to(device) for tensor in self))


class ClassificationBatches(Dataset):
    """Batch number `step` for every step."""

    def __init__(
        self,
        part: LabeledClips,
        classes: tuple[str, ...],
        noise: ClipDataset,
        speech: SpeechClips,
        samples: int,
        train_config: ClassifierTrainConfig,
        *,
        lead: int = 0,
        phone_ids: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ):
        """speech: pieces in which none of the words is said; there may be none. samples: of an
        example, of which the first `lead` come before all else. spelled: the numbers of the letters
        of words."""
        self.part, self.train_config, self.samples, self.lead = part, train_config, samples, lead
        self.phone_ids, self.max_phones = (
            {"": (), **phone_ids},
            max(map(len, phone_ids.values()), default=0),
        )
        self.unknown = classes.index(UNKNOWN) if UNKNOWN in classes else -1
        self.silence = classes.index(SILENCE) if SILENCE in classes else -1
        self.rows = [_rows_by_word(part, label) for label in range(len(classes))]
        weights = np.array(
            [
                train_config.unknown_weight if label == self.unknown else 1.0
                for label in range(len(classes))
            ]
        )
        self.class_weights = weights / weights.sum()
        words = np.flatnonzero(
            np.isin(part.labels, [i for i, name in enumerate(classes) if not name.startswith("_")])
        )
        self.synthetic_unknowns = strangers = SyntheticUnknowns(part, words, speech)
        self.out_of_corpus = speech.out_of_corpus
        self.out_of_corpus_rows = {
            word: np.flatnonzero(np.array(speech.words) == word) for word in sorted({*speech.words})
        }
        continuous, isolated = bool(len(speech.continuous)), bool(len(speech.isolated))
        # Of one word alone, what is spliced is that word.
        several = len({*part.labels[words].tolist()}) > 1
        kinds: list[tuple[Callable[[np.random.Generator], np.ndarray], float]] = [
            (strangers.reverse_word, train_config.reversed_fraction),
            (strangers.splice_two_words, train_config.cross_word_splice_fraction * several),
            (
                partial(self._match_room_tone, strangers.shuffle_segments),
                train_config.shuffled_fraction,
            ),
            (
                partial(self._match_room_tone, strangers.other_speech),
                train_config.other_speech_fraction * continuous,
            ),
            (
                partial(self._match_room_tone, strangers.cut_snippet),
                train_config.snippet_fraction * continuous,
            ),
            (
                partial(self._match_room_tone, strangers.isolated),
                train_config.isolated_fraction * isolated,
            ),
        ]
        self.strangers = list(
            zip(
                [draw for draw, _ in kinds],
                np.cumsum([fraction for _, fraction in kinds]),
                strict=True,
            )
        )
        coloured_noises = [
            make_coloured_noise(10 * SAMPLE_RATE, slope, np.random.default_rng(train_config.seed))
            for slope in np.linspace(0, 2, 8)
        ]
        whole = [
            np.round(wave / np.abs(wave).max() * 32767).astype(np.int16) for wave in coloured_noises
        ]
        recorded_noise = (
            np.resize(normalize_levels(noise), max(len(noise.samples), samples + 1))
            if len(noise.samples)
            else np.concatenate(whole)
        )
        self.noises = [recorded_noise, np.concatenate(whole)]

    def __getitem__(self, step: int) -> ClassificationBatch:
        rng, train_config = np.random.default_rng((self.train_config.seed, step)), self.train_config
        rows = self._draw_rows(rng)
        clips, label = self.part.samples[rows], self.part.labels[rows]
        phones, lengths = np.zeros((len(rows), self.max_phones), np.int64), np.full(len(rows), -1)
        for i, row in enumerate(rows):
            replacement, word = self._replace_clip(int(row), rng)
            if replacement is not None:
                clips[i] = replacement
            if word in self.phone_ids:
                lengths[i] = len(self.phone_ids[word])
                phones[i, : lengths[i]] = self.phone_ids[word]
        shift = (
            rng.uniform(-train_config.shift_seconds, train_config.shift_seconds, len(rows))
            * SAMPLE_RATE
        )
        start = self.lead + (self.samples - self.lead - CLIP_SAMPLES) // 2 + shift
        slowest, fastest = np.log(train_config.speed_range)
        rate = np.where(
            rng.random(len(rows)) < 0.7, np.exp(rng.uniform(slowest, fastest, len(rows))), 1.0
        )
        parts = (
            clips,
            label,
            start.astype(np.float32),
            rate.astype(np.float32),
            self._draw_noise(len(rows), rng),
            phones,
            lengths,
        )
        return ClassificationBatch(*map(torch.from_numpy, parts))

    def _replace_clip(
        self, row: int, rng: np.random.Generator
    ) -> tuple[np.ndarray | None, str | None]:
        """A clip to be heard in place of one of the data set, if any, and the word that is heard
        then, if it is one."""
        label, word, kind, train_config = (
            int(self.part.labels[row]),
            self.part.words[row],
            rng.random(),
            self.train_config,
        )
        if label == self.silence:
            return self._draw_silence(
                rng
            ) if kind < train_config.random_silence_fraction else None, word
        if label == self.unknown:
            draw_unknown = next((draw for draw, until in self.strangers if kind < until), None)
            if draw_unknown:
                return draw_unknown(rng), None
        elif kind < train_config.same_word_splice_fraction:
            return self.synthetic_unknowns.splice_same_word(label, rng), word
        fraction = (
            train_config.out_of_corpus_unknown_fraction
            if label == self.unknown
            else train_config.out_of_corpus_fraction
        )
        if word in self.out_of_corpus_rows and rng.random() < fraction:
            return self._match_room_tone(partial(self._draw_out_of_corpus, word), rng), word
        return None, word

    def _match_room_tone(
        self, draw: Callable[[np.random.Generator], np.ndarray], rng: np.random.Generator
    ) -> np.ndarray:
        """What is drawn from elsewhere, mostly as if it had been recorded here."""
        clip = draw(rng)
        return (
            self.synthetic_unknowns.match_room_tone(clip, rng)
            if rng.random() < self.train_config.room_tone_fraction
            else clip
        )

    def _draw_out_of_corpus(self, word: str, rng: np.random.Generator) -> np.ndarray:
        return self.out_of_corpus[rng.choice(self.out_of_corpus_rows[word])]

    def _draw_silence(self, rng: np.random.Generator) -> np.ndarray:
        """A second of noise at any level."""
        noise = self.noises[int(rng.random() < 0.25)]
        at = int(rng.integers(len(noise) - CLIP_SAMPLES))
        return (noise[at : at + CLIP_SAMPLES] * 10 ** rng.uniform(-2, 0)).astype(np.int16)

    def _draw_rows(self, rng: np.random.Generator) -> np.ndarray:
        if not self.train_config.balanced:
            return rng.integers(len(self.part), size=self.train_config.batch)
        labels = rng.choice(len(self.rows), size=self.train_config.batch, p=self.class_weights)
        words = [self.rows[label][int(rng.random() * len(self.rows[label]))] for label in labels]
        return np.array([rows[int(rng.random() * len(rows))] for rows in words])

    def _draw_noise(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Recorded noise for three clips of four, coloured noise for the rest."""
        chosen = [self.noises[int(rng.random() < 0.25)] for _ in range(count)]
        starts = [int(rng.integers(len(noise) - self.samples)) for noise in chosen]
        return np.stack(
            [noise[at : at + self.samples] for noise, at in zip(chosen, starts, strict=True)]
        )


def normalize_levels(noise: ClipDataset) -> np.ndarray:
    """All recordings one after the other, int16, each at the same level."""
    waves = (
        noise.samples[first:last].astype(np.float32)
        for first, last in zip(noise.starts, noise.starts[1:], strict=False)
    )
    level_matched = [
        wave * (NOISE_RMS / (np.sqrt(np.mean(wave**2)) + 1)) for wave in waves if len(wave)
    ]
    return np.clip(np.concatenate(level_matched), -32768, 32767).astype(np.int16)


def _rows_by_word(part: LabeledClips, label: int) -> list[np.ndarray]:
    """Rows of a class, those of each word apart."""
    words = np.array(part.words)
    return [
        np.flatnonzero((part.labels == label) & (words == word))
        for word in np.unique(words[part.labels == label])
    ]


def place_clips(clips: Tensor, start: Tensor, rate: Tensor, samples: int) -> Tensor:
    """Clips [B, n] int16 as audio [B, samples] float32 in ±1, begun at sample `start` [B] and
    played at `rate` [B]; silence elsewhere."""
    at = (torch.arange(samples, device=clips.device) - start[:, None]) * rate[:, None]
    whole = at.floor()
    audio = torch.nn.functional.pad(clips, (1, 2)).float() / 32768
    index = whole.long().clamp(-1, clips.shape[1]) + 1
    return torch.lerp(audio.gather(1, index), audio.gather(1, index + 1), at - whole)


def center_clips(clips: Tensor, samples: int, lead: int = 0) -> Tensor:
    """Clips [B, n] int16 in the middle of audio [B, samples], of which the first `lead` samples do
    not count; silence around them."""
    start = torch.full(
        (len(clips),), float(lead + (samples - lead - clips.shape[1]) // 2), device=clips.device
    )
    return place_clips(clips, start, torch.ones_like(start), samples)


def heard(
    batch: ClassificationBatch,
    rooms: Tensor,
    samples: int,
    train_config: ClassifierTrainConfig,
    generator: torch.Generator,
) -> Tensor:
    """Audio [B, samples] of a batch as a microphone might have heard it."""
    audio = place_clips(batch.clips, batch.start, batch.rate, samples)
    audio = add_reverberation(audio, rooms, generator, train_config.room_fraction)
    audio = equalize(audio, generator, train_config.equalized_fraction)
    noise = batch.noise.float()
    noise = noise / (noise.square().mean(1, keepdim=True).sqrt() + 1.0)
    audio = add_noise(audio, noise, train_config.snr_db, generator, train_config.noisy_fraction)
    louder = (
        torch.rand(len(audio), 1, generator=generator).to(audio.device) < train_config.gain_fraction
    )
    return torch.where(louder, apply_gain(audio, generator), audio.clamp(-1, 1))


def draw_spec_masks(
    batch: int,
    mels: int,
    hops: int,
    train_config: ClassifierTrainConfig,
    generator: torch.Generator,
) -> Tensor:
    """SpecAugment without warping (Park et al., arXiv 1904.08779): 0 in random stripes of bands and
    of time, else 1; [B, mels, hops]."""
    bands = _draw_stripes(
        batch, mels, train_config.mel_masks, train_config.max_mel_mask_bands, generator
    )
    times = _draw_stripes(
        batch, hops, train_config.time_masks, train_config.max_time_mask_hops, generator
    )
    return bands[:, :, None] * times[:, None]


def _draw_stripes(
    batch: int, size: int, count: int, widest: int, generator: torch.Generator
) -> Tensor:
    width = torch.randint(widest + 1, (batch, count, 1), generator=generator)
    first = (torch.rand(batch, count, 1, generator=generator) * (size - width)).floor()
    place = torch.arange(size)
    return (~((place >= first) & (place < first + width))).all(1).float()


def apply_mixup(
    audio: Tensor, targets: Tensor, fraction: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al., arXiv 1710.09412) of a fraction of the batch. audio [B, N]; targets
    [B, K]: probabilities."""
    share = torch.rand(len(audio), 1, generator=generator) * 0.5
    share[torch.rand(len(audio), 1, generator=generator) >= fraction] = 0.0
    share, other = (
        share.to(audio.device),
        torch.randperm(len(audio), generator=generator).to(audio.device),
    )
    return audio + share * (audio[other] - audio), targets + share * (targets[other] - targets)
