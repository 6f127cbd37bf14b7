"""Live audio from a microphone: float32 mono samples at 16 kHz, block by block, as they are spoken.

The device's own thread puts samples into a bounded queue and never waits; whoever listens takes
them out. A listener that is too slow loses samples, and is told so.
"""

import os
import queue
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress

import miniaudio
import numpy as np

from kws.audio.recordings import model_blocks
from kws.errors import AudioError

# What nearly all hardware does; soxr then resamples better than the device layer would.
_CAPTURE_RATE = 48_000
_QUEUE_SECONDS = 30.0
# A live device always delivers, silence too; the first block can take 2 s (PulseAudio).
_SILENT_SECONDS = 5.0
_NO_DEVICE = "Discard all samples"  # what ALSA calls its null device, which is no microphone
# NULL invents a silent microphone.
_BACKENDS = [backend for backend in miniaudio.Backend if backend is not miniaudio.Backend.NULL]


def devices() -> list[str]:
    """Names of the microphones. Raises AudioError when there is none."""
    return [device["name"] for device in _captures()]


def blocks(
    device: str | None = None, *, block_seconds: float = 0.08, on_loss: Callable[[float], None]
) -> Generator[np.ndarray, None, None]:
    """Endless float32 mono 16 kHz blocks [n] from the microphone whose name contains `device`, or
    the system's default.

    `on_loss` is called with the seconds lost so far when the listener was too slow. Raises
    AudioError for no microphone, an unknown name, or a microphone that stopped delivering.
    """
    name, identity = _find(device)
    yield from model_blocks(_captured(name, identity, block_seconds, on_loss), _CAPTURE_RATE, name)


def _captures() -> list[dict]:
    try:
        with _quiet_libraries():
            found = [
                device
                for device in miniaudio.Devices(_BACKENDS).get_captures()
                if not device["name"].startswith(_NO_DEVICE)
            ]
    except miniaudio.MiniaudioError:
        found = []
    if not found:
        raise AudioError(
            "no microphone found on this machine. Plug one in, or pipe audio into 'kws stream -'."
        )
    return found


def _find(device: str | None) -> tuple[str, object | None]:
    """Name and miniaudio id of the microphone; the id None lets the system choose."""
    found = _captures()
    if device is None:
        return "microphone", None
    matches = [d for d in found if d["name"] == device] or [
        d for d in found if device.lower() in d["name"].lower()
    ]
    if len(matches) != 1:
        names = ", ".join(repr(d["name"]) for d in matches or found)
        problem = "several microphones have this name" if matches else "no such microphone"
        raise AudioError(f"{device!r}: {problem}. Choose one of {names}.")
    return matches[0]["name"], matches[0]["id"]


class _Inbox:
    """The queue between the device's thread and the listener."""

    def __init__(self, blocks_at_most: int):
        self._queue: queue.Queue[np.ndarray] = queue.Queue(blocks_at_most)
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

    def take(self, name: str) -> np.ndarray:
        try:
            return self._queue.get(timeout=_SILENT_SECONDS)
        except queue.Empty:
            raise AudioError(
                f"{name}: no sound arrived for {_SILENT_SECONDS:.0f} s. "
                "Is it still plugged in, and may kws use it?"
            ) from None


def _captured(
    name: str, identity: object | None, block_seconds: float, on_loss: Callable[[float], None]
) -> Iterator[np.ndarray]:
    inbox = _Inbox(round(_QUEUE_SECONDS / block_seconds))
    receiver = inbox.receiver()
    next(receiver)
    told = 0
    try:
        with _open(identity, block_seconds) as device:
            device.start(receiver)
            while True:
                yield inbox.take(name)
                if inbox.lost_samples > told:
                    told = inbox.lost_samples
                    on_loss(told / _CAPTURE_RATE)
    except miniaudio.MiniaudioError as error:
        raise AudioError(
            f"{name}: the microphone cannot be used ({error.args[0]}). Is another program using it?"
        ) from None


def _open(identity: object | None, block_seconds: float) -> miniaudio.CaptureDevice:
    with _quiet_libraries():
        return miniaudio.CaptureDevice(
            miniaudio.SampleFormat.FLOAT32,
            nchannels=1,
            sample_rate=_CAPTURE_RATE,
            buffersize_msec=round(block_seconds * 1000),
            device_id=identity,
            backends=_BACKENDS,
            app_name="kws",
        )


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """ALSA writes its own complaints to file descriptor 2 while devices are probed; ours says the
    same in one line."""
    kept = None
    with suppress(OSError):
        kept = os.dup(2)
    if kept is None:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
