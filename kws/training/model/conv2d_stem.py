"""The stem with convolutions over time and frequency: the same small kernels serve low and high
bands, as one voice is higher than another.

    log-mel [40 bands] ─► 5×5, stride 2×2 [C × 20] ─► 3×1, stride 2×1 [C × 10]
        ─► three times: x + 3×3 ─► C · 10 numbers a frame

BC-ResNet has small kernels over bands, and norms for groups of them (Kim et al., Interspeech 2021);
here each band has its own norm. Nothing is padded over time, so the stem streams as the other
layers do. Beyond the lowest and the highest band there are zeros.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.training.model.layers import BatchNorm, Layers, residual
from kws.training.model.streaming_state import Context, StreamingState

RESIDUAL_BLOCKS = 3
RESIDUAL_FRAMES = 3  # of a residual block's kernel


class BandConvolution(nn.Module):
    """Convolution over bands and time, and batch norm for each channel and band. [B, C, F, T]
    → [B, C', F / stride, T / stride]."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bands: int,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
    ):
        """kernel and stride: (bands, frames)."""
        super().__init__()
        self.output_bands = -(-bands // stride[0])
        self.context = Context(inputs, bands, kernel[1] - stride[1])
        padding = (kernel[0] // 2, 0)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.norm = BatchNorm(outputs * self.output_bands)

    def forward(self, x: Tensor, state: StreamingState) -> Tensor:
        return self.norm(self.conv(self.context(x, state)))


class Conv2dStem(nn.Module):
    """[B, mels, 1, T] → [B, outputs, 1, T / stride]: `channels` for each quarter of the bands."""

    def __init__(self, mels: int, channels: int, kernel: int, stride: int):
        super().__init__()
        first = BandConvolution(1, channels, mels, (5, kernel), (2, stride))
        # With one input channel this layout takes half the time to train.
        first.conv.to(memory_format=torch.channels_last)
        second = BandConvolution(channels, channels, first.output_bands, (3, 1), (2, 1))
        self.downsampling: Layers[BandConvolution] = Layers([first, second])
        self.residual: Layers[BandConvolution] = Layers(
            BandConvolution(channels, channels, second.output_bands, (3, RESIDUAL_FRAMES))
            for _ in range(RESIDUAL_BLOCKS)
        )
        self.outputs = channels * second.output_bands

    def forward(self, x: Tensor, state: StreamingState) -> Tensor:
        x = x.transpose(1, 2)
        for layer in self.downsampling:
            x = F.relu(layer(x, state))
        for layer in self.residual:
            x = residual(x, layer(x, state))
        return x.flatten(1, 2).unsqueeze(2)
