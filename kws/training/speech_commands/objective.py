"""The objective of a classifier: cross-entropy over the pooled logits of the scanning network, and
phone recognition beside it where the network has a head for it."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.training.augment.spec_augment import apply_mixup, draw_spec_masks
from kws.training.fit.trainer import Objective
from kws.training.model.network import NetworkConfig
from kws.training.phones.objective import phone_ctc_loss
from kws.training.speech_commands.batches import ClassificationBatch, augment_batch
from kws.training.speech_commands.config import ClassifierTrainConfig
from kws.training.speech_commands.lexicon import SCORED_FRAMES

PHONE_LOSS_WEIGHT = 0.6


class PreparedClips(NamedTuple):
    """`audio` [B, N]; `targets` [B, K]: class probabilities; `mask` [B, mels, hops]: 0 where
    SpecAugment hides the spectrogram; `phones` [B, L], of which the first `lengths` [B] count; -1
    where the phones are unknown."""

    audio: Tensor
    targets: Tensor
    mask: Tensor
    phones: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class ClassificationObjective(Objective[ClassificationBatch, PreparedClips]):
    """Classifies augmented clips, with mixed and smoothed targets. rooms [R, K]: impulse responses,
    on the device that trains."""

    config: NetworkConfig
    rooms: Tensor
    train_config: ClassifierTrainConfig

    def prepare(self, batch: ClassificationBatch, generator: torch.Generator) -> PreparedClips:
        config, train_config = self.config, self.train_config
        samples = lead_samples(config) + config.clip_frame_samples
        audio, targets = augment_and_mix(
            batch, self.rooms, samples, len(config.words), train_config, generator
        )
        hops = (audio.shape[1] - config.window_samples) // config.hop_samples + 1
        mask = draw_spec_masks(len(audio), config.mels, hops, train_config, generator)
        return PreparedClips(audio, targets, mask.to(audio.device), batch.phones, batch.lengths)

    def loss(self, network: nn.Module, prepared: PreparedClips) -> Tensor:
        output, _ = network(prepared.audio, mask=prepared.mask)
        class_loss = F.cross_entropy(class_logits(output.pooled[..., -1]), prepared.targets)
        if not self.config.phones:
            return class_loss
        phone_loss = _masked_phone_loss(output.phones, prepared.phones, prepared.lengths)
        return class_loss + PHONE_LOSS_WEIGHT * phone_loss


def augment_and_mix(
    batch: ClassificationBatch,
    rooms: Tensor,
    samples: int,
    class_count: int,
    config: ClassifierTrainConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Augmented audio [B, samples] of a batch, some of it mixed with other clips, and smoothed
    targets [B, class_count]: class probabilities. rooms [R, K]: impulse responses."""
    audio = augment_batch(batch, rooms, samples, config, generator)
    targets = F.one_hot(batch.label, class_count).float()
    targets = targets + config.label_smoothing * (1 / class_count - targets)
    return apply_mixup(audio, targets, config.mixup, generator)


def lead_samples(config: NetworkConfig) -> int:
    """Silence that a clip needs before it: the lexicon scores phones over more frames than the
    classes need."""
    return (SCORED_FRAMES - 1) * config.frame_samples if config.phones else 0


def class_logits(pooled: Tensor) -> Tensor:
    """Logits for a softmax, from pooled log p [..., W]."""
    return pooled - torch.log(-torch.expm1(pooled - 1e-7))


def _masked_phone_loss(logits: Tensor, phones: Tensor, lengths: Tensor) -> Tensor:
    """CTC loss, mean over the batch; 0 for clips whose phones are unknown."""
    has_phones = lengths >= 0
    if not has_phones.any():
        return 0.0 * logits.sum()  # several processes wait for the gradient of every weight
    loss = phone_ctc_loss(logits[has_phones], phones[has_phones], lengths[has_phones])
    return loss * has_phones.float().mean()
