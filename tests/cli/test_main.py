"""What holds for all commands: help, wrong usage, errors, endings."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from workspace import REPOSITORY, TWICE, Workspace, events, expected, run_kws

import kws
from kws.audio.recordings import read
from kws.cli.main import COMMANDS, main


def list_commands() -> list[list[str]]:
    """All commands, those of groups too, as they are called."""
    names: list[list[str]] = [[]]
    for name in COMMANDS:
        names.append([name])
        command = find_command([name])
        names += [[name, each] for each in getattr(command, "commands", ())]
    return names


def find_command(names: list[str]) -> click.Command:
    command: click.Command = main
    for name in names:
        command = command.get_command(click.Context(command), name)
    return command


@pytest.mark.parametrize("names", list_commands(), ids=" ".join)
def test_help_has_an_example(names: list[str]) -> None:
    result = run_kws(*names, "--help")
    assert result.exit_code == 0 and result.stderr == ""
    assert "\n  kws " + " ".join(names) in result.stdout


@pytest.mark.parametrize("names", list_commands(), ids=" ".join)
def test_each_option_is_one_sentence_and_its_default_a_value(names: list[str]) -> None:
    for parameter in find_command(names).params:
        if isinstance(parameter, click.Option):
            assert parameter.help and parameter.help[0].isupper() and parameter.help[-1] == "."
            assert "[default" not in parameter.help


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    for name, summary in COMMANDS.items():
        assert find_command([name]).get_short_help_str(limit=100) == summary


def test_python_m_kws_is_the_command() -> None:
    line = [sys.executable, "-m", "kws"]
    version = subprocess.run([*line, "--version"], cwd=REPOSITORY, capture_output=True, text=True)
    assert (version.stdout, version.returncode) == (f"kws, version {kws.__version__}\n", 0)
    wrong = subprocess.run([*line, "detect"], cwd=REPOSITORY, capture_output=True, text=True)
    assert wrong.stderr.startswith("Usage: kws detect ") and wrong.returncode == 2


def modules_after(*arguments: str) -> set[str]:
    """Modules that a command has imported when it ends."""
    code = "import sys\nfrom cli import main\ntry: main()\nfinally: print(*sys.modules)"
    line = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_needs_no_heavy_import() -> None:
    heavy = {"numpy", "onnxruntime", "soundfile", "torch", "tqdm", "miniaudio"}
    assert not modules_after("--help") & heavy


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux lists threads there")
def test_detect_runs_on_one_thread() -> None:
    """NumPy's BLAS would start one for each core."""
    code = "import os\nfrom cli import main\ntry: main()\n"
    code += "finally: print(*os.listdir('/proc/self/task'))"
    environment = {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code, "detect", "recordings/late.wav"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert len(done.stdout.splitlines()[-1].split()) == 1


def test_a_command_imports_no_other() -> None:
    modules = modules_after("detect", "recordings/late.wav")
    others = {name.replace("-", "_") for name in COMMANDS} - {"detect"}
    assert "kws.cli.detect" in modules
    assert not {f"kws.cli.{name}" for name in others} & modules
    heavy = {"torch", "librosa", "matplotlib", "onnxruntime", "tqdm", "miniaudio", "scipy"}
    assert not heavy & modules


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("detect", "Missing argument"),
        ("detect --threshold 2 x.wav", "not in the range"),
        ("detect --threshold nan x.wav", "not in the range 0<x<=1"),
        ("detect --false-alarms-per-hour nan x.wav", "not in the range"),
        ("evaluate welcome --positives . --negatives . --stream-seconds nan", "not in the range"),
        ("record welcome --seconds nan", "not in the range"),
        ("detect --threshold 0.5 --false-alarms-per-hour 1 x.wav", "exclude each other"),
        ("detect --jobs 0 x.wav", "not in the range"),
        ("detect --plot p.png x.wav y.wav", "describe one recording"),
        ("detect --labels .", "describe one recording"),
        ("detect - x.wav -", "give it once"),
        ("detect --nonsense x.wav", "No such option"),
        ("stream --rate 8000", "--rate does not apply to the microphone"),
        ("stream --input-device a x.wav", "--input-device does not apply to a FILE"),
        ("stream --realtime -", "--realtime does not apply to raw audio on '-'"),
        ("stream --format u8 -", "'u8' is not one of"),
        ("nonsense", "No such command"),
    ],
)
def test_wrong_usage(arguments: str, message: str) -> None:
    result = run_kws(*arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize("command", ["detect x.wav", "stream x.wav", "info"])
@pytest.mark.parametrize(
    "model", ["nobody", "none.kws", "garbage.kws", "x" * 300, f"{'x' * 300}.kws"]
)
def test_models_that_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garbage.kws").write_bytes(b"garbage" * 100)
    name, *rest = command.split()
    option = [] if name == "info" else ["--model"]
    result = run_kws(name, *rest, *option, model)
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr.startswith("Error: ")
        and model in result.stderr
        and result.stderr.count("\n") == 1
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "evaluate welcome --positives NAME",
        "calibrate welcome --negatives NAME",
        "speech-commands evaluate x --protocol v2-12 --data NAME",
        "train NAME --data .",
    ],
)
def test_names_that_no_file_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_kws(*arguments.replace("NAME", "x" * 300).split())
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def damaged(workspace: Workspace, kind: str) -> Path:
    """A recording with the word at 1 s and at 3.5 s, damaged after that or elsewhere."""
    samples = read("twice.flac")
    path = workspace.folder / f"{kind}.wav"
    if kind == "truncated":
        soundfile.write(path, np.concatenate([samples, np.zeros(80_000, np.float32)]), 16_000)
        os.truncate(path, 5 * 32_000 + 44)
    else:
        samples[40_000:40_100] = np.nan
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "only the first 5.00 of 10.00 s can be read"),
        ("nan", "100 samples are invalid"),
    ],
    ids=["truncated", "nan"],
)
@pytest.mark.parametrize("command", ["detect", "stream"])
def test_events_before_the_damage_are_written(
    workspace: Workspace, command: str, kind: str, message: str
) -> None:
    path = damaged(workspace, kind)
    result = workspace.run(command, "--json", path)
    assert result.exit_code == 1
    assert events(result.stdout) == expected((str(path), TWICE))
    assert result.stderr.startswith(f"Error: {path}: {message}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
@pytest.mark.parametrize(
    "arguments", ["stream --json caf\udcff.wav", "detect --json caf\udcff.wav", "info"]
)
def test_characters_that_the_output_cannot_encode_are_escaped(
    workspace: Workspace, encoding: str, arguments: str
) -> None:
    shutil.copy("once.wav", "caf\udcff.wav")
    model = workspace.model[1:2] if arguments == "info" else workspace.model
    line = [sys.executable, REPOSITORY / "cli.py", *arguments.split(), *model]
    done = subprocess.run(
        line, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, check=False
    )
    assert done.returncode == 0, done.stderr
    if arguments == "info":
        assert b"rise" in done.stdout
    else:
        assert [json.loads(row)["file"] for row in done.stdout.splitlines()] == [r"caf\udcff.wav"]


def test_missing_packages_are_named() -> None:
    code = "import sys\nsys.modules['torch'] = None\nfrom cli import main\nmain()"
    for arguments in (["train", "yes", "--data", "."], ["detect", "x.wav", "--device", "cuda"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith("Error: ") and "pip install '.[train]'" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "detect once.wav long.wav",
        "detect --jobs 2 once.wav long.wav long.wav",
        "stream --realtime twice.flac",
        "stream -",
    ],
)
def test_ctrl_c_ends_quietly(workspace: Workspace, arguments: str) -> None:
    soundfile.write("long.wav", np.zeros(8_000 * 3600 * 2, np.int16), 8_000)
    with workspace.start(*arguments.split(), stdin=subprocess.PIPE) as process:
        if arguments.endswith(" -"):
            process.stdin.write((read("twice.flac")[:48_000] * 32767).astype("<i2").tobytes())
            process.stdin.flush()
        assert b"rise" in process.stdout.readline()  # it is at work now
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, b"", b"")


CTRL_C_IN_A_DESTRUCTOR = """
import signal, soundfile
from cli import main
def close(sound):
    del soundfile.SoundFile.__del__
    signal.raise_signal(signal.SIGINT)
soundfile.SoundFile.__del__ = close
main()
"""


@pytest.mark.parametrize(
    "arguments", ["detect once.wav", "detect once.wav never.wav", "stream once.wav"]
)
def test_ctrl_c_while_a_recording_is_closed_is_not_lost(
    workspace: Workspace, arguments: str
) -> None:
    line = [sys.executable, "-c", CTRL_C_IN_A_DESTRUCTOR, *arguments.split(), *workspace.model]
    done = subprocess.run(
        line,
        cwd=workspace.folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "")
    assert "rise" in done.stdout


@pytest.mark.parametrize("command", ["detect", "stream"])
def test_a_closed_pipe_is_no_error(workspace: Workspace, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with workspace.start(command, "--json", "twice.flac", stdout=writing) as process:
            assert process.communicate(timeout=20)[1] == b""
    finally:
        os.close(writing)
