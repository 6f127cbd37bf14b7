"""Standard streams that are closed or full: one clear line, never a traceback, and the right
exit status."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDING = REPOSITORY / "recordings" / "twice.wav"
STDIN, STDOUT, STDERR = range(3)


def kws(
    *arguments: object, before: Callable[[], object], **options: object
) -> subprocess.CompletedProcess:
    """Runs a command, after `before` in its process; its output is buffered, as it is wherever
    nobody asked for anything else."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    } | options
    line = [sys.executable, REPOSITORY / "cli.py", *map(str, arguments)]
    return subprocess.run(line, text=True, env=buffered, preexec_fn=before, timeout=120, **pipes)


@pytest.mark.parametrize(
    ("arguments", "closed", "message"),
    [
        (
            ["detect", "-"],
            STDIN,
            (
                "Error: -: standard input cannot be read (Bad file descriptor). "
                "Give it a recording: kws detect - < FILE."
            ),
        ),
        (
            ["stream", "-"],
            STDIN,
            "Error: standard input: cannot be read (Bad file descriptor). Pipe raw audio into it.",
        ),
        (
            ["detect", RECORDING],
            STDOUT,
            "Error: standard output: events cannot be written (Bad file descriptor).",
        ),
        (
            ["stream", RECORDING],
            STDOUT,
            "Error: standard output: events cannot be written (Bad file descriptor).",
        ),
        (
            ["info"],
            STDOUT,
            "Error: cannot write (Bad file descriptor). Make room, or write elsewhere.",
        ),
        (["detect", RECORDING.with_name("gone.wav")], STDERR, ""),
    ],
)
def test_a_closed_stream_that_is_needed(arguments: list, closed: int, message: str) -> None:
    done = kws(*arguments, before=lambda: os.close(closed))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(message) and done.stderr.count("\n") == bool(message)


@pytest.mark.parametrize(
    ("arguments", "closed", "lines"),
    [
        (["detect", RECORDING], STDIN, 2),
        (["detect", RECORDING], STDERR, 2),
        (["stream", RECORDING], STDERR, 2),
        (["detect", "-q", RECORDING], STDOUT, 0),
    ],
)
def test_a_closed_stream_that_is_not_needed(arguments: list, closed: int, lines: int) -> None:
    done = kws(*arguments, before=lambda: os.close(closed))
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, lines, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["detect", RECORDING],
            "Error: standard output: events cannot be written (No space left on device).",
        ),
        (["info"], "Error: cannot write (No space left on device). Make room, or write elsewhere."),
        (
            ["--help"],
            "Error: cannot write (No space left on device). Make room, or write elsewhere.",
        ),
        (
            ["detect", "--help"],
            "Error: cannot write (No space left on device). Make room, or write elsewhere.",
        ),
    ],
)
def test_a_full_disk_is_one_line(arguments: list, message: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = kws(*arguments, before=lambda: None, stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1


def test_no_room_for_standard_input(tmp_path: Path) -> None:
    with RECORDING.open("rb") as recording:
        limit = (1000, 1000)  # bytes that a file may have
        done = kws(
            "detect",
            "-",
            RECORDING,
            before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
            stdin=recording,
        )
    # The other recording is processed.
    assert (done.returncode, done.stdout.count("\n")) == (1, 2)
    assert (
        done.stderr.startswith("Error: -: standard input does not fit into ")
        and done.stderr.count("\n") == 1
    )
    assert "(File too large). Make room there, or set TMPDIR." in done.stderr
