"""The scanning network: one path for files and streams.

    samples ─► log-mel ─► input BN ─► stem (stride 2) ─► residual separable blocks
        ─► 1×1 head ─► p[t, word] ─► pooling

The stem is a convolution of all bands, or looks at neighbouring ones first (`kws.training.model.conv2d_stem`).

Every layer is a convolution over time without padding; what it still needs of the past comes in as
state and goes out again. With no state a layer simply returns fewer frames ("valid"), which is how
whole clips are trained. So

    forward(whole)  ==  forward(first part), forward(second part, state), …
        for every way to cut the audio.

The whole state is one flat tensor [B, S]: easy to keep, to batch and to hand to another runtime.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import librosa
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.audio.recordings import SAMPLE_RATE
from kws.training.model.conv2d_stem import RESIDUAL, RESIDUAL_FRAMES, Bands
from kws.training.model.depthwise import DepthwiseConv
from kws.training.model.layers import Layers, bias_of
from kws.training.model.norm import BatchNorm
from kws.training.model.pooling import POOLINGS
from kws.training.model.streaming_state import StreamingState


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that defines the architecture. Sizes in samples or frames are derived, never
    typed twice."""

    words: tuple[str, ...]
    mels: int = 40
    channels: int = 96
    stem_kernel: int = 5
    # Of a stem that looks at neighbouring bands; none: at all of them at once.
    band_channels: int = 0
    kernels: tuple[int, ...] = (9, 9, 11, 11, 13, 15)
    pooling: str = "gem"
    pool_frames: int = 5
    window_samples: int = 400  # 25 ms
    hop_samples: int = 160  # 10 ms
    stride: int = 2
    low_hz: float = 60.0
    high_hz: float = 7600.0
    log_floor: float = 1e-7
    # That a second head writes, frame by frame, where words are to be told apart by their
    # sounds, too.
    phones: str = ""

    def __post_init__(self) -> None:
        if self.pool_frames < 2 or min(self.kernels) < 2 or self.stem_kernel <= self.stride:
            raise ValueError(
                "every layer must need some past: pool_frames and kernels ≥ 2, stem_kernel > stride"
            )

    @property
    def frame_samples(self) -> int:
        """Samples from one score to the next."""
        return self.hop_samples * self.stride

    @property
    def receptive_field_samples(self) -> int:
        """Samples one frame probability depends on."""
        residual = RESIDUAL * (RESIDUAL_FRAMES - 1) if self.band_channels else 0
        hops = (self.stem_kernel - 1) + self.stride * (residual + sum(k - 1 for k in self.kernels))
        return self.window_samples + hops * self.hop_samples

    @property
    def clip_frame_samples(self) -> int:
        """Where, in a clip scored without a past, the audio behind its first frame ends."""
        return self.receptive_field_samples + (self.pool_frames - 1) * self.frame_samples

    def to_dict(self) -> dict:
        return {**asdict(self), "words": list(self.words), "kernels": list(self.kernels)}

    @classmethod
    def from_dict(cls, values: dict) -> "NetworkConfig":
        return cls(
            **{**values, "words": tuple(values["words"]), "kernels": tuple(values["kernels"])}
        )


SIZES: dict[str, dict] = {
    "small": {"channels": 96, "kernels": (9, 9, 11, 11, 13, 15)},  # up to 100 000 parameters
    "large": {"channels": 208, "kernels": (7, 9, 9, 11, 11, 13, 13)},  # up to 400 000
}


class Output(NamedTuple):
    """Frame logits [B, W, F], pooled log scores [B, W, F], extents [B, W, 2, F] in seconds (see
    `Scores`), logits of the L letters [B, L, F], of which there may be none."""

    logits: Tensor
    pooled: Tensor
    boundaries: Tensor
    phones: Tensor


class LogMel(nn.Module):
    """Samples [B, N] → log mel energies [B, mels, T], T = (N - window) // hop + 1; the first frame
    begins at sample 0.

    The windowed DFT is a product with fixed matrices, which every runtime does fast for a few
    frames. Seen from its centre a frame is the sum of an even and an odd signal; the even one has
    only cosines, the odd one only sines, so folding the frame first halves the work. Training hears
    thousands of frames at once: there the fast transform takes half the time of the product.
    """

    cosine: Tensor  # [window / 2, bins]
    sine: Tensor  # [window / 2, bins]
    mel: Tensor  # [bins, mels]
    window: Tensor  # [window]
    mel_real_imaginary: Tensor  # [2 · all bins, mels]

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.window_samples, self.hop_samples, self.floor = (
            config.window_samples,
            config.hop_samples,
            config.log_floor,
        )
        n = self.window_samples
        mel = librosa.filters.mel(
            sr=SAMPLE_RATE,
            n_fft=n,
            n_mels=config.mels,
            fmin=config.low_hz,
            fmax=config.high_hz,
            dtype=np.float64,
        )
        bins = np.flatnonzero(mel.any(axis=0))
        offsets_from_centre = np.arange(n // 2)
        # Periodic Hann, seen from its centre; 0 at sample 0.
        window = 0.5 + 0.5 * np.cos(2 * np.pi * offsets_from_centre / n)
        angle = 2 * np.pi / n * np.outer(offsets_from_centre, bins)
        cosine = window[:, None] * np.cos(angle)
        cosine[0] /= 2  # the centre sample meets itself in the folding
        self.register_buffer("cosine", torch.tensor(cosine, dtype=torch.float32), persistent=False)
        self.register_buffer(
            "sine",
            torch.tensor(window[:, None] * np.sin(angle), dtype=torch.float32),
            persistent=False,
        )
        self.register_buffer(
            "mel", torch.tensor(mel[:, bins].T.copy(), dtype=torch.float32), persistent=False
        )
        self.register_buffer("window", torch.hann_window(n), persistent=False)
        self.register_buffer(
            "mel_real_imaginary",
            torch.tensor(mel.repeat(2, axis=1).T.copy(), dtype=torch.float32),
            persistent=False,
        )

    def forward(self, audio: Tensor) -> Tensor:
        frames = audio.unfold(-1, self.window_samples, self.hop_samples)
        energies = self._mel_by_fft(frames) if self.training else self._mel_by_matrix(frames)
        return (energies + self.floor).log().transpose(-1, -2)

    def _mel_by_fft(self, frames: Tensor) -> Tensor:
        """Mel energies [..., mels] of frames [..., window]: real and imaginary parts stand side by
        side, and their squares add up."""
        parts = torch.view_as_real(torch.fft.rfft(frames * self.window)).flatten(-2)
        return parts.square() @ self.mel_real_imaginary

    def _mel_by_matrix(self, frames: Tensor) -> Tensor:
        half = self.window_samples // 2
        after, before = frames[..., half:], frames[..., 1 : half + 1].flip(-1)
        real, imaginary = (after + before) @ self.cosine, (after - before) @ self.sine
        return (real**2 + imaginary**2) @ self.mel


class Convolution(nn.Module):
    """Convolution over time and batch norm; takes its past from the state. [B, C, T]
    → [B, C', T / stride]."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, depthwise: bool = False
    ):
        super().__init__()
        self.context_frames = kernel - stride
        self.conv = (
            DepthwiseConv(inputs, kernel)
            if depthwise
            else nn.Conv1d(inputs, outputs, kernel, stride=stride, bias=False)
        )
        self.norm = BatchNorm(outputs)

    def forward(self, x: Tensor, streaming_state: StreamingState) -> Tensor:
        if self.context_frames > 0:
            x = streaming_state.extend(x, self.context_frames)
        return self.norm(self.conv(x))


class Block(nn.Module):
    """Depthwise convolution over time, pointwise convolution over channels, residual: relu(x
    + pw(relu(dw(x))))."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.depthwise = Convolution(channels, channels, kernel, depthwise=True)
        self.pointwise = Convolution(channels, channels, 1)

    def forward(self, x: Tensor, streaming_state: StreamingState) -> Tensor:
        y = self.pointwise(F.relu(self.depthwise(x, streaming_state)), streaming_state)
        return F.relu(x[..., x.shape[-1] - y.shape[-1] :] + y)


class ScanningCNN(nn.Module):
    """The network. Shapes: B streams, N samples, W words, F frames."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        # Devices on which training runs the blocks in bfloat16, and nothing else.
        self.mixed_precision: tuple[str, ...] = ()
        self.logmel = LogMel(config)
        self.input_norm = BatchNorm(config.mels)
        self.bands: Bands | None = None
        if config.band_channels:
            self.bands = Bands(config.mels, config.band_channels, config.stem_kernel, config.stride)
            self.stem = Convolution(self.bands.outputs, config.channels, 1)
        else:
            self.stem = Convolution(
                config.mels, config.channels, config.stem_kernel, stride=config.stride
            )
        self.blocks: Layers[Block] = Layers(
            Block(config.channels, kernel) for kernel in config.kernels
        )
        # Per word: logit, seconds back to its start and end.
        self.head = nn.Conv1d(config.channels, 3 * len(config.words), 1)
        self.pooling = POOLINGS[config.pooling](config.pool_frames)
        # Words are rare: begin near "no"
        nn.init.constant_(bias_of(self.head)[: len(config.words)], -3.0)
        self.phone_head = (
            nn.Conv1d(config.channels, len(config.phones), 1) if config.phones else None
        )

    @property
    def state_shapes(self) -> list[tuple[int, int]]:
        """(channels, length) of each layer's share of the state, in order."""
        c = self.config
        front = [(1, c.window_samples - c.hop_samples), (c.mels, c.stem_kernel - c.stride)]
        bands = (
            [(self.bands.outputs, layer.context_frames) for layer in self.bands.residual]
            if self.bands
            else []
        )
        return [
            *front,
            *bands,
            *((c.channels, k - 1) for k in c.kernels),
            (len(c.words), c.pool_frames - 1),
        ]

    def forward(
        self, audio: Tensor, state: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Output, Tensor]:
        """Scores of new audio, and the state after it.

        audio [B, N]: with a state, N is a multiple of `frame_samples` and F = N / frame_samples.
        Without one nothing is known of the past: frame f ends at sample `config.clip_frame_samples`
        + f · `frame_samples`. state [B, S]: from the call before, or `initial_state`. mask
        [B, mels, hops]: 0 where training hides the normalised log-mel energies, else 1.
        """
        streaming_state = StreamingState(None if state is None else self._unpack(state))
        x = self.logmel(
            streaming_state.extend(audio.unsqueeze(1), self.state_shapes[0][1]).squeeze(1)
        )
        x = self.input_norm(x)
        with torch.autocast(
            x.device.type,
            torch.bfloat16,
            enabled=self.training and x.device.type in self.mixed_precision,
        ):
            x = x if mask is None else x * mask
            x = F.relu(
                self.stem(self.bands(x, streaming_state) if self.bands else x, streaming_state)
            )
            for block in self.blocks:
                x = block(x, streaming_state)
        words, x = len(self.config.words), x.float()
        logits, boundaries = self.head(x).split([words, 2 * words], dim=1)
        phones = self.phone_head(x) if self.phone_head else x[:, :0]
        logits = streaming_state.extend(logits, self.config.pool_frames - 1)
        pooled = self.pooling(F.logsigmoid(logits))
        frames = pooled.shape[-1]
        output = Output(
            logits[..., -frames:],
            pooled,
            boundaries.unflatten(1, (words, 2))[..., -frames:],
            phones[..., -frames:],
        )
        return output, torch.cat([part.flatten(1) for part in streaming_state.next], dim=1)

    def _unpack(self, state: Tensor) -> list[Tensor]:
        shapes = self.state_shapes
        parts = state.split([channels * length for channels, length in shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]

    @torch.no_grad()
    def initial_state(self, batch: int = 1) -> Tensor:
        """State [B, S] after endless digital silence: what stands before the beginning of
        every stream."""
        zeros = torch.zeros(1, self.config.clip_frame_samples, device=self.head.weight.device)
        training = self.training
        state = self.eval()(zeros)[1]
        self.train(training)
        return state.repeat(batch, 1)


def fold_batch_norms(network: ScanningCNN) -> ScanningCNN:
    """A copy with each batch norm folded into the convolution beside it, where it can be: same
    scores in eval mode, fewer operations."""
    folded = ScanningCNN(network.config)
    folded.load_state_dict(network.state_dict())
    folded.eval()
    for module in folded.modules():
        if isinstance(module, Convolution):
            scale, shift = batch_norm_affine(module.norm)
            _set_weights(module, module.conv.weight * scale[:, None, None], shift)
    if folded.bands:  # whose kernels are the same for all bands, while each has norms of its own
        return folded
    scale, shift = batch_norm_affine(folded.input_norm)
    conv = folded.stem.conv
    bias = bias_of(conv) + (conv.weight * shift[None, :, None]).sum((1, 2))
    _set_weights(folded.stem, conv.weight * scale[None, :, None], bias)
    folded.add_module("input_norm", nn.Identity())  # in its place
    return folded


def batch_norm_affine(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """What a batch norm multiplies by, and adds [C], outside training."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale.detach(), (norm.bias - norm.running_mean * scale).detach()


def _set_weights(module: Convolution, weight: Tensor, bias: Tensor) -> None:
    module.conv.weight = nn.Parameter(weight.detach())
    module.conv.bias = nn.Parameter(bias.detach())
    module.add_module("norm", nn.Identity())  # in its place
