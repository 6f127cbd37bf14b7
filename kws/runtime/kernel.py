"""The kernel: the networks of a model file, run by the C library of `native/`.

    model = KernelModel(path.read_bytes(), path)
    stream = model.open_stream()
    output = stream.step(samples)

A step releases the GIL, so that streams run side by side in threads. A stream belongs to one thread
at a time; a model may serve any number.
"""

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from kws.errors import ModelError
from kws.runtime.output import StepOutput

_ALIGNMENT = 64
_ERROR_BYTES = 256
_INT16 = np.dtype(np.int16)


class _Output(ctypes.Structure):
    """`kws_output`."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("pooled", "frames", "boundaries", "phones")),
        ("invalid", ctypes.c_void_p),
    ]


def library_path() -> Path:
    """Where the build puts the library."""
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    return Path(__file__).with_name("_kernel" + suffix)


@cache
def load_library(path: Path | None = None) -> ctypes.CDLL:
    """The library with the types of its functions (`native/kws.h`); by default the one that the
    build made. Raises OSError where it is missing, or of another machine or version of kws."""
    path = path or library_path()
    library = ctypes.CDLL(str(path))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    signatures = {
        "kws_open": (pointer, [ctypes.c_char_p, size, ctypes.c_char_p]),
        "kws_close": (None, [pointer]),
        "kws_words": (ctypes.c_int, [pointer]),
        "kws_phones": (ctypes.c_int, [pointer]),
        "kws_frame_samples": (ctypes.c_int, [pointer]),
        "kws_has_verifier": (ctypes.c_int, [pointer]),
        "kws_instruction_set": (ctypes.c_char_p, [pointer]),
        "kws_stream_bytes": (size, [pointer]),
        "kws_stream_init": (pointer, [pointer, pointer, pointer]),
        "kws_ready_frames": (size, [pointer, pointer, size]),
        "kws_step": (size, [pointer, pointer, pointer, size, pointer]),
        "kws_step_int16": (size, [pointer, pointer, pointer, size, pointer]),
        "kws_step_many": (size, [pointer, pointer, size, *[pointer] * 5]),
    }
    for name, (result, arguments) in signatures.items():
        if not hasattr(library, name):
            raise OSError(f"{path}: has no {name}, so it is of another version of kws")
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class KernelModel:
    """A model file that the kernel has opened. verifier: whether to use the verifier, if it has
    one. Raises ModelError for a file that the kernel refuses."""

    def __init__(
        self, data: bytes, path: Path, *, verifier: bool = True, library: Path | None = None
    ):
        self.library = load_library(library)
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        self.handle = self.library.kws_open(data, len(data), error)
        if not self.handle:
            reason = error.value.decode(errors="replace")
            raise ModelError(f"{path}: {reason}. Copy or train it again.")
        self.words: int = self.library.kws_words(self.handle)
        self.phones: int = self.library.kws_phones(self.handle)
        self.frame_samples: int = self.library.kws_frame_samples(self.handle)
        self.has_verifier = bool(self.library.kws_has_verifier(self.handle))
        self._with_verifier = verifier

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.library.kws_close(self.handle)

    @property
    def instruction_set(self) -> str:
        """`avx2`, or `baseline`: SSE2, NEON or plain C."""
        return str(self.library.kws_instruction_set(self.handle).decode())

    def open_stream(self, gates: Sequence[float] | None = None) -> "KernelStream":
        """A stream before its first sample, after endless silence. gates: for each word the score
        from which it is verified; 0.1 by default."""
        memory = _aligned_bytes(self.library.kws_stream_bytes(self.handle))
        if not self._with_verifier:
            gates = [np.inf] * self.words
        floats = None if gates is None else np.array(gates, np.float32).reshape(self.words)
        self.library.kws_stream_init(
            self.handle, memory.ctypes.data, None if floats is None else floats.ctypes.data
        )
        return KernelStream(self, memory)

    def restore_stream(self, saved: bytes) -> "KernelStream":
        """The stream that `KernelStream.save` saved. Raises ModelError where another kernel did, or
        none."""
        memory = _aligned_bytes(self.library.kws_stream_bytes(self.handle))
        if not isinstance(saved, bytes) or len(saved) != len(memory):
            raise ModelError(
                "this stream was saved by another version of the kernel, or without it. "
                "Start a new one."
            )
        memory[:] = np.frombuffer(saved, np.uint8)
        return KernelStream(self, memory)

    def step_many(
        self, streams: Sequence["KernelStream"], samples: Sequence[np.ndarray]
    ) -> list[StepOutput]:
        """See `kws.runtime.engine.Engine.step_many`."""
        audio = np.concatenate(samples)
        is_integer = audio.dtype == _INT16
        audio = audio if is_integer else audio.astype(np.float32, copy=False)
        floats, integers = (0, audio.ctypes.data) if is_integer else (audio.ctypes.data, 0)
        pairs = zip(streams, samples, strict=True)
        counts = np.array([len(new) for _, new in pairs], np.uintp)
        frame_counts = np.empty(len(streams), np.uintp)
        output = _OutputMemory(self, len(audio) // self.frame_samples + len(streams), len(streams))
        self.library.kws_step_many(
            self.handle,
            (ctypes.c_void_p * len(streams))(*(stream.address for stream in streams)),
            len(streams),
            floats,
            integers,
            counts.ctypes.data,
            frame_counts.ctypes.data,
            output.pointer,
        )
        return output.of_streams(frame_counts.tolist())


class KernelStream:
    """The state of one stream, in memory of its own."""

    def __init__(self, model: KernelModel, memory: np.ndarray):
        self._model, self._memory = model, memory
        self.address: int = memory.ctypes.data
        self._output = _OutputMemory(model, 0)

    def __copy__(self) -> "KernelStream":
        memory = _aligned_bytes(len(self._memory))
        memory[:] = self._memory
        return KernelStream(self._model, memory)

    def save(self) -> bytes:
        """The state, which `KernelModel.restore_stream` takes."""
        return self._memory.tobytes()

    def step(self, samples: np.ndarray) -> StepOutput:
        """See `kws.runtime.engine.EngineStream.step`."""
        model, count = self._model, len(samples)
        if samples.dtype == _INT16:
            step = model.library.kws_step_int16
        else:
            step = model.library.kws_step
            samples = samples.astype(np.float32, copy=False)
        most_frames = count // model.frame_samples + 1
        if self._output.frames != most_frames:
            self._output = _OutputMemory(model, most_frames)
        # Bytes, for their address costs nothing to know.
        frames = step(model.handle, self.address, samples.tobytes(), count, self._output.pointer)
        return self._output.of_streams([frames])[0]


class _OutputMemory:
    """Where steps of one or more streams write: room for so many frames."""

    def __init__(self, model: KernelModel, frames: int, streams: int = 1):
        self.frames = frames
        words, phones = model.words, model.phones
        self._words, self._phones = words, phones
        self._starts = (0, frames * words, 2 * frames * words, 4 * frames * words)
        self._block = np.empty(4 * frames * words + frames * phones, np.float32)
        self._invalid = (ctypes.c_size_t * streams)()
        address = self._block.ctypes.data
        places = (address + 4 * start for start in self._starts)
        self._places = _Output(*places, ctypes.addressof(self._invalid))
        self.pointer = ctypes.byref(self._places)

    def of_streams(self, frame_counts: Sequence[int]) -> list[StepOutput]:
        """Copies of the outputs of each stream, which has so many frames."""
        block, words, phones = self._block.copy(), self._words, self._phones
        pooled, frames, boundaries, log_probs = self._starts
        outputs, first = [], 0
        for count, invalid in zip(frame_counts, self._invalid, strict=True):
            end = first + count
            outputs.append(
                StepOutput(
                    block[pooled + first * words : pooled + end * words].reshape(count, words),
                    block[frames + first * words : frames + end * words].reshape(count, words),
                    block[boundaries + 2 * first * words : boundaries + 2 * end * words].reshape(
                        count, words, 2
                    ),
                    block[log_probs + first * phones : log_probs + end * phones].reshape(
                        count, phones
                    ),
                    invalid,
                )
            )
            first = end
        return outputs


def _aligned_bytes(size: int) -> np.ndarray:
    """Memory that begins at a multiple of 64 bytes, as the kernel's vectors want it."""
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    offset = -memory.ctypes.data % _ALIGNMENT
    return memory[offset : offset + size]
