"""Live audio from a microphone: float32 mono samples at 16 kHz, in blocks as they arrive.

The thread of the device puts samples into a bounded queue and never waits. A consumer that is too
slow loses samples, and `on_overrun` reports it.
"""

import os
import queue
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import miniaudio
import numpy as np

from kws.audio.recordings import model_blocks
from kws.errors import AudioError

# The rate of nearly all hardware. soxr resamples better than the device layer.
_CAPTURE_RATE = 48_000
_QUEUE_SECONDS = 30.0
# A live device always delivers, silence too; the first block can take 2 s (PulseAudio).
_TIMEOUT_SECONDS = 5.0
_NULL_DEVICE_PREFIX = "Discard all samples"  # ALSA's name for its null device
# The backend NULL invents a silent microphone.
_BACKENDS = [backend for backend in miniaudio.Backend if backend is not miniaudio.Backend.NULL]


def list_devices() -> list[str]:
    """Names of the microphones. Raises AudioError when there is none."""
    return [device["name"] for device in _list_captures()]


def blocks(
    device: str | None = None, *, block_seconds: float = 0.08, on_overrun: Callable[[float], None]
) -> Generator[np.ndarray, None, None]:
    """Endless float32 mono 16 kHz blocks [n] from the microphone whose name contains `device`, or
    the system's default.

    on_overrun: called with the total seconds lost, when the consumer is too slow. Raises AudioError
    for no microphone, an unknown name, and a microphone that stops delivering.
    """
    name, device_id = _find_device(device)
    yield from model_blocks(
        _capture(name, device_id, block_seconds, on_overrun), _CAPTURE_RATE, name
    )


def _list_captures() -> list[dict[str, Any]]:
    try:
        with _suppress_stderr():
            captures = [
                device
                for device in miniaudio.Devices(_BACKENDS).get_captures()
                if not device["name"].startswith(_NULL_DEVICE_PREFIX)
            ]
    except miniaudio.MiniaudioError:
        captures = []
    if not captures:
        raise AudioError(
            "no microphone found on this machine. Plug one in, or pipe audio into 'kws stream -'."
        )
    return captures


def _find_device(device: str | None) -> tuple[str, object | None]:
    """Name and miniaudio id of the microphone; the id None lets the system choose."""
    captures = _list_captures()
    if device is None:
        return "microphone", None
    matching = [d for d in captures if d["name"] == device] or [
        d for d in captures if device.lower() in d["name"].lower()
    ]
    if len(matching) != 1:
        names = ", ".join(repr(d["name"]) for d in matching or captures)
        problem = "several microphones have this name" if matching else "no such microphone"
        raise AudioError(f"{device!r}: {problem}. Choose one of {names}.")
    return matching[0]["name"], matching[0]["id"]


class _CaptureQueue:
    """The queue between the thread of the device and the consumer."""

    def __init__(self, max_blocks: int):
        self._queue: queue.Queue[np.ndarray] = queue.Queue(max_blocks)
        self.lost_samples = 0

    def receiver(self) -> Generator[None, bytearray, None]:
        """miniaudio sends the bytes of each block into this generator."""
        while True:
            data = yield
            samples = np.frombuffer(data, np.float32)
            try:
                self._queue.put_nowait(samples)
            except queue.Full:
                self.lost_samples += len(samples)

    def get_block(self, name: str) -> np.ndarray:
        try:
            return self._queue.get(timeout=_TIMEOUT_SECONDS)
        except queue.Empty:
            raise AudioError(
                f"{name}: no sound arrived for {_TIMEOUT_SECONDS:.0f} s. "
                "Is it still plugged in, and may kws use it?"
            ) from None


def _capture(
    name: str, device_id: object | None, block_seconds: float, on_overrun: Callable[[float], None]
) -> Iterator[np.ndarray]:
    capture_queue = _CaptureQueue(round(_QUEUE_SECONDS / block_seconds))
    receiver = capture_queue.receiver()
    next(receiver)
    reported_samples = 0
    try:
        with _open(device_id, block_seconds) as device:
            device.start(receiver)
            while True:
                yield capture_queue.get_block(name)
                if capture_queue.lost_samples > reported_samples:
                    reported_samples = capture_queue.lost_samples
                    on_overrun(reported_samples / _CAPTURE_RATE)
    except miniaudio.MiniaudioError as error:
        raise AudioError(
            f"{name}: the microphone cannot be used ({error.args[0]}). Is another program using it?"
        ) from None


def _open(device_id: object | None, block_seconds: float) -> miniaudio.CaptureDevice:
    with _suppress_stderr():
        return miniaudio.CaptureDevice(
            miniaudio.SampleFormat.FLOAT32,
            nchannels=1,
            sample_rate=_CAPTURE_RATE,
            buffersize_msec=round(block_seconds * 1000),
            device_id=device_id,
            backends=_BACKENDS,
            app_name="kws",
        )


@contextmanager
def _suppress_stderr() -> Iterator[None]:
    """Hides what ALSA writes to file descriptor 2 while devices are opened: our error says it in
    one line."""
    saved_fd = None
    with suppress(OSError):
        saved_fd = os.dup(2)
    if saved_fd is None:  # it is closed
        yield
        return
    null_fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_fd, 2)
    try:
        yield
    finally:
        os.dup2(saved_fd, 2)
        os.close(saved_fd)
        os.close(null_fd)
