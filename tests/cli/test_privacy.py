"""No command opens a connection, and none writes other files than those that are asked for."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
from tones import TinyModel

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
TALK = REPOSITORY / "recordings" / "twice.wav"
COMMANDS = {
    "detect": ["detect", TALK],
    "stream a file": ["stream", TALK],
    "stream a pipe": ["stream", "-"],
    "info": ["info"],
    "confusables": ["confusables", "welcome"],
    "plot": ["detect", TALK, "--plot", "p.png"],
    "doctor": ["doctor"],
}
ASKED_FOR = {"plot": ["work/p.png"], "evaluate": ["work/page.html"]}
SOUND_SERVER = "home/.config/pulse/"  # its client library makes this folder
SPEAK = """
import sys
from kws.synth.engines.hibari import ENGINE
ENGINE.speak("welcome", {"speed": 1, "size": 1, "seed": 0})
print("onnxruntime" in sys.modules)
"""
LOOK_UP_SECONDS = 14  # ONNX Runtime 1.32 looks up an address 9 s after its import


@dataclass(frozen=True)
class Machine:
    """The empty folders of a user, in an environment that names no other folders."""

    folder: Path

    def run(self, command: list, *, around: tuple = (), **environment: str) -> str:
        """Standard output of a command. `TALK` is its standard input; standard error stays
        empty."""
        with self.start(command, around, **environment) as process:
            out, complaints = process.communicate(samples_of(TALK), timeout=300)
        assert (process.returncode, complaints) == (0, b"")
        return out.decode()

    def start(self, command: list, around: tuple = (), **environment: str) -> subprocess.Popen:
        """The command of kws, or Python code that follows `-c`."""
        for name in ("home", "work", "scratch"):
            (self.folder / name).mkdir(exist_ok=True)
        removed = ("XDG_", "KWS_", "CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith((*removed, "MPLCONFIGDIR"))
        }
        folders = {
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "scratch"),
            "PYTHONPATH": str(REPOSITORY),
        }
        program = [] if command[0] == "-c" else [REPOSITORY / "cli.py"]
        line = [*around, sys.executable, "-B", *program, *command]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = kept | folders | environment
        return subprocess.Popen(line, cwd=self.folder / "work", env=environment, **pipes)

    def files(self) -> list[str]:
        """All files, and empty folders."""
        folders = (self.folder / name for name in ("home", "work", "scratch"))
        found = (path for folder in folders for path in folder.rglob("*"))
        ends = (path for path in found if not (path.is_dir() and any(path.iterdir())))
        written = {str(path.relative_to(self.folder)) for path in ends}
        return sorted(name for name in written if not name.startswith(SOUND_SERVER))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def samples_of(path: Path) -> bytes:
    return soundfile.read(path, dtype="int16")[0].tobytes()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_writes_the_files_that_are_asked_for_alone(machine: Machine, name: str) -> None:
    assert machine.run(COMMANDS[name])
    assert machine.files() == ASKED_FOR.get(name, [])


def test_evaluate_writes_its_page_alone(machine: Machine, tiny_model: TinyModel) -> None:
    options = [
        "--positives",
        tiny_model.data / "rise",
        "--negatives",
        tiny_model.data / "fall",
        "--html",
        "page.html",
    ]
    assert machine.run(["evaluate", tiny_model.path, *options])
    assert machine.files() == ASKED_FOR["evaluate"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_home_that_cannot_be_written_is_no_error(machine: Machine, name: str) -> None:
    assert machine.run(COMMANDS[name], HOME="/dev/null/home")


@pytest.mark.parametrize("value", ["", "0"])
def test_telemetry_is_off_whatever_the_environment_says(machine: Machine, value: str) -> None:
    assert machine.run(["-c", SPEAK], ORT_DISABLE_TELEMETRY=value) == "True\n"
    assert machine.files() == []


def test_the_font_cache_goes_where_the_environment_says(machine: Machine, tmp_path: Path) -> None:
    machine.run(COMMANDS["plot"], MPLCONFIGDIR=str(tmp_path / "fonts"))
    assert len([*(tmp_path / "fonts").glob("fontlist*.json")]) == 1


@pytest.mark.strace
@pytest.mark.parametrize("name", COMMANDS)
def test_no_connection_is_opened(machine: Machine, tmp_path: Path, name: str) -> None:
    machine.run(COMMANDS[name], around=traced(tmp_path / "calls"))
    opened = "socket(AF_INET" if name == "doctor" else "socket("  # it asks a local sound server
    assert opened not in (tmp_path / "calls").read_text()


@pytest.mark.strace
def test_a_speech_engine_looks_up_no_address(machine: Machine, tmp_path: Path) -> None:
    code = f"{SPEAK}\nimport time\ntime.sleep({LOOK_UP_SECONDS})"
    assert machine.run(["-c", code], around=traced(tmp_path / "calls")) == "True\n"
    assert "socket(" not in (tmp_path / "calls").read_text()
    assert machine.files() == []


@pytest.mark.strace
def test_the_trace_shows_a_connection(tmp_path: Path) -> None:
    code = "import socket, threading; threading.Thread(target=socket.socket).start()"
    command = [*traced(tmp_path / "calls"), sys.executable, "-c", code]
    subprocess.run(command, check=True, timeout=60)
    assert "socket(AF_INET" in (tmp_path / "calls").read_text()


def traced(calls: Path) -> tuple:
    """The command prefix that writes all sockets of a command and its children to `calls`."""
    return ("strace", "-f", "-qq", "-e", "trace=socket", "-e", "signal=none", "-o", calls)
