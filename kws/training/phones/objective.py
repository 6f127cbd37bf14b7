"""Learning to read: to write down every sound that is said, so that a network knows all sounds
before it learns one word.

A few recordings of a word teach a network whatever tells them from the rest; one that can read them
hears what is said. The letters are the words of such a network; the loss is connectionist temporal
classification (Graves et al., ICML 2006), which needs no times. Its layers are then the trunk that
others begin with (`kws.training.model.pretrained`).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.training.augment.waveform import augment, equalize, seeded_generator
from kws.training.detection.train import Callbacks
from kws.training.fit.trainer import Objective, PreparedBatch, TrainConfig, TrainState, fit
from kws.training.model.network import NetworkConfig, Output, ScanningCNN
from kws.training.phones.utterances import BLANK, PHONES, Batch, UtteranceDataset

EQUALIZED_FRACTION, ROOM_FRACTION = 0.6, 0.5  # fractions of the batch
VALIDATION_BATCHES = 4


def make_phone_recognizer_config(**size: Any) -> NetworkConfig:
    """A network whose words are the letters, scored frame by frame."""
    return NetworkConfig((BLANK, *PHONES), pool_frames=2, **size)


def make_ctc_task(rooms: Tensor, train_config: TrainConfig) -> Objective:
    """To write down what is said in a batch, as microphones might have heard it."""

    def prepare(batch: Batch, index: int) -> PreparedBatch:
        generator = seeded_generator(train_config.seed, index)
        audio = equalize(batch.audio, generator, EQUALIZED_FRACTION)
        audio = augment(
            batch._replace(audio=audio), rooms, train_config.snr_db, generator, ROOM_FRACTION
        )
        return audio, batch.phones, batch.lengths

    def loss(network: nn.Module, prepared: PreparedBatch) -> Tensor:
        output, _ = network(prepared[0])
        return phone_ctc_loss(output.logits, *prepared[1:])

    return Objective(prepare, loss)


def phone_ctc_loss(logits: Tensor, phones: Tensor, count: Tensor) -> Tensor:
    """Per letter, mean of the batch. logits [B, letters, F]; letters [B, L], of which the first
    `count` [B] count."""
    log_p = logits.float().log_softmax(1).permute(2, 0, 1)  # [F, B, letters]
    frames = torch.full_like(count, len(log_p))
    return F.ctc_loss(log_p, phones, frames, count, zero_infinity=True)


def decode_greedily(output: Output) -> list[str]:
    """The letters of each clip: the most probable of each frame, repeated ones once, blanks
    left out."""
    names = BLANK + PHONES
    best_path = output.logits.argmax(1).cpu().numpy()
    rows = (row[np.flatnonzero(np.diff(row, prepend=-1))] for row in best_path)
    return ["".join(names[i] for i in row if i) for row in rows]


def train(
    batches: UtteranceDataset,
    heldout: UtteranceDataset,
    rooms: Tensor,
    train_config: TrainConfig,
    config: NetworkConfig,
    path: Path,
    *,
    start: ScanningCNN | None = None,
    resume: bool = False,
    callbacks: Callbacks = Callbacks(),  # noqa: B008  (frozen)
) -> None:
    """Trains into a checkpoint, `path`, beginning with the weights of `start`; with `resume` goes
    on from `path`. Raises KwsError."""
    run = TrainState(config, train_config, torch.device("cpu"), batches.fingerprint())
    if start is not None:
        run.init_from(start)
    if resume:
        callbacks.log(run.resume_from(path))

    def validate(network: ScanningCNN) -> dict:
        return {"phone_error_rate": round(phone_error_rate(network, heldout), 4)}

    fit(
        run,
        batches,
        make_ctc_task(rooms, train_config),
        path=path,
        validate=validate,
        on_step=callbacks.step,
        on_epoch=callbacks.epoch,
    )


@torch.no_grad()
def phone_error_rate(network: ScanningCNN, heldout: UtteranceDataset) -> float:
    """Edits from what is read to what is said, for each letter of it, without noise."""
    edits = total = 0
    for step in range(VALIDATION_BATCHES):
        batch = heldout[step]
        for hypothesis, row, count in zip(
            decode_greedily(network(batch.audio)[0]), batch.phones, batch.lengths, strict=True
        ):
            reference = "".join(PHONES[i - 1] for i in row[:count])
            edits, total = edits + edit_distance(hypothesis, reference), total + len(reference)
    return edits / max(total, 1)


def edit_distance(a: str, b: str) -> int:
    """Insertions, deletions and exchanges that make one of the other (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (letter != other))
    return row[-1]
