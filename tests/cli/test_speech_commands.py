"""`kws train --protocol` and `kws evaluate --protocol` as a user meets them."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from conftest import RATE, write_tone_folder

from kws import Spotter
from kws.cli.main import main
from kws.training.data.clips import find_clips
from kws.training.data.splits import assign_split
from kws.training.model import pretrained
from kws.training.model.torch_engine import load_network
from kws.training.speech_commands import command

QUICK = ("--epochs", "1", "--steps-per-epoch", "2")


def kws(*args: str | Path):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = write_tone_folder(tmp_path_factory.mktemp("sorting") / "data")
    noise = 0.1 * np.random.default_rng(0).standard_normal(20 * RATE)
    soundfile.write(folder / "_background_noise_" / "long.wav", noise, RATE)
    return folder


@pytest.fixture(scope="module")
def trained(data) -> Path:
    path = data.parent / "rise_fall.onnx"
    result = kws(
        "train",
        "rise",
        "fall",
        "--protocol",
        "words",
        "--data",
        data,
        "--negatives",
        data / "flat",
        "--out",
        path,
        *QUICK,
    )
    assert result.exit_code == 0, result.output
    assert "epoch   1 of 1" in result.stderr
    assert "% right" in result.stderr
    assert (
        "are reported at thresholds from" in result.stderr
        and "too little held-out speech" in result.stderr
    )
    return path


def test_trained_model_is_judged_by_the_same_protocol(trained, data):
    told = kws("evaluate", trained, "--protocol", "words", "--data", data)
    assert told.exit_code == 0, told.output
    assert "clips right (95 %:" in told.stdout
    report = json.loads(
        kws("evaluate", trained, "--protocol", "words", "--data", data, "--json").stdout
    )
    assert report["protocol"] == "words"
    assert set(report["sets"]["test"]["by_class"]) <= {"rise", "fall", "_unknown_", "_silence_"}


def test_reading_of_all_clips_can_be_watched(trained, data, capsys):
    watched = []

    def reading(clips):
        for clip in clips:
            watched.append(clip)
            yield clip

    command.evaluate(str(trained), "words", data, as_json=True, warn=pytest.fail, progress=reading)
    test = Counter(
        clip.label
        for clip in find_clips(data)
        if clip.split == "test" or clip.label == "_background_noise_"
    )
    words = test["rise"] + test["fall"]
    unknown = min(test["flat"], round(words / 2))
    # To judge, nothing but the test is read.
    assert len(watched) == words + unknown + test["_background_noise_"]


@pytest.mark.parametrize("option", ["--negatives", "--background"])
def test_missing_folders_are_told_before_anything_is_read(tmp_path, option):
    result = kws(
        "train",
        "rise",
        "--protocol",
        "words",
        "--data",
        tmp_path,
        option,
        tmp_path / "none",
        *QUICK,
    )
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"Error: {tmp_path / 'none'}: no such folder. Check the path of {option}.\n"
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [(pretrained.PHONE_RECOGNIZER_FILE, "is a network of another size"), ("none.pt", "none.pt")],
)
def test_so_are_trunks_that_do_not_fit(tmp_path, name, told):
    result = kws(
        "train",
        "rise",
        "--protocol",
        "words",
        "--data",
        tmp_path,
        "--init-from",
        pretrained.shipped_checkpoint(name) or tmp_path / name,
        *QUICK,
    )
    assert result.exit_code == 1 and told in result.stderr
    assert "recordings" not in result.stderr


def test_detectors_and_sorting_networks_of_the_same_words_keep_apart(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        kws("train", "rise", "rise", "--protocol", "words", "--data", data, *QUICK).exit_code == 0
    )
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        "words-rise.onnx",
        "words-rise.pt",
    ]


def test_background_is_more_noise(trained, data, tmp_path):
    more = ("--negatives", data / "flat", "--background", data / "fall")
    result = kws(
        "train",
        "rise",
        "fall",
        "--protocol",
        "words",
        "--data",
        data,
        *more,
        "--out",
        tmp_path / "a.onnx",
        *QUICK,
    )
    assert result.exit_code == 0, result.output
    prints = [
        Spotter.load(path).info.document["training"]["data_fingerprint"]
        for path in (trained, tmp_path / "a.onnx")
    ]
    assert prints[1].startswith(prints[0] + "-")


def test_it_begins_with_the_layers_of_another_network(trained, data, tmp_path):
    args = (
        "train",
        "rise",
        "--protocol",
        "words",
        "--data",
        data,
        "--learning-rate",
        "1e-12",
        *QUICK,
    )
    result = kws(*args, "--init-from", trained.with_suffix(".pt"), "--out", tmp_path / "a.onnx")
    assert result.exit_code == 0, result.output
    theirs, mine = (
        load_network(path.with_suffix(".pt")).state_dict()
        for path in (trained, tmp_path / "a.onnx")
    )
    layers = [name for name in mine if name.endswith("conv.weight")]
    assert layers and all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in layers)


@pytest.mark.parametrize("dictionary", [True, False], ids=["dictionary", "none"])
def test_words_are_told_apart_by_their_sounds_where_the_trunk_reads(
    data, tmp_path, monkeypatch, dictionary
):
    if not dictionary:
        monkeypatch.setattr("kws.synth.pronunciation.find_spec", lambda name: None)
    path, on = tmp_path / "a.onnx", ("--protocol", "words", "--data", data)
    result = kws(
        "train",
        "rise",
        *on,
        "--init-from",
        pretrained.shipped_checkpoint(pretrained.ENCODER_CONV2D_FILE),
        "--out",
        path,
        *QUICK,
    )
    assert result.exit_code == 0, result.output
    assert ("without regard to their sounds" in result.stderr) is not dictionary
    info = Spotter.load(path).info
    assert ("lexicon" in info.document, bool(info.phones)) == (dictionary, dictionary)
    assert kws("evaluate", path, *on).exit_code == 0
    if dictionary:
        known = {"rise": ["ɹIz"], "_unknown_": [], "_silence_": []}
        assert info.document["lexicon"] == {"known": known, "others": ["fɔl", "flæt"]}
        assert "ɹIz" in kws("info", path).stdout


def test_what_is_no_word_is_no_event(trained):
    spotter = Spotter.load(trained)
    assert spotter.words == ("rise", "fall", "_unknown_", "_silence_")
    noise = 0.1 * np.random.default_rng(1).standard_normal(3 * RATE).astype(np.float32)
    for each in (spotter, Spotter.load(trained, threshold=1e-6)):
        assert not [event for event in each.detect(noise, RATE) if event.word.startswith("_")]


def test_words_are_evaluated_and_classes_that_are_none_are_not(trained, data, tmp_path):
    page = tmp_path / "page.html"
    result = kws(
        "evaluate",
        trained,
        "--positives",
        data,
        "--negatives",
        data / "flat",
        "--snr",
        "clean",
        "--json",
        "--html",
        page,
    )
    assert result.exit_code == 0, result.output
    assert "Warning" not in result.stderr
    report = json.loads(result.stdout)
    assert report["words"] == [word["word"] for word in report["results"]] == ["rise", "fall"]
    assert "_silence_" not in page.read_text()


def test_nor_after_it_was_calibrated(trained, tmp_path):
    noise = 0.1 * np.random.default_rng(2).standard_normal(20 * RATE)
    soundfile.write(tmp_path / "noise.wav", noise, RATE)
    result = kws("calibrate", trained, "--negatives", tmp_path, "--out", tmp_path / "here.onnx")
    assert result.exit_code == 0, result.output
    assert "_silence_" not in result.stdout
    assert (
        Spotter.load(tmp_path / "here.onnx").events.threshold[2:]
        == Spotter.load(trained).events.threshold[2:]
    )


def test_folders_without_enough_speakers(data, trained, tmp_path):
    folder, on = (
        shutil.copytree(data, tmp_path / "data"),
        ("--protocol", "words", "--data", tmp_path / "data"),
    )
    for path in [*folder.glob("[rf]*/*.wav")]:
        path.rename(path.with_name(f"one_nohash_{path.stem[1:4]}.wav"))
    assert assign_split("one") == "train"
    trains, judges = (
        ("train", "rise", "fall", *on, "--out", tmp_path / "a.onnx", *QUICK),
        ("evaluate", trained, *on),
    )
    for result, said in (
        (kws(*trains), "no clips to choose by"),
        (kws(*judges), "no clips to judge by"),
    ):
        assert (result.exit_code, "Traceback" in result.output) == (1, False), result.output
        assert said in result.stderr


def test_another_trunk_is_noticed_on_resume(trained, data, tmp_path):
    command = (
        "train",
        "rise",
        "--protocol",
        "words",
        "--data",
        data,
        "--out",
        tmp_path / "a.onnx",
        *QUICK,
    )
    assert (
        kws(
            *command, "--learning-rate", "0.002", "--init-from", trained.with_suffix(".pt")
        ).exit_code
        == 0
    )
    result = kws(*command, "--learning-rate", "0.002", "--resume")
    assert result.exit_code == 1
    assert "was made with another trunk" in result.stderr


def test_info_says_what_the_model_is(trained):
    told = kws("info", trained)
    assert told.exit_code == 0, told.output
    assert "words" in told.stdout


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("train", "--data", "."), "Name the words"),
        (("train", "--protocol", "words", "--data", "."), "Name the words"),
        (("train", "yes", "--protocol", "v2-12", "--data", "."), "has its own words"),
        (("train", "--protocol", "v2-12", "--data", ".", "--in-context", "."), "do not apply"),
        (("evaluate", "welcome"), "Give either"),
        (
            ("evaluate", "welcome", "--protocol", "words", "--data", ".", "--html", "a.html"),
            "--html does not apply",
        ),
        (
            ("evaluate", "welcome", "--protocol", "words", "--data", ".", "--negatives", "."),
            "--negatives does not apply",
        ),
        (
            ("evaluate", "welcome", "--protocol", "words", "--data", ".", "--snr", "10"),
            "--snr does not apply",
        ),
        (("evaluate", "welcome", "--protocol", "words"), "Give either"),
        (
            ("evaluate", "welcome", "--protocol", "words", "--data", ".", "--positives", "."),
            "Give either",
        ),
    ],
)
def test_wrong_usage(args, complaint):
    result = kws(*args)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_model_of_another_protocol(data):
    result = kws("evaluate", "welcome", "--protocol", "words", "--data", data)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
