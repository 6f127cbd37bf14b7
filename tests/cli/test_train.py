"""`kws train` as a user meets it: what it prints, writes and refuses."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import write_tone_folder

from kws import Spotter
from kws.cli.main import main
from kws.training.detection import command
from kws.training.fit.config import TrainConfig
from kws.training.model import checkpoint, pretrained

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = ("--epochs", "1", "--steps-per-epoch", "1")
# The networks are tiny: more threads only wait for one another.
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}


def kws(*args: str | Path):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_folder_to_model(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = kws("train", "rise", "--data", tiny_model.data, *QUICK, "--json")
    assert result.exit_code == 0, result.stderr
    (epoch,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert epoch.keys() == {"epoch", "loss", "miss_rate", "false_alarms_per_hour"}
    assert "models/rise.onnx (calibrated on" in result.stderr
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["rise.onnx", "rise.pt"]
    assert Spotter.load("rise").words == ("rise",)  # by its name, from the folder it was trained in


def test_epochs_are_told_on_stderr(tiny_model, tmp_path):
    result = kws("train", "rise", "--data", tiny_model.data, "--out", tmp_path / "a.onnx", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "epoch   1 of 1" in result.stderr


def test_a_trunk_whose_stem_looks_at_bands(tiny_model, tmp_path):
    reader, out = (
        pretrained.shipped_checkpoint(pretrained.PHONE_RECOGNIZER_FILE),
        tmp_path / "a.onnx",
    )
    result = kws(
        "train",
        "rise",
        "--data",
        tiny_model.data,
        "--out",
        out,
        "--size",
        "large",
        "--init-from",
        reader,
        *QUICK,
    )
    assert result.exit_code == 0, result.stderr
    assert (
        Spotter.load(out).info.document["training"]["network_config"]["band_channels"]
        == pretrained.band_channels(reader)
        > 0
    )
    result = kws(
        "train", "rise", "--data", tiny_model.data, "--out", out, "--init-from", __file__, *QUICK
    )
    assert (result.exit_code, result.exception.__class__) == (1, SystemExit)
    assert "not a checkpoint" in result.stderr


def test_what_is_left_out_is_a_warning(tmp_path):
    data = write_tone_folder(tmp_path / "data", 20)
    clip = sorted((data / "rise").iterdir())[0]
    clip.write_bytes(b"not sound")
    result = kws("train", "rise", "--data", data, "--out", tmp_path / "a.onnx", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith(f"Warning: left out: {clip}: ")
    assert "Error" not in result.stderr.splitlines()[0]


def test_interrupted_run_leaves_a_checkpoint_and_goes_on(tiny_model, tmp_path):
    out = tmp_path / "a model.onnx"
    command = [
        sys.executable,
        "-m",
        "cli",
        "train",
        "rise",
        "--data",
        str(tiny_model.data),
        "--out",
        str(out),
        "--steps-per-epoch",
        "1",
        "--json",
    ]
    environment = ALONE | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [*command, "--epochs", "500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "go on with --resume" in complaints
    # None where it came between two steps.
    assert complaints.count("stopping after this step (Ctrl-C again: now)") <= 1
    assert "Traceback" not in complaints
    done = len(checkpoint.load(out.with_suffix(".pt"))["history"])
    assert 1 <= done < 500
    assert [path.name for path in tmp_path.iterdir()] == ["a model.pt"]

    changed = kws("train", "rise", "--data", tiny_model.data, "--out", out, *QUICK, "--resume")
    assert changed.exit_code == 1
    assert "other training settings" in changed.stderr


@pytest.fixture
def interrupted(tiny_model, tmp_path) -> Callable[..., tuple[int, str]]:
    """Trains to `tmp_path`, with Ctrl-C (or another signal) as soon as a line on stderr holds
    `until`: exit status and stderr."""

    def run(
        until: str, *args: str, by: signal.Signals = signal.SIGINT, **options: object
    ) -> tuple[int, str]:
        line = [
            sys.executable,
            REPOSITORY / "cli.py",
            "train",
            "rise",
            "--data",
            tiny_model.data,
            "--out",
            tmp_path / "a.onnx",
            *args,
        ]
        with subprocess.Popen(
            line, stderr=subprocess.PIPE, text=True, env=ALONE, **options
        ) as process:
            told = []
            while not told or until not in told[-1]:
                told.append(process.stderr.readline())
                assert told[-1], f"{until!r} was never told: {told}"
            process.send_signal(by)
            told += process.communicate(timeout=180)[1:]  # a busy machine may take its time
        return process.returncode, "".join(told)

    return run


def test_interrupted_before_the_first_epoch_there_is_nothing_to_go_on_from(interrupted, tmp_path):
    status, told = interrupted("min of the word", "--steps-per-epoch", "100000")
    assert status == 130
    assert (
        told.endswith("stopped before the first epoch was saved\n")
        and "--resume" not in told
        and "Traceback" not in told
    )
    assert list(tmp_path.iterdir()) == []


def test_resumed_where_nothing_was_saved_it_begins_anew_and_says_so(tiny_model, tmp_path):
    result = kws(
        "train", "rise", "--data", tiny_model.data, "--out", tmp_path / "a.onnx", *QUICK, "--resume"
    )
    assert result.exit_code == 0, result.stderr
    assert (
        f"{tmp_path / 'a.pt'}: nothing was saved there yet; training begins anew\n" in result.stderr
    )
    kws("train", "rise", "--data", tiny_model.data, "--out", tmp_path / "b.onnx", *QUICK)
    a, b = (checkpoint.load(tmp_path / name)["ema_network"] for name in ("a.pt", "b.pt"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "until", ["min of the word", "epoch   1 of 4"], ids=["in the first epoch", "later"]
)
def test_killed_it_goes_on_to_the_same_weights(interrupted, tiny_model, tmp_path, until):
    """SIGKILL, at no moment in particular: nothing can be tidied up."""
    wish = ("--steps-per-epoch", "2", "--epochs", "4")
    assert interrupted(until, *wish, by=signal.SIGKILL)[0] == -signal.SIGKILL
    for name, more in (("a.onnx", ["--resume"]), ("b.onnx", [])):
        result = kws(
            "train", "rise", "--data", tiny_model.data, "--out", tmp_path / name, *wish, *more
        )
        assert result.exit_code == 0, result.stderr
    a, b = (checkpoint.load(tmp_path / name) for name in ("a.pt", "b.pt"))
    assert all(
        torch.equal(a["ema_network"][name], b["ema_network"][name]) for name in a["ema_network"]
    )
    assert a["history"] == b["history"]


def test_interrupted_again_before_an_epoch_the_checkpoint_is_as_it_was(interrupted, tmp_path):
    interrupted("epoch   1 of 3", "--steps-per-epoch", "2", "--epochs", "3")
    before = (tmp_path / "a.pt").read_bytes()
    status, told = interrupted(
        "resuming after", "--steps-per-epoch", "2", "--epochs", "3", "--resume"
    )
    assert status == 130
    assert told.endswith(
        f"stopped before the first epoch was saved; {tmp_path / 'a.pt'} is as it was\n"
    )
    assert (tmp_path / "a.pt").read_bytes() == before


def test_interrupted_while_it_calibrates(interrupted, tmp_path):
    status, told = interrupted("exporting and calibrating", *QUICK)
    assert status == 130
    assert (
        told.endswith("a.pt holds the last whole epoch, go on with --resume\n")
        and "Traceback" not in told
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_started_deaf_to_interrupts_it_stays_deaf(interrupted):
    status, _ = interrupted(
        "min of the word", *QUICK, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    assert status == 0


def test_interrupt_waits_for_the_end_of_a_step_and_for_nothing_else(capfd):
    entry = {"epoch": 1, "loss": 0.1, "miss_rate": 0.5, "false_alarms_per_hour": 1.0}
    places = {
        "first step": [],
        "second step": [("step", 0, 0.1)],
        "validation": [("step", 0, 0.1), ("step", 1, 0.1)],
        "second epoch of a round": [
            ("step", 2, 0.1),
            ("step", 3, 0.1),
            ("epoch", {**entry, "epoch": 2}),
        ],
        "calibration of the first round": [("step", 1, 0.1), ("epoch", entry)],
        "calibration": [("step", 5, 0.1), ("epoch", {**entry, "epoch": 3})],
    }
    waited = {}
    for place, calls in places.items():
        reporter = command._ProgressReporter(
            [TrainConfig(epochs=epochs, steps_per_epoch=2) for epochs in (1, 2)], True
        )
        with pytest.raises(KeyboardInterrupt), reporter.interrupts:
            for name, *values in calls:
                getattr(reporter, name)(*values)
                assert not reporter.should_stop()
            waited[place] = False
            signal.raise_signal(signal.SIGINT)
            waited[place] = True
            reporter.step(1, 0.1)
            if reporter.should_stop():
                raise KeyboardInterrupt
            pytest.fail("it was not stopped at the end of the step")
        reporter.close()
    assert [place for place, it_did in waited.items() if it_did] == [
        "second step",
        "second epoch of a round",
    ]
    assert capfd.readouterr().err.count("stopping after this step (Ctrl-C again: now)") == 2


@pytest.mark.parametrize(
    ("epochs", "told", "checkpoint"),
    [
        ((3,), [1], "a.pt"),
        ((2, 1), [1], "a.first.pt"),
        ((2, 1), [1, 2], "a.first.pt"),
        ((2, 1), [1, 2, 3], "a.pt"),
        ((2, 1), [3], "a.pt"),
    ],
)
def test_what_was_saved_last_is_named_by_its_round(epochs, told, checkpoint):
    reporter = command._ProgressReporter([TrainConfig(epochs=each) for each in epochs], True)
    for epoch in told:
        reporter.epoch(
            {"epoch": epoch, "loss": 0.1, "miss_rate": 0.5, "false_alarms_per_hour": 1.0}
        )
    assert reporter.checkpoint(Path("a.onnx")).name == checkpoint
    reporter.close()


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["hello", "--data", "{data}"], 1, "no clips of 'hello'. Words there: fall, flat, rise"),
        (["rise", "--data", "{empty}"], 1, "no recordings in this directory"),
        (
            ["rise", "--data", "{data}", "--negatives", "{empty}"],
            1,
            "no recordings in this directory",
        ),
        (
            ["rise", "--data", "{data}", "--in-context", "{data}/fall"],
            1,
            "no folder named after a word",
        ),
        (
            ["rise", "--data", "{data}", "--out", "{empty}/model.bin"],
            1,
            "a model file is named NAME.onnx",
        ),
        (["rise"], 2, "Give either --data DIR, or --from-text"),
        (["--data", "{data}"], 2, "Name the words: kws train WORD... --data DIR"),
        (["rise", "--data", "{data}", "--learning-rate", "2"], 2, "is not in the range 0<x<=1"),
        (["rise", "--data", "{data}", "--learning-rate", "nan"], 2, "nan is not in the range"),
    ],
    ids=[
        "unknown word",
        "empty data",
        "empty negatives",
        "phrases of no word",
        "name of the model",
        "no data",
        "no word",
        "steps too large",
        "steps that are none",
    ],
)
def test_refusals(tiny_model, tmp_path, args, code, message):
    result = kws(
        "train", *(arg.format(data=tiny_model.data, empty=tmp_path) for arg in args), *QUICK
    )
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_full_disk_takes_no_lines_of_json(tiny_model, tmp_path):
    line = [
        sys.executable,
        REPOSITORY / "cli.py",
        "train",
        "rise",
        "--data",
        tiny_model.data,
        "--out",
        tmp_path / "a.onnx",
        *QUICK,
        "--json",
    ]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, env=ALONE)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "\nError: cannot write (No space left on device). Make room, or write elsewhere.\n"
    )
    assert "Traceback" not in done.stderr


def test_full_disk_leaves_no_partial_file(tiny_model, tmp_path):
    target = tmp_path / "no" / "models"
    target.parent.write_text("a file where a folder should be")
    result = kws("train", "rise", "--data", tiny_model.data, "--out", target / "a.onnx", *QUICK)
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


def test_refused_trainings_leave_no_folder(tmp_path):
    result = kws(
        "train",
        "rise",
        "--data",
        tmp_path / "none",
        "--out",
        tmp_path / "new" / "models" / "a.onnx",
        *QUICK,
    )
    assert result.exit_code == 1
    assert not list(tmp_path.iterdir())
