"""The network in numpy: what runs where the kernel cannot be loaded, and what its tests compare it
with.

All layers are written as in `docs/reference/model-file.md`, over arrays [B, T, channels]. It takes
ten to twenty times as long as the kernel.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SIZES = (
    "hop_samples",
    "window_samples",
    "mels",
    "stride",
    "stem_kernel",
    "channels",
    "blocks",
    "words",
    "pool_frames",
    "pooling",
    "phones",
    "band_channels",
    "residuals",
)
Extend = Callable[[np.ndarray], np.ndarray]  # rows with those of the past in front
POOLINGS = ("max", "mean", "gem", "power", "none")
ANY = -1  # length, in a shape


def read_sizes(tensor: np.ndarray) -> dict[str, int]:
    """The sizes of a network by name, from its tensor `sizes`. Raises ValueError for sizes of no
    network."""
    if tensor.shape != (len(SIZES),) or tensor.dtype != np.int32:
        raise ValueError("no sizes of a network")
    sizes: dict[str, int] = dict(zip(SIZES, tensor.tolist(), strict=True))
    is_possible = (
        min(sizes.values()) >= 0
        and 1 <= sizes["hop_samples"] <= sizes["window_samples"]
        and 1 <= sizes["stride"] < sizes["stem_kernel"]
        and sizes["words"] + sizes["phones"] >= 1
        and 2 <= sizes["pool_frames"] <= 64
        and sizes["pooling"] < len(POOLINGS)
    )
    if not is_possible:
        raise ValueError("sizes of no network")
    return sizes


def _check_tensors(tensors: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
    """Raises LookupError for a tensor that is missing, ValueError for one of another shape than the
    sizes say, or with a weight that is no finite number."""
    for name, shape in _tensor_shapes(sizes):
        tensor = tensors[name]
        fits = len(shape) == tensor.ndim and all(
            wanted in (actual, ANY) for wanted, actual in zip(shape, tensor.shape, strict=True)
        )
        is_sound = tensor.dtype == np.float32 and tensor.size and np.isfinite(tensor).all()
        if not (fits and is_sound):
            raise ValueError(f"tensor {name} does not fit")
    if tensors["scalars"].min() <= 0:  # the floor of energies and the exponent of pooling
        raise ValueError("tensor scalars does not fit")


def _tensor_shapes(sizes: Mapping[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each tensor of floats; ANY for the length of a filter over time."""
    s, channels, bands = sizes, sizes["channels"], sizes["mels"]
    yield "scalars", (2,)
    yield "frontend.window", (s["window_samples"],)
    yield "frontend.mel", (s["window_samples"] // 2 + 1, s["mels"])
    stem_shape = (channels, s["mels"], s["stem_kernel"])
    if width := s["band_channels"]:
        yield from (("input.scale", (bands,)), ("input.shift", (bands,)))
        for i in range(2 + s["residuals"]):
            kernel = ((1, 5, s["stem_kernel"]), (width, 3, 1))[i] if i < 2 else (width, 3, 3)
            bands = -(-bands // 2) if i < 2 else bands
            yield f"bands.{i}.weight", (width, *kernel)
            yield from ((f"bands.{i}.{part}", (width, bands)) for part in ("scale", "shift"))
        stem_shape = (channels, width * bands, 1)
    yield from (("stem.weight", stem_shape), ("stem.bias", (channels,)))
    for i in range(s["blocks"]):
        for layer, inputs in (("depthwise", ANY), ("pointwise", channels)):
            yield f"blocks.{i}.{layer}.weight", (channels, inputs)
            yield f"blocks.{i}.{layer}.bias", (channels,)
    for head, outputs in (("head", 3 * s["words"]), ("phones", s["phones"])):
        if outputs:
            yield from ((f"{head}.weight", (outputs, channels)), (f"{head}.bias", (outputs,)))


class NumpyNetwork:
    """One network of a model file.

    tensors: those of the network, as float32, without `network.` or `verifier.` before their names.
    Its state is a list of arrays [B, T, ...]: the rows that each layer still needs of the past.
    Raises LookupError for a tensor that is missing, ValueError for one that does not fit.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self.tensors = tensors
        self.sizes = read_sizes(tensors["sizes"])
        _check_tensors(tensors, self.sizes)
        self.log_floor, self.exponent = tensors["scalars"].tolist()
        self.pooling = POOLINGS[self.sizes["pooling"]]

    @property
    def frame_samples(self) -> int:
        return int(self.sizes["hop_samples"] * self.sizes["stride"])

    @property
    def receptive_field_frames(self) -> int:
        """Frames of audio that a frame depends on, pooling not counted."""
        s = self.sizes
        kernels = [
            self.tensors[f"blocks.{i}.depthwise.weight"].shape[1] for i in range(s["blocks"])
        ]
        frames = sum(kernels) - len(kernels)
        if s["band_channels"]:
            frames += 2 * s["residuals"]
        hops = s["stem_kernel"] - 1 + s["stride"] * frames
        samples: int = s["window_samples"] + hops * s["hop_samples"]
        return -(-samples // self.frame_samples)

    def empty_state(self, batch: int) -> list[np.ndarray]:
        """Nothing is known of the past: all zeros."""
        s = self.sizes
        shapes: list[tuple[int, ...]] = [(s["window_samples"] - s["hop_samples"],)]
        shapes.append((s["stem_kernel"] - s["stride"], s["mels"]))
        for i in range(s["residuals"] if s["band_channels"] else 0):
            weight = self.tensors[f"bands.{2 + i}.weight"]
            bands = self.tensors[f"bands.{2 + i}.scale"].shape[1]
            shapes.append((weight.shape[3] - 1, weight.shape[1], bands))
        for i in range(s["blocks"]):
            shapes.append(
                (self.tensors[f"blocks.{i}.depthwise.weight"].shape[1] - 1, s["channels"])
            )
        if s["words"]:
            shapes.append((s["pool_frames"] - 1, s["words"]))
        return [np.zeros((batch, *shape), np.float32) for shape in shapes]

    def run(
        self, audio: np.ndarray, state: list[np.ndarray]
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Outputs of the F frames in audio [B, F · frame_samples], and the new state.

        `pooled`, `frames` [B, F, W]; `boundaries` [B, F, W, 2]; `phones` [B, F, L]: those that the
        network has.
        """
        past, new = iter(state), []

        def extend(x: np.ndarray) -> np.ndarray:
            before = next(past)
            x = np.concatenate([before, x], axis=1)
            new.append(x[:, x.shape[1] - before.shape[1] :])
            return x

        s, t = self.sizes, self.tensors
        x = self._log_mel(extend(audio))
        x = self._bands(x, extend) if s["band_channels"] else self._stem(extend(x))
        for i in range(s["blocks"]):
            rows = extend(x)
            weight = t[f"blocks.{i}.depthwise.weight"]
            windows = sliding_window_view(rows, weight.shape[1], axis=1)  # [B, F, C, K]
            y = np.einsum("bfck,ck->bfc", windows, weight) + t[f"blocks.{i}.depthwise.bias"]
            y = np.maximum(y, 0) @ t[f"blocks.{i}.pointwise.weight"].T
            x = np.maximum(x + y + t[f"blocks.{i}.pointwise.bias"], 0)
        outputs = {}
        if s["phones"]:
            outputs["phones"] = _log_softmax(x @ t["phones.weight"].T + t["phones.bias"])
        if s["words"]:
            outputs |= self._scores(x @ t["head.weight"].T + t["head.bias"], extend)
        return outputs, new

    def _log_mel(self, audio: np.ndarray) -> np.ndarray:
        s = self.sizes
        windows = sliding_window_view(audio, s["window_samples"], axis=1)[:, :: s["hop_samples"]]
        spectrum = np.fft.rfft(windows * self.tensors["frontend.window"])
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        return _as_array(np.log(power @ self.tensors["frontend.mel"] + np.float32(self.log_floor)))

    def _stem(self, rows: np.ndarray) -> np.ndarray:
        weight = self.tensors["stem.weight"]  # [C, mels, K]
        windows = sliding_window_view(rows, weight.shape[2], axis=1)[:, :: self.sizes["stride"]]
        x = np.tensordot(windows, weight, axes=([2, 3], [1, 2])) + self.tensors["stem.bias"]
        return _as_array(np.maximum(x, 0))

    def _bands(self, mels: np.ndarray, extend: Extend) -> np.ndarray:
        """Rows [B, F, channels] of the stem, from log-mel energies [B, T, mels]."""
        x = (mels * self.tensors["input.scale"] + self.tensors["input.shift"])[:, :, None]
        rows = extend(x[:, :, 0])[:, :, None]
        x = np.maximum(self._band_layer(0, rows, band_stride=2, stride=self.sizes["stride"]), 0)
        x = np.maximum(self._band_layer(1, x, band_stride=2), 0)
        for i in range(2, 2 + self.sizes["residuals"]):
            x = np.maximum(self._band_layer(i, extend(x)) + x, 0)
        weight = self.tensors["stem.weight"][..., 0]
        return _as_array(
            np.maximum(x.reshape(*x.shape[:2], -1) @ weight.T + self.tensors["stem.bias"], 0)
        )

    def _band_layer(
        self, number: int, x: np.ndarray, band_stride: int = 1, stride: int = 1
    ) -> np.ndarray:
        """A convolution over bands and frames: [B, T, I, bands] to [B, F, O, bands]."""
        weight = self.tensors[f"bands.{number}.weight"]  # [O, I, band kernel, kernel]
        margin = weight.shape[2] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (margin, margin)))
        windows = sliding_window_view(padded, weight.shape[3:1:-1], axis=(1, 3))
        windows = windows[:, ::stride, :, ::band_stride]  # [B, F, I, bands, kernel, band kernel]
        y = np.tensordot(windows, weight, axes=([2, 4, 5], [1, 3, 2])).swapaxes(2, 3)
        scale, shift = (self.tensors[f"bands.{number}.{name}"] for name in ("scale", "shift"))
        scaled: np.ndarray = y * scale + shift
        return scaled

    def _scores(self, head: np.ndarray, extend: Extend) -> dict[str, np.ndarray]:
        words = self.sizes["words"]
        logits, boundaries = head[..., :words], head[..., words:]
        log_p = extend(-np.logaddexp(0, -logits))
        windows = sliding_window_view(log_p, self.sizes["pool_frames"], axis=1)  # [B, F, W, n]
        return {
            "pooled": np.exp(self._pool(windows)),
            "frames": np.exp(log_p[:, -logits.shape[1] :]),
            "boundaries": boundaries.reshape(*boundaries.shape[:2], words, 2),
        }

    def _pool(self, log_y: np.ndarray) -> np.ndarray:
        """Log score of windows [B, F, W, n] of log probabilities (reference/model-file has the
        formulas)."""
        frames, q = log_y.shape[-1], self.exponent
        if self.pooling == "none":
            return log_y[..., -1]
        if self.pooling == "max":
            return _as_array(log_y.max(axis=-1))
        if self.pooling == "power":
            return _as_array(_log_sum(log_y, q + 1) - _log_sum(log_y, q))
        return _as_array((_log_sum(log_y, q) - math.log(frames)) / q)


def _as_array(x: Any) -> np.ndarray:
    """An array under its type, which NumPy's functions do not always tell."""
    return np.asarray(x)


def _log_sum(log_y: np.ndarray, factor: float) -> np.ndarray:
    """log of the sum of y ** factor over the last axis."""
    most = log_y.max(axis=-1, keepdims=True)
    total: np.ndarray = np.log(np.exp(factor * (log_y - most)).sum(axis=-1)) + factor * most[..., 0]
    return total


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=-1, keepdims=True)
    return _as_array(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))
