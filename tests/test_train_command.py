"""`kws train` as a user meets it: what it prints, writes and refuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from kws import Spotter
from kws.training import checkpoint

QUICK = ("--epochs", "1", "--steps", "1")


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


def test_interrupted_run_leaves_a_checkpoint_and_goes_on(tiny_model, tmp_path):
    out = tmp_path / "a model.onnx"
    command = [sys.executable, "-m", "cli", "train", "rise", "--data", str(tiny_model.data), "--out", str(out), "--steps", "1", "--json"]
    environment = os.environ | {"PYTHONPATH": str(Path(main.callback.__code__.co_filename).parent)}
    process = subprocess.Popen([*command, "--epochs", "500"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with --resume" in complaints
    assert "Traceback" not in complaints
    done = len(checkpoint.load(out.with_suffix(".pt"))["history"])
    assert 1 <= done < 500
    assert [path.name for path in tmp_path.iterdir()] == ["a model.pt"]

    changed = kws("train", "rise", "--data", tiny_model.data, "--out", out, *QUICK, "--resume")
    assert changed.exit_code == 1
    assert "other training settings" in changed.stderr


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["hello", "--data", "{data}"], 1, "no clips of 'hello'. Words there: fall, flat, rise"),
        (["rise", "--data", "{empty}"], 1, "no recordings in this directory"),
        (["rise", "--data", "{data}", "--negatives", "{empty}"], 1, "no recordings in this directory"),
        (["rise", "--data", "{data}", "--phrases", "{data}/fall"], 1, "no folder named after a word"),
        (["rise", "--data", "{data}", "--out", "{empty}/model.bin"], 1, "a model file is named NAME.onnx"),
        (["rise", "--data", "{data}", "--out", "{empty}/a.onnx", "--resume"], 1, "no such checkpoint"),
        (["rise"], 2, "Missing option '--data'"),
        (["--data", "{data}"], 2, "Missing argument 'WORD...'"),
    ],
    ids=[
        "unknown word",
        "empty data",
        "empty negatives",
        "phrases of no word",
        "name of the model",
        "nothing to resume",
        "no data",
        "no word",
    ],
)
def test_refusals(tiny_model, tmp_path, args, code, message):
    result = kws("train", *(arg.format(data=tiny_model.data, empty=tmp_path) for arg in args), *QUICK)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_full_disk_leaves_no_partial_file(tiny_model, tmp_path):
    target = tmp_path / "no" / "models"
    target.parent.write_text("a file where a folder should be")
    result = kws("train", "rise", "--data", tiny_model.data, "--out", target / "a.onnx", *QUICK)
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
