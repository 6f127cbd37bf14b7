"""The tensors of a network in a model file, under the names that the kernel (`native/`) looks
for."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from kws.runtime.numpy_network import POOLINGS, SIZES
from kws.runtime.verifier import Fusion
from kws.training.model.layers import Affine, bias_of
from kws.training.model.network import ScanningCNN, fold_batch_norms
from kws.training.model.pooling import GeMPooling, Pooling, PowerPooling


def network_tensors(network: ScanningCNN) -> dict[str, np.ndarray]:
    """The tensors of a scanning network, batch norms folded."""
    folded = fold_batch_norms(network)
    tensors = {f"network.{name}": tensor for name, tensor in _shared_tensors(folded, words=True)}
    head = folded.head
    tensors["network.head.weight"] = _array(head.weight)[..., 0]
    tensors["network.head.bias"] = _array(bias_of(head))
    if folded.phone_head:
        tensors["network.phones.weight"] = _array(folded.phone_head.weight)[..., 0]
        tensors["network.phones.bias"] = _array(bias_of(folded.phone_head))
    return tensors


def verifier_tensors(
    recognizer: ScanningCNN,
    pronunciations: Sequence[Sequence[Sequence[int]]],
    fusion: Fusion,
) -> dict[str, np.ndarray]:
    """The tensors of a verifier. recognizer: a network whose words are the phones. pronunciations:
    of each word of the scanning network, as indices of phones."""
    folded = fold_batch_norms(recognizer)
    phones = len(folded.config.words)
    tensors = {f"verifier.{name}": tensor for name, tensor in _shared_tensors(folded, words=False)}
    tensors["verifier.phones.weight"] = _array(folded.head.weight)[:phones, :, 0]
    tensors["verifier.phones.bias"] = _array(bias_of(folded.head))[:phones]
    every = [each for word in pronunciations for each in word]
    tensors["verifier.first_pronunciation"] = _starts(map(len, pronunciations))
    tensors["verifier.first_phone"] = _starts(map(len, every))
    tensors["verifier.phone_numbers"] = np.array([p for each in every for p in each], np.int32)
    fusion_values = (fusion.scale, fusion.ceiling, fusion.floor)
    tensors["verifier.fusion"] = np.array(fusion_values, np.float32)
    return tensors


def _shared_tensors(network: ScanningCNN, *, words: bool) -> Iterator[tuple[str, np.ndarray]]:
    """All but the heads, which are those of words or of phones."""
    c = network.config
    sizes: Mapping[str, int] = {
        "hop_samples": c.hop_samples,
        "window_samples": c.window_samples,
        "mels": c.mels,
        "stride": c.stride,
        "stem_kernel": c.stem_kernel,
        "channels": c.channels,
        "blocks": len(c.kernels),
        "words": len(c.words) if words else 0,
        "pool_frames": c.pool_frames,
        "pooling": POOLINGS.index(c.pooling.removesuffix("-fixed")),
        "phones": len(c.phones) if words else len(c.words),
        "band_channels": c.band_channels,
        "residuals": len(network.bands.residual) if network.bands else 0,
    }
    yield "sizes", np.array([sizes[name] for name in SIZES], np.int32)
    yield "scalars", np.array([c.log_floor, _exponent(network.pooling)], np.float32)
    yield "frontend.window", _array(network.logmel.window)
    yield "frontend.mel", _array(network.logmel.mel_real_imaginary)[::2]
    if network.bands:
        assert isinstance(network.input_norm, Affine)
        yield "input.scale", _array(network.input_norm.scale).ravel()
        yield "input.shift", _array(network.input_norm.shift).ravel()
        for i, layer in enumerate([*network.bands.downsampling, *network.bands.residual]):
            assert isinstance(layer.norm, Affine)
            yield f"bands.{i}.weight", _array(layer.conv.weight)
            yield f"bands.{i}.scale", _array(layer.norm.scale)[..., 0]
            yield f"bands.{i}.shift", _array(layer.norm.shift)[..., 0]
    yield "stem.weight", _array(network.stem.conv.weight)
    yield "stem.bias", _array(bias_of(network.stem.conv))
    for i, block in enumerate(network.blocks):
        yield f"blocks.{i}.depthwise.weight", _array(block.depthwise.conv.weight)[:, 0]
        yield f"blocks.{i}.depthwise.bias", _array(bias_of(block.depthwise.conv))
        yield f"blocks.{i}.pointwise.weight", _array(block.pointwise.conv.weight)[..., 0]
        yield f"blocks.{i}.pointwise.bias", _array(bias_of(block.pointwise.conv))


def _exponent(pooling: Pooling) -> float:
    """q of GeM pooling, n of power pooling; 1, which is the mean, without either."""
    if isinstance(pooling, GeMPooling):
        return float(pooling.q.detach())
    return float(pooling.n.detach()) if isinstance(pooling, PowerPooling) else 1.0


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().to(torch.float32).contiguous().numpy()
    return array


def _starts(counts: Iterator[int]) -> np.ndarray:
    return np.array([0, *accumulate(counts)], np.int32)
