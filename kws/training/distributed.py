"""Several processes that train one network, started by `torchrun` on one or more machines.

Each process has a GPU or a CPU core of its own and different clips; all end every step with the
same weights. Only the first process (rank 0) prints, validates and writes. Without torchrun, or
with one process, every function here does nothing.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from kws.errors import KwsError, ModelError

# Longer than rank 0 ever validates, exports or calibrates while the others wait.
RANK_TIMEOUT = timedelta(hours=1)


def launched_world_size() -> int:
    """Number of processes that torchrun started, this one included; 1 without torchrun."""
    is_launched = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if is_launched else 1


@contextmanager
def init_distributed(device: torch.device) -> Iterator[None]:
    """Connects the processes that torchrun started, for the duration of a training.

    On GPUs, "cuda" is this process's own GPU from then on. In all ranks but 0 the logger "kws" is
    silent. Raises ModelError where this machine has fewer GPUs than processes, or where processes
    cannot train together on the device.
    """
    if launched_world_size() == 1:
        yield
        return
    if device.type not in ("cpu", "cuda"):
        raise ModelError(
            f"several processes cannot train together on {device.type}. "
            "Use --device cpu, or one process."
        )
    if device.type == "cuda":
        _select_gpu(int(os.environ.get("LOCAL_RANK", os.environ["RANK"])))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=RANK_TIMEOUT)
    logging.getLogger("kws").disabled = not is_rank_zero()
    yield
    # Not in a `finally`: after an error the other processes may be anywhere, and destroying the
    # group would wait for them.
    dist.destroy_process_group()


def _select_gpu(number: int) -> None:
    count = torch.cuda.device_count()
    if number >= count:
        raise ModelError(
            f"this machine has {count} GPUs, too few for its processes. "
            f"Use torchrun --nproc-per-node {count}."
        )
    torch.cuda.set_device(number)


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_rank_zero() -> bool:
    """Whether this is the process that prints, validates and writes."""
    return rank() == 0


def local_micro_batches(accumulate: int) -> range:
    """The micro-batches of a step that this process computes. Raises KwsError where the processes
    cannot share `accumulate` micro-batches evenly."""
    if accumulate % world_size():
        raise KwsError(
            f"{world_size()} processes cannot share {accumulate} micro-batches evenly. "
            f"Use --accumulate {world_size()}, or a multiple of it."
        )
    share = accumulate // world_size()
    return range(rank() * share, (rank() + 1) * share)


def mean_over_ranks(value: Tensor) -> Tensor:
    """Mean of a tensor over all processes, the same in each; no gradient flows through it."""
    if world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / world_size()


@contextmanager
def raise_on_any_rank() -> Iterator[None]:
    """Raises in every process what any of them raises inside, so that none waits for one that has
    left. All processes must enter it.

    KeyboardInterrupt in one is KeyboardInterrupt in all; any other error is a KwsError in the
    processes that did not have it.
    """
    if world_size() == 1:
        yield
        return
    local_error: BaseException | None = None
    try:
        yield
    except BaseException as error:
        local_error = error
    severity = 0 if local_error is None else 1 if isinstance(local_error, KeyboardInterrupt) else 2
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    worst = torch.tensor(severity, device=device)
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    if local_error is not None:
        raise local_error
    if worst == 1:
        raise KeyboardInterrupt
    if worst == 2:
        raise KwsError(f"process {rank()} stopped because another one failed. See its message.")
