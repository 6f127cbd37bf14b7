"""Phone recognition: the pre-training of the encoder, and the verifier.

A few recordings of a word teach a network whatever tells them from other sounds; a network that
recognises phones starts with all the sounds of the language. The phones are the words of its
config. Connectionist temporal classification (Graves et al., ICML 2006) needs no alignment. Other
trainings start from its layers (`kws.training.model.pretrained`).
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.training.augment.config import AugmentConfig
from kws.training.augment.waveform import augment
from kws.training.fit.config import TrainConfig
from kws.training.fit.progress import TrainingProgress
from kws.training.fit.state import TrainState
from kws.training.fit.trainer import Objective, fit
from kws.training.model.network import NetworkConfig, Output, ScanningCNN
from kws.training.model.phone_set import BLANK, PHONES
from kws.training.phones.utterances import UtteranceBatch, UtteranceDataset

VALIDATION_BATCHES = 4

logger = logging.getLogger("kws")


def make_phone_recognizer_config(**size: Any) -> NetworkConfig:
    """A network whose words are the phones, scored frame by frame."""
    return NetworkConfig((BLANK, *PHONES), pool_frames=2, **size)


@dataclass(frozen=True)
class PhoneTrainConfig(TrainConfig):
    """Training settings of the encoder and the verifier."""

    clip_seconds: float = 4.0
    ema_decay: float = 0.998
    room_fraction: float = 0.5
    equalized_fraction: float = 0.6
    snr_db: tuple[float, float] = (-2.0, 32.0)


@dataclass(frozen=True)
class PhoneObjective(Objective[UtteranceBatch, UtteranceBatch]):
    """Recognises the phones of augmented utterances. rooms [R, K]: impulse responses, on the device
    that trains."""

    rooms: Tensor
    augmentation: AugmentConfig

    def prepare(self, batch: UtteranceBatch, generator: torch.Generator) -> UtteranceBatch:
        audio = augment(batch.audio, batch.noise, self.rooms, self.augmentation, generator)
        return batch._replace(audio=audio)

    def loss(self, network: nn.Module, prepared: UtteranceBatch) -> Tensor:
        output, _ = network(prepared.audio)
        return phone_ctc_loss(output.logits, prepared.phones, prepared.lengths)


def phone_ctc_loss(logits: Tensor, phones: Tensor, lengths: Tensor) -> Tensor:
    """CTC loss per phone, mean over the batch. logits [B, phones, F]; phones [B, L], of which the
    first `lengths` [B] count."""
    log_p = logits.float().log_softmax(1).permute(2, 0, 1)  # [F, B, phones]
    frames = torch.full_like(lengths, len(log_p))
    return F.ctc_loss(log_p, phones, frames, lengths, zero_infinity=True)


def decode_greedily(output: Output) -> list[str]:
    """The phones of each clip: the most probable of each frame, with repetitions merged and blanks
    removed."""
    best_phones = output.logits.argmax(1).cpu().numpy()
    return [_merge_repetitions(frames) for frames in best_phones]


def _merge_repetitions(frames: np.ndarray) -> str:
    changes = np.flatnonzero(np.diff(frames, prepend=-1))
    return "".join(PHONES[phone - 1] for phone in frames[changes] if phone)  # 0: blank


def train(
    batches: UtteranceDataset,
    heldout: UtteranceDataset,
    rooms: Tensor,
    train_config: TrainConfig,
    config: NetworkConfig,
    path: Path,
    *,
    init_from: ScanningCNN | None = None,
    resume: bool = False,
    progress: TrainingProgress | None = None,
) -> None:
    """Trains on the CPU into a checkpoint, `path`.

    init_from: network whose weights the training starts with. resume: continue from `path`. Raises
    KwsError.
    """
    state = TrainState(config, train_config, torch.device("cpu"), batches.fingerprint())
    if init_from is not None:
        state.init_from(init_from)
    if resume:
        logger.info(state.resume_from(path))
    fit(
        state,
        batches,
        PhoneObjective(rooms, train_config),
        path=path,
        validate=lambda network: {"phone_error_rate": round(phone_error_rate(network, heldout), 4)},
        progress=progress,
    )


@torch.no_grad()
def phone_error_rate(network: ScanningCNN, heldout: UtteranceDataset) -> float:
    """Edit distance from recognised to spoken phones, per spoken phone, without noise."""
    edits = total = 0
    for step in range(VALIDATION_BATCHES):
        batch = heldout[step]
        output, _ = network(batch.audio)
        hypotheses = decode_greedily(output)
        for hypothesis, phones, length in zip(hypotheses, batch.phones, batch.lengths, strict=True):
            reference = "".join(PHONES[phone - 1] for phone in phones[:length])
            edits += edit_distance(hypothesis, reference)
            total += len(reference)
    return edits / max(total, 1)


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions."""
    row = list(range(len(b) + 1))  # distances from the beginning of `a` to each beginning of `b`
    for i, phone in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            substitution = diagonal + (phone != other)
            diagonal = row[j]
            row[j] = min(row[j] + 1, row[j - 1] + 1, substitution)
    return row[-1]
