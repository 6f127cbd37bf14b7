"""The objective of a detector: to fire shortly after the word ends, and nowhere else.

A maximum over the clip alone would teach the shortest cue that suffices ("wel"). Where the
endpoints of the word are known, the frames just after its end are positive, the frames before its
end are negative, and a short stretch around these is ignored. Where they are unknown, the best
frame of the clip is positive. All other frames are negative; the worst of them counts most.

    word      |-----------|
    frames   - - - - - - .+++.....- - - - -     + positive, - negative, . ignored
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.audio.recordings import SAMPLE_RATE
from kws.training.augment.config import AugmentConfig
from kws.training.augment.mixer import Batch
from kws.training.augment.waveform import augment, mute_outside
from kws.training.fit.trainer import Objective
from kws.training.model.network import NetworkConfig, Output


@dataclass(frozen=True)
class TargetZones:
    """Zones around the end of a word, in seconds, and the weights of the parts of the loss."""

    early_seconds: float = 0.1  # before the end; ignored from here
    fire_from_seconds: float = 0.05  # after the end; positive from here
    fire_until_seconds: float = 0.16  # to here
    late_seconds: float = 0.5  # after the end; ignored until here
    boundary_weight: float = 2.0
    mean_weight: float = 0.5  # of the mean negative frame, beside the worst


@dataclass(frozen=True)
class DetectionObjective(Objective[Batch, Batch]):
    """Detects the end of words in augmented audio. rooms [R, K]: impulse responses, on the device
    that trains."""

    config: NetworkConfig
    rooms: Tensor
    augmentation: AugmentConfig
    zones: TargetZones = TargetZones()

    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        audio = augment(batch.audio, batch.noise, self.rooms, self.augmentation, generator)
        return batch._replace(audio=mute_outside(audio, batch.recorded))

    def loss(self, network: nn.Module, prepared: Batch) -> Tensor:
        output, _ = network(prepared.audio)
        return detection_loss(output, prepared.word, prepared.endpoints, self.config, self.zones)


def frame_ends(config: NetworkConfig, frames: int, device: torch.device) -> Tensor:
    """Where the receptive field of each frame ends [F], in seconds from the beginning of a clip
    that is scored without streaming state."""
    return (
        config.clip_frame_samples + torch.arange(frames, device=device) * config.frame_samples
    ) / SAMPLE_RATE


def detection_loss(
    output: Output, word: Tensor, endpoints: Tensor, config: NetworkConfig, zones: TargetZones
) -> Tensor:
    """Loss of a batch. word [B]: index, -1 for none; endpoints [B, P, 2]: start and end of up to P
    utterances of the word in seconds, NaN where there is none or they are unknown."""
    log_p = output.pooled  # [B, W, F]
    # The shift keeps it finite, and its gradient alive, where p is 1.
    log_not_p = torch.log(-torch.expm1(log_p - 1e-9))
    ends = frame_ends(config, log_p.shape[-1], log_p.device)
    endpoints = endpoints.float()
    seconds_since_end = ends - endpoints[:, :, 1:]  # [B, P, F]; NaN where unknown
    is_unaligned = seconds_since_end.isnan().all(2).all(1)[:, None]  # [B, 1]
    is_keyword = F.one_hot(word + 1, len(config.words) + 1)[:, 1:].bool()[..., None]  # [B, W, 1]
    in_fire_zone = (seconds_since_end >= zones.fire_from_seconds) & (
        seconds_since_end <= zones.fire_until_seconds
    )
    in_free_zone = (seconds_since_end >= -zones.early_seconds) & (
        seconds_since_end <= zones.late_seconds
    )
    is_ignored = in_free_zone.any(1) | is_unaligned  # [B, F]
    is_target = is_keyword & in_fire_zone.any(1)[:, None]  # [B, W, F]
    return (
        -(log_p * is_target).sum() / _count(is_target)
        + _unaligned_loss(log_p, is_keyword.squeeze(-1) & is_unaligned)
        + _negative_loss(log_not_p, ~(is_keyword & is_ignored[:, None]), zones.mean_weight)
        + zones.boundary_weight
        * _boundary_loss(output.boundaries, ends, endpoints, in_fire_zone, is_target)
    )


def _unaligned_loss(log_p: Tensor, is_unaligned_positive: Tensor) -> Tensor:
    """Of clips whose word lies somewhere: their best frame."""
    return -(log_p.amax(-1) * is_unaligned_positive).sum() / _count(is_unaligned_positive)


def _negative_loss(log_not_p: Tensor, is_negative: Tensor, mean_weight: float) -> Tensor:
    masked = log_not_p * is_negative
    return -masked.amin(-1).mean() - mean_weight * masked.mean(-1).mean()


def _boundary_loss(
    boundaries: Tensor, ends: Tensor, endpoints: Tensor, in_fire_zone: Tensor, is_target: Tensor
) -> Tensor:
    """Error in seconds of the word boundaries that positive frames predict. in_fire_zone [B, P, F]:
    which utterance a frame belongs to."""
    seconds_back = ends - endpoints.nan_to_num()[..., None]  # [B, P, 2, F]
    target = (seconds_back * in_fire_zone[:, :, None]).sum(1)[:, None]  # [B, 1, 2, F]
    error = F.smooth_l1_loss(boundaries, target.expand_as(boundaries), reduction="none", beta=0.05)
    return (error * is_target[:, :, None]).sum() / _count(is_target)


def _count(mask: Tensor) -> Tensor:
    """Number of selected elements, at least 1."""
    return mask.sum().float().clamp_min(1)
