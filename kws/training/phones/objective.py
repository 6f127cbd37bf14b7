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

from kws.training.augment.waveform import augment, chance, equalized
from kws.training.detection.train import Hooks
from kws.training.fit.trainer import Heard, Recipe, Run, Task, fit
from kws.training.model.network import NetworkConfig, Output, ScanningCNN
from kws.training.phones.utterances import BLANK, LETTERS, Batch, Readings

EQUALIZED, ROOMS = 0.6, 0.5  # fractions of the batch
VALIDATION_BATCHES = 4


def reading_config(**size: Any) -> NetworkConfig:
    """A network whose words are the letters, scored frame by frame."""
    return NetworkConfig((BLANK, *LETTERS), pool_frames=2, **size)


def reading_task(rooms: Tensor, recipe: Recipe) -> Task:
    """To write down what is said in a batch, as microphones might have heard it."""

    def hear(batch: Batch, index: int) -> Heard:
        generator = chance(recipe.seed, index)
        audio = equalized(batch.audio, generator, EQUALIZED)
        audio = augment(batch._replace(audio=audio), rooms, recipe.snr_db, generator, ROOMS)
        return audio, batch.letters, batch.lengths

    def loss(network: nn.Module, heard: Heard) -> Tensor:
        output, _ = network(heard[0])
        return reading_loss(output.logits, *heard[1:])

    return Task(hear, loss)


def reading_loss(logits: Tensor, letters: Tensor, count: Tensor) -> Tensor:
    """Per letter, mean of the batch. logits [B, letters, F]; letters [B, L], of which the first
    `count` [B] count."""
    log_p = logits.float().log_softmax(1).permute(2, 0, 1)  # [F, B, letters]
    frames = torch.full_like(count, len(log_p))
    return F.ctc_loss(log_p, letters, frames, count, zero_infinity=True)


def read(output: Output) -> list[str]:
    """The letters of each clip: the most probable of each frame, repeated ones once, blanks
    left out."""
    names = BLANK + LETTERS
    best = output.logits.argmax(1).cpu().numpy()
    rows = (row[np.flatnonzero(np.diff(row, prepend=-1))] for row in best)
    return ["".join(names[i] for i in row if i) for row in rows]


def train(
    batches: Readings,
    heldout: Readings,
    rooms: Tensor,
    recipe: Recipe,
    config: NetworkConfig,
    path: Path,
    *,
    start: ScanningCNN | None = None,
    resume: bool = False,
    hooks: Hooks = Hooks(),  # noqa: B008  (frozen)
) -> None:
    """Trains into a checkpoint, `path`, beginning with the weights of `start`; with `resume` goes
    on from `path`. Raises KwsError."""
    run = Run(config, recipe, torch.device("cpu"), batches.fingerprint())
    if start is not None:
        run.begin_with(start)
    if resume:
        hooks.say(run.go_on(path))

    def validate(network: ScanningCNN) -> dict:
        return {"letters_wrong": round(letters_wrong(network, heldout), 4)}

    fit(
        run,
        batches,
        reading_task(rooms, recipe),
        path=path,
        validate=validate,
        on_step=hooks.step,
        on_epoch=hooks.epoch,
    )


@torch.no_grad()
def letters_wrong(network: ScanningCNN, heldout: Readings) -> float:
    """Edits from what is read to what is said, for each letter of it, without noise."""
    edits = total = 0
    for step in range(VALIDATION_BATCHES):
        batch = heldout[step]
        for found, row, count in zip(
            read(network(batch.audio)[0]), batch.letters, batch.lengths, strict=True
        ):
            said = "".join(LETTERS[i - 1] for i in row[:count])
            edits, total = edits + distance(found, said), total + len(said)
    return edits / max(total, 1)


def distance(a: str, b: str) -> int:
    """Insertions, deletions and exchanges that make one of the other (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != other))
    return row[-1]
