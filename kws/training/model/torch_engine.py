"""The same stateful step, run by torch from the checkpoint beside a model file: for a GPU, or to
look inside."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from kws.errors import ModelError
from kws.runtime.engine import Opening, Portable, State, Step, advance, begin
from kws.runtime.model_file import find, open_reader, open_session
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig, ScanningCNN, fold


class TorchEngine(Portable):
    """An engine (see `kws.runtime.engine.Engine`) on any torch device."""

    def __init__(self, model: str, device: str):
        path = find(model)
        session, self.info = open_session(path)
        self._reader = open_reader(session, self.info)  # on the CPU: it is asked seldom
        self.device = pick_device(device)
        network = load_network(path.with_suffix(".pt"))
        if (network.config.words, network.silence().shape[1]) != (
            self.info.words,
            self.info.state_size,
        ):
            raise ModelError(
                f"{path.with_suffix('.pt')}: is the checkpoint of another model than {path.name}. "
                "Keep what belongs together."
            )
        self._network = fold(network).to(self.device)

    def _opening(self) -> Opening:
        return Opening(
            partial(TorchEngine, str(self.info.path.absolute()), str(self.device)),
            self.info.checksum,
        )

    def silence(self, batch: int = 1) -> State:
        return begin(self._network.silence(batch).cpu().numpy(), self._reader)

    def step(self, audio: np.ndarray, state: State) -> tuple[Step, State]:
        return advance(self._run, self.info, self._reader, audio, state)

    @torch.inference_mode()
    def _run(self, audio: np.ndarray, memory: np.ndarray) -> tuple[Step, np.ndarray]:
        output, new_memory = self._network(
            *(torch.from_numpy(part).to(self.device) for part in (audio, memory))
        )
        letters = output.letters.log_softmax(1).mT
        scores = (
            output.pooled.exp().mT,
            output.logits.sigmoid().mT,
            output.extents.permute(0, 3, 1, 2),
            letters,
        )
        return Step(*(part.cpu().numpy() for part in scores)), new_memory.cpu().numpy()


def load_network(path: Path) -> ScanningCNN:
    """The averaged network of a checkpoint, in eval mode. Raises ModelError."""
    saved = checkpoint.load(path)
    try:
        network = ScanningCNN(NetworkConfig.from_dict(saved["config"]))
        network.load_state_dict(saved["average"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{path}: the checkpoint holds no network of this kind.") from error
    return network.eval()


def pick_device(name: str) -> torch.device:
    """ "auto" takes a GPU where there is one. Raises ModelError for a device this machine lacks."""
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if has[device])
    if not has.get(name):
        usable = ", ".join(device for device, there in has.items() if there)
        raise ModelError(f"device '{name}' is not available here. Use one of: {usable}.")
    return torch.device(name)
