"""Streams whose networks run in Python: with NumPy where the kernel cannot be loaded, with torch on
a GPU. They give what the kernel gives, and are what its tests compare it with."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kws.audio.formats import to_float32
from kws.audio.recordings import find_invalid_samples
from kws.errors import ModelError
from kws.runtime.model_file import ModelInfo
from kws.runtime.output import StepOutput, concatenate_outputs
from kws.runtime.verifier import Verifier, VerifierState

_BLOCK_FRAMES = 500


class Network(Protocol):
    """Runs the scanning network of a model file over whole frames of B streams."""

    def empty_state(self, batch: int) -> Any:
        """A state that knows nothing of the past."""
        ...

    def run(self, audio: np.ndarray, state: Any) -> tuple[dict[str, np.ndarray], Any]:
        """Outputs [B, F, ...] for audio [B, F · frame_samples], and the new state: `pooled`,
        `frames`, `boundaries`, and `phones` of a network that has them."""
        ...


@dataclass
class _State:
    """pending_samples [n]: samples short of a frame. verifier: None without a verifier."""

    pending_samples: np.ndarray
    network: Any
    verifier: VerifierState | None


class PythonModel:
    """A model file run by a `Network`. Raises ModelError where its network cannot be run."""

    def __init__(self, network: Network, info: ModelInfo, verifier: Verifier | None):
        self.network, self.info, self.verifier = network, info, verifier
        try:
            self._silence = self._hear_silence()
        except (LookupError, TypeError, ValueError) as error:
            raise ModelError(
                f"{info.path}: its network is damaged. Copy or train it again."
            ) from error

    def _hear_silence(self) -> Any:
        """The network's state after endless digital silence. It forgets after `context_samples`, so
        silence of that length leaves the same state whatever came before."""
        frames = -(-self.info.context_samples // self.info.frame_samples)
        silence = np.zeros((1, frames * self.info.frame_samples), np.float32)
        return self.network.run(silence, self.network.empty_state(1))[1]

    def open_stream(self, gates: Sequence[float] | None = None) -> "PythonStream":
        verifier = self.verifier.initial_state(gates) if self.verifier else None
        return self.restore_stream(_State(np.zeros(0, np.float32), self._silence, verifier))

    def restore_stream(self, saved: _State) -> "PythonStream":
        """The stream that `PythonStream.save` saved. Raises ModelError where the kernel did."""
        if not isinstance(saved, _State):
            raise ModelError(
                "this stream was saved by the kernel, which is missing here. Start a new one."
            )
        return PythonStream(self, saved)

    def step_many(
        self, streams: Sequence["PythonStream"], samples: Sequence[np.ndarray]
    ) -> list[StepOutput]:
        """See `kws.runtime.engine.Engine.step_many`."""
        return [stream.step(new) for stream, new in zip(streams, samples, strict=True)]


class PythonStream:
    """One stream. Each step replaces the parts of its state, so a copy needs no copy of them."""

    def __init__(self, model: PythonModel, state: _State):
        self._model, self._state = model, state

    def step(self, samples: np.ndarray) -> StepOutput:
        """See `kws.runtime.engine.EngineStream.step`."""
        samples, invalid_samples = _replace_invalid(to_float32(samples))
        frame_samples = self._model.info.frame_samples
        audio = np.concatenate([self._state.pending_samples, samples])
        whole = len(audio) - len(audio) % frame_samples
        self._state.pending_samples = audio[whole:]
        # In blocks, for a step takes memory in proportion to its audio.
        block_samples = _BLOCK_FRAMES * frame_samples
        outputs = [
            self._run(audio[at : min(at + block_samples, whole)])
            for at in range(0, whole, block_samples)
        ]
        output = concatenate_outputs(outputs or [_no_output(self._model.info)])
        return output._replace(invalid_samples=invalid_samples)

    def _run(self, audio: np.ndarray) -> StepOutput:
        """The output for whole frames."""
        model, state = self._model, self._state
        outputs, state.network = model.network.run(audio[None], state.network)
        pooled, boundaries = outputs["pooled"][0], outputs["boundaries"][0]
        if model.verifier:
            assert state.verifier, "this state was made without the verifier"
            pooled, boundaries, state.verifier = model.verifier.rescore(
                pooled, boundaries, audio, state.verifier
            )
        phones = outputs["phones"][0] if model.info.phones else pooled[:, :0]
        return StepOutput(pooled, outputs["frames"][0], boundaries, phones)

    def save(self) -> _State:
        return copy(self._state)

    def __copy__(self) -> "PythonStream":
        return PythonStream(self._model, copy(self._state))


def _replace_invalid(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """The samples with zeros for those that are not finite or far beyond full scale, and the number
    of these."""
    invalid = find_invalid_samples(samples)
    if invalid is None:
        return samples, 0
    return np.where(invalid, np.float32(0), samples), int(invalid.sum())


def _no_output(info: ModelInfo) -> StepOutput:
    words = len(info.words)
    return StepOutput(
        pooled=np.zeros((0, words), np.float32),
        frames=np.zeros((0, words), np.float32),
        boundaries=np.zeros((0, words, 2), np.float32),
        phones=np.zeros((0, len(info.phones)), np.float32),
    )
