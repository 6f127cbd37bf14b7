"""The scanning network: one path for files and streams.

    samples ─► log-mel ─► input norm ─► stem (stride 2) ─► residual separable blocks
        ─► 1×1 head ─► p[t, word] ─► pooling

The stem is a convolution over time of all bands, or begins with convolutions over time and
frequency (`kws.training.model.conv2d_stem`).

Every layer is a convolution over time without padding. What it needs of the past comes in as state
and goes out again. Without a state a layer gives fewer frames than it gets ("valid"); clips are
trained so. Therefore

    forward(whole)  ==  forward(first part), forward(second part, state), …
        for every way to cut the audio.

The whole state is one flat tensor [B, S]: easy to keep, to batch and to hand to another runtime.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.training.model.config import SIZES, NetworkConfig
from kws.training.model.conv2d_stem import BandConvolution, Conv2dStem
from kws.training.model.frontend import LogMel
from kws.training.model.layers import (
    Affine,
    BatchNorm,
    Block,
    Convolution,
    Layers,
    TimeConv,
    bias_of,
)
from kws.training.model.pooling import POOLINGS
from kws.training.model.streaming_state import Context, StreamingState, state_size

__all__ = ["SIZES", "NetworkConfig", "Output", "ScanningCNN", "Scores", "fold_batch_norms"]


class Scores(NamedTuple):
    """What a model file gives: probabilities `pooled` and `frames` [B, F, W], boundaries
    [B, F, W, 2] in seconds, log probabilities of the phones [B, F, P]."""

    pooled: Tensor
    frames: Tensor
    boundaries: Tensor
    phones: Tensor


class Output(NamedTuple):
    """Frame logits [B, W, F], pooled log scores [B, W, F], boundaries [B, W, 2, F] in seconds (see
    `kws.runtime.postprocess.Scores`), phone logits [B, P, F]; P is 0 without a phone head."""

    logits: Tensor
    pooled: Tensor
    boundaries: Tensor
    phones: Tensor

    def frames_first(self) -> Scores:
        return Scores(
            pooled=self.pooled.exp().mT,
            frames=self.logits.sigmoid().mT,
            boundaries=self.boundaries.permute(0, 3, 1, 2),
            phones=self.phones.log_softmax(1).mT,
        )


class ScanningCNN(nn.Module):
    """The network. Shapes: B streams, N samples, W words, F frames."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        # Devices on which training runs the blocks in bfloat16, and nothing else.
        self.mixed_precision: tuple[str, ...] = ()
        self.logmel = LogMel(config)
        self.input_norm = BatchNorm(config.mels)
        self.bands: Conv2dStem | None = None
        if config.band_channels:
            self.bands = Conv2dStem(
                config.mels, config.band_channels, config.stem_kernel, config.stride
            )
            self.stem = Convolution(self.bands.outputs, config.channels, 1)
        else:
            self.stem = Convolution(
                config.mels, config.channels, config.stem_kernel, stride=config.stride
            )
        self.blocks: Layers[Block] = Layers(
            Block(config.channels, kernel) for kernel in config.kernels
        )
        # For each word: logit, seconds back to its start and to its end.
        words = len(config.words)
        self.head = TimeConv(config.channels, 3 * words, 1)
        nn.init.constant_(bias_of(self.head)[:words], -3.0)  # words are rare: begin near "no"
        self.pooling_context = Context(words, config.pool_frames - 1)
        self.pooling = POOLINGS[config.pooling](config.pool_frames)
        self.phone_head = (
            TimeConv(config.channels, len(config.phones), 1) if config.phones else None
        )

    @property
    def state_size(self) -> int:
        """S of the state [B, S]."""
        return state_size(self)

    def forward(
        self, audio: Tensor, state: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Output, Tensor]:
        """Scores of new audio [B, N], and the state after it.

        state [B, S]: from the call before, or `initial_state`; then N is a multiple of
        `frame_samples` and F = N / frame_samples. Without a state nothing is known of the past:
        frame f ends at sample `config.clip_frame_samples` + f · `frame_samples`.
        mask [B, mels, hops]: 0 where training hides the normalised log-mel energies, else 1.

        Raises ValueError for a chunk that is no multiple of `frame_samples`, as the samples after
        the last frame would be lost, and for a clip too short for a score.
        """
        self._check_length(audio.shape[1], is_clip=state is None)
        streaming_state = StreamingState(self, state)
        x = self._features(audio, streaming_state, mask)
        logits, boundaries = self._heads(x)
        phones = self.phone_head(x).squeeze(2) if self.phone_head else logits[:, :0]
        pooled = self.pooling(F.logsigmoid(self.pooling_context(logits, streaming_state)))
        # Without a past the first frames have no pooled score.
        first = logits.shape[-1] - pooled.shape[-1]
        output = Output(
            logits=logits[..., first:],
            pooled=pooled,
            boundaries=boundaries[..., first:],
            phones=phones[..., first:],
        )
        return output, streaming_state.pack()

    def _check_length(self, samples: int, *, is_clip: bool) -> None:
        config = self.config
        if is_clip and samples < config.clip_frame_samples:
            raise ValueError(
                f"a clip has {samples} samples, fewer than the {config.clip_frame_samples} "
                "that a score needs"
            )
        if not is_clip and samples % config.frame_samples:
            raise ValueError(
                f"a chunk has {samples} samples, which is no multiple of {config.frame_samples}"
            )

    def _features(self, audio: Tensor, state: StreamingState, mask: Tensor | None) -> Tensor:
        """What the heads get [B, C, 1, F']."""
        x = self.input_norm(self.logmel(audio, state).unsqueeze(2))
        device = x.device.type
        mixed_precision = self.training and device in self.mixed_precision
        with torch.autocast(device, torch.bfloat16, enabled=mixed_precision):
            if mask is not None:
                x = x * mask.unsqueeze(2)
            if self.bands:
                x = self.bands(x, state)
            x = F.relu(self.stem(x, state))
            for block in self.blocks:
                x = block(x, state)
        return x.float()

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, W, F'] and boundaries [B, W, 2, F']."""
        words = len(self.config.words)
        logits, boundaries = self.head(x).squeeze(2).split([words, 2 * words], dim=1)
        return logits, boundaries.unflatten(1, (words, 2))

    @torch.no_grad()
    def initial_state(self, batch: int = 1) -> Tensor:
        """State [B, S] after endless digital silence: the past of every stream that begins."""
        zeros = torch.zeros(1, self.config.clip_frame_samples, device=self.head.weight.device)
        training = self.training
        _, state = self.eval()(zeros)
        self.train(training)
        return state.repeat(batch, 1)


def fold_batch_norms(network: ScanningCNN) -> ScanningCNN:
    """A copy in eval mode without batch norms: same scores, fewer operations. They are folded into
    convolutions, or are a scale and a shift where bands share a kernel."""
    folded = ScanningCNN(network.config)
    folded.load_state_dict(network.state_dict())
    folded.eval()
    for module in folded.modules():
        if isinstance(module, Convolution):
            scale, shift = module.norm.scale_and_shift()
            _set_weights(module.conv, module.conv.weight * scale[:, None, None], shift)
            module.add_module("norm", nn.Identity())  # in its place
        elif isinstance(module, BandConvolution):
            module.add_module("norm", Affine(module.norm, module.output_bands))
    if folded.bands:
        folded.add_module("input_norm", Affine(folded.input_norm, bands=1))
        return folded
    scale, shift = folded.input_norm.scale_and_shift()
    conv = folded.stem.conv
    bias = bias_of(conv) + (conv.weight * shift[None, :, None]).sum((1, 2))
    _set_weights(conv, conv.weight * scale[None, :, None], bias)
    folded.add_module("input_norm", nn.Identity())
    return folded


def _set_weights(conv: nn.Conv1d, weight: Tensor, bias: Tensor) -> None:
    conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
