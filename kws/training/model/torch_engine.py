"""The same stateful step, run by torch from the checkpoint beside a model file: for a GPU, or to
look inside."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from kws.errors import ModelError
from kws.runtime.engine import (
    EngineSpec,
    EngineState,
    PicklableEngine,
    StepOutput,
    advance,
    make_initial_state,
)
from kws.runtime.model_file import find_model, open_session, open_verifier
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig, ScanningCNN, fold_batch_norms


class TorchEngine(PicklableEngine):
    """An engine (see `kws.runtime.engine.Engine`) on any torch device."""

    def __init__(self, model: str, device: str):
        path = find_model(model)
        session, self.info = open_session(path)
        self._verifier = open_verifier(session, self.info)  # on the CPU: it is asked seldom
        self.device = pick_device(device)
        network = load_network(path.with_suffix(".pt"))
        if (network.config.words, network.initial_state().shape[1]) != (
            self.info.words,
            self.info.state_size,
        ):
            raise ModelError(
                f"{path.with_suffix('.pt')}: is the checkpoint of another model than {path.name}. "
                "Keep what belongs together."
            )
        self._network = fold_batch_norms(network).to(self.device)

    def _make_spec(self) -> EngineSpec:
        return EngineSpec(
            partial(TorchEngine, str(self.info.path.absolute()), str(self.device)),
            self.info.checksum,
        )

    def initial_state(self, batch: int = 1) -> EngineState:
        return make_initial_state(self._network.initial_state(batch).cpu().numpy(), self._verifier)

    def step(self, audio: np.ndarray, state: EngineState) -> tuple[StepOutput, EngineState]:
        return advance(self._run_network, self.info, self._verifier, audio, state)

    @torch.inference_mode()
    def _run_network(
        self, audio: np.ndarray, network_state: np.ndarray
    ) -> tuple[StepOutput, np.ndarray]:
        output, new_network_state = self._network(
            *(torch.from_numpy(part).to(self.device) for part in (audio, network_state))
        )
        phones = output.phones.log_softmax(1).mT
        scores = (
            output.pooled.exp().mT,
            output.logits.sigmoid().mT,
            output.boundaries.permute(0, 3, 1, 2),
            phones,
        )
        return StepOutput(*(part.cpu().numpy() for part in scores)), new_network_state.cpu().numpy()


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
