"""The one stateful step: `scores, state = step(audio, state)`.

Audio is any number of new samples; the state is all that is still needed of the past. Scores come
out one frame at a time, so samples that do not fill a frame yet wait in the state. A file, a
microphone and a whole archive go through this same function.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple, Protocol

import numpy as np

from kws.errors import ModelError, install_hint
from kws.runtime.model_file import ModelInfo, find_model, open_session, open_verifier
from kws.runtime.verifier import Verifier, VerifierState


@dataclass(frozen=True)
class EngineState:
    """`pending_samples` [B, n]: samples short of a frame; `network_state` [B, S]: the network's own state;
    `verifier_state`: what a reader needs, where there is one."""

    pending_samples: np.ndarray
    network_state: np.ndarray
    verifier_state: VerifierState | None = None


class StepOutput(NamedTuple):
    """Probabilities `pooled` and `frames` [B, F, W]; `boundaries` [B, F, W, 2] in seconds (see
    `kws.runtime.postprocess.Scores`); log p of the `phones` [B, F, L] of a model that reads, too (else L is 0).
    """

    pooled: np.ndarray
    frames: np.ndarray
    boundaries: np.ndarray
    phones: np.ndarray


class Engine(Protocol):
    """What runs a model: `initial_state` makes the state before any stream, `step` goes on from
    a state."""

    @property
    def info(self) -> ModelInfo: ...

    def initial_state(self, batch: int = 1) -> EngineState: ...

    def step(self, audio: np.ndarray, state: EngineState) -> tuple[StepOutput, EngineState]: ...


NetworkRunner = Callable[[np.ndarray, np.ndarray], tuple[StepOutput, np.ndarray]]


def make_initial_state(network_state: np.ndarray, verifier: Verifier | None) -> EngineState:
    """The state before any sample, of streams whose network has this memory [B, S] of silence."""
    verifier_state = None if verifier is None else verifier.initial_state(len(network_state))
    return EngineState(np.zeros((len(network_state), 0), np.float32), network_state, verifier_state)


def advance(
    run: NetworkRunner,
    info: ModelInfo,
    verifier: Verifier | None,
    audio: np.ndarray,
    state: EngineState,
) -> tuple[StepOutput, EngineState]:
    """One step of any engine: `run(audio, memory)` makes scores of whole frames, what is short of a
    frame waits in the state."""
    if state.pending_samples.shape[1]:
        audio = np.concatenate([state.pending_samples, audio], axis=1)
    ready_samples = audio.shape[1] - audio.shape[1] % info.frame_samples
    if not ready_samples:
        return _empty_step(len(audio), info), replace(state, pending_samples=audio.copy())
    step, network_state = run(audio[:, :ready_samples], state.network_state)
    pending_samples = audio[
        :, ready_samples:
    ].copy()  # whoever brought the audio may use its memory again
    if verifier is None:
        return step, EngineState(pending_samples, network_state)
    assert state.verifier_state is not None, "this state was made without the model's reader"
    pooled, boundaries, verifier_state = verifier.rescore(
        step.pooled, step.boundaries, audio[:, :ready_samples], state.verifier_state
    )
    return step._replace(pooled=pooled, boundaries=boundaries), EngineState(
        pending_samples, network_state, verifier_state
    )


def _empty_step(batch: int, info: ModelInfo) -> StepOutput:
    words, phones = len(info.words), len(info.phones)
    return StepOutput(
        *(
            np.zeros((batch, 0, *shape), np.float32)
            for shape in ((words,), (words,), (words, 2), (phones,))
        )
    )


class PicklableEngine:
    """An engine that is copied or pickled. It holds nothing of any stream, so a copy is the engine
    itself; what is pickled is how to open it again."""

    def _make_spec(self) -> "EngineSpec":
        raise NotImplementedError

    def __copy__(self) -> "PicklableEngine":
        return self

    def __deepcopy__(self, _: dict) -> "PicklableEngine":
        return self

    def __reduce__(self) -> tuple:
        return LazyEngine, tuple(self._make_spec())


class EngineSpec(NamedTuple):
    """How to open an engine again: `open` it, where its model file still has this `checksum`."""

    open: Callable[[], Engine]
    checksum: int


class LazyEngine(PicklableEngine):
    """An engine that was pickled elsewhere. It is opened when it is first used: a pool of processes
    would wait for ever where unpickling fails, but hands on what its work raises.

    Everything raises ModelError where the model file is gone, or another one by now.
    """

    def __init__(self, open_engine: Callable[[], Engine], checksum: int):
        self._spec = EngineSpec(open_engine, checksum)

    def _make_spec(self) -> EngineSpec:
        return self._spec

    @cached_property
    def _engine(self) -> Engine:
        engine = self._spec.open()
        if engine.info.checksum != self._spec.checksum:
            raise ModelError(
                f"{engine.info.path}: this model has changed since it was loaded by whoever sent "
                "it. Load it there again."
            )
        return engine

    @property
    def info(self) -> ModelInfo:
        return self._engine.info

    def initial_state(self, batch: int = 1) -> EngineState:
        return self._engine.initial_state(batch)

    def step(self, audio: np.ndarray, state: EngineState) -> tuple[StepOutput, EngineState]:
        return self._engine.step(audio, state)


class OnnxEngine(PicklableEngine):
    """Runs a model file with ONNX Runtime on one CPU thread; with `without_verifier`, as if there were no
    reader in it."""

    def __init__(self, model: str = "welcome", *, without_verifier: bool = False):
        self._session, self.info = open_session(find_model(model))
        self._verifier = None if without_verifier else open_verifier(self._session, self.info)
        self._outputs = [
            "new_state",
            "pooled",
            "frames",
            "boundaries",
            *(["phones"] if self.info.phones else []),
        ]

    def _make_spec(self) -> EngineSpec:
        return EngineSpec(
            partial(
                OnnxEngine, str(self.info.path.absolute()), without_verifier=self._verifier is None
            ),
            self.info.checksum,
        )

    def initial_state(self, batch: int = 1) -> EngineState:
        """State of `batch` streams before their first sample: endless digital silence."""
        # The network forgets after `context_samples`, so silence of that length leaves the same state
        # whatever was there before.
        frames = -(-self.info.context_samples // self.info.frame_samples)
        silent_audio = np.zeros((1, frames * self.info.frame_samples), np.float32)
        network_state = self._run_network(
            silent_audio, np.zeros((1, self.info.state_size), np.float32)
        )[1]
        return make_initial_state(np.repeat(network_state, batch, axis=0), self._verifier)

    def step(self, audio: np.ndarray, state: EngineState) -> tuple[StepOutput, EngineState]:
        """Scores of new samples.

        audio [B, n]: float32, 16 kHz, any n. Returns the F frames these samples complete (F may be
        0), and the new state.
        """
        return advance(self._run_network, self.info, self._verifier, audio, state)

    def _run_network(
        self, audio: np.ndarray, network_state: np.ndarray
    ) -> tuple[StepOutput, np.ndarray]:
        network_state, *scores = self._session.run(
            self._outputs, {"audio": audio, "state": network_state}
        )
        return StepOutput(
            *scores, *([] if self.info.phones else [scores[0][..., :0]])
        ), network_state


def load(model: str = "welcome", device: str = "cpu") -> Engine:
    """An engine for a model name or path. On a device other than "cpu" torch runs the checkpoint
    beside the model file."""
    if device == "cpu":
        return OnnxEngine(model)
    try:
        from kws.training.model.torch_engine import TorchEngine
    except ModuleNotFoundError as error:
        raise ModelError(f"device '{device}' needs torch. {install_hint('train')}") from error
    return TorchEngine(model, device)
