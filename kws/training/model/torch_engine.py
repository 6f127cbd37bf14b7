"""The scanning network of a model file run by torch: on a GPU, or to look inside."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kws.errors import ModelError
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.tensors import network_from_tensors


class TorchNetwork:
    """A `kws.runtime.python_stream.Network`. tensors: see `network_from_tensors`. device: "auto",
    "cpu", "cuda" or "mps".

    Raises ModelError where the device is not available, LookupError or ValueError for tensors of no
    network that torch runs.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], device: str):
        self._device = pick_device(device)
        self._network = network_from_tensors(tensors).to(self._device)

    def empty_state(self, batch: int) -> Tensor:
        return self._network.initial_state(batch)

    @torch.inference_mode()
    def run(self, audio: np.ndarray, state: Tensor) -> tuple[dict[str, np.ndarray], Tensor]:
        output, new_state = self._network(torch.from_numpy(audio).to(self._device), state)
        scores = output.frames_first()._asdict()
        return {name: tensor.cpu().numpy() for name, tensor in scores.items()}, new_state


def load_network(path: Path) -> ScanningCNN:
    """The averaged network of a checkpoint, in eval mode. Raises ModelError."""
    saved = checkpoint.load(path)
    try:
        network = ScanningCNN(NetworkConfig.from_dict(saved["network_config"]))
        network.load_state_dict(saved["ema_network"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{path}: the checkpoint holds no network of this kind.") from error
    return network.eval()


def pick_device(name: str) -> torch.device:
    """ "auto" takes a GPU where there is one. Raises ModelError for a device this machine lacks."""
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available.get(name):
        usable = ", ".join(device for device, is_available in available.items() if is_available)
        raise ModelError(f"device '{name}' is not available here. Use one of: {usable}.")
    return torch.device(name)
