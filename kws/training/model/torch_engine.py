"""The scanning network run by torch, from the checkpoint beside a model file: on a GPU, or to look
inside."""

from pathlib import Path

import numpy as np
import torch

from kws.errors import ModelError
from kws.runtime.engine import StepOutput
from kws.runtime.model_file import ModelInfo
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig, ScanningCNN, fold_batch_norms


class TorchNetwork:
    """A network for `kws.runtime.engine.Engine`. device: "auto", "cpu", "cuda" or "mps".

    Raises ModelError where the checkpoint is missing or belongs to another model, or the device is
    not available.
    """

    def __init__(self, info: ModelInfo, device: str):
        self._device = pick_device(device)
        path = info.path.with_suffix(".pt")
        network = load_network(path)
        state_size = network.initial_state().shape[1]
        if (network.config.words, state_size) != (info.words, info.state_size):
            raise ModelError(
                f"{path}: is the checkpoint of another model than {info.path.name}. "
                "Keep what belongs together."
            )
        self._network = fold_batch_norms(network).to(self._device)

    def initial_state(self, batch: int) -> np.ndarray:
        return self._network.initial_state(batch).cpu().numpy()

    @torch.inference_mode()
    def run(self, audio: np.ndarray, state: np.ndarray) -> tuple[StepOutput, np.ndarray]:
        output, new_state = self._network(
            torch.from_numpy(audio).to(self._device), torch.from_numpy(state).to(self._device)
        )
        step = StepOutput(*(scores.cpu().numpy() for scores in output.frames_first()))
        return step, new_state.cpu().numpy()


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
