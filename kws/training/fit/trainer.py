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
from kws.training.augment.mixer import max_word_seconds
from kws.training.fit.memory import keep_freed
from kws.training.model import checkpoint, provenance
from kws.training.model.network import NetworkConfig, ScanningCNN

_RESUME_MISMATCHES = {
    "network_config": "another network",
    "train_config": "other training settings",
    "fingerprint": "other data",
    "init_digest": "another trunk",
}


@dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    epochs: int = 20
    steps_per_epoch: int = 400
    batch: int = 32  # clips of one shard
    accumulate: int = 1  # of a step: it hears shards · batch clips; processes share the shards
    clip_seconds: float = 3.0
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.05  # fraction of the steps
    ema_decay: float = 0.9975  # highest decay of the running average of the weights, per step
    # Of the noise mixed in; faint noise counts, too: it is in all recordings of people.
    snr_db: tuple[float, float] = (0.0, 45.0)
    speed_range: tuple[float, float] = (0.82, 1.22)  # of clips, times their own
    # Devices on which the blocks run in bfloat16; log-mel, head, pooling and loss never do.
    mixed_precision: tuple[str, ...] = ("cuda",)
    seed: int = 0

    @property
    def max_word_seconds(self) -> float:
        """Longest sound of a word that fits into a training example."""
        return max_word_seconds(self.clip_seconds, self.speed_range[0])


def mixed_precision() -> tuple[str, ...]:
    """Devices on which training is faster with the blocks in bfloat16: GPUs, and CPUs that have
    instructions for it."""
    return (
        *TrainConfig.mixed_precision,
        *["cpu"] * torch.cpu.get_capabilities().get("avx512_bf16", False),
    )


def learning_rate(step: int, train_config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    total = train_config.epochs * train_config.steps_per_epoch
    warmup = max(round(train_config.warmup * total), 1)
    if step < warmup:
        return train_config.learning_rate * (step + 1) / warmup
    return (
        train_config.learning_rate
        * 0.5
        * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
    )


class TrainState:
    """All loop state: network, its running average, optimiser, history. Saved and restored
    as one."""

    def __init__(
        self,
        config: NetworkConfig,
        train_config: TrainConfig,
        device: torch.device,
        fingerprint: str,
    ):
        torch.manual_seed(train_config.seed)
        self.train_config, self.device, self.fingerprint = train_config, device, fingerprint
        self.network = ScanningCNN(config).to(device)
        self._set_mixed_precision(train_config.mixed_precision)
        # The stem's batch norm undoes this bias, so its gradient is rounding alone, which Adam
        # blows up: differently for every number of processes, as each sums in another order. Of one
        # shard there is one order.
        self.network.input_norm.bias.requires_grad_(train_config.accumulate == 1)
        self.ema_model = AveragedModel(
            self.network, multi_avg_fn=_ema_with_warmup(train_config.ema_decay), use_buffers=True
        )
        self.optimiser = torch.optim.AdamW(
            _parameter_groups(self.network, train_config.weight_decay),
            lr=train_config.learning_rate,
        )
        self.history: list[dict] = []
        self.init_digest: str | None = None  # what it began with

    @property
    def ema_network(self) -> ScanningCNN:
        """The averaged network: what is validated and exported."""
        network = self.ema_model.module
        assert isinstance(network, ScanningCNN)
        return network

    def save(self, path: Path) -> None:
        checkpoint.save(
            {
                "network_config": self.network.config.to_dict(),
                "train_config": asdict(self.train_config),
                "fingerprint": self.fingerprint,
                "init_digest": self.init_digest,
                "history": self.history,
                "provenance": {
                    "command": provenance.reproduce_command(),
                    "versions": provenance.versions(),
                },
                "ema_updates": int(self.ema_model.n_averaged),
                "network": self.network.state_dict(),
                "ema_network": self.ema_network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
            path,
        )

    def _set_mixed_precision(self, mixed_precision: tuple[str, ...]) -> None:
        self.train_config = replace(self.train_config, mixed_precision=tuple(mixed_precision))
        self.network.mixed_precision = self.train_config.mixed_precision

    def init_from(self, start: ScanningCNN) -> None:
        """Takes over the weights of a network of the same config."""
        self.init_digest = _weights_digest(start)
        self.network.load_state_dict(start.state_dict())
        self.ema_network.load_state_dict(start.state_dict())

    def resume_from(self, path: Path) -> str:
        """Restores what is there, and says so: a run that was stopped within its first epoch has
        saved nothing, and begins anew."""
        if not path.exists():
            return f"{path}: nothing was saved there yet; training begins anew"
        self.restore(path)
        return f"resuming after epoch {len(self.history)} of {self.train_config.epochs}"

    def restore(self, path: Path) -> None:
        """Goes on as a checkpoint began, with its precision, whatever this machine would choose.

        Raises DataError where it is of another network, recipe, data or start.
        """
        saved = checkpoint.load(path)
        if "optimiser" not in saved:
            raise DataError(
                f"{path}: is of a finished training and keeps no optimiser; it cannot be resumed. "
                "Begin with it: --init-from."
            )
        saved = {  # older checkpoints do not name all of it
            **{"init_digest": self.init_digest, **saved},
            "train_config": {
                "accumulate": 1,
                "mixed_precision": TrainConfig.mixed_precision,
                **saved["train_config"],
            },
            "network_config": {
                "band_channels": NetworkConfig.band_channels,
                "phones": NetworkConfig.phones,
                **saved["network_config"],
            },
        }
        self._set_mixed_precision(saved["train_config"]["mixed_precision"])
        mine = {
            "network_config": self.network.config.to_dict(),
            "train_config": asdict(self.train_config),
            "fingerprint": self.fingerprint,
            "init_digest": self.init_digest,
        }
        for name, what in _RESUME_MISMATCHES.items():
            if saved.get(name) != mine[name]:
                how = _describe_differences(saved.get(name), mine[name])
                raise DataError(
                    f"{path}: was made with {what}{how}; it cannot be resumed. "
                    "Use the same, or start anew without --resume."
                )
        self.network.load_state_dict(saved["network"])
        self.ema_network.load_state_dict(saved["ema_network"])
        self.ema_model.n_averaged.fill_(saved["ema_updates"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.history = saved["history"]


def _describe_differences(before: object, now: object) -> str:
    """Which of some settings are others, as " (seed 0, now 1)"; nothing, where these are
    no settings."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return f" ({'; '.join(f'{name} {before.get(name)}, now {now.get(name)}' for name in changed)})"


def _weights_digest(network: nn.Module) -> str:
    return hashlib.sha256(
        b"".join(tensor.cpu().numpy().tobytes() for tensor in network.state_dict().values())
    ).hexdigest()[:16]


PreparedBatch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Objective:
    """What a network learns.

    hear(batch, index): a batch of the data set as it is to be heard this time, with what is asked
    of it: tensors whose rows are clips, on the batch's device; a pure function. loss(network,
    heard): a scalar, the mean over all processes' clips where each process has a part of them
    (see `processes.mean`).
    """

    prepare: Callable[[Any, int], PreparedBatch]
    loss: Callable[[nn.Module, PreparedBatch], Tensor]


def fit(
    run: TrainState,
    batches: Dataset,
    task: Objective,
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
    steps_per_epoch, accumulate = run.train_config.steps_per_epoch, run.train_config.accumulate
    local_micro_batches = distributed.local_micro_batches(accumulate)
    steps = range(len(run.history) * steps_per_epoch, run.train_config.epochs * steps_per_epoch)
    mine = [step * accumulate + shard for step in steps for shard in local_micro_batches]
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=mine,
        num_workers=workers,
        worker_init_fn=_ignore_interrupts,
    )
    indexed_batches = zip(mine, loader, strict=True)
    network = run.network if distributed.world_size() == 1 else DistributedDataParallel(run.network)
    for epoch in range(len(run.history), run.train_config.epochs):
        losses = []
        for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
            prepared = _prepare_micro_batches(
                islice(indexed_batches, len(local_micro_batches)), task, run.device
            )
            losses.append(_step(run, network, prepared, task, step))
            with distributed.raise_on_any_rank():
                on_step(step, losses[-1])
        entry = {"epoch": epoch + 1, "loss": round(sum(losses) / len(losses), 5)}
        with distributed.raise_on_any_rank():
            _end_epoch(run, entry, validate, path, on_epoch)


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches the workers too; only the loop decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _prepare_micro_batches(
    indexed_batches: Iterator[tuple[int, Any]], task: Objective, device: torch.device
) -> PreparedBatch:
    """This process's shards of a step, one below the other."""
    accumulate = [
        task.prepare(type(batch)(*(part.to(device) for part in batch)), index)
        for index, batch in indexed_batches
    ]
    return tuple(torch.cat(parts) for parts in zip(*accumulate, strict=True))


def _step(
    run: TrainState, network: nn.Module, prepared: PreparedBatch, task: Objective, step: int
) -> float:
    """One step; network: the run's, or a wrapper that averages its gradients. Returns the loss over
    all processes."""
    network.train()
    value = task.loss(network, prepared)
    mean_loss = distributed.all_reduce_mean(value.detach())
    _check_finite("the loss", mean_loss, run, step)
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(step, run.train_config)
    run.optimiser.zero_grad()
    value.backward()
    _check_finite(
        "the gradient", torch.nn.utils.clip_grad_norm_(run.network.parameters(), 5.0), run, step
    )
    run.optimiser.step()
    run.ema_model.update_parameters(run.network)
    return mean_loss.item()


def _check_finite(what: str, value: Tensor, run: TrainState, step: int) -> None:
    """Before the weights are touched: what was saved stays good."""
    if value.isfinite():
        return
    saved_note = (
        f"the checkpoint of epoch {len(run.history)} was saved before"
        if run.history
        else "nothing was saved yet"
    )
    raise KwsError(
        f"{what} became {value.item()} at step {step}; {saved_note}. "
        "Start anew with a lower --learning-rate."
    )


def _end_epoch(
    run: TrainState,
    entry: dict,
    validate: Callable[[ScanningCNN], dict],
    path: Path,
    on_epoch: Callable[[dict], None],
) -> None:
    if not distributed.is_rank_zero():
        run.history.append(entry)
        return
    entry |= validate(run.ema_network.eval())
    run.history.append(entry)
    run.save(path)
    on_epoch(entry)


def _ema_with_warmup(decay: float) -> Callable:
    """The decay rises to its full value, so that the untrained weights of the beginning are
    soon forgotten."""

    def update(averages: list[Tensor], values: list[Tensor], update_count: Tensor) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(update_count)) / (10 + int(update_count))))(
            averages, values, update_count
        )

    return update


def _parameter_groups(network: ScanningCNN, weight_decay: float) -> list[dict]:
    """Weights of convolutions decay; biases, batch norms and the pooling's exponent do not."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
