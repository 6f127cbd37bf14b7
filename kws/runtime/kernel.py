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
from typing import NamedTuple

import numpy as np

from kws.errors import ModelError

_ALIGNMENT = 64
_ERROR_BYTES = 256


class KernelOutput(NamedTuple):
    """Of F frames, W words and P phones: `pooled`, `frames` [F, W] probabilities; `boundaries`
    [F, W, 2] seconds back to start and end; `phones` [F, P] log probabilities. `invalid_samples`:
    how many of this step's samples were replaced by 0."""

    pooled: np.ndarray
    frames: np.ndarray
    boundaries: np.ndarray
    phones: np.ndarray
    invalid_samples: int


class _Output(ctypes.Structure):
    """`kws_output`."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("pooled", "frames", "boundaries", "phones")),
        ("invalid", ctypes.POINTER(ctypes.c_size_t)),
    ]


def library_path() -> Path:
    """Where the build puts the library."""
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    return Path(__file__).with_name("_kernel" + suffix)


@cache
def load_library(path: Path) -> ctypes.CDLL:
    """The library with the types of its functions (`native/kws.h`). Raises OSError where it is
    missing or of another machine."""
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
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class KernelModel:
    """A model file that the kernel has opened. Raises ModelError for one that it refuses."""

    def __init__(self, data: bytes, path: Path, library: Path | None = None):
        self.library = load_library(library or library_path())
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        self.handle = self.library.kws_open(data, len(data), error)
        if not self.handle:
            reason = error.value.decode(errors="replace")
            raise ModelError(f"{path}: {reason}. Copy or train it again.")
        self.words: int = self.library.kws_words(self.handle)
        self.phones: int = self.library.kws_phones(self.handle)
        self.frame_samples: int = self.library.kws_frame_samples(self.handle)
        self.has_verifier = bool(self.library.kws_has_verifier(self.handle))

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.library.kws_close(self.handle)

    @property
    def instruction_set(self) -> str:
        """`avx2`, or `baseline`: SSE2, NEON or plain C."""
        return str(self.library.kws_instruction_set(self.handle).decode())

    def open_stream(self, gate: Sequence[float] | None = None) -> "KernelStream":
        """A stream before its first sample, after endless silence. gate: for each word the score
        from which the verifier is asked (default: 0.1)."""
        memory = _aligned_bytes(self.library.kws_stream_bytes(self.handle))
        gates = None if gate is None else np.array(gate, np.float32)
        self.library.kws_stream_init(
            self.handle, memory.ctypes.data, None if gates is None else gates.ctypes.data
        )
        return KernelStream(self, memory)


class KernelStream:
    """The state of one stream, in memory of its own."""

    def __init__(self, model: KernelModel, memory: np.ndarray):
        self._model, self._memory = model, memory

    def __copy__(self) -> "KernelStream":
        memory = _aligned_bytes(len(self._memory))
        memory[:] = self._memory
        return KernelStream(self._model, memory)

    def step(self, samples: np.ndarray) -> KernelOutput:
        """Takes samples [n] (float32 in ±1, or int16), any number; returns the outputs of the
        frames that they complete. Samples that are not finite, or beyond ±1e6, count as 0."""
        model, library = self._model, self._model.library
        is_integer = samples.dtype == np.int16
        samples = np.ascontiguousarray(samples, np.int16 if is_integer else np.float32)
        function = library.kws_step_int16 if is_integer else library.kws_step
        frames = library.kws_ready_frames(model.handle, self._memory.ctypes.data, len(samples))
        arrays = (
            np.empty((frames, model.words), np.float32),
            np.empty((frames, model.words), np.float32),
            np.empty((frames, model.words, 2), np.float32),
            np.empty((frames, model.phones), np.float32),
        )
        invalid = ctypes.c_size_t()
        places = _Output(*(array.ctypes.data for array in arrays), ctypes.pointer(invalid))
        function(
            model.handle,
            self._memory.ctypes.data,
            samples.ctypes.data,
            len(samples),
            ctypes.byref(places),
        )
        return KernelOutput(*arrays, invalid.value)


def _aligned_bytes(size: int) -> np.ndarray:
    """Memory that begins at a multiple of 64 bytes, as the kernel's vectors want it."""
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    offset = -memory.ctypes.data % _ALIGNMENT
    return memory[offset : offset + size]
