"""The engine: a model file that runs, and the streams that it serves.

    engine = Engine.load("welcome")
    stream = engine.open_stream()
    output = stream.step(samples)  # any number of new samples

A stream holds all that later steps need of the past: the samples short of a frame, the state of
the network and that of the verifier. Files, microphones and whole archives use this one step.

On the CPU the kernel runs (`kws.runtime.kernel`), or NumPy where its library is missing. On any
other device torch runs.
"""

import logging
from collections.abc import Sequence
from copy import copy
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kws.errors import ModelError, install_hint
from kws.runtime.kernel import KernelModel, load_library
from kws.runtime.model_file import ModelFile, ModelInfo, find_model, read_model
from kws.runtime.output import StepOutput
from kws.runtime.python_stream import Network, PythonModel

logger = logging.getLogger("kws")


class Runner(Protocol):
    """What runs a model file: `KernelModel` or `PythonModel`. A stream has `step`, can be copied,
    and `save` gives its state as it is pickled."""

    def open_stream(self, gates: Sequence[float] | None = None) -> Any: ...

    def restore_stream(self, saved: Any) -> Any: ...

    def step_many(
        self, streams: Sequence[Any], samples: Sequence[np.ndarray]
    ) -> list[StepOutput]: ...


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
        """The engine of a model name or path. verifier: whether to use the verifier, if the model
        has one.

        Raises ModelError for a model that is missing or damaged, and for a device that is not
        available.
        """
        engine = cls(find_model(model), device, verifier=verifier)
        _ = engine.runner
        return engine

    @property
    def info(self) -> ModelInfo:
        return self._model_file.info

    def open_stream(self, gates: Sequence[float] | None = None) -> "EngineStream":
        """A stream before its first sample, after endless digital silence.

        gates: for each word the score from which it is verified; GATE_SCORE by default.
        """
        return EngineStream(self, gates)

    def step_many(
        self, streams: Sequence["EngineStream"], samples: Sequence[np.ndarray]
    ) -> list[StepOutput]:
        """The output of each of several streams of this engine, stepped on one thread.

        samples: new samples [n] of each stream, all float32 or all int16.
        """
        return self.runner.step_many([stream.runner_stream for stream in streams], samples)

    @cached_property
    def runner(self) -> Runner:
        """What runs the model file."""
        return open_runner(self._model_file, self._device, verifier=self._with_verifier)

    @cached_property
    def _model_file(self) -> ModelFile:
        model_file = read_model(find_model(self._path))
        if self._checksum not in (None, model_file.info.checksum):
            raise ModelError(
                f"{model_file.info.path}: this model has changed since it was loaded by the "
                "process that sent it. Load it there again."
            )
        return model_file

    def __copy__(self) -> "Engine":
        return self

    def __deepcopy__(self, _: dict[int, object]) -> "Engine":
        return self

    def __getstate__(self) -> dict[str, object]:
        opened = ("runner", "_model_file")
        state = {name: value for name, value in vars(self).items() if name not in opened}
        checksum = self._checksum if self._checksum is not None else self.info.checksum
        return {**state, "_path": self._path.absolute(), "_checksum": checksum}


class EngineStream:
    """One stream of an engine. It can be copied and pickled, and goes on where it was."""

    def __init__(self, engine: Engine, gates: Sequence[float] | None):
        self._engine, self._gates = engine, gates
        self._saved: object = None  # a state from before the stream was pickled
        _ = self.runner_stream

    def step(self, samples: np.ndarray) -> StepOutput:
        """Output of the F frames that new samples complete; F may be 0.

        samples [n]: 16 kHz mono, float32 in ±1 or int16, any n.
        """
        output: StepOutput = self.runner_stream.step(samples)
        return output

    @cached_property
    def runner_stream(self) -> Any:
        """The stream of the engine's runner."""
        runner = self._engine.runner
        if self._saved is None:
            return runner.open_stream(self._gates)
        return runner.restore_stream(self._saved)

    def __copy__(self) -> "EngineStream":
        twin = object.__new__(EngineStream)
        vars(twin).update({**vars(self), "runner_stream": copy(self.runner_stream)})
        return twin

    def __getstate__(self) -> dict[str, object]:
        return {"_engine": self._engine, "_gates": None, "_saved": self.runner_stream.save()}


def open_runner(model_file: ModelFile, device: str = "cpu", *, verifier: bool = True) -> Runner:
    """What runs a model file on a device. verifier: whether to use the verifier, if it has one.
    Raises ModelError."""
    if device == "cpu" and _has_kernel():
        return KernelModel(model_file.data, model_file.info.path, verifier=verifier)
    network = _open_network(model_file, device)
    return PythonModel(network, model_file.info, model_file.make_verifier() if verifier else None)


def _has_kernel() -> bool:
    """Whether the kernel's library can be loaded; a warning tells once where it cannot."""
    try:
        load_library()
    except OSError as error:
        _tell_fallback(str(error))
        return False
    return True


@cache
def _tell_fallback(reason: str) -> None:
    logger.warning(
        f"the kernel cannot be loaded ({reason}). NumPy runs the network: the scores are the same, "
        "and take ten to twenty times as long."
    )


def _open_network(model_file: ModelFile, device: str) -> Network:
    network = model_file.make_network()
    if device == "cpu":
        return network
    try:
        from kws.training.model.torch_engine import TorchNetwork
    except ModuleNotFoundError as error:
        raise ModelError(f"device '{device}' needs torch. {install_hint('train')}") from error
    try:
        return TorchNetwork(network.tensors, device)
    except ValueError as error:
        raise ModelError(f"{model_file.info.path}: torch cannot run it: {error}.") from error
