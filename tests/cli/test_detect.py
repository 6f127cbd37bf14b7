"""`kws detect`: what it prints, where, and its exit status."""

import csv
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tones import RATE
from workspace import ONCE, TWICE, Workspace, events, expected, on_a_terminal

from kws.audio.recordings import read


@pytest.mark.parametrize(
    ("paths", "expected_events"),
    [
        (["once.wav"], [("once.wav", ONCE)]),
        (["never.wav"], []),
        (["twice.flac", "once.wav", "never.wav"], [("twice.flac", TWICE), ("once.wav", ONCE)]),
        (["folder"], [("folder/b.wav", ONCE), ("folder/below/a.wav", TWICE)]),
    ],
    ids=["one", "none", "several", "folder"],
)
@pytest.mark.parametrize("jobs", [1, 3])
def test_detect(workspace: Workspace, paths: list[str], expected_events: list, jobs: int) -> None:
    result = workspace.run("detect", "--json", "--jobs", jobs, *paths)
    assert (result.exit_code, result.stderr) == (0, "")
    assert events(result.stdout) == expected(*expected_events)


def test_text_is_file_word_start_end_score(workspace: Workspace) -> None:
    file, word, start, end, score = workspace.run("detect", "once.wav").stdout.split()
    assert (file, word) == ("once.wav", "rise")
    assert (
        float(start) == pytest.approx(2.0, abs=0.2)
        and float(end) == pytest.approx(2.3, abs=0.2)
        and 0.5 <= float(score) <= 1
    )


def test_all_formats_hold_the_same_events(workspace: Workspace) -> None:
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


def test_a_threshold_that_no_score_reaches(workspace: Workspace) -> None:
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
def test_quiet_reports_by_its_exit_status(
    workspace: Workspace, paths: list[str], status: int
) -> None:
    result = workspace.run("detect", "-q", *paths)
    assert (result.exit_code, result.stdout) == (status, "")


def test_quiet_still_saves_all_clips(workspace: Workspace) -> None:
    result = workspace.run("detect", "-q", "once.wav", "twice.flac", "--save-clips", "clips")
    assert (result.exit_code, result.stdout) == (0, "")
    assert len([*Path("clips").iterdir()]) == len(ONCE) + len(TWICE)


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
    assert result.stdout == ""  # it is reported before the recording is read


def test_a_plot_without_matplotlib_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = workspace.run("detect", "once.wav", "--plot", "p.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "need matplotlib" in result.stderr and "pip install '.[plot]'" in result.stderr


@pytest.mark.parametrize("name", ["gone.wav", "text.wav", "empty.wav"])
def test_an_unreadable_recording_is_reported_once_and_not_plotted(
    workspace: Workspace, name: str
) -> None:
    result = workspace.run("detect", name, "--plot", "p.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr.startswith(f"Error: {name}: ")
        and result.stderr.count("\n") == 1
        and not Path("p.png").exists()
    )


@pytest.mark.slow
def test_long_work_shows_progress(workspace: Workspace) -> None:
    soundfile.write("long.wav", np.zeros(8_000 * 3600 * 2, np.int16), 8_000)
    out, shown = on_a_terminal(workspace, "detect", "long.wav")
    assert out == "" and "s of audio" in shown and "%" in shown
