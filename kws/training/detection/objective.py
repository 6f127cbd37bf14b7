"""What the network is asked for: fire shortly after the word ends, and nowhere else.

A max over the clip alone would learn the shortest cue that suffices ("wel"). Where the word's place
is known, the windows just after its end are the positives, those before it is over are negatives,
and only a short stretch between is left free. Where it is not known the best window of
the clip counts. Everywhere else the worst window is pushed down.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from kws.audio.recordings import SAMPLE_RATE
from kws.training import distributed
from kws.training.model.network import NetworkConfig, Output


@dataclass(frozen=True)
class TargetZones:
    """Zones around the end of a word, in seconds."""

    early_seconds: float = 0.1  # firing this much before the end is neither asked for nor punished
    fire_from_seconds: float = 0.05
    fire_until_seconds: float = 0.16
    late_seconds: float = 0.5  # nor is going on firing until then
    boundary_weight: float = 2.0
    mean_weight: float = 0.5


def frame_ends(config: NetworkConfig, frames: int, device: torch.device) -> Tensor:
    """End [F], in seconds from the clip's beginning, of the audio behind each frame of a clip
    scored without a past."""
    return (
        config.clip_frame_samples + torch.arange(frames, device=device) * config.frame_samples
    ) / SAMPLE_RATE


def detection_loss(
    output: Output, word: Tensor, endpoints: Tensor, config: NetworkConfig, targets: TargetZones
) -> Tensor:
    """Loss of a batch. word [B]: index or -1; places [B, P, 2]: start and end in seconds, NaN where
    there is none or none is known."""
    log_p = output.pooled  # [B, W, F]
    # The shift keeps it finite, and its gradient alive, where p is 1.
    log_not_p = torch.log(-torch.expm1(log_p - 1e-9))
    ends = frame_ends(config, log_p.shape[-1], log_p.device)
    endpoints = endpoints.float()
    seconds_since_end = (
        ends - endpoints[:, :, 1:]
    )  # [B, P, F]: how long the word has been over; NaN where unknown
    is_unaligned = seconds_since_end.isnan().all(2).all(1)[:, None]  # [B, 1]
    is_keyword = F.one_hot(word + 1, len(config.words) + 1)[:, 1:].bool()[..., None]  # [B, W, 1]
    in_fire_zone = (seconds_since_end >= targets.fire_from_seconds) & (
        seconds_since_end <= targets.fire_until_seconds
    )
    is_ignored = (
        (seconds_since_end >= -targets.early_seconds) & (seconds_since_end <= targets.late_seconds)
    ).any(1) | is_unaligned
    is_target = is_keyword & in_fire_zone.any(1)[:, None]
    return (
        -(log_p * is_target).sum() / _count(is_target)
        + _unaligned_loss(log_p, is_keyword.squeeze(-1) & is_unaligned)
        + _negative_loss(log_not_p, ~(is_keyword & is_ignored[:, None]), targets.mean_weight)
        + targets.boundary_weight
        * _boundary_loss(output.boundaries, ends, endpoints, in_fire_zone, is_target)
    )


def _unaligned_loss(log_p: Tensor, is_unaligned_positive: Tensor) -> Tensor:
    return -(log_p.amax(-1) * is_unaligned_positive).sum() / _count(is_unaligned_positive)


def _negative_loss(log_not_p: Tensor, is_negative: Tensor, mean_weight: float) -> Tensor:
    masked = log_not_p * is_negative
    return -masked.amin(-1).mean() - mean_weight * masked.mean(-1).mean()


def _boundary_loss(
    boundaries: Tensor, ends: Tensor, endpoints: Tensor, in_fire_zone: Tensor, is_target: Tensor
) -> Tensor:
    """How far the frames that fire are off in saying where the word began and ended (seconds). fire
    [B, P, F]: for which place."""
    # [B, 1, 2, F]
    target = ((ends - endpoints.nan_to_num()[..., None]) * in_fire_zone[:, :, None]).sum(1)[:, None]
    error = F.smooth_l1_loss(boundaries, target.expand_as(boundaries), reduction="none", beta=0.05)
    return (error * is_target[:, :, None]).sum() / _count(is_target)


def _count(mask: Tensor) -> Tensor:
    """How many are chosen: with several processes the mean of their counts, so that the mean of
    their losses is that of all clips."""
    return distributed.all_reduce_mean(mask.sum().float()).clamp_min(1 / distributed.world_size())
