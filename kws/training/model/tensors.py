"""The tensors of a network in a model file, under the names that the kernel (`native/`) looks for:
from a network of torch, and back to one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kws.runtime.numpy_network import POOLINGS, SIZES
from kws.runtime.verifier import Fusion
from kws.training.model.config import NetworkConfig
from kws.training.model.conv2d_stem import RESIDUAL_BLOCKS
from kws.training.model.network import ScanningCNN, fold_batch_norms
from kws.training.model.pooling import POOLINGS as POOLING_LAYERS
from kws.training.model.pooling import GeMPooling, Pooling, PowerPooling

_MAX_SIZE = 512  # the kernel allows no larger one
_SIZES_OF_CONFIG = tuple(
    name for name in SIZES if name not in ("words", "phones", "blocks", "pooling", "residuals")
)


def network_tensors(network: ScanningCNN) -> dict[str, np.ndarray]:
    """The tensors of a scanning network, batch norms folded."""
    words, phones = len(network.config.words), len(network.config.phones)
    tensors = _tensors(network, words=words, phones=phones)
    return {f"network.{name}": tensor for name, tensor in tensors.items()}


def verifier_tensors(
    recognizer: ScanningCNN,
    pronunciations: Sequence[Sequence[Sequence[int]]],
    fusion: Fusion,
) -> dict[str, np.ndarray]:
    """The tensors of a verifier. recognizer: a network whose words are the phones. pronunciations:
    of each word of the scanning network, as indices of phones."""
    phones = len(recognizer.config.words)
    every = [each for word in pronunciations for each in word]
    tensors = _tensors(recognizer, words=0, phones=phones)
    for part in ("weight", "bias"):
        tensors[f"phones.{part}"] = tensors.pop(f"head.{part}")[:phones]
    tensors |= {
        "first_pronunciation": _starts(map(len, pronunciations)),
        "first_phone": _starts(map(len, every)),
        "phone_numbers": np.array([phone for each in every for phone in each], np.int32),
        "fusion": np.array((fusion.scale, fusion.ceiling, fusion.floor), np.float32),
    }
    return {f"verifier.{name}": tensor for name, tensor in tensors.items()}


def network_from_tensors(tensors: Mapping[str, np.ndarray]) -> ScanningCNN:
    """The network that these tensors describe, without batch norms and in eval mode.

    tensors: of one network, as float32, without `network.` or `verifier.` before their names. The
    words of the network are numbers. Those of a verifier's are its phones.

    Raises LookupError or ValueError for tensors of no network that torch runs.
    """
    config = _read_config(tensors)
    if "head.weight" not in tensors:
        tensors = _phones_as_words(tensors)
    pooling = _make_pooling(config, float(tensors["scalars"][1]))
    with torch.random.fork_rng(devices=[]):
        network = fold_batch_norms(ScanningCNN(config))
    network.logmel.set_filters(tensors["frontend.window"], tensors["frontend.mel"])
    network.pooling = pooling
    weights = {f"pooling.{name}": tensor for name, tensor in pooling.state_dict().items()}
    weights |= {place.weight: place.write(tensors) for place in _places(config)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError("tensors have other shapes than the sizes say") from error
    return network.eval()


class _Place(NamedTuple):
    """A tensor of the file, and the weight of the network without batch norms that it holds. axes:
    those of the weight, all of length 1, that the tensor lacks."""

    name: str
    weight: str
    axes: tuple[int, ...] = ()

    def read(self, weights: Mapping[str, Tensor]) -> np.ndarray:
        """The tensor of the file."""
        return np.squeeze(_array(weights[self.weight]), self.axes)

    def write(self, tensors: Mapping[str, np.ndarray]) -> Tensor:
        """The weight of the network."""
        return torch.tensor(np.expand_dims(tensors[self.name], self.axes))


def _places(config: NetworkConfig) -> Iterator[_Place]:
    if config.band_channels:
        for part in ("scale", "shift"):
            yield _Place(f"input.{part}", f"input_norm.{part}", (1, 2))
        layers = ["downsampling.0", "downsampling.1"]
        layers += [f"residual.{i}" for i in range(RESIDUAL_BLOCKS)]
        for i, layer in enumerate(layers):
            yield _Place(f"bands.{i}.weight", f"bands.{layer}.conv.weight")
            for part in ("scale", "shift"):
                yield _Place(f"bands.{i}.{part}", f"bands.{layer}.norm.{part}", (2,))
    for part in ("weight", "bias"):
        yield _Place(f"stem.{part}", f"stem.conv.{part}")
    for i in range(len(config.kernels)):
        for layer, axis in (("depthwise", 1), ("pointwise", 2)):
            name = f"blocks.{i}.{layer}"
            yield _Place(f"{name}.weight", f"{name}.conv.weight", (axis,))
            yield _Place(f"{name}.bias", f"{name}.conv.bias")
    yield _Place("head.weight", "head.weight", (2,))
    yield _Place("head.bias", "head.bias")
    if config.phones:
        yield _Place("phones.weight", "phone_head.weight", (2,))
        yield _Place("phones.bias", "phone_head.bias")


def _tensors(network: ScanningCNN, *, words: int, phones: int) -> dict[str, np.ndarray]:
    """All tensors of a network, batch norms folded. words, phones: how many the file says."""
    folded, config = fold_batch_norms(network), network.config
    sizes = {
        **{name: getattr(config, name) for name in _SIZES_OF_CONFIG},
        "words": words,
        "phones": phones,
        "blocks": len(config.kernels),
        "pooling": POOLINGS.index(config.pooling.removesuffix("-fixed")),
        "residuals": RESIDUAL_BLOCKS if config.band_channels else 0,
    }
    weights = folded.state_dict()
    return {
        "sizes": np.array([sizes[name] for name in SIZES], np.int32),
        "scalars": np.array([config.log_floor, _exponent(folded.pooling)], np.float32),
        "frontend.window": _array(folded.logmel.window),
        "frontend.mel": _array(folded.logmel.mel_real_imaginary)[::2],
        **{place.name: place.read(weights) for place in _places(config)},
    }


def _read_config(tensors: Mapping[str, np.ndarray]) -> NetworkConfig:
    """The architecture by the sizes. Raises LookupError or ValueError."""
    sizes = dict(zip(SIZES, tensors["sizes"].tolist(), strict=True))
    expected_shape = (sizes["window_samples"] // 2 + 1, sizes["mels"])
    if not (
        all(0 <= size <= _MAX_SIZE for size in sizes.values())
        and min(sizes[name] for name in ("hop_samples", "stride", "channels", "mels")) > 0
        and sizes["hop_samples"] <= sizes["window_samples"] == len(tensors["frontend.window"])
        and tensors["frontend.mel"].shape == expected_shape
        and sizes["residuals"] == (RESIDUAL_BLOCKS if sizes["band_channels"] else 0)
    ):
        raise ValueError("the sizes are not those of a network that torch runs")
    words, phones = sizes["words"], sizes["phones"]
    return NetworkConfig(
        words=tuple(map(str, range(words or phones))),
        phones="".join(map(chr, range(phones))) if words else "",
        kernels=tuple(
            tensors[f"blocks.{i}.depthwise.weight"].shape[1] for i in range(sizes["blocks"])
        ),
        pooling=POOLINGS[sizes["pooling"]],
        log_floor=float(tensors["scalars"][0]),
        **{name: sizes[name] for name in _SIZES_OF_CONFIG},
    )


def _phones_as_words(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a recognizer with a head of words without boundaries."""
    weight, bias = tensors["phones.weight"], tensors["phones.bias"]
    return {
        **tensors,
        "head.weight": np.pad(weight, ((0, 2 * len(weight)), (0, 0))),
        "head.bias": np.pad(bias, (0, 2 * len(bias))),
    }


def _make_pooling(config: NetworkConfig, exponent: float) -> Pooling:
    kind = POOLING_LAYERS[config.pooling]
    if issubclass(kind, (GeMPooling, PowerPooling)):
        return kind(config.pool_frames, exponent)
    return kind(config.pool_frames)


def _exponent(pooling: Pooling) -> float:
    """q of GeM pooling, n of power pooling; 1, which is the mean, without either."""
    if isinstance(pooling, GeMPooling):
        return float(pooling.q.detach())
    return float(pooling.n.detach()) if isinstance(pooling, PowerPooling) else 1.0


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().to(torch.float32).contiguous().numpy()
    return array


def _starts(counts: Iterable[int]) -> np.ndarray:
    return np.array([0, *accumulate(counts)], np.int32)
