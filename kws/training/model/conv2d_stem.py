"""The stem that looks at bands: the same small kernels for low and for high ones, as a voice may be
higher or deeper than another.

    log-mel [40 bands] ─► 5×5, stride 2×2 [C × 20] ─► 3×1, stride 2×1 [C × 10]
        ─► three times: x + 3×3 ─► C · 10 numbers a frame

Small kernels over bands, and norms for groups of them, are what BC-ResNet is made of (Kim et al.,
Interspeech 2021); here every band has a norm of its own. Over time nothing is padded, so it streams
like the other layers; beyond the lowest and the highest band there are zeros.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.training.model.layers import Layers
from kws.training.model.norm import BatchNorm
from kws.training.model.streaming_state import StreamingState

RESIDUAL = 3  # blocks
RESIDUAL_FRAMES = 3  # of their kernels


class BandConvolution(nn.Module):
    """Convolution over time and bands, and batch norm for each channel and band. [B, C · F, T]
    → [B, C' · F / stride, T / stride]."""

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
        self.bands, self.output_bands, self.context_frames = (
            bands,
            -(-bands // stride[0]),
            kernel[1] - stride[1],
        )
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride=stride, padding=(kernel[0] // 2, 0), bias=False
        )
        self.norm = BatchNorm(outputs * self.output_bands)

    def forward(self, x: Tensor, streaming_state: StreamingState) -> Tensor:
        if self.context_frames > 0:
            x = streaming_state.extend(x, self.context_frames)
        return self.norm(self.conv(x.unflatten(1, (-1, self.bands))).flatten(1, 2))


class Bands(nn.Module):
    """[B, bands, T] → [B, outputs, T / stride], with `channels` for each of a quarter of
    the bands."""

    def __init__(self, bands: int, channels: int, kernel: int, stride: int):
        super().__init__()
        first = BandConvolution(1, channels, bands, (5, kernel), (2, stride))
        # Of one channel this takes half the time to train.
        first.conv.to(memory_format=torch.channels_last)
        second = BandConvolution(channels, channels, first.output_bands, (3, 1), (2, 1))
        self.downsampling: Layers[BandConvolution] = Layers([first, second])
        bands_after_stem = second.output_bands
        self.residual: Layers[BandConvolution] = Layers(
            BandConvolution(channels, channels, bands_after_stem, (3, RESIDUAL_FRAMES))
            for _ in range(RESIDUAL)
        )
        self.outputs = channels * bands_after_stem

    def forward(self, x: Tensor, streaming_state: StreamingState) -> Tensor:
        for layer in self.downsampling:
            x = F.relu(layer(x, streaming_state))
        for layer in self.residual:
            y = layer(x, streaming_state)
            x = F.relu(x[..., x.shape[-1] - y.shape[-1] :] + y)
        return x
