"""Several processes that train one network, each on a GPU or a core of its own, on one machine or
many; `torchrun` starts them.

All do the same steps with different clips, and end every step with the same weights. The
first alone speaks, validates and writes. Without torchrun, or with one process, nothing here
does anything.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from kws.errors import KwsError, ModelError

# Longer than the first process ever validates, exports or calibrates while the others wait.
RANK_TIMEOUT = timedelta(hours=1)


def launched_world_size() -> int:
    """Processes that torchrun started, this one included; 1 without torchrun."""
    is_launched = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if is_launched else 1


@contextmanager
def init_distributed(device: torch.device) -> Iterator[None]:
    """Around training: joins the processes that torchrun started; on GPUs "cuda" is from then on
    this process's own.

    Raises ModelError where this machine has fewer GPUs than processes, or the device cannot
    be shared.
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
    # Only where all leave together: after an error the others may be anywhere, and a farewell would
    # wait for them.
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
    """Processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_rank_zero() -> bool:
    """Whether this is the process that speaks, validates and writes."""
    return rank() == 0


def rank_zero_only(report: Callable[[str], None]) -> Callable[[str], None]:
    """The same in the first process, silence in the others: what all of them find is told once."""
    return report if is_rank_zero() else lambda text: None


def local_micro_batches(accumulate: int) -> range:
    """Which shards of a step are this process's. Raises KwsError where the processes cannot share
    them evenly."""
    if accumulate % world_size():
        raise KwsError(
            f"{world_size()} processes cannot share {accumulate} shards evenly. "
            f"Use --accumulate {world_size()}, or a multiple of it."
        )
    each = accumulate // world_size()
    return range(rank() * each, (rank() + 1) * each)


def all_reduce_mean(value: Tensor) -> Tensor:
    """Mean of a tensor over all processes, the same in each. Gradients flow back to all of them."""
    return value if world_size() == 1 else _Sum.apply(value / world_size())


class _Sum(torch.autograd.Function):
    """Sum over the processes. What each process's loss asks of the sum, it asks of every summand:
    so gradients are summed too."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient.contiguous())


@contextmanager
def raise_on_any_rank() -> Iterator[None]:
    """What one process raises in here stops all of them, so that none waits for one that is gone.
    All must come here.

    Ctrl-C in one is KeyboardInterrupt in all; any other error is a KwsError in those that did not
    have it.
    """
    if world_size() == 1:
        yield
        return
    local_error: BaseException | None = None
    try:
        yield
    except BaseException as error:
        local_error = error
    code = torch.tensor(
        0 if local_error is None else 1 if isinstance(local_error, KeyboardInterrupt) else 2
    )
    code = code.to("cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(code, dist.ReduceOp.MAX)
    if local_error is not None:
        raise local_error
    if code == 1:
        raise KeyboardInterrupt
    if code == 2:
        raise KwsError(f"process {rank()} stopped because another one did, which tells why.")
