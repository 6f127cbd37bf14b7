"""The training loop, for one process or several.

A step sums the gradients of `TrainConfig.accumulate` micro-batches, which the processes share
evenly. Batch, random generator and learning rate are pure functions of the seed and of the numbers
of step and micro-batch: a run that is stopped and resumed ends with the same weights, bit for bit,
as one that was not. Each micro-batch is normalised by its own statistics, so that the number of
processes changes gradients by no more than the order of sums. (The running statistics of batch
norm, which only inference uses, are those of rank 0.)
"""

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from kws.errors import KwsError
from kws.training import distributed
from kws.training.augment.waveform import seeded_generator
from kws.training.fit.progress import TrainingProgress
from kws.training.fit.state import TrainState
from kws.training.model.network import ScanningCNN

MAX_GRADIENT_NORM = 5.0

Validate = Callable[[ScanningCNN], dict]  # metrics of a network, for `history`


class Batch(Protocol):
    """Tensors of one micro-batch."""

    def to(self, device: torch.device) -> "Batch":
        """The batch with all its tensors on the device."""
        ...


BatchT = TypeVar("BatchT", bound=Batch)
PreparedT = TypeVar("PreparedT")


class Objective(ABC, Generic[BatchT, PreparedT]):
    """What a network learns: how its batches are augmented, and their loss."""

    @abstractmethod
    def prepare(self, batch: BatchT, generator: torch.Generator) -> PreparedT:
        """Augments a batch of the data set and computes its targets, on the batch's device. All
        random numbers are drawn from the generator."""

    @abstractmethod
    def loss(self, network: nn.Module, prepared: PreparedT) -> Tensor:
        """Scalar loss of a prepared batch: a mean over its clips."""


def fit(
    state: TrainState,
    batches: Dataset,
    objective: Objective,
    *,
    path: Path,
    validate: Validate,
    progress: TrainingProgress | None = None,
    workers: int = 1,
) -> None:
    """Trains from where `state` stands to its last epoch; writes a checkpoint to `path` after each.

    batches[step · accumulate + i] is micro-batch i of a step. Of several processes all must call
    this; rank 0 alone validates, saves and reports epochs. Raises KwsError where the processes
    cannot share the micro-batches evenly, or the loss or its gradient is not finite;
    KeyboardInterrupt where `progress` asks to stop.
    """
    config = state.train_config
    progress = progress or TrainingProgress()
    local_micro_batches = distributed.local_micro_batches(config.accumulate)
    steps = range(len(state.history) * config.steps_per_epoch, config.steps)
    indices = [step * config.accumulate + i for step in steps for i in local_micro_batches]
    loader = iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=indices,
            num_workers=workers,
            worker_init_fn=_ignore_interrupts,
        )
    )
    network: nn.Module = state.network.train()
    if distributed.world_size() > 1:
        network = DistributedDataParallel(network)
    epoch_losses: list[float] = []
    for step in steps:
        state.optimiser.zero_grad()
        step_loss = torch.zeros((), device=state.device)
        for i in local_micro_batches:
            batch = next(loader).to(state.device)
            generator = seeded_generator(config.seed, step * config.accumulate + i)
            prepared = objective.prepare(batch, generator)
            with _gradient_sync(network, is_last=i == local_micro_batches[-1]):
                loss = objective.loss(network, prepared) / len(local_micro_batches)
                loss.backward()
            step_loss += loss.detach()
        step_loss = distributed.mean_over_ranks(step_loss)
        _check_finite("the loss", step_loss, state, step)
        gradient_norm = nn.utils.clip_grad_norm_(state.network.parameters(), MAX_GRADIENT_NORM)
        _check_finite("the gradient", gradient_norm, state, step)
        for group in state.optimiser.param_groups:
            group["lr"] = config.learning_rate_at(step)
        state.optimiser.step()
        state.ema_model.update_parameters(state.network)
        epoch_losses.append(step_loss.item())
        with distributed.raise_on_any_rank():
            progress.step(step, epoch_losses[-1])
            _stop_if_asked(progress)
        if len(epoch_losses) == config.steps_per_epoch:
            with distributed.raise_on_any_rank():
                _end_epoch(state, epoch_losses, validate, path, progress)
            epoch_losses = []


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches the loader's workers too; only the loop decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _gradient_sync(network: nn.Module, is_last: bool) -> AbstractContextManager:
    """Lets processes average their gradients once per step, in the last backward pass."""
    if isinstance(network, DistributedDataParallel) and not is_last:
        return network.no_sync()
    return nullcontext()


def _check_finite(what: str, value: Tensor, state: TrainState, step: int) -> None:
    """Raises KwsError before the weights are touched, so that the saved ones stay good."""
    if value.isfinite():
        return
    saved_note = "nothing was saved yet"
    if state.history:
        saved_note = f"the checkpoint of epoch {len(state.history)} was saved before"
    raise KwsError(
        f"{what} became {value.item()} at step {step}; {saved_note}. "
        "Start anew with a lower --learning-rate."
    )


def _end_epoch(
    state: TrainState,
    losses: list[float],
    validate: Validate,
    path: Path,
    progress: TrainingProgress,
) -> None:
    metrics = {"epoch": len(state.history) + 1, "loss": round(sum(losses) / len(losses), 5)}
    if not distributed.is_rank_zero():
        state.history.append(metrics)
        return
    metrics |= validate(state.ema_network.eval())
    state.history.append(metrics)
    state.save(path)
    progress.epoch(metrics)
    _stop_if_asked(progress)


def _stop_if_asked(progress: TrainingProgress) -> None:
    if progress.should_stop():
        raise KeyboardInterrupt
