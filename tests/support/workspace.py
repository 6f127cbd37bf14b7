"""Running commands as a user does: in a folder with recordings, with a model of a tone word."""

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kws.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]
ONCE, TWICE = [2.0], [1.0, 3.5]  # seconds at which the word begins


def run_kws(*arguments: object, stdin: bytes | None = None) -> Result:
    """Runs a command in this process."""
    return CliRunner().invoke(main, [*map(str, arguments)], input=stdin)


@dataclass(frozen=True)
class Workspace:
    """A folder with recordings, and the model option that every call needs."""

    folder: Path
    model: list[str]

    def run(self, command: str, *arguments: object, stdin: bytes | None = None) -> Result:
        return run_kws(command, *arguments, *self.model, stdin=stdin)

    def start(self, command: str, *arguments: object, **options: object) -> subprocess.Popen:
        line = [sys.executable, REPOSITORY / "cli.py", command, *map(str, arguments), *self.model]
        pipes = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | options
        return subprocess.Popen(line, cwd=self.folder, **pipes)


def events(out: str) -> list[tuple[str, float]]:
    """File and start of each event in JSON Lines."""
    return [(row["file"], row["start"]) for row in map(json.loads, out.splitlines())]


def expected(*recordings: tuple[str, Sequence[float]]) -> list[tuple[str, float]]:
    return [(name, pytest.approx(at, abs=0.2)) for name, times in recordings for at in times]


def on_a_terminal(workspace: Workspace, *arguments: str) -> tuple[str, str]:
    """stdout, and what a terminal of 100 columns shows on stderr."""
    controller, terminal = pty.openpty()
    os.set_inheritable(terminal, True)
    subprocess.run(["stty", "cols", "100", "rows", "30"], stdin=terminal, check=True)
    with workspace.start(*arguments, stderr=terminal) as process:
        shown = b""
        while process.poll() is None or select.select([controller], [], [], 0)[0]:
            if select.select([controller], [], [], 0.1)[0]:
                shown += os.read(controller, 4096)
        out = process.stdout.read()
    os.close(terminal)
    os.close(controller)
    return out.decode(), shown.decode()
