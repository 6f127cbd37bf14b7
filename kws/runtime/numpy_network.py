"""The network in numpy: what runs where the kernel cannot be loaded, and what its tests compare it
with.

All layers are written as in `docs/explanation/network.md`, over arrays [B, T, channels]. It takes
about twenty times as long as the kernel.
"""

from collections.abc import Callable, Mapping
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


class NumpyNetwork:
    """One network of a model file.

    tensors: those of the network, as float32, without `network.` or `verifier.` before their names.
    Its state is a list of arrays [B, T, ...]: the rows that each layer still needs of the past.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self.tensors = tensors
        self.sizes = dict(zip(SIZES, tensors["sizes"].tolist(), strict=True))
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
        """Log score of windows [B, F, W, n] of log probabilities (explanation/network has the
        formulas)."""
        frames, q = log_y.shape[-1], self.exponent
        if self.pooling == "none":
            return log_y[..., -1]
        if self.pooling == "max":
            return _as_array(log_y.max(axis=-1))
        if self.pooling == "power":
            return _as_array(_log_sum(log_y, q + 1) - _log_sum(log_y, q))
        return _as_array((_log_sum(log_y, q) - np.log(frames)) / q)


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
