"""Depthwise convolution over time whose gradients do not cost more than it: torch's own take six
times as long on CPUs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

BLOCK_FRAMES = 16


class DepthwiseConv(nn.Conv1d):
    """Each channel by its own, without padding: [B, C, T] → [B, C, T - kernel + 1]."""

    def __init__(self, channels: int, kernel: int):
        super().__init__(channels, channels, kernel, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        y = _Depthwise.apply(x, self.weight.to(x.dtype))  # under autocast they differ
        return y if self.bias is None else y + self.bias[:, None]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv1d(x, weight, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        taps = weight.shape[-1]
        of_x = F.conv1d(F.pad(gradient, (taps - 1, taps - 1)), weight.flip(-1), groups=x.shape[1])
        return of_x, correlated(x, gradient, taps)[:, None]


def correlated(x: Tensor, y: Tensor, lags: int) -> Tensor:
    """Sums over b and t of x[b, c, t + lag] · y[b, c, t]; [C, lags], of x [B, C, T + lags - 1] and
    y [B, C, T].

    In blocks of frames: the products of all frames of a block of y with those of x in the same
    block and in the next stand in two small matrices, those of one lag on a diagonal. A product of
    matrices takes half the time of a sum for each lag or less.
    """
    size = max(lags, BLOCK_FRAMES)
    count = -(-y.shape[-1] // size)
    rows = count * y.shape[0]
    mine, its = _blocks(y, count, size).transpose(1, 2), _blocks(x, count + 1, size)
    products = torch.cat([mine @ its[:, :rows], mine @ its[:, -rows:]], dim=-1)
    return torch.stack([products.diagonal(lag, 1, 2).sum(-1) for lag in range(lags)], dim=-1)


def _blocks(x: Tensor, count: int, size: int) -> Tensor:
    """[B, C, T] → [C, count · B, size]: so many frames each, zeros after the last."""
    padded = F.pad(x, (0, count * size - x.shape[-1]))
    return padded.unflatten(-1, (count, size)).permute(1, 2, 0, 3).flatten(1, 2)
