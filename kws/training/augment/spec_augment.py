"""SpecAugment (Park et al., arXiv 1904.08779) without warping, and mixup (Zhang et al., arXiv
1710.09412)."""

import torch
from torch import Tensor

from kws.training.augment.config import SpecAugmentConfig


def draw_spec_masks(
    batch: int, mels: int, hops: int, config: SpecAugmentConfig, generator: torch.Generator
) -> Tensor:
    """Masks [B, mels, hops]: 0 in random stripes of bands and of time, else 1."""
    bands = _draw_stripes(batch, mels, config.mel_masks, config.max_mel_mask_bands, generator)
    times = _draw_stripes(batch, hops, config.time_masks, config.max_time_mask_hops, generator)
    return bands[:, :, None] * times[:, None]


def _draw_stripes(
    batch: int, size: int, count: int, max_width: int, generator: torch.Generator
) -> Tensor:
    width = torch.randint(max_width + 1, (batch, count, 1), generator=generator)
    start = (torch.rand(batch, count, 1, generator=generator) * (size - width)).floor()
    position = torch.arange(size)
    is_hidden = (position >= start) & (position < start + width)
    return (~is_hidden).all(1).float()


def apply_mixup(
    audio: Tensor, targets: Tensor, fraction: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mixes a fraction of the batch with other clips of it, whose share is at most one half. audio
    [B, N]; targets [B, K]: class probabilities."""
    share = torch.rand(len(audio), 1, generator=generator) * 0.5
    share[torch.rand(len(audio), 1, generator=generator) >= fraction] = 0.0
    share = share.to(audio.device)
    other = torch.randperm(len(audio), generator=generator).to(audio.device)
    return audio + share * (audio[other] - audio), targets + share * (targets[other] - targets)
