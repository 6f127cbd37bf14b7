"""Layers over time. Their tensors are [B, C, F, T]: channels, frequency bands, frames.

Where the bands are the channels F is 1. A convolution over time alone is 4-D, too, as ONNX Runtime
computes those faster than 3-D ones.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.training.model.streaming_state import Context, StreamingState

Layer = TypeVar("Layer", bound=nn.Module)


class Layers(nn.ModuleList, Generic[Layer]):
    """A ModuleList of layers of one kind."""

    def __iter__(self) -> Iterator[Layer]:
        return cast(Iterator[Layer], super().__iter__())


class TimeConv(nn.Conv1d):
    """nn.Conv1d over the frames of [B, C, 1, T]."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(
            x, self.weight.unsqueeze(2), self.bias, (1, *self.stride), groups=self.groups
        )


class BatchNorm(nn.BatchNorm1d):
    """Batch norm with statistics for each channel and band. [B, C, F, T] → [B, C, F, T]."""

    running_mean: Tensor  # [C · F]
    running_var: Tensor  # [C · F]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1, 2)).view_as(x)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The scale and the shift [C · F] that the layer applies outside training."""
        scale = self.weight / (self.running_var + self.eps).sqrt()
        return scale.detach(), (self.bias - self.running_mean * scale).detach()


class Affine(nn.Module):
    """A scale and a shift for each channel and band: a batch norm outside training."""

    scale: Tensor  # [C, F, 1]
    shift: Tensor  # [C, F, 1]

    def __init__(self, norm: BatchNorm, bands: int):
        super().__init__()
        scale, shift = norm.scale_and_shift()
        self.register_buffer("scale", scale.view(-1, bands, 1))
        self.register_buffer("shift", shift.view(-1, bands, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Convolution(nn.Module):
    """Convolution over time and batch norm. [B, C, 1, T] → [B, C', 1, T / stride]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1):
        super().__init__()
        self.context = Context(inputs, 1, kernel - stride)
        self.conv = TimeConv(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = BatchNorm(outputs)

    def forward(self, x: Tensor, state: StreamingState) -> Tensor:
        return self.norm(self.conv(self.context(x, state)))


class Block(nn.Module):
    """A residual block, relu(x + pointwise(relu(depthwise(x)))): convolutions over time for each
    channel, and over channels for each frame."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.depthwise = Convolution(channels, channels, kernel, groups=channels)
        self.pointwise = Convolution(channels, channels, 1)

    def forward(self, x: Tensor, state: StreamingState) -> Tensor:
        return residual(x, self.pointwise(F.relu(self.depthwise(x, state)), state))


def residual(x: Tensor, y: Tensor) -> Tensor:
    """relu(x + y), over the last frames of x: without a past y has fewer."""
    return F.relu(x[..., x.shape[-1] - y.shape[-1] :] + y)


def bias_of(convolution: nn.Conv1d) -> Tensor:
    """The bias [C] of a convolution that has one."""
    assert convolution.bias is not None
    return convolution.bias
