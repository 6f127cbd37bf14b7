"""The engine: one stateful step, `output, new_state = engine.step(audio, state)`.

    audio ──► pending samples ──► network ──► scores, boundaries ──► verifier ──► output
              (short of a frame)     ▲ │                               ▲ │
                                     └─┘ network state                 └─┘ verifier state

Audio is any number of new samples. The state holds all that later steps need of the past, so an
engine serves any number of streams. Files, microphones and whole archives use this one function.

A network runs with ONNX Runtime (`OnnxNetwork`, on the CPU) or with torch
(`kws.training.model.torch_engine.TorchNetwork`, on any device).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from kws.errors import ModelError, install_hint
from kws.runtime.model_file import ModelFile, ModelInfo, find_model, read_model
from kws.runtime.verifier import Verifier, VerifierState


class StepOutput(NamedTuple):
    """What a step gives for F new frames of B streams, W words and P phones.

    pooled, frames: probabilities [B, F, W]. boundaries: seconds [B, F, W, 2] from the end of each
    frame back to the word's start and end (see `kws.runtime.postprocess.Scores`). phones: log
    probabilities [B, F, P]; P is 0 for a model without phone outputs.
    """

    pooled: np.ndarray
    frames: np.ndarray
    boundaries: np.ndarray
    phones: np.ndarray


class Network(Protocol):
    """Runs the scanning network of a model file over whole frames."""

    def initial_state(self, batch: int) -> np.ndarray:
        """State [B, S] after endless digital silence."""
        ...

    def run(self, audio: np.ndarray, state: np.ndarray) -> tuple[StepOutput, np.ndarray]:
        """Output for audio [B, F · frame_samples], and the new state [B, S]."""
        ...


@dataclass(frozen=True)
class EngineState:
    """The past of B streams. `pending_samples` [B, n]: samples short of a frame; `network_state`
    [B, S]; `verifier_state`: None without a verifier."""

    pending_samples: np.ndarray
    network_state: np.ndarray
    verifier_state: VerifierState | None = None


class Engine:
    """A model that runs. `Engine.load` opens one.

    An engine holds nothing of any stream, so a copy is the engine itself. A pickled engine is the
    path of its model file. It is opened again at its first use, not when it is unpickled: a pool of
    processes waits for ever where unpickling fails, but passes on what its work raises. There
    ModelError is raised where the file is gone or has changed.
    """

    def __init__(
        self, path: Path, device: str = "cpu", *, verifier: bool = True, checksum: int | None = None
    ):
        self._path, self._device, self._with_verifier = path, device, verifier
        self._checksum = checksum

    @classmethod
    def load(
        cls, model: str | Path = "welcome", device: str = "cpu", *, verifier: bool = True
    ) -> "Engine":
        """The engine of a model name or path. On a device other than "cpu" torch runs the
        checkpoint beside the model file. verifier: whether to use the verifier, if the model has
        one.

        Raises ModelError for a model that is missing or damaged, and for a device that is not
        available.
        """
        engine = cls(find_model(model), device, verifier=verifier)
        _ = engine._model
        return engine

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    @property
    def verifier(self) -> Verifier | None:
        return self._model.verifier

    def initial_state(self, batch: int = 1) -> EngineState:
        """State of `batch` streams before their first sample: endless digital silence."""
        return EngineState(
            pending_samples=np.zeros((batch, 0), np.float32),
            network_state=self._model.network.initial_state(batch),
            verifier_state=self.verifier.initial_state(batch) if self.verifier else None,
        )

    def step(self, audio: np.ndarray, state: EngineState) -> tuple[StepOutput, EngineState]:
        """Output of the F frames that new samples complete (F may be 0), and the new state.

        audio [B, n]: float32 in ±1, 16 kHz, any n.
        """
        if state.pending_samples.shape[1]:
            audio = np.concatenate([state.pending_samples, audio], axis=1)
        samples = audio.shape[1] - audio.shape[1] % self.info.frame_samples
        whole_frames = audio[:, :samples]
        pending_samples = audio[:, samples:].copy()  # the caller may reuse the memory of `audio`
        if not samples:
            return self._empty_output(len(audio)), replace(state, pending_samples=pending_samples)
        output, network_state = self._model.network.run(whole_frames, state.network_state)
        if self.verifier is None:
            return output, EngineState(pending_samples, network_state)
        assert state.verifier_state, "this state was made by an engine without the verifier"
        pooled, boundaries, verifier_state = self.verifier.rescore(
            output.pooled, output.boundaries, whole_frames, state.verifier_state
        )
        return (
            output._replace(pooled=pooled, boundaries=boundaries),
            EngineState(pending_samples, network_state, verifier_state),
        )

    def _empty_output(self, batch: int) -> StepOutput:
        words, phones = len(self.info.words), len(self.info.phones)
        return StepOutput(
            pooled=np.zeros((batch, 0, words), np.float32),
            frames=np.zeros((batch, 0, words), np.float32),
            boundaries=np.zeros((batch, 0, words, 2), np.float32),
            phones=np.zeros((batch, 0, phones), np.float32),
        )

    @cached_property
    def _model(self) -> "_LoadedModel":
        model_file = read_model(find_model(self._path))
        info = model_file.info
        if self._checksum not in (None, info.checksum):
            raise ModelError(
                f"{info.path}: this model has changed since it was loaded by the process that sent "
                "it. Load it there again."
            )
        verifier = None
        if self._with_verifier and model_file.verifier:
            verifier = Verifier(model_file.verifier, info.frame_samples)
        return _LoadedModel(info, _open_network(model_file, self._device), verifier)

    def __copy__(self) -> "Engine":
        return self

    def __deepcopy__(self, _: dict[int, object]) -> "Engine":
        return self

    def __getstate__(self) -> dict[str, object]:
        state = {name: value for name, value in vars(self).items() if name != "_model"}
        checksum = self._checksum if self._checksum is not None else self.info.checksum
        return {**state, "_path": self._path.absolute(), "_checksum": checksum}


@dataclass(frozen=True)
class _LoadedModel:
    info: ModelInfo
    network: Network
    verifier: Verifier | None


class OnnxNetwork:
    """Runs the graph of a model file with ONNX Runtime."""

    def __init__(self, model_file: ModelFile):
        self._session, self._info = model_file.session, model_file.info

    def initial_state(self, batch: int) -> np.ndarray:
        # The network forgets after `context_samples`, so silence of that length leaves the same
        # state whatever came before.
        frame_samples = self._info.frame_samples
        frames = -(-self._info.context_samples // frame_samples)
        silence = np.zeros((1, frames * frame_samples), np.float32)
        _, state = self.run(silence, np.zeros((1, self._info.state_size), np.float32))
        return np.repeat(state, batch, axis=0)

    def run(self, audio: np.ndarray, state: np.ndarray) -> tuple[StepOutput, np.ndarray]:
        names = ["pooled", "frames", "boundaries", "new_state"]
        if self._info.phones:
            names.append("phones")
        pooled, frames, boundaries, new_state, *phones = self._session.run(
            names, {"audio": audio, "state": state}
        )
        no_phones = pooled[..., :0]
        return StepOutput(pooled, frames, boundaries, *(phones or [no_phones])), new_state


def _open_network(model_file: ModelFile, device: str) -> Network:
    if device == "cpu":
        return OnnxNetwork(model_file)
    try:
        from kws.training.model.torch_engine import TorchNetwork
    except ModuleNotFoundError as error:
        raise ModelError(f"device '{device}' needs torch. {install_hint('train')}") from error
    return TorchNetwork(model_file.info, device)
