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
from tones import write_tone_folder
from workspace import REPOSITORY, run_kws

from kws import Spotter
from kws.cli.training_reporter import Stage, TrainingReporter
from kws.training.fit.config import TrainConfig
from kws.training.model import checkpoint, pretrained

pytestmark = pytest.mark.slow

QUICK = ("--epochs", "1", "--steps-per-epoch", "1")
# The networks are tiny: more threads only wait for one another.
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}


def test_folder_to_model(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_kws("train", "rise", "--data", tiny_model.data, *QUICK, "--json")
    assert result.exit_code == 0, result.stderr
    (epoch,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert epoch.keys() == {"epoch", "loss", "miss_rate", "false_alarms_per_hour"}
    assert "models/rise.kws (calibrated on" in result.stderr
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["rise.kws", "rise.pt"]
    assert Spotter.load("rise").words == ("rise",)  # by its name, from the folder it was trained in


def test_epochs_are_reported_on_stderr(tiny_model, tmp_path):
    result = run_kws(
        "train", "rise", "--data", tiny_model.data, "--out", tmp_path / "a.kws", *QUICK
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "epoch   1 of 1" in result.stderr


def test_the_stem_is_that_of_the_checkpoint(tiny_model, tmp_path):
    recognizer, out = (
        pretrained.shipped_checkpoint(pretrained.PHONE_RECOGNIZER_FILE),
        tmp_path / "a.kws",
    )
    result = run_kws(
        "train",
        "rise",
        "--data",
        tiny_model.data,
        "--out",
        out,
        "--size",
        "large",
        "--init-from",
        recognizer,
        *QUICK,
    )
    assert result.exit_code == 0, result.stderr
    assert (
        Spotter.load(out).info.document["training"]["network_config"]["band_channels"]
        == pretrained.band_channels(recognizer)
        > 0
    )
    result = run_kws(
        "train", "rise", "--data", tiny_model.data, "--out", out, "--init-from", __file__, *QUICK
    )
    assert (result.exit_code, result.exception.__class__) == (1, SystemExit)
    assert "not a checkpoint" in result.stderr


def test_unreadable_clips_are_a_warning(tmp_path):
    data = write_tone_folder(tmp_path / "data", 20)
    clip = sorted((data / "rise").iterdir())[0]
    clip.write_bytes(b"not sound")
    result = run_kws("train", "rise", "--data", data, "--out", tmp_path / "a.kws", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith(f"Warning: left out: {clip}: ")
    assert "Error" not in result.stderr.splitlines()[0]


def test_an_interrupted_run_leaves_a_checkpoint(tiny_model, tmp_path):
    out = tmp_path / "a model.kws"
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

    changed = run_kws("train", "rise", "--data", tiny_model.data, "--out", out, *QUICK, "--resume")
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
            tmp_path / "a.kws",
            *args,
        ]
        with subprocess.Popen(
            line, stderr=subprocess.PIPE, text=True, env=ALONE, **options
        ) as process:
            output = []
            while not output or until not in output[-1]:
                output.append(process.stderr.readline())
                assert output[-1], f"{until!r} was never output: {output}"
            process.send_signal(by)
            output += process.communicate(timeout=180)[1:]  # a busy machine may take its time
        return process.returncode, "".join(output)

    return run


def test_an_interrupt_before_the_first_epoch(interrupted, tmp_path):
    status, output = interrupted("min of the word", "--steps-per-epoch", "100000")
    assert status == 130
    assert (
        output.endswith("stopped before the first epoch was saved\n")
        and "--resume" not in output
        and "Traceback" not in output
    )
    assert list(tmp_path.iterdir()) == []


def test_resume_without_a_checkpoint_starts_anew(tiny_model, tmp_path):
    result = run_kws(
        "train", "rise", "--data", tiny_model.data, "--out", tmp_path / "a.kws", *QUICK, "--resume"
    )
    assert result.exit_code == 0, result.stderr
    assert (
        f"{tmp_path / 'a.pt'}: nothing was saved there yet; training begins anew\n" in result.stderr
    )
    run_kws("train", "rise", "--data", tiny_model.data, "--out", tmp_path / "b.kws", *QUICK)
    a, b = (checkpoint.load(tmp_path / name)["ema_network"] for name in ("a.pt", "b.pt"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "until", ["min of the word", "epoch   1 of 4"], ids=["in the first epoch", "later"]
)
def test_a_killed_run_resumes_to_the_same_weights(interrupted, tiny_model, tmp_path, until):
    """SIGKILL, at no moment in particular: nothing can be tidied up."""
    settings = ("--steps-per-epoch", "2", "--epochs", "4")
    assert interrupted(until, *settings, by=signal.SIGKILL)[0] == -signal.SIGKILL
    for name, more in (("a.kws", ["--resume"]), ("b.kws", [])):
        result = run_kws(
            "train", "rise", "--data", tiny_model.data, "--out", tmp_path / name, *settings, *more
        )
        assert result.exit_code == 0, result.stderr
    a, b = (checkpoint.load(tmp_path / name) for name in ("a.pt", "b.pt"))
    assert all(
        torch.equal(a["ema_network"][name], b["ema_network"][name]) for name in a["ema_network"]
    )
    assert a["history"] == b["history"]


def test_a_second_interrupt_before_an_epoch_keeps_the_checkpoint(interrupted, tmp_path):
    interrupted("epoch   1 of 3", "--steps-per-epoch", "2", "--epochs", "3")
    before = (tmp_path / "a.pt").read_bytes()
    status, output = interrupted(
        "resuming after", "--steps-per-epoch", "2", "--epochs", "3", "--resume"
    )
    assert status == 130
    assert output.endswith(
        f"stopped before the first epoch was saved; {tmp_path / 'a.pt'} is as it was\n"
    )
    assert (tmp_path / "a.pt").read_bytes() == before


def test_an_interrupt_during_calibration(interrupted, tmp_path):
    status, output = interrupted("exporting and calibrating", *QUICK)
    assert status == 130
    assert (
        output.endswith("a.pt holds the last complete epoch, go on with --resume\n")
        and "Traceback" not in output
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_run_started_to_ignore_interrupts_ignores_them(interrupted):
    status, _ = interrupted(
        "min of the word", *QUICK, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    assert status == 0


METRICS = {"epoch": 1, "loss": 0.1, "miss_rate": 0.5, "false_alarms_per_hour": 1.0}


def make_reporter(*epochs: int) -> TrainingReporter:
    """The reporter of a training in stages of so many epochs."""
    stages = [
        Stage(TrainConfig(epochs=count, steps_per_epoch=2), Path(f"{number}.pt"))
        for number, count in enumerate(epochs)
    ]
    return TrainingReporter(stages, as_json=True)


@pytest.mark.parametrize(
    ("calls", "waits"),
    [
        ([], False),
        ([("step", 0, 0.1)], True),
        ([("step", 0, 0.1), ("step", 1, 0.1)], False),
        ([("step", 2, 0.1), ("step", 3, 0.1), ("epoch", {**METRICS, "epoch": 2})], True),
        ([("step", 1, 0.1), ("epoch", METRICS)], False),
        ([("step", 5, 0.1), ("epoch", {**METRICS, "epoch": 3})], False),
    ],
    ids=[
        "first step",
        "second step",
        "validation",
        "second epoch of a stage",
        "calibration of the first stage",
        "calibration",
    ],
)
def test_an_interrupt_waits_for_the_end_of_a_step_only(calls, waits, capfd):
    reporter = make_reporter(1, 2)
    has_waited = False
    with pytest.raises(KeyboardInterrupt), reporter.interrupts:
        for name, *values in calls:
            getattr(reporter, name)(*values)
            assert not reporter.should_stop()
        signal.raise_signal(signal.SIGINT)
        has_waited = True
        reporter.step(1, 0.1)
        assert reporter.should_stop()
        raise KeyboardInterrupt
    reporter.close()
    assert has_waited == waits
    message = "stopping after this step (Ctrl-C again: now)"
    assert capfd.readouterr().err.count(message) == waits


@pytest.mark.parametrize(
    ("stages", "epoch", "checkpoint"),
    [
        ((3,), 1, "0.pt"),
        ((2, 1), 1, "0.pt"),
        ((2, 1), 2, "0.pt"),
        ((2, 1), 3, "1.pt"),
    ],
)
def test_the_checkpoint_of_the_stage_is_named(stages, epoch, checkpoint):
    reporter = make_reporter(*stages)
    reporter.epoch({**METRICS, "epoch": epoch})
    assert reporter.checkpoint == Path(checkpoint)
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
        (["rise", "--data", "{data}", "--corpus", "{empty}"], 1, "{empty}: no transcripts."),
        (
            ["rise", "--data", "{data}", "--corpus", "{empty}/none"],
            1,
            "{empty}/none: no such folder. Check the path of --corpus.",
        ),
        (
            ["rise", "--data", "{data}", "--out", "{empty}/model.bin"],
            1,
            "a model file is named NAME.kws",
        ),
        (["rise"], 2, "Give either --data DIR, or --from-text"),
        (["--data", "{data}"], 2, "Name the words: kws train WORD... --data DIR"),
        ([*map(str, range(63)), "--data", "{data}"], 2, "63 words. A model has 62 at most."),
        (["rise", "--data", "{data}", "--synth-clips", "20"], 2, "--synth-clips is an option of"),
        (["rise", "--data", "{data}", "--learning-rate", "2"], 2, "is not in the range 0<x<=1"),
        (["rise", "--data", "{data}", "--learning-rate", "nan"], 2, "nan is not in the range"),
    ],
    ids=[
        "unknown word",
        "empty data",
        "empty negatives",
        "in context of no word",
        "corpus without transcripts",
        "corpus that is missing",
        "name of the model",
        "no data",
        "no word",
        "too many words",
        "synthesis without text",
        "learning rate too high",
        "learning rate that is none",
    ],
)
def test_refusals(tiny_model, tmp_path, args, code, message):
    result = run_kws(
        "train", *(arg.format(data=tiny_model.data, empty=tmp_path) for arg in args), *QUICK
    )
    assert result.exit_code == code
    assert message.format(empty=tmp_path) in result.stderr
    assert "Traceback" not in result.stderr


def test_json_to_a_full_disk(tiny_model, tmp_path):
    line = [
        sys.executable,
        REPOSITORY / "cli.py",
        "train",
        "rise",
        "--data",
        tiny_model.data,
        "--out",
        tmp_path / "a.kws",
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


def test_a_folder_that_cannot_be_made(tiny_model, tmp_path):
    target = tmp_path / "no" / "models"
    target.parent.write_text("a file where a folder should be")
    result = run_kws("train", "rise", "--data", tiny_model.data, "--out", target / "a.kws", *QUICK)
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


def test_a_refused_training_leaves_no_folder(tmp_path):
    result = run_kws(
        "train",
        "rise",
        "--data",
        tmp_path / "none",
        "--out",
        tmp_path / "new" / "models" / "a.kws",
        *QUICK,
    )
    assert result.exit_code == 1
    assert not list(tmp_path.iterdir())


def test_a_corpus_is_read_before_anything_is_synthesized(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "sentences.csv").write_text("file,words\n")
    result = run_kws(
        *("train", "hey rocket", "--from-text", "--corpus", tmp_path / "corpus"),
        *("--out", tmp_path / "a.kws"),
        *QUICK,
    )
    assert result.exit_code == 1
    assert "no columns file and text" in result.stderr
    assert "synthesizing" not in result.stderr
