"""`kws stream`: the same events as `kws detect`, as soon as they are known."""

import json
import subprocess
import time
from collections.abc import Callable

import pytest
import soundfile
from workspace import ONCE, TWICE, Workspace, events, expected, on_a_terminal

from kws.audio.recordings import read


@pytest.mark.parametrize("name", ["once.wav", "twice.flac", "never.wav"])
def test_stream_and_detect_find_the_same_events(workspace: Workspace, name: str) -> None:
    detected = workspace.run("detect", "--json", name)
    streamed = workspace.run("stream", "--json", name)
    raw = workspace.run("stream", "--json", "-", "--format", "f32le", stdin=read(name).tobytes())
    assert [result.exit_code for result in (detected, streamed, raw)] == [0, 0, 0]
    for other in (streamed.stdout, raw.stdout.replace('"file": "-"', f'"file": "{name}"')):
        assert_same_events(detected.stdout, other)


def assert_same_events(first: str, second: str) -> None:
    """Equal but for the last digits: blocks of other lengths are summed in another order."""
    numbers = ("start", "end", "peak", "score")
    for one, other in zip(
        map(json.loads, first.splitlines()), map(json.loads, second.splitlines()), strict=True
    ):
        assert (one["file"], one["word"]) == (other["file"], other["word"])
        assert [one[key] for key in numbers] == pytest.approx(
            [other[key] for key in numbers], abs=1.1e-3
        )


def test_raw_audio_of_another_rate(workspace: Workspace) -> None:
    samples, rate = soundfile.read("twice.flac", dtype="int16")
    result = workspace.run("stream", "--json", "-", "--rate", rate, stdin=samples.tobytes() + b"\0")
    assert (result.exit_code, result.stderr) == (0, "")
    assert events(result.stdout) == expected(("-", TWICE))


def test_a_pipe_without_samples(workspace: Workspace) -> None:
    result = workspace.run("stream", "-", stdin=b"")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: standard input: no samples in it. Record or copy it again.\n"


def test_realtime_takes_as_long_as_the_recording(
    workspace: Workspace, tone_recording: Callable
) -> None:
    recording = tone_recording(workspace.folder / "short.wav", [0.5], seconds=1.5)
    started = time.monotonic()
    result = workspace.run("stream", "--realtime", "--json", recording)
    assert time.monotonic() - started >= 1.45
    assert events(result.stdout) == expected((str(recording), [0.5]))


def test_events_of_a_live_pipe_come_at_once(workspace: Workspace) -> None:
    samples = (read("once.wav") * 32767).astype("<i2").tobytes()
    with workspace.start("stream", "-", stdin=subprocess.PIPE) as process:
        process.stdin.write(samples[: 3 * 32_000])
        process.stdin.flush()
        assert b"rise" in process.stdout.readline()  # the pipe is still open
        process.stdin.close()
        assert process.stdout.read() == b"" and process.stderr.read() == b""
    assert process.returncode == 0


def test_the_meter_shows_time_word_and_score(workspace: Workspace) -> None:
    out, shown = on_a_terminal(workspace, "stream", "--json", "once.wav")
    assert events(out) == expected(("once.wav", ONCE))
    assert "0:02." in shown and "rise █" in shown and "┃" in shown and "│" in shown
