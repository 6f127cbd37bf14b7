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
class Targets:
    """Zones around the end of a word, in seconds."""

    early_seconds: float = 0.1  # firing this much before the end is neither asked for nor punished
    fire_from_seconds: float = 0.05
    fire_until_seconds: float = 0.16
    late_seconds: float = 0.5  # nor is going on firing until then
    extent_weight: float = 2.0
    mean_weight: float = 0.5


def frame_ends(config: NetworkConfig, frames: int, device: torch.device) -> Tensor:
    """End [F], in seconds from the clip's beginning, of the audio behind each frame of a clip
    scored without a past."""
    return (
        config.clip_frame_samples + torch.arange(frames, device=device) * config.frame_samples
    ) / SAMPLE_RATE


def detection_loss(
    output: Output, word: Tensor, places: Tensor, config: NetworkConfig, targets: Targets
) -> Tensor:
    """Loss of a batch. word [B]: index or -1; places [B, P, 2]: start and end in seconds, NaN where
    there is none or none is known."""
    log_p = output.pooled  # [B, W, F]
    # The shift keeps it finite, and its gradient alive, where p is 1.
    log_not_p = torch.log(-torch.expm1(log_p - 1e-9))
    ends = frame_ends(config, log_p.shape[-1], log_p.device)
    places = places.float()
    after = ends - places[:, :, 1:]  # [B, P, F]: how long the word has been over; NaN where unknown
    unknown = after.isnan().all(2).all(1)[:, None]  # [B, 1]
    mine = F.one_hot(word + 1, len(config.words) + 1)[:, 1:].bool()[..., None]  # [B, W, 1]
    fire = (after >= targets.fire_from_seconds) & (after <= targets.fire_until_seconds)
    free = ((after >= -targets.early_seconds) & (after <= targets.late_seconds)).any(1) | unknown
    fires = mine & fire.any(1)[:, None]
    return (
        -(log_p * fires).sum() / _count(fires)
        + _unplaced_loss(log_p, mine.squeeze(-1) & unknown)
        + _elsewhere_loss(log_not_p, ~(mine & free[:, None]), targets.mean_weight)
        + targets.extent_weight * _extent_loss(output.extents, ends, places, fire, fires)
    )


def _unplaced_loss(log_p: Tensor, anywhere: Tensor) -> Tensor:
    return -(log_p.amax(-1) * anywhere).sum() / _count(anywhere)


def _elsewhere_loss(log_not_p: Tensor, silent: Tensor, mean_weight: float) -> Tensor:
    masked = log_not_p * silent
    return -masked.amin(-1).mean() - mean_weight * masked.mean(-1).mean()


def _extent_loss(
    extents: Tensor, ends: Tensor, places: Tensor, fire: Tensor, fires: Tensor
) -> Tensor:
    """How far the frames that fire are off in saying where the word began and ended (seconds). fire
    [B, P, F]: for which place."""
    # [B, 1, 2, F]
    truth = ((ends - places.nan_to_num()[..., None]) * fire[:, :, None]).sum(1)[:, None]
    error = F.smooth_l1_loss(extents, truth.expand_as(extents), reduction="none", beta=0.05)
    return (error * fires[:, :, None]).sum() / _count(fires)


def _count(chosen: Tensor) -> Tensor:
    """How many are chosen: with several processes the mean of their counts, so that the mean of
    their losses is that of all clips."""
    return distributed.mean(chosen.sum().float()).clamp_min(1 / distributed.size())
