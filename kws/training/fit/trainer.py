"""The training loop: short, readable, resumable, shared by as many processes as there are.

A step hears a few batches, its shards. Batch, learning rate and all chance are pure functions of
(seed, step, shard), so a run that is stopped and resumed ends with the same weights, bit for bit,
as one that was not; and how many processes share the shards changes nothing but the order of sums.
`history` has one entry per epoch, and its length is the epoch.
"""

import hashlib
import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from kws.errors import DataError, KwsError
from kws.training import distributed
from kws.training.fit.memory import keep_freed
from kws.training.model import checkpoint, provenance
from kws.training.model.network import NetworkConfig, ScanningCNN

_MADE_WITH = {
    "config": "another network",
    "recipe": "other training settings",
    "fingerprint": "other data",
    "start": "another trunk",
}


@dataclass(frozen=True)
class Recipe:
    """How to train."""

    epochs: int = 20
    steps_per_epoch: int = 400
    batch: int = 32  # clips of one shard
    shards: int = 1  # of a step: it hears shards · batch clips; processes share the shards
    clip_seconds: float = 3.0
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.05  # fraction of the steps
    averaging: float = 0.9975  # highest decay of the running average of the weights, per step
    # Of the noise mixed in; faint noise counts, too: it is in all recordings of people.
    snr_db: tuple[float, float] = (0.0, 45.0)
    speeds: tuple[float, float] = (0.82, 1.22)  # of clips, times their own
    # Devices on which the blocks run in bfloat16; log-mel, head, pooling and loss never do.
    mixed_precision: tuple[str, ...] = ("cuda",)
    seed: int = 0


def mixed_precision() -> tuple[str, ...]:
    """Devices on which training is faster with the blocks in bfloat16: GPUs, and CPUs that have
    instructions for it."""
    return (
        *Recipe.mixed_precision,
        *["cpu"] * torch.cpu.get_capabilities().get("avx512_bf16", False),
    )


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    total = recipe.epochs * recipe.steps_per_epoch
    warmup = max(round(recipe.warmup * total), 1)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    return (
        recipe.learning_rate
        * 0.5
        * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
    )


class Run:
    """All loop state: network, its running average, optimiser, history. Saved and restored
    as one."""

    def __init__(
        self, config: NetworkConfig, recipe: Recipe, device: torch.device, fingerprint: str
    ):
        torch.manual_seed(recipe.seed)
        self.recipe, self.device, self.fingerprint = recipe, device, fingerprint
        self.network = ScanningCNN(config).to(device)
        self._compute_with(recipe.mixed_precision)
        # The stem's batch norm undoes this bias, so its gradient is rounding alone, which Adam
        # blows up: differently for every number of processes, as each sums in another order. Of one
        # shard there is one order.
        self.network.input_norm.bias.requires_grad_(recipe.shards == 1)
        self.average = AveragedModel(
            self.network, multi_avg_fn=_running_average(recipe.averaging), use_buffers=True
        )
        self.optimiser = torch.optim.AdamW(
            _groups(self.network, recipe.weight_decay), lr=recipe.learning_rate
        )
        self.history: list[dict] = []
        self.start: str | None = None  # what it began with

    @property
    def trained(self) -> ScanningCNN:
        """The averaged network: what is validated and exported."""
        network = self.average.module
        assert isinstance(network, ScanningCNN)
        return network

    def save(self, path: Path) -> None:
        checkpoint.save(
            {
                "config": self.network.config.to_dict(),
                "recipe": asdict(self.recipe),
                "fingerprint": self.fingerprint,
                "start": self.start,
                "history": self.history,
                "made": {"command": provenance.command(), "versions": provenance.versions()},
                "averaged": int(self.average.n_averaged),
                "network": self.network.state_dict(),
                "average": self.trained.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
            path,
        )

    def _compute_with(self, mixed_precision: tuple[str, ...]) -> None:
        self.recipe = replace(self.recipe, mixed_precision=tuple(mixed_precision))
        self.network.mixed_precision = self.recipe.mixed_precision

    def begin_with(self, start: ScanningCNN) -> None:
        """Takes over the weights of a network of the same config."""
        self.start = _digest(start)
        self.network.load_state_dict(start.state_dict())
        self.trained.load_state_dict(start.state_dict())

    def go_on(self, path: Path) -> str:
        """Restores what is there, and says so: a run that was stopped within its first epoch has
        saved nothing, and begins anew."""
        if not path.exists():
            return f"{path}: nothing was saved there yet; training begins anew"
        self.restore(path)
        return f"resuming after epoch {len(self.history)} of {self.recipe.epochs}"

    def restore(self, path: Path) -> None:
        """Goes on as a checkpoint began, with its precision, whatever this machine would choose.

        Raises DataError where it is of another network, recipe, data or start.
        """
        saved = checkpoint.load(path)
        if "optimiser" not in saved:
            raise DataError(
                f"{path}: is of a finished training and keeps no optimiser; it cannot be resumed. "
                "Begin with it: --trunk."
            )
        saved = {  # older checkpoints do not name all of it
            **{"start": self.start, **saved},
            "recipe": {"shards": 1, "mixed_precision": Recipe.mixed_precision, **saved["recipe"]},
            "config": {
                "band_channels": NetworkConfig.band_channels,
                "letters": NetworkConfig.letters,
                **saved["config"],
            },
        }
        self._compute_with(saved["recipe"]["mixed_precision"])
        mine = {
            "config": self.network.config.to_dict(),
            "recipe": asdict(self.recipe),
            "fingerprint": self.fingerprint,
            "start": self.start,
        }
        for name, what in _MADE_WITH.items():
            if saved.get(name) != mine[name]:
                how = _differing(saved.get(name), mine[name])
                raise DataError(
                    f"{path}: was made with {what}{how}; it cannot be resumed. "
                    "Use the same, or start anew without --resume."
                )
        self.network.load_state_dict(saved["network"])
        self.trained.load_state_dict(saved["average"])
        self.average.n_averaged.fill_(saved["averaged"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.history = saved["history"]


def _differing(before: object, now: object) -> str:
    """Which of some settings are others, as " (seed 0, now 1)"; nothing, where these are
    no settings."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return f" ({'; '.join(f'{name} {before.get(name)}, now {now.get(name)}' for name in changed)})"


def _digest(network: nn.Module) -> str:
    return hashlib.sha256(
        b"".join(tensor.cpu().numpy().tobytes() for tensor in network.state_dict().values())
    ).hexdigest()[:16]


Heard = tuple[Tensor, ...]


@dataclass(frozen=True)
class Task:
    """What a network learns.

    hear(batch, index): a batch of the data set as it is to be heard this time, with what is asked
    of it: tensors whose rows are clips, on the batch's device; a pure function. loss(network,
    heard): a scalar, the mean over all processes' clips where each process has a part of them
    (see `processes.mean`).
    """

    hear: Callable[[Any, int], Heard]
    loss: Callable[[nn.Module, Heard], Tensor]


def fit(
    run: Run,
    batches: Dataset,
    task: Task,
    *,
    path: Path,
    validate: Callable[[ScanningCNN], dict],
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    on_epoch: Callable[[dict], None] = lambda entry: None,
    workers: int = 1,
) -> None:
    """Trains from where `run` stands to its last epoch, saving a checkpoint after each.

    batches[step · shards + shard]: a named tuple of tensors. Of several processes all must come
    here; the first alone validates, saves and calls on_epoch. From then on the process keeps the
    memory that it frees (`kws.training.fit.memory`). Raises KwsError where the processes cannot share
    the shards, or the loss is not finite.
    """
    keep_freed()
    per_epoch, shards = run.recipe.steps_per_epoch, run.recipe.shards
    share = distributed.share(shards)
    steps = range(len(run.history) * per_epoch, run.recipe.epochs * per_epoch)
    mine = [step * shards + shard for step in steps for shard in share]
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=mine,
        num_workers=workers,
        worker_init_fn=_deaf_to_interrupts,
    )
    pieces = zip(mine, loader, strict=True)
    network = run.network if distributed.size() == 1 else DistributedDataParallel(run.network)
    for epoch in range(len(run.history), run.recipe.epochs):
        losses = []
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            heard = _heard(islice(pieces, len(share)), task, run.device)
            losses.append(_step(run, network, heard, task, step))
            with distributed.together():
                on_step(step, losses[-1])
        entry = {"epoch": epoch + 1, "loss": round(sum(losses) / len(losses), 5)}
        with distributed.together():
            _end_epoch(run, entry, validate, path, on_epoch)


def _deaf_to_interrupts(_: int) -> None:
    """Ctrl-C reaches the workers too; only the loop decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _heard(pieces: Iterator[tuple[int, Any]], task: Task, device: torch.device) -> Heard:
    """This process's shards of a step, one below the other."""
    shards = [
        task.hear(type(batch)(*(part.to(device) for part in batch)), index)
        for index, batch in pieces
    ]
    return tuple(torch.cat(parts) for parts in zip(*shards, strict=True))


def _step(run: Run, network: nn.Module, heard: Heard, task: Task, step: int) -> float:
    """One step; network: the run's, or a wrapper that averages its gradients. Returns the loss over
    all processes."""
    network.train()
    value = task.loss(network, heard)
    told = distributed.mean(value.detach())
    _check_finite("the loss", told, run, step)
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(step, run.recipe)
    run.optimiser.zero_grad()
    value.backward()
    _check_finite(
        "the gradient", torch.nn.utils.clip_grad_norm_(run.network.parameters(), 5.0), run, step
    )
    run.optimiser.step()
    run.average.update_parameters(run.network)
    return told.item()


def _check_finite(what: str, value: Tensor, run: Run, step: int) -> None:
    """Before the weights are touched: what was saved stays good."""
    if value.isfinite():
        return
    kept = (
        f"the checkpoint of epoch {len(run.history)} was saved before"
        if run.history
        else "nothing was saved yet"
    )
    raise KwsError(
        f"{what} became {value.item()} at step {step}; {kept}. "
        "Start anew with a lower --learning-rate."
    )


def _end_epoch(
    run: Run,
    entry: dict,
    validate: Callable[[ScanningCNN], dict],
    path: Path,
    on_epoch: Callable[[dict], None],
) -> None:
    if not distributed.first():
        run.history.append(entry)
        return
    entry |= validate(run.trained.eval())
    run.history.append(entry)
    run.save(path)
    on_epoch(entry)


def _running_average(decay: float) -> Callable:
    """The decay rises to its full value, so that the untrained weights of the beginning are
    soon forgotten."""

    def update(averages: list[Tensor], values: list[Tensor], averaged: Tensor) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(averaged)) / (10 + int(averaged))))(
            averages, values, averaged
        )

    return update


def _groups(network: ScanningCNN, weight_decay: float) -> list[dict]:
    """Weights of convolutions decay; biases, batch norms and the pooling's exponent do not."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
