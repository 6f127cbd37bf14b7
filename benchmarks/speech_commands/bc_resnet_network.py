"""BC-ResNet, after its paper: Kim et al., "Broadcasted residual learning for efficient keyword
spotting", Interspeech 2021, arXiv 2106.04140.

A block has two branches, whose outputs add up: one looks along frequency, in two dimensions; the
other along time, over the mean of all bands, and its output is added to each band.
"""

from typing import NamedTuple

import torch
import torchaudio
from torch import Tensor, nn

from kws.audio.recordings import SAMPLE_RATE

MELS = 40
WINDOW_SAMPLES, HOP_SAMPLES = 480, 160  # 30 ms, 10 ms
FFT_SAMPLES = 512
ENERGY_FLOOR = 1e-6
SUB_BANDS = 5
DROPOUT = 0.1
STEM_CHANNELS, HEAD_CHANNELS = 16, 32  # at width 1


class Stage(NamedTuple):
    """Blocks of the same shape; `channels` at width 1. The first block has the stride, over
    bands."""

    blocks: int
    channels: int
    stride: int
    dilation: int


STAGES = (Stage(2, 8, 1, 1), Stage(2, 12, 2, 2), Stage(4, 16, 2, 4), Stage(4, 20, 1, 8))


class LogMelSpectrogram(nn.Module):
    """Audio [B, N] in ±1 → log-mel energies [B, MELS, T], T = N // HOP_SAMPLES + 1; frame t is
    centred on sample t · HOP_SAMPLES."""

    def __init__(self) -> None:
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE,
            n_fft=FFT_SAMPLES,
            win_length=WINDOW_SAMPLES,
            hop_length=HOP_SAMPLES,
            n_mels=MELS,
        )

    def forward(self, audio: Tensor) -> Tensor:
        return (self.mel(audio) + ENERGY_FLOOR).log()


class SubSpectralNorm(nn.Module):
    """Batch norm of [B, C, F, T] by itself in each of SUB_BANDS equal ranges of bands."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels * SUB_BANDS)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, bands, frames = x.shape
        by_range = x.reshape(batch, channels * SUB_BANDS, bands // SUB_BANDS, frames)
        return self.norm(by_range).reshape(x.shape)


class BroadcastedBlock(nn.Module):
    """[B, C, F, T] → [B, C', F / stride, T]. A block that changes the number of channels (a
    transition) projects them first, and has no identity path."""

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int):
        super().__init__()
        self.is_transition = in_channels != channels
        self.projection = (
            nn.Sequential(_pointwise(in_channels, channels), nn.BatchNorm2d(channels), nn.ReLU())
            if self.is_transition
            else nn.Identity()
        )
        self.frequency = nn.Sequential(
            nn.Conv2d(
                channels,
                channels,
                (3, 1),
                stride=(stride, 1),
                padding=(1, 0),
                groups=channels,
                bias=False,
            ),
            SubSpectralNorm(channels),
        )
        self.time = nn.Sequential(
            nn.Conv2d(
                channels,
                channels,
                (1, 3),
                padding=(0, dilation),
                dilation=(1, dilation),
                groups=channels,
                bias=False,
            ),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            _pointwise(channels, channels),
            nn.Dropout2d(DROPOUT),
        )

    def forward(self, x: Tensor) -> Tensor:
        by_band = self.frequency(self.projection(x))
        output = by_band + self.time(by_band.mean(2, keepdim=True))
        return torch.relu(output if self.is_transition else output + x)


class BCResNet(nn.Module):
    """Log-mel energies [B, MELS, T] → logits [B, classes]. width: the paper's τ, as in
    BC-ResNet-3."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        channels = STEM_CHANNELS * width
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, 5, stride=(2, 1), padding=2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        blocks: list[nn.Module] = []
        for stage in STAGES:
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                block_channels = stage.channels * width
                blocks.append(BroadcastedBlock(channels, block_channels, stride, stage.dilation))
                channels = block_channels
        self.blocks = nn.Sequential(*blocks)
        head_channels = HEAD_CHANNELS * width
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=(0, 2), groups=channels, bias=False),
            _pointwise(channels, head_channels),
            nn.BatchNorm2d(head_channels),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(head_channels, classes)

    def features(self, log_mel: Tensor) -> Tensor:
        """Activations [B, C, T] before their mean over time."""
        return self.head(self.blocks(self.stem(log_mel[:, None])))[:, :, 0]

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.classifier(self.features(log_mel).mean(-1))


def _pointwise(in_channels: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 1, bias=False)
