"""Small networks with random weights and random batch norms, as training might have left them, and
their model files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from kws.runtime.postprocess import EventSettings
from kws.training.fit.model_card import describe_network
from kws.training.model.export import export
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.pretrained import VerifierSpec

SMALL = {"mels": 12, "channels": 12, "kernels": (3, 5), "pool_frames": 4}
BANDS = {"band_channels": 3}  # a stem over time and frequency
WITH_PHONES = {"phones": "_abc"}


def make_config(words: int = 1, **changes: object) -> NetworkConfig:
    return NetworkConfig(tuple(f"word{i}" for i in range(words)), **{**SMALL, **changes})


def make_network(words: int = 1, *, seed: int = 0, **changes: object) -> ScanningCNN:
    """A network in eval mode whose every number is random; on `make_audio` its scores spread from
    nearly 0 to nearly 1."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ScanningCNN(make_config(words, **changes))
        for norm in network.modules():
            if isinstance(norm, torch.nn.BatchNorm1d):
                norm.running_mean.uniform_(-0.5, 0.5)
                norm.running_var.uniform_(0.05, 0.3)
                torch.nn.init.uniform_(norm.weight, 0.6, 1.6)
                torch.nn.init.uniform_(norm.bias, -0.3, 0.3)
        network.input_norm.running_mean.uniform_(-9, -5)  # where log mel energies lie
        network.input_norm.running_var.uniform_(5, 20)
    network.eval()
    _spread_scores(network)
    return network


@torch.no_grad()
def _spread_scores(network: ScanningCNN) -> None:
    """Scales the head so that logits lie at -1 ± 2, boundaries at 0.3 ± 0.1 s."""
    output, _ = network(torch.from_numpy(make_audio(8.0, seed=99)))
    words, head = len(network.config.words), network.head
    channels = torch.cat([output.logits[0], output.boundaries[0].flatten(0, 1)])
    deviation, mean = (
        torch.tensor([2.0] * words + [0.1] * 2 * words),
        torch.tensor([-1.0] * words + [0.3] * 2 * words),
    )
    scale = deviation / channels.std(1)
    head.weight *= scale[:, None, None]
    head.bias.copy_((head.bias - channels.mean(1)) * scale + mean)


def make_audio(seconds: float = 1.0, *, batch: int = 1, seed: int = 0) -> np.ndarray:
    """Noise [batch, n] whose level changes every 50 ms, as speech does; a fifth of it is
    digital silence."""
    rng = np.random.default_rng(seed)
    level = 10 ** rng.uniform(-3, 0, (batch, int(np.ceil(seconds * 20))))
    level[rng.random(level.shape) < 0.2] = 0
    audio = 0.3 * rng.standard_normal((batch, level.shape[1] * 800)) * level.repeat(800, axis=1)
    return audio[:, : round(seconds * 16_000)].astype(np.float32)


def make_document(network: ScanningCNN, threshold: float = 0.5) -> dict:
    return describe_network(network, EventSettings((threshold,) * len(network.config.words)))


def make_verifier(
    pronunciations: Mapping[str, Sequence[str]], phones: str = "_abn", **changes: object
) -> VerifierSpec:
    """A verifier with a recognizer of random weights. changes: to the recognizer's network."""
    network = make_network(len(phones), seed=7, **changes)
    network.config = replace(network.config, words=tuple(phones))
    return VerifierSpec(network, pronunciations)


def make_model(
    folder: Path,
    network: ScanningCNN,
    name: str = "model",
    *,
    verifier: VerifierSpec | None = None,
    threshold: float = 0.5,
) -> Path:
    path = folder / f"{name}.kws"
    export(network, make_document(network, threshold), path, verifier)
    return path
