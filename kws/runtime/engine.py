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
from kws.runtime.model_file import ModelInfo, find, open_reader, open_session
from kws.runtime.verifier import Heard, Reader


@dataclass(frozen=True)
class State:
    """`waiting` [B, n]: samples short of a frame; `memory` [B, S]: the network's own state;
    `heard`: what a reader needs, where there is one."""

    waiting: np.ndarray
    memory: np.ndarray
    heard: Heard | None = None


class Step(NamedTuple):
    """Probabilities `pooled` and `frames` [B, F, W]; `extents` [B, F, W, 2] in seconds (see
    `kws.runtime.postprocess.Scores`); log p of the `letters` [B, F, L] of a model that reads, too (else L is 0).
    """

    pooled: np.ndarray
    frames: np.ndarray
    extents: np.ndarray
    letters: np.ndarray


class Engine(Protocol):
    """What runs a model: `silence` makes the state before any stream, `step` goes on from
    a state."""

    @property
    def info(self) -> ModelInfo: ...

    def silence(self, batch: int = 1) -> State: ...

    def step(self, audio: np.ndarray, state: State) -> tuple[Step, State]: ...


Run = Callable[[np.ndarray, np.ndarray], tuple[Step, np.ndarray]]


def begin(memory: np.ndarray, reader: Reader | None) -> State:
    """The state before any sample, of streams whose network has this memory [B, S] of silence."""
    heard = None if reader is None else reader.silence(len(memory))
    return State(np.zeros((len(memory), 0), np.float32), memory, heard)


def advance(
    run: Run, info: ModelInfo, reader: Reader | None, audio: np.ndarray, state: State
) -> tuple[Step, State]:
    """One step of any engine: `run(audio, memory)` makes scores of whole frames, what is short of a
    frame waits in the state."""
    if state.waiting.shape[1]:
        audio = np.concatenate([state.waiting, audio], axis=1)
    ready = audio.shape[1] - audio.shape[1] % info.frame_samples
    if not ready:
        return _nothing(len(audio), info), replace(state, waiting=audio.copy())
    step, memory = run(audio[:, :ready], state.memory)
    waiting = audio[:, ready:].copy()  # whoever brought the audio may use its memory again
    if reader is None:
        return step, State(waiting, memory)
    assert state.heard is not None, "this state was made without the model's reader"
    pooled, extents, heard = reader.weigh(step.pooled, step.extents, audio[:, :ready], state.heard)
    return step._replace(pooled=pooled, extents=extents), State(waiting, memory, heard)


def _nothing(batch: int, info: ModelInfo) -> Step:
    words, letters = len(info.words), len(info.letters)
    return Step(
        *(
            np.zeros((batch, 0, *shape), np.float32)
            for shape in ((words,), (words,), (words, 2), (letters,))
        )
    )


class Portable:
    """An engine that is copied or pickled. It holds nothing of any stream, so a copy is the engine
    itself; what is pickled is how to open it again."""

    def _opening(self) -> "Opening":
        raise NotImplementedError

    def __copy__(self) -> "Portable":
        return self

    def __deepcopy__(self, _: dict) -> "Portable":
        return self

    def __reduce__(self) -> tuple:
        return Reopened, tuple(self._opening())


class Opening(NamedTuple):
    """How to open an engine again: `open` it, where its model file still has this `checksum`."""

    open: Callable[[], Engine]
    checksum: int


class Reopened(Portable):
    """An engine that was pickled elsewhere. It is opened when it is first used: a pool of processes
    would wait for ever where unpickling fails, but hands on what its work raises.

    Everything raises ModelError where the model file is gone, or another one by now.
    """

    def __init__(self, open_engine: Callable[[], Engine], checksum: int):
        self._recipe = Opening(open_engine, checksum)

    def _opening(self) -> Opening:
        return self._recipe

    @cached_property
    def _engine(self) -> Engine:
        engine = self._recipe.open()
        if engine.info.checksum != self._recipe.checksum:
            raise ModelError(
                f"{engine.info.path}: this model has changed since it was loaded by whoever sent "
                "it. Load it there again."
            )
        return engine

    @property
    def info(self) -> ModelInfo:
        return self._engine.info

    def silence(self, batch: int = 1) -> State:
        return self._engine.silence(batch)

    def step(self, audio: np.ndarray, state: State) -> tuple[Step, State]:
        return self._engine.step(audio, state)


class OnnxEngine(Portable):
    """Runs a model file with ONNX Runtime on one CPU thread; with `alone`, as if there were no
    reader in it."""

    def __init__(self, model: str = "welcome", *, alone: bool = False):
        self._session, self.info = open_session(find(model))
        self._reader = None if alone else open_reader(self._session, self.info)
        self._outputs = [
            "new_state",
            "pooled",
            "frames",
            "extents",
            *(["letters"] if self.info.letters else []),
        ]

    def _opening(self) -> Opening:
        return Opening(
            partial(OnnxEngine, str(self.info.path.absolute()), alone=self._reader is None),
            self.info.checksum,
        )

    def silence(self, batch: int = 1) -> State:
        """State of `batch` streams before their first sample: endless digital silence."""
        # The network forgets after `past_samples`, so silence of that length leaves the same state
        # whatever was there before.
        frames = -(-self.info.past_samples // self.info.frame_samples)
        nothing = np.zeros((1, frames * self.info.frame_samples), np.float32)
        memory = self._run(nothing, np.zeros((1, self.info.state_size), np.float32))[1]
        return begin(np.repeat(memory, batch, axis=0), self._reader)

    def step(self, audio: np.ndarray, state: State) -> tuple[Step, State]:
        """Scores of new samples.

        audio [B, n]: float32, 16 kHz, any n. Returns the F frames these samples complete (F may be
        0), and the new state.
        """
        return advance(self._run, self.info, self._reader, audio, state)

    def _run(self, audio: np.ndarray, memory: np.ndarray) -> tuple[Step, np.ndarray]:
        memory, *scores = self._session.run(self._outputs, {"audio": audio, "state": memory})
        return Step(*scores, *([] if self.info.letters else [scores[0][..., :0]])), memory


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
