"""A recording is played into a private sound server and detected through its microphone, like a
voice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.errors import AudioError

pytestmark = [pytest.mark.pulse, pytest.mark.slow]
REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 20


@dataclass
class SoundServer:
    """A private PulseAudio daemon: its one microphone records what is played on its one sink."""

    environment: dict[str, str]
    process: subprocess.Popen

    def play(self, path: Path) -> subprocess.Popen:
        return subprocess.Popen(["paplay", path], env=self.environment)

    def wait_for_listener(self) -> None:
        self._until(
            lambda: self._ask("short", "source-outputs"), "no program listened to the microphone"
        )

    def wait_until_ready(self) -> None:
        self._until(lambda: "kws" in self._ask("short", "sources"), "PulseAudio did not start")

    def _ask(self, *what: str) -> str:
        return subprocess.run(
            ["pactl", "list", *what], env=self.environment, capture_output=True, text=True
        ).stdout

    @staticmethod
    def _until(ready: Callable[[], object], problem: str) -> None:
        deadline = time.monotonic() + 10
        while not ready():
            assert time.monotonic() < deadline, problem
            time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoundServer]:
    folder = tmp_path_factory.mktemp("pulse")
    socket = folder / "native"
    environment = os.environ | {
        "PULSE_SERVER": f"unix:{socket}",
        "PULSE_RUNTIME_PATH": str(folder),
        "HOME": str(folder),
    }
    modules = [
        f"module-native-protocol-unix socket={socket} auth-anonymous=1",
        "module-null-sink sink_name=kws",
    ]
    command = [
        "pulseaudio",
        "-n",
        "--daemonize=no",
        "--exit-idle-time=-1",
        "--use-pid-file=no",
        "--disallow-exit",
    ]
    with subprocess.Popen(
        [*command, *(f"--load={module}" for module in modules)],
        env=environment,
        stderr=subprocess.DEVNULL,
    ) as process:
        running = SoundServer(environment, process)
        try:
            running.wait_until_ready()
            # An idle sink starts 2 s late.
            hum = subprocess.Popen(
                ["pacat", "--raw", "--latency-msec=20", "/dev/zero"], env=environment
            )
            yield running
        finally:
            process.kill()
            hum.wait()


@pytest.fixture
def listener(server: SoundServer, model_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts `kws stream` with these arguments."""
    started = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [
            "timeout",
            "--foreground",
            "--preserve-status",
            str(PATIENCE_SECONDS),
            sys.executable,
            REPOSITORY / "cli.py",
            "stream",
        ]
        command += ["--model", model_path, "--threshold", "0.5", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=server.environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_devices_are_listed(server: SoundServer, listener: Callable) -> None:
    out, err = listener("--list-devices").communicate(timeout=PATIENCE_SECONDS)
    assert out == "Monitor of Null Output\n" and err == ""


def test_an_unknown_device_lists_the_known_ones(listener: Callable) -> None:
    process = listener("--input-device", "telephone")
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1 and out == ""
    assert (
        err == "Error: 'telephone': no such microphone. Choose one of 'Monitor of Null Output'.\n"
    )


def test_a_played_word_is_detected(
    server: SoundServer, listener: Callable, tone_recording: Callable, tmp_path: Path
) -> None:
    recording = tone_recording(tmp_path / "a.wav", [1.0], seconds=2.5, rate=48_000)
    process = listener("--csv")
    server.wait_for_listener()
    server.play(recording).wait(timeout=PATIENCE_SECONDS)
    assert process.stdout.readline() == "file,word,start,end,peak,score\n"
    # Known while the microphone is open.
    assert process.stdout.readline().startswith("microphone,rise,")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, err) == (130, "", "")


def test_the_microphone_gives_what_was_played(
    server: SoundServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PULSE_SERVER", server.environment["PULSE_SERVER"])
    from kws.audio import microphone

    played = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * 48_000) / 48_000)
    soundfile.write(tmp_path / "tone.wav", played, 48_000)
    player = None
    recorded = [np.zeros(0, np.float32)]
    blocks = microphone.blocks(
        "null output", on_overrun=lambda seconds: pytest.fail(f"{seconds} s lost")
    )
    for block in blocks:
        player = player or server.play(tmp_path / "tone.wav")  # after the microphone has delivered
        recorded.append(block)
        if player.poll() is not None:
            break
    blocks.close()
    samples = np.concatenate(recorded)
    loud = np.flatnonzero(np.abs(samples) > 0.05)
    assert (loud[-1] - loud[0]) / 16_000 == pytest.approx(2.0, abs=0.1)  # nothing lost
    middle = samples[loud[0] + 4_000 :][:16_000]
    spectrum = np.abs(np.fft.rfft(middle))
    assert spectrum.argmax() == 440 and spectrum[440] ** 2 > 0.999 * (spectrum**2).sum()


@pytest.mark.parametrize("sound", ["tone", "silence"])
def test_the_doctor_checks_the_microphone(server: SoundServer, tmp_path: Path, sound: str) -> None:
    amplitude = 0.2 if sound == "tone" else 0.0
    tone = amplitude * np.sin(2 * np.pi * 440 * np.arange(20 * 48_000) / 48_000)
    soundfile.write(tmp_path / "tone.wav", tone, 48_000)
    command = [
        sys.executable,
        "-c",
        "from kws.doctor.examine import answer; answer('microphones', 0)",
    ]
    with server.play(tmp_path / "tone.wav") as player:
        time.sleep(0.5)
        done = subprocess.run(
            command, cwd=REPOSITORY, env=server.environment, capture_output=True, timeout=20
        )
        player.kill()
    check = json.loads(done.stdout)
    said, _, names = check["detail"].partition("; ")
    assert names == "there are: Monitor of Null Output"
    if sound == "tone":
        assert (
            check["status"] == "works"
            and said.startswith("level -1")
            and said.endswith("dB of full scale")
        )
    else:
        assert (check["status"], said) == ("broken", "gives nothing but digital silence")


def test_a_slow_consumer_learns_what_was_lost(
    monkeypatch: pytest.MonkeyPatch, server: SoundServer
) -> None:
    monkeypatch.setenv("PULSE_SERVER", server.environment["PULSE_SERVER"])
    from kws.audio import microphone

    monkeypatch.setattr(microphone, "_QUEUE_SECONDS", 0.4)
    lost: list[float] = []
    blocks = microphone.blocks(on_overrun=lost.append)
    next(blocks)
    time.sleep(1.5)
    for _ in range(8):
        next(blocks)
    blocks.close()
    assert lost and lost[0] == pytest.approx(1.1, abs=0.4)


def test_an_example_is_recorded_after_the_countdown(server, tmp_path):
    played = tmp_path / "word.wav"
    seconds = np.arange(8_000) / 16_000
    soundfile.write(
        played,
        0.3
        * np.sin(2 * np.pi * 700 * seconds)
        * np.minimum(1, 40 * np.minimum(seconds, seconds[::-1])),
        16_000,
    )
    command = [
        "timeout",
        str(PATIENCE_SECONDS),
        sys.executable,
        REPOSITORY / "cli.py",
        "record",
        "hey you",
        "--count",
        "1",
    ]
    pipes = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    with subprocess.Popen(
        [*command, "--out", tmp_path / "mine"], env=server.environment, **pipes
    ) as running:
        output = ""
        while "now" not in output:
            letter = running.stderr.read(1)
            assert letter, output
            output += letter
        time.sleep(0.4)
        server.play(played).wait()
        output += running.stderr.read()
    assert running.returncode == 0, output
    samples, rate = soundfile.read(tmp_path / "mine" / "hey_you" / "me_nohash_0.wav")
    assert rate == 16_000
    assert 0.5 < len(samples) / rate < 1.0
    assert np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples) == pytest.approx(700, abs=10)


def test_a_microphone_that_goes_away_is_an_error(
    server: SoundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stays down for the tests that follow."""
    monkeypatch.setenv("PULSE_SERVER", server.environment["PULSE_SERVER"])
    from kws.audio import microphone

    monkeypatch.setattr(microphone, "_TIMEOUT_SECONDS", 2.0)
    blocks = microphone.blocks(on_overrun=lambda seconds: pytest.fail(f"{seconds} s lost"))
    next(blocks)
    server.process.kill()
    with pytest.raises(
        AudioError, match=r"microphone: no sound arrived for 2 s\. Is it still plugged in"
    ):
        list(blocks)


def test_no_microphone_at_all(listener: Callable, server: SoundServer) -> None:
    server.process.kill()
    process = listener()
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (1, "")
    assert err == (
        "Error: no microphone found on this machine. "
        "Plug one in, or pipe audio into 'kws stream -'.\n"
    )
