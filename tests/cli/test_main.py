"""The command as its users meet it: what each call prints, where, and the status it leaves."""

import csv
import io
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

import kws
from kws.audio.recordings import read
from kws.cli.main import main
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD, EventSettings, Scores
from kws.runtime.spotter import Spotter
from kws.terminal.progress import Meter

RATE = 16_000
REPOSITORY = Path(__file__).resolve().parents[2]
ONCE, TWICE = [2.0], [1.0, 3.5]


@dataclass(frozen=True)
class Workspace:
    """A folder with recordings, and the model option that every call needs."""

    folder: Path
    model: list[str]

    def run(self, command: str, *arguments: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, [command, *map(str, arguments), *self.model], input=stdin)

    def start(self, command: str, *arguments: object, **options: object) -> subprocess.Popen:
        line = [sys.executable, REPOSITORY / "cli.py", command, *map(str, arguments), *self.model]
        pipes = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | options
        return subprocess.Popen(line, cwd=self.folder, **pipes)


@pytest.fixture
def workspace(
    tmp_path: Path, model_path: Path, tone_recording: Callable, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    monkeypatch.chdir(tmp_path)
    tone_recording(tmp_path / "once.wav", ONCE)
    tone_recording(tmp_path / "twice.flac", TWICE, rate=44_100)
    tone_recording(tmp_path / "never.wav", [])
    (tmp_path / "text.wav").write_text("not sound\n" * 50)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "silent").mkdir()
    tone_recording(tmp_path / "folder" / "b.wav", ONCE)
    tone_recording(tmp_path / "folder" / "below" / "a.wav", TWICE)
    return Workspace(tmp_path, ["--model", str(model_path), "--threshold", "0.5"])


def events(out: str) -> list[tuple[str, float]]:
    """File and start of each event in JSON Lines."""
    return [(row["file"], row["start"]) for row in map(json.loads, out.splitlines())]


def expected(*recordings: tuple[str, Sequence[float]]) -> list[tuple[str, float]]:
    return [(name, pytest.approx(at, abs=0.2)) for name, times in recordings for at in times]


# Help


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)], ids=" ".join)
def test_help_has_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0 and result.stderr == ""
    assert "\n  kws " + " ".join(command) in result.stdout


def test_python_m_kws_is_the_command() -> None:
    line = [sys.executable, "-m", "kws"]
    version = subprocess.run([*line, "--version"], cwd=REPOSITORY, capture_output=True, text=True)
    assert (version.stdout, version.returncode) == (f"kws, version {kws.__version__}\n", 0)
    wrong = subprocess.run([*line, "detect"], cwd=REPOSITORY, capture_output=True, text=True)
    assert wrong.stderr.startswith("Usage: kws detect ") and wrong.returncode == 2


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys, cli; print([m for m in ('numpy', 'onnxruntime', 'soundfile', 'torch', 'tqdm', "
        "'miniaudio') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
        ).stdout
        == "[]\n"
    )


def test_detect_imports_only_what_it_needs(workspace: Workspace) -> None:
    heavy = ("torch", "librosa", "matplotlib", "tqdm", "miniaudio", "scipy")
    code = (
        f"import sys\nfrom cli import main\ntry: main()\nfinally: print([m for m in {heavy} if m "
        "in sys.modules])"
    )
    line = [sys.executable, "-c", code, "detect", *workspace.model, workspace.folder / "never.wav"]
    assert subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True).stdout == "[]\n"


# Usage


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
    result = CliRunner().invoke(main, arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize("command", ["detect x.wav", "stream x.wav", "info"])
@pytest.mark.parametrize(
    "model", ["nobody", "none.onnx", "garbage.onnx", "x" * 300, f"{'x' * 300}.onnx"]
)
def test_models_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garbage.onnx").write_bytes(b"garbage" * 100)
    name, *rest = command.split()
    result = CliRunner().invoke(
        main, [name, model] if name == "info" else [name, *rest, "--model", model]
    )
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr.startswith("Error: ")
        and model in result.stderr
        and result.stderr.count("\n") == 1
    )


# Detect


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["once.wav"], [("once.wav", ONCE)]),
        (["never.wav"], []),
        (["twice.flac", "once.wav", "never.wav"], [("twice.flac", TWICE), ("once.wav", ONCE)]),
        (["folder"], [("folder/b.wav", ONCE), ("folder/below/a.wav", TWICE)]),
    ],
    ids=["one", "none", "several", "folder"],
)
@pytest.mark.parametrize("jobs", [1, 3])
def test_detect(workspace: Workspace, paths: list[str], found: list, jobs: int) -> None:
    result = workspace.run("detect", "--json", "--jobs", jobs, *paths)
    assert (result.exit_code, result.stderr) == (0, "")
    assert events(result.stdout) == expected(*found)


def test_text_is_file_word_start_end_score(workspace: Workspace) -> None:
    file, word, start, end, score = workspace.run("detect", "once.wav").stdout.split()
    assert (file, word) == ("once.wav", "rise")
    assert (
        float(start) == pytest.approx(2.0, abs=0.2)
        and float(end) == pytest.approx(2.3, abs=0.2)
        and 0.5 <= float(score) <= 1
    )


def test_the_forms_agree(workspace: Workspace) -> None:
    rows = [
        json.loads(line)
        for line in workspace.run("detect", "--json", "twice.flac").stdout.splitlines()
    ]
    table = list(csv.DictReader(io.StringIO(workspace.run("detect", "--csv", "twice.flac").stdout)))
    assert table == [{key: str(value) for key, value in row.items()} for row in rows]
    labels = [
        line.split("\t")
        for line in workspace.run("detect", "--labels", "twice.flac").stdout.splitlines()
    ]
    assert [(float(start), float(end), word) for start, end, word in labels] == [
        (r["start"], r["end"], r["word"]) for r in rows
    ]


@pytest.mark.parametrize("name", ["once.wav", "twice.flac"])
def test_a_recording_on_standard_input(workspace: Workspace, name: str) -> None:
    result = workspace.run("detect", "--json", "-", stdin=(workspace.folder / name).read_bytes())
    direct = workspace.run("detect", "--json", name)
    assert result.exit_code == 0
    assert result.stdout.replace('"file": "-"', f'"file": "{name}"') == direct.stdout != ""


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "caf\u00e9 \\udcff"), ("ascii", "caf\\xe9 \\udcff")]
)
def test_names_that_standard_output_cannot_take(
    workspace: Workspace, encoding: str, shown: str
) -> None:
    Path("once.wav").rename(os.fsdecode("caf\u00e9 ".encode() + b"\xff.wav"))
    with workspace.start(
        "detect",
        "--json",
        ".",
        "--jobs",
        "2",
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"},
    ) as process:
        out, _ = process.communicate(timeout=20)
    assert f"{shown}.wav" in [file for file, _ in events(out.decode(encoding))]


def test_a_threshold_nothing_reaches(workspace: Workspace) -> None:
    strict = Workspace(workspace.folder, [*workspace.model, "--threshold", "1"])
    result = strict.run("detect", "once.wav")
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("paths", "status"),
    [
        (["once.wav"], 0),
        (["never.wav"], 1),
        (["never.wav", "twice.flac", "gone.wav"], 0),
        (["text.wav"], 1),
    ],
)
def test_quiet_answers_with_its_status(workspace: Workspace, paths: list[str], status: int) -> None:
    result = workspace.run("detect", "-q", *paths)
    assert (result.exit_code, result.stdout) == (status, "")


def test_quiet_still_saves_all_clips(workspace: Workspace) -> None:
    result = workspace.run("detect", "-q", "once.wav", "twice.flac", "--save-clips", "clips")
    assert (result.exit_code, result.stdout) == (0, "")
    assert len([*Path("clips").iterdir()]) == len(ONCE) + len(TWICE)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
@pytest.mark.parametrize(
    "arguments", ["stream --json caf\udcff.wav", "detect --json caf\udcff.wav", "info"]
)
def test_what_the_output_cannot_encode_is_escaped(
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


def test_clips_and_plot(workspace: Workspace) -> None:
    result = workspace.run(
        "detect", "--json", "twice.flac", "--save-clips", "clips", "--plot", "plots/p.png"
    )
    assert result.exit_code == 0 and len(events(result.stdout)) == 2
    names = sorted(path.name for path in Path("clips").iterdir())
    assert names == sorted(f"twice_{start:.2f}_rise.wav" for _, start in events(result.stdout))
    assert Path("plots/p.png").read_bytes()[:4] == b"\x89PNG"
    for name in names:
        assert events(workspace.run("detect", "--json", f"clips/{name}").stdout) == [
            (f"clips/{name}", pytest.approx(0.25, abs=0.2))
        ]


# Bad input: one line each on stderr, the others are still heard


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone.wav", "gone.wav: no such file or directory. Check the path."),
        ("empty.wav", "empty.wav: the file is empty (0 bytes). Record or copy it again."),
        ("text.wav", "text.wav: "),
        ("x" * 300, f"{'x' * 300}: cannot be opened (File name too long)."),
        ("silent", "silent: no recordings in this directory or below it"),
    ],
)
@pytest.mark.parametrize("jobs", [1, 2])
def test_bad_recordings_stop_no_others(
    workspace: Workspace, path: str, message: str, jobs: int
) -> None:
    result = workspace.run("detect", "--json", "--jobs", jobs, path, "once.wav")
    assert result.exit_code == 1
    assert events(result.stdout) == expected(("once.wav", ONCE))
    assert result.stderr.startswith(f"Error: {message}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "evaluate welcome --positives NAME",
        "calibrate welcome --negatives NAME",
        "evaluate x --protocol v2-12 --data NAME",
        "train NAME --data .",
    ],
)
def test_names_that_no_file_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments.replace("NAME", "x" * 300).split())
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
def test_damaged_recordings_are_heard_first(
    workspace: Workspace, command: str, kind: str, message: str
) -> None:
    path = damaged(workspace, kind)
    result = workspace.run(command, "--json", path)
    assert result.exit_code == 1
    assert events(result.stdout) == expected((str(path), TWICE))
    assert result.stderr.startswith(f"Error: {path}: {message}") and result.stderr.count("\n") == 1


def test_errors_about_standard_input_name_it(workspace: Workspace) -> None:
    result = workspace.run("detect", "-", stdin=b"")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: -: the file is empty (0 bytes). Record or copy it again.\n",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--save-clips", "once.wav/clips"], "cannot be written"),
        (["--plot", "once.wav/p.png"], "once.wav/p.png: cannot be written"),
    ],
    ids=["clips", "plot"],
)
def test_places_that_cannot_be_written(
    workspace: Workspace, options: list[str], message: str
) -> None:
    result = workspace.run("detect", "twice.flac", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr.startswith("Error: ")
        and message in result.stderr
        and result.stderr.count("\n") == 1
    )


def test_a_plot_of_hours_is_refused(workspace: Workspace) -> None:
    soundfile.write(
        "long.wav",
        np.concatenate([read("once.wav"), np.zeros(RATE * 16 * 60, np.float32)]),
        RATE,
    )
    result = workspace.run("detect", "long.wav", "--plot", "p.png")
    assert (
        result.exit_code == 1
        and "longer than 15 minutes" in result.stderr
        and not Path("p.png").exists()
    )
    assert result.stdout == ""  # it is told before the recording is heard


def test_a_plot_without_matplotlib_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = workspace.run("detect", "once.wav", "--plot", "p.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "need matplotlib" in result.stderr and "pip install '.[plot]'" in result.stderr


@pytest.mark.parametrize("name", ["gone.wav", "text.wav", "empty.wav"])
def test_what_cannot_be_heard_is_told_once_and_not_drawn(workspace: Workspace, name: str) -> None:
    result = workspace.run("detect", name, "--plot", "p.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr.startswith(f"Error: {name}: ")
        and result.stderr.count("\n") == 1
        and not Path("p.png").exists()
    )


def test_what_the_light_install_lacks_is_told() -> None:
    code = "import sys\nsys.modules['torch'] = None\nfrom cli import main\nmain()"
    for arguments in (["train", "yes", "--data", "."], ["detect", "x.wav", "--device", "cuda"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith("Error: ") and "pip install '.[train]'" in done.stderr


# Stream


@pytest.mark.parametrize("name", ["once.wav", "twice.flac", "never.wav"])
def test_stream_and_detect_hear_the_same(workspace: Workspace, name: str) -> None:
    detected = workspace.run("detect", "--json", name)
    streamed = workspace.run("stream", "--json", name)
    raw = workspace.run("stream", "--json", "-", "--format", "f32le", stdin=read(name).tobytes())
    assert [result.exit_code for result in (detected, streamed, raw)] == [0, 0, 0]
    for other in (streamed.stdout, raw.stdout.replace('"file": "-"', f'"file": "{name}"')):
        assert_same_events(detected.stdout, other)


def assert_same_events(first: str, second: str) -> None:
    """Equal but for the last digits: blocks of other lengths are added up in another order."""
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


# Info


def test_info(model_path: Path) -> None:
    result = CliRunner().invoke(main, ["info", str(model_path)])
    assert (result.exit_code, result.stderr) == (0, "")
    for section in (
        "words",
        "parameters",
        "receptive field seconds",
        "events",
        "calibration",
        "training",
    ):
        assert any(line.strip().startswith(section) for line in result.stdout.splitlines()), section
    assert Spotter.load(model_path).words[0] in result.stdout


# Endings


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
def test_a_reader_that_leaves_is_no_error(workspace: Workspace, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with workspace.start(command, "--json", "twice.flac", stdout=writing) as process:
            assert process.communicate(timeout=20)[1] == b""
    finally:
        os.close(writing)


# Terminal


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


def test_the_meter_shows_time_word_and_score(workspace: Workspace) -> None:
    out, shown = on_a_terminal(workspace, "stream", "--json", "once.wav")
    assert events(out) == expected(("once.wav", ONCE))
    assert "0:02." in shown and "rise █" in shown and "┃" in shown and "│" in shown


def test_the_meter_shows_no_class_that_is_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", shown)
    pooled = np.array([[0.9, 0.1, 0.3]])
    scores = Scores(np.array([0.02]), pooled, pooled, np.zeros((1, 3, 2)))
    Meter(("_silence_", "yes", "no"), EventSettings((UNREACHABLE_THRESHOLD, 0.5, 0.5))).show(
        1.0, np.zeros(320), scores
    )
    assert "no " in shown.getvalue() and "0.30" in shown.getvalue()


def test_short_work_shows_no_progress(workspace: Workspace) -> None:
    assert on_a_terminal(workspace, "detect", "never.wav") == ("", "")


def test_long_work_shows_progress(workspace: Workspace) -> None:
    soundfile.write("long.wav", np.zeros(8_000 * 3600 * 2, np.int16), 8_000)
    out, shown = on_a_terminal(workspace, "detect", "long.wav")
    assert out == "" and "s of audio" in shown and "%" in shown
