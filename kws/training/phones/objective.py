"""Phone recognition: the pre-training of the encoder, and the verifier.

A few recordings of a word teach a network whatever tells them from other sounds; a network that
recognises phones starts with all the sounds of the language. The phones are the words of its
config. Connectionist temporal classification (Graves et al., ICML 2006) needs no alignment. Other
trainings start from its layers (`kws.training.model.pretrained`).
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.audio.recordings import SAMPLE_RATE
from kws.training.augment.config import SpecAugmentConfig
from kws.training.augment.spec_augment import draw_spec_masks
from kws.training.augment.waveform import augment
from kws.training.fit.config import TrainConfig
from kws.training.fit.progress import TrainingProgress
from kws.training.fit.state import TrainState
from kws.training.fit.trainer import Objective, fit
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.phone_set import BLANK, PHONES
from kws.training.phones.utterances import UtteranceBatch, UtteranceDataset, Utterances

TAIL_SAMPLES = SAMPLE_RATE * 16 // 25  # of silence after a recording; phones are recognised late

logger = logging.getLogger("kws")


def make_phone_recognizer_config(**size: Any) -> NetworkConfig:
    """A network whose words are the phones, scored frame by frame."""
    return NetworkConfig((BLANK, *PHONES), pool_frames=2, **size)


@dataclass(frozen=True)
class PhoneTrainConfig(SpecAugmentConfig, TrainConfig):
    """Training settings of the encoder and the verifier. A batch has `batch` · `clip_seconds` of
    audio."""

    clip_seconds: float = 4.0
    ema_decay: float = 0.998
    room_fraction: float = 0.5
    equalized_fraction: float = 0.6
    snr_db: tuple[float, float] = (-2.0, 32.0)
    peak_db: tuple[float, float] = (-50.0, 0.0)
    max_mel_mask_bands: int = 6
    time_masks: int = 4
    max_time_mask_hops: int = 12


class PreparedUtterances(NamedTuple):
    """`audio` [B, N]; `mask` [B, mels, hops]: 0 where energies are hidden; phones and their
    `lengths` as in `UtteranceBatch`."""

    audio: Tensor
    mask: Tensor
    phones: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class PhoneObjective(Objective[UtteranceBatch, PreparedUtterances]):
    """Recognises the phones of augmented utterances, after endless silence. rooms [R, K]: impulse
    responses, on the device that trains."""

    config: NetworkConfig
    rooms: Tensor
    train_config: PhoneTrainConfig

    def prepare(self, batch: UtteranceBatch, generator: torch.Generator) -> PreparedUtterances:
        audio = augment(batch.audio, batch.noise, self.rooms, self.train_config, generator)
        hops = audio.shape[1] // self.config.hop_samples
        mask = draw_spec_masks(len(audio), self.config.mels, hops, self.train_config, generator)
        return PreparedUtterances(audio, mask.to(audio.device), batch.phones, batch.lengths)

    def loss(self, network: nn.Module, prepared: PreparedUtterances) -> Tensor:
        logits = recognize(network, prepared)
        return phone_ctc_loss(logits, prepared.phones, prepared.lengths)


def recognize(network: nn.Module, prepared: PreparedUtterances) -> Tensor:
    """Logits of the phones [B, phones, F]; frame f ends (f + 1) · `frame_samples` after the
    beginning. As one process trains, the network is a ScanningCNN."""
    assert isinstance(network, ScanningCNN)
    state = network.initial_state(len(prepared.audio))
    output, _ = network(prepared.audio, state, prepared.mask)
    return output.logits.float()


def phone_ctc_loss(logits: Tensor, phones: Tensor, lengths: Tensor) -> Tensor:
    """CTC loss per phone, mean over the batch. logits [B, phones, F]; phones [B, L], of which the
    first `lengths` [B] count."""
    log_p = logits.float().log_softmax(1).permute(2, 0, 1)  # [F, B, phones]
    frames = torch.full_like(lengths, len(log_p))
    return F.ctc_loss(log_p, phones, frames, lengths, zero_infinity=True)


def decode_greedily(logits: Tensor) -> "RecognizedPhones":
    """The most probable phone of each frame, with repetitions merged and blanks removed. logits
    [phones, F]."""
    best_phones = logits.argmax(0).cpu().numpy()
    frames = np.flatnonzero(np.diff(best_phones, prepend=-1) * best_phones)  # 0: blank
    return RecognizedPhones("".join(PHONES[phone - 1] for phone in best_phones[frames]), frames)


class RecognizedPhones(NamedTuple):
    """Phones, and the frame [n] at which each is recognised."""

    phones: str
    frames: np.ndarray


def train(
    batches: UtteranceDataset,
    heldout: Utterances,
    rooms: Tensor,
    train_config: PhoneTrainConfig,
    config: NetworkConfig,
    path: Path,
    *,
    init_from: ScanningCNN | None = None,
    resume: bool = False,
    progress: TrainingProgress | None = None,
) -> None:
    """Trains on the CPU into a checkpoint, `path`.

    init_from: network whose weights the training starts with. resume: continue from `path`.
    Raises KwsError.
    """
    state = TrainState(config, train_config, torch.device("cpu"), batches.fingerprint())
    if init_from is not None:
        state.init_from(init_from)
    if resume:
        logger.info(state.resume_from(path))
    fit(
        state,
        batches,
        PhoneObjective(config, rooms, train_config),
        path=path,
        validate=lambda network: {"phone_error_rate": round(phone_error_rate(network, heldout), 4)},
        progress=progress,
    )


def phone_error_rate(network: ScanningCNN, heldout: Utterances) -> float:
    """Edit distance from recognised to spoken phones, per spoken phone, without noise."""
    edits = [
        edit_distance(recognize_recording(network, wave).phones, phones)
        for wave, phones in zip(heldout.dataset, heldout.phonemes, strict=True)
    ]
    return sum(edits) / max(sum(map(len, heldout.phonemes)), 1)


@torch.no_grad()
def recognize_recording(network: ScanningCNN, wave: np.ndarray) -> RecognizedPhones:
    """The phones of a recording [N], heard as a stream: after silence, and before it."""
    tail = TAIL_SAMPLES + -len(wave) % network.config.frame_samples
    audio = torch.from_numpy(np.pad(wave, (0, tail)))[None]
    output, _ = network(audio, network.initial_state())
    return decode_greedily(output.logits[0])


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
