"""What a score costs, counted from the architecture: one convolutional pass against a window
classifier slid along the recording.

Both give the same scores. The pass works out each layer's frames once; a slid window works all of
its own out anew for every score, though it shares most of them with the window before. The ratio of
the two is the number of frames a window holds, layer by layer.

Counted are the multiplications of convolutions and matrix products. Batch norms are folded away,
and what is done element by element (squares, logarithms, the pooling) is under one percent.
"""

from dataclasses import dataclass

from kws.audio.recordings import SAMPLE_RATE
from kws.training.model.conv2d_stem import BandConvolution, Bands
from kws.training.model.network import LogMel, NetworkConfig


@dataclass(frozen=True)
class Layer:
    """Multiplications for one of the layer's own frames; how many such frames a new score and a
    whole window need."""

    name: str
    multiplications: int
    frames_per_score: int
    frames_per_window: int


@dataclass(frozen=True)
class Multiplications:
    """Multiplications per second of audio, at the network's own rate of scores."""

    one_pass: float
    slid_window: float

    @property
    def ratio(self) -> float:
        return self.slid_window / self.one_pass


def multiplications_per_second(config: NetworkConfig) -> Multiplications:
    """What `config` costs in one pass, and as a window of `clip_frame_samples` classified anew for
    every score."""
    scores = SAMPLE_RATE / config.frame_samples
    one_pass = sum(layer.multiplications * layer.frames_per_score for layer in layers(config))
    window = sum(layer.multiplications * layer.frames_per_window for layer in layers(config))
    return Multiplications(one_pass * scores, window * scores)


def layers(config: NetworkConfig) -> list[Layer]:
    """The layers from the scores back to the samples; on the way back each convolution needs kernel
    - 1 more frames."""
    frames, channels = config.pool_frames, config.channels
    found = [Layer("head", channels * 3 * len(config.words), 1, frames)]
    for kernel in reversed(config.kernels):
        found.append(Layer(f"block, kernel {kernel}", channels * (channels + kernel), 1, frames))
        frames += kernel - 1
    if config.band_channels:
        bands = Bands(config.mels, config.band_channels, config.stem_kernel, config.stride)
        found.append(Layer("stem", channels * bands.outputs, 1, frames))
        for layer in reversed(list(bands.residual)):
            found.append(Layer("bands", _of_bands(layer), 1, frames))
            frames += layer.context_frames
        found += [Layer("bands", _of_bands(layer), 1, frames) for layer in bands.downsampling]
    else:
        found.append(Layer("stem", channels * config.mels * config.stem_kernel, 1, frames))
    hops = (frames - 1) * config.stride + config.stem_kernel
    return [*found, Layer("log-mel", _log_mel(config), config.stride, hops)]


def _of_bands(layer: BandConvolution) -> int:
    return layer.conv.weight.numel() * layer.output_bands


def _log_mel(config: NetworkConfig) -> int:
    front = LogMel(config)
    return front.cosine.numel() + front.sine.numel() + front.mel.numel()
