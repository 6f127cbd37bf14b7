"""A failing microphone, without a sound server: the library fails as it does when a device is
unplugged."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import miniaudio
import pytest

from kws.audio import microphone
from kws.errors import AudioError

REPOSITORY = Path(__file__).resolve().parents[2]


class Device:
    """A device that opens and then fails as the test needs."""

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, receiver: object) -> None:
        pass


class DeadDevice(Device):
    def start(self, receiver: object) -> None:
        raise miniaudio.MiniaudioError("failed to start audio device", -1)


class VanishingDevice(Device):
    def __exit__(self, *_: object) -> None:
        raise miniaudio.MiniaudioError("failed to stop audio device", -1)


@pytest.mark.parametrize(
    ("device", "reason"), [(DeadDevice, "failed to start"), (VanishingDevice, "failed to stop")]
)
def test_a_failing_device_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, device: type, reason: str
) -> None:
    monkeypatch.setattr(
        miniaudio,
        "Devices",
        lambda _: SimpleNamespace(get_captures=lambda: [{"name": "desk", "id": None}]),
    )
    monkeypatch.setattr(miniaudio, "CaptureDevice", lambda *_, **__: device())
    monkeypatch.setattr(microphone, "_TIMEOUT_SECONDS", 0.05)
    message = (
        rf"microphone: the microphone cannot be used \({reason} audio device\)\. "
        r"Is another program using it\?"
    )
    with pytest.raises(AudioError, match=message):
        list(microphone.blocks(on_overrun=lambda seconds: None))


def test_devices_are_listed_when_stderr_is_closed() -> None:
    code = """
import os
from kws.audio import microphone
from kws.errors import AudioError
os.close(2)
try:
    print(*microphone.list_devices())
except AudioError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.count("\n") == 1
