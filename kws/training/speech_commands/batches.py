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
from kws.training.augment.mixer import coloured_noise
from kws.training.augment.waveform import equalized, reverberated, with_gain, with_noise
from kws.training.data.clips import Bank
from kws.training.fit.trainer import Recipe
from kws.training.speech_commands.dataset import CLIP_SAMPLES, SILENCE, UNKNOWN, Part
from kws.training.speech_commands.unknowns import Pieces, Strangers

NOISE_LEVEL = 3000.0  # root mean square: as loud as speech


@dataclass(frozen=True)
class ClassRecipe(Recipe):
    """How to train on clips. Each ingredient is off at zero (`speeds`: at 1)."""

    epochs: int = 40
    steps_per_epoch: int = 100
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    averaging: float = 0.998
    snr_db: tuple[float, float] = (0.0, 30.0)
    speeds: tuple[float, float] = (0.87, 1.15)
    shift_seconds: float = 0.1
    noisy_fraction: float = 0.4
    room_fraction: float = 0.15
    gain_fraction: float = 0.5
    mel_masks: int = 1
    widest_mel_mask: int = 7  # bands
    time_masks: int = 1
    widest_time_mask: int = 20  # hops
    mixup: float = 0.15  # fraction of the batches' clips that are laid over another
    label_smoothing: float = 0.05
    balanced: bool = True  # every class as often, and every word of one, rather than every clip
    # How often an unknown word is drawn, for each time that a known one is.
    unknown_odds: float = 2.5
    # Of the unknown words, the fractions that are made up:
    reversed_fraction: float = 0.05  # known ones played backwards
    spliced_fraction: float = 0.1  # the beginning of one known word and the end of another
    shuffled_fraction: float = 0.1  # pieces of known ones in any order
    running_fraction: float = 0.05  # a second of other speech
    snippet_fraction: float = 0.1  # as much of it as a word is long, standing alone
    alone_fraction: float = 0.15  # other recordings as short as a word
    # Of the words of the data set:
    elsewhere_fraction: float = 0.15  # known ones said in another data set, where they are
    elsewhere_unknown_fraction: float = 0.4  # and unknown ones
    mended_fraction: float = 0.1  # the beginning of one recording and the end of another
    # Of what comes from elsewhere, laid over what is heard before a word of the data set.
    settled_fraction: float = 0.8
    # Of the silence, cut from all noise at any place and level, rather than the protocol's
    # own pieces.
    fresh_fraction: float = 0.7
    equalized_fraction: float = 0.5  # through a random filter


def learning_rate(trunk: Path | None) -> float:
    """The highest, where none is wished for: lower with a trunk, as what has been learned is to be
    changed, not made anew."""
    return 2e-3 if trunk else ClassRecipe.learning_rate


class ClassBatch(NamedTuple):
    """`clips` int16 [B, 16000], `label` [B], `start` [B]: sample at which a clip begins, `rate`
    [B]: its speed, `noise` int16 [B, N]; `letters` [B, L]: what is said, of which the first
    `lengths` [B] count; -1 where nobody knows."""

    clips: Tensor
    label: Tensor
    start: Tensor
    rate: Tensor
    noise: Tensor
    letters: Tensor
    lengths: Tensor


class ClassBatches(Dataset):
    """Batch number `step` for every step."""

    def __init__(
        self,
        part: Part,
        classes: tuple[str, ...],
        noise: Bank,
        speech: Pieces,
        samples: int,
        recipe: ClassRecipe,
        *,
        lead: int = 0,
        spelled: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ):
        """speech: pieces in which none of the words is said; there may be none. samples: of an
        example, of which the first `lead` come before all else. spelled: the numbers of the letters
        of words."""
        self.part, self.recipe, self.samples, self.lead = part, recipe, samples, lead
        self.spelled, self.longest = {"": (), **spelled}, max(map(len, spelled.values()), default=0)
        self.unknown = classes.index(UNKNOWN) if UNKNOWN in classes else -1
        self.silence = classes.index(SILENCE) if SILENCE in classes else -1
        self.rows = [_rows_by_word(part, label) for label in range(len(classes))]
        odds = np.array(
            [recipe.unknown_odds if label == self.unknown else 1.0 for label in range(len(classes))]
        )
        self.class_odds = odds / odds.sum()
        words = np.flatnonzero(
            np.isin(part.labels, [i for i, name in enumerate(classes) if not name.startswith("_")])
        )
        self.known = strangers = Strangers(part, words, speech)
        self.spoken = speech.spoken
        self.elsewhere = {
            word: np.flatnonzero(np.array(speech.words) == word) for word in sorted({*speech.words})
        }
        running, alone = bool(len(speech.running)), bool(len(speech.alone))
        # Of one word alone, what is spliced is that word.
        several = len({*part.labels[words].tolist()}) > 1
        kinds: list[tuple[Callable[[np.random.Generator], np.ndarray], float]] = [
            (strangers.backwards, recipe.reversed_fraction),
            (strangers.spliced, recipe.spliced_fraction * several),
            (partial(self._settled, strangers.shuffled), recipe.shuffled_fraction),
            (partial(self._settled, strangers.other_speech), recipe.running_fraction * running),
            (partial(self._settled, strangers.snippet), recipe.snippet_fraction * running),
            (partial(self._settled, strangers.alone), recipe.alone_fraction * alone),
        ]
        self.strangers = list(
            zip(
                [draw for draw, _ in kinds],
                np.cumsum([fraction for _, fraction in kinds]),
                strict=True,
            )
        )
        coloured = [
            coloured_noise(10 * SAMPLE_RATE, slope, np.random.default_rng(recipe.seed))
            for slope in np.linspace(0, 2, 8)
        ]
        whole = [np.round(wave / np.abs(wave).max() * 32767).astype(np.int16) for wave in coloured]
        recorded = (
            np.resize(leveled(noise), max(len(noise.samples), samples + 1))
            if len(noise.samples)
            else np.concatenate(whole)
        )
        self.noises = [recorded, np.concatenate(whole)]

    def __getitem__(self, step: int) -> ClassBatch:
        rng, recipe = np.random.default_rng((self.recipe.seed, step)), self.recipe
        rows = self._rows(rng)
        clips, label = self.part.samples[rows], self.part.labels[rows]
        letters, lengths = np.zeros((len(rows), self.longest), np.int64), np.full(len(rows), -1)
        for i, row in enumerate(rows):
            made, word = self._made_up(int(row), rng)
            if made is not None:
                clips[i] = made
            if word in self.spelled:
                lengths[i] = len(self.spelled[word])
                letters[i, : lengths[i]] = self.spelled[word]
        shift = rng.uniform(-recipe.shift_seconds, recipe.shift_seconds, len(rows)) * SAMPLE_RATE
        start = self.lead + (self.samples - self.lead - CLIP_SAMPLES) // 2 + shift
        slowest, fastest = np.log(recipe.speeds)
        rate = np.where(
            rng.random(len(rows)) < 0.7, np.exp(rng.uniform(slowest, fastest, len(rows))), 1.0
        )
        parts = (
            clips,
            label,
            start.astype(np.float32),
            rate.astype(np.float32),
            self._noise(len(rows), rng),
            letters,
            lengths,
        )
        return ClassBatch(*map(torch.from_numpy, parts))

    def _made_up(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray | None, str | None]:
        """A clip to be heard in place of one of the data set, if any, and the word that is heard
        then, if it is one."""
        label, word, kind, recipe = (
            int(self.part.labels[row]),
            self.part.words[row],
            rng.random(),
            self.recipe,
        )
        if label == self.silence:
            return self._silence(rng) if kind < recipe.fresh_fraction else None, word
        if label == self.unknown:
            stranger = next((draw for draw, until in self.strangers if kind < until), None)
            if stranger:
                return stranger(rng), None
        elif kind < recipe.mended_fraction:
            return self.known.mended(label, rng), word
        fraction = (
            recipe.elsewhere_unknown_fraction
            if label == self.unknown
            else recipe.elsewhere_fraction
        )
        if word in self.elsewhere and rng.random() < fraction:
            return self._settled(partial(self._elsewhere, word), rng), word
        return None, word

    def _settled(
        self, draw: Callable[[np.random.Generator], np.ndarray], rng: np.random.Generator
    ) -> np.ndarray:
        """What is drawn from elsewhere, mostly as if it had been recorded here."""
        clip = draw(rng)
        return (
            self.known.settled(clip, rng) if rng.random() < self.recipe.settled_fraction else clip
        )

    def _elsewhere(self, word: str, rng: np.random.Generator) -> np.ndarray:
        return self.spoken[rng.choice(self.elsewhere[word])]

    def _silence(self, rng: np.random.Generator) -> np.ndarray:
        """A second of noise at any level."""
        noise = self.noises[int(rng.random() < 0.25)]
        at = int(rng.integers(len(noise) - CLIP_SAMPLES))
        return (noise[at : at + CLIP_SAMPLES] * 10 ** rng.uniform(-2, 0)).astype(np.int16)

    def _rows(self, rng: np.random.Generator) -> np.ndarray:
        if not self.recipe.balanced:
            return rng.integers(len(self.part), size=self.recipe.batch)
        labels = rng.choice(len(self.rows), size=self.recipe.batch, p=self.class_odds)
        words = [self.rows[label][int(rng.random() * len(self.rows[label]))] for label in labels]
        return np.array([rows[int(rng.random() * len(rows))] for rows in words])

    def _noise(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Recorded noise for three clips of four, coloured noise for the rest."""
        chosen = [self.noises[int(rng.random() < 0.25)] for _ in range(count)]
        starts = [int(rng.integers(len(noise) - self.samples)) for noise in chosen]
        return np.stack(
            [noise[at : at + self.samples] for noise, at in zip(chosen, starts, strict=True)]
        )


def leveled(noise: Bank) -> np.ndarray:
    """All recordings one after the other, int16, each at the same level."""
    waves = (
        noise.samples[first:last].astype(np.float32)
        for first, last in zip(noise.starts, noise.starts[1:], strict=False)
    )
    alike = [wave * (NOISE_LEVEL / (np.sqrt(np.mean(wave**2)) + 1)) for wave in waves if len(wave)]
    return np.clip(np.concatenate(alike), -32768, 32767).astype(np.int16)


def _rows_by_word(part: Part, label: int) -> list[np.ndarray]:
    """Rows of a class, those of each word apart."""
    words = np.array(part.words)
    return [
        np.flatnonzero((part.labels == label) & (words == word))
        for word in np.unique(words[part.labels == label])
    ]


def canvas(clips: Tensor, start: Tensor, rate: Tensor, samples: int) -> Tensor:
    """Clips [B, n] int16 as audio [B, samples] float32 in ±1, begun at sample `start` [B] and
    played at `rate` [B]; silence elsewhere."""
    at = (torch.arange(samples, device=clips.device) - start[:, None]) * rate[:, None]
    whole = at.floor()
    audio = torch.nn.functional.pad(clips, (1, 2)).float() / 32768
    index = whole.long().clamp(-1, clips.shape[1]) + 1
    return torch.lerp(audio.gather(1, index), audio.gather(1, index + 1), at - whole)


def centred(clips: Tensor, samples: int, lead: int = 0) -> Tensor:
    """Clips [B, n] int16 in the middle of audio [B, samples], of which the first `lead` samples do
    not count; silence around them."""
    start = torch.full(
        (len(clips),), float(lead + (samples - lead - clips.shape[1]) // 2), device=clips.device
    )
    return canvas(clips, start, torch.ones_like(start), samples)


def heard(
    batch: ClassBatch, rooms: Tensor, samples: int, recipe: ClassRecipe, generator: torch.Generator
) -> Tensor:
    """Audio [B, samples] of a batch as a microphone might have heard it."""
    audio = canvas(batch.clips, batch.start, batch.rate, samples)
    audio = reverberated(audio, rooms, generator, recipe.room_fraction)
    audio = equalized(audio, generator, recipe.equalized_fraction)
    noise = batch.noise.float()
    noise = noise / (noise.square().mean(1, keepdim=True).sqrt() + 1.0)
    audio = with_noise(audio, noise, recipe.snr_db, generator, recipe.noisy_fraction)
    louder = torch.rand(len(audio), 1, generator=generator).to(audio.device) < recipe.gain_fraction
    return torch.where(louder, with_gain(audio, generator), audio.clamp(-1, 1))


def masks(
    batch: int, mels: int, hops: int, recipe: ClassRecipe, generator: torch.Generator
) -> Tensor:
    """SpecAugment without warping (Park et al., arXiv 1904.08779): 0 in random stripes of bands and
    of time, else 1; [B, mels, hops]."""
    bands = _stripes(batch, mels, recipe.mel_masks, recipe.widest_mel_mask, generator)
    times = _stripes(batch, hops, recipe.time_masks, recipe.widest_time_mask, generator)
    return bands[:, :, None] * times[:, None]


def _stripes(batch: int, size: int, count: int, widest: int, generator: torch.Generator) -> Tensor:
    width = torch.randint(widest + 1, (batch, count, 1), generator=generator)
    first = (torch.rand(batch, count, 1, generator=generator) * (size - width)).floor()
    place = torch.arange(size)
    return (~((place >= first) & (place < first + width))).all(1).float()


def mixed(
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
