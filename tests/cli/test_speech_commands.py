"""`kws speech-commands` as a user meets it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tones import RATE, write_tone_folder
from workspace import run_kws

from kws import Spotter
from kws.training.data.clips import BACKGROUND
from kws.training.data.splits import assign_split
from kws.training.model import pretrained
from kws.training.model.torch_engine import load_network

pytestmark = pytest.mark.slow

QUICK = ("--epochs", "1", "--steps-per-epoch", "2")


def train_custom(*words: str, **options: object):
    """Runs `kws speech-commands train WORD... --protocol custom`; a value of None is left out."""
    flags = [
        (f"--{name.replace('_', '-')}", value)
        for name, value in options.items()
        if value is not None
    ]
    arguments = [argument for flag in flags for argument in flag]
    return run_kws("speech-commands", "train", *words, "--protocol", "custom", *arguments, *QUICK)


def evaluate_custom(model: Path | str, data: Path, *arguments: str):
    return run_kws(
        "speech-commands", "evaluate", model, "--protocol", "custom", "--data", data, *arguments
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = write_tone_folder(tmp_path_factory.mktemp("sorting") / "data")
    noise = 0.1 * np.random.default_rng(0).standard_normal(20 * RATE)
    soundfile.write(folder / "_background_noise_" / "long.wav", noise, RATE)
    return folder


@pytest.fixture(scope="module")
def trained(data) -> Path:
    path = data.parent / "rise_fall.kws"
    result = train_custom("rise", "fall", data=data, negatives=data / "flat", out=path)
    assert result.exit_code == 0, result.output
    assert "epoch   1 of 1" in result.stderr
    assert "validation accuracy" in result.stderr
    assert "it has thresholds from" in result.stderr
    assert "too little held-out speech" in result.stderr
    return path


def test_a_trained_model_is_evaluated_by_the_same_protocol(trained, data):
    text = evaluate_custom(trained, data)
    assert text.exit_code == 0, text.output
    assert "clips right (95 %:" in text.stdout
    report = json.loads(evaluate_custom(trained, data, "--json").stdout)
    assert report["protocol"] == "custom"
    assert set(report["sets"]["test"]["by_class"]) <= {"rise", "fall", "_unknown_", "_silence_"}


def test_parts_of_a_data_set_are_evaluated_like_the_whole(trained, data, tmp_path):
    parts = tmp_path / "first", tmp_path / "second"
    for part, names in zip(parts, (("rise", BACKGROUND), ("fall", "flat")), strict=True):
        for name in names:
            shutil.copytree(data / name, part / name)
    whole = evaluate_custom(trained, data, "--json")
    both = evaluate_custom(trained, parts[0], "--data", parts[1], "--json")
    assert both.exit_code == 0, both.output
    assert json.loads(both.stdout) == json.loads(whole.stdout)


@pytest.mark.parametrize("option", ["negatives", "background"])
def test_missing_folders_are_reported_before_anything_is_read(tmp_path, option):
    missing = tmp_path / "none"
    result = train_custom("rise", data=tmp_path, **{option: missing})
    assert result.exit_code == 1
    assert result.stderr == f"Error: {missing}: no such folder. Check the path of --{option}.\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [(pretrained.PHONE_RECOGNIZER_FILE, "is a network of another size"), ("none.pt", "none.pt")],
)
def test_so_are_checkpoints_that_do_not_fit(tmp_path, name, message):
    checkpoint = pretrained.shipped_checkpoint(name) or tmp_path / name
    result = train_custom("rise", data=tmp_path, init_from=checkpoint)
    assert result.exit_code == 1 and message in result.stderr
    assert "recordings" not in result.stderr


def test_detectors_and_classifiers_of_the_same_words_have_other_names(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train_custom("rise", "rise", data=data).exit_code == 0
    names = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert names == ["custom-rise.kws", "custom-rise.pt"]


def test_background_is_more_noise(trained, data, tmp_path):
    result = train_custom(
        "rise",
        "fall",
        data=data,
        negatives=data / "flat",
        background=data / "fall",
        out=tmp_path / "a.kws",
    )
    assert result.exit_code == 0, result.output
    fingerprints = [
        Spotter.load(path).info.document["training"]["data_fingerprint"]
        for path in (trained, tmp_path / "a.kws")
    ]
    assert fingerprints[1].startswith(fingerprints[0] + "-")


def test_training_starts_from_the_encoder_of_a_checkpoint(trained, data, tmp_path):
    checkpoint, out = trained.with_suffix(".pt"), tmp_path / "a.kws"
    result = train_custom("rise", data=data, learning_rate=1e-12, init_from=checkpoint, out=out)
    assert result.exit_code == 0, result.output
    source, network = (
        load_network(path).state_dict() for path in (checkpoint, out.with_suffix(".pt"))
    )
    layers = [name for name in network if name.endswith("conv.weight")]
    assert layers
    assert all(torch.allclose(network[name], source[name], atol=1e-6) for name in layers)


@pytest.mark.parametrize("dictionary", [True, False], ids=["dictionary", "none"])
def test_pronunciations_help_where_the_encoder_recognizes_phones(
    data, tmp_path, monkeypatch, dictionary
):
    if not dictionary:
        monkeypatch.setattr("kws.synth.pronunciation.find_spec", lambda name: None)
    path = tmp_path / "a.kws"
    encoder = pretrained.shipped_checkpoint(pretrained.ENCODER_CONV2D_FILE)
    result = train_custom("rise", data=data, init_from=encoder, out=path)
    assert result.exit_code == 0, result.output
    assert ("without their pronunciations" in result.stderr) is not dictionary
    info = Spotter.load(path).info
    assert ("lexicon" in info.document, bool(info.phones)) == (dictionary, dictionary)
    assert evaluate_custom(path, data).exit_code == 0
    if dictionary:
        known = {"rise": ["ɹIz"], "_unknown_": [], "_silence_": []}
        assert info.document["lexicon"] == {"known": known, "others": ["fɔl", "flæt"]}
        assert "ɹIz" in run_kws("info", path).stdout


def test_a_class_that_is_no_word_is_no_event(trained):
    spotter = Spotter.load(trained)
    assert spotter.words == ("rise", "fall", "_unknown_", "_silence_")
    noise = 0.1 * np.random.default_rng(1).standard_normal(3 * RATE).astype(np.float32)
    for each in (spotter, Spotter.load(trained, threshold=1e-6)):
        assert not [event for event in each.detect(noise, RATE) if event.word.startswith("_")]


def test_evaluate_leaves_out_classes_that_are_no_words(trained, data, tmp_path):
    page = tmp_path / "page.html"
    folders = ("--positives", data, "--negatives", data / "flat")
    result = run_kws("evaluate", trained, *folders, "--snr", "clean", "--json", "--html", page)
    assert result.exit_code == 0, result.output
    assert "Warning" not in result.stderr
    report = json.loads(result.stdout)
    assert report["words"] == [word["word"] for word in report["results"]] == ["rise", "fall"]
    assert "_silence_" not in page.read_text()


def test_calibrate_leaves_out_classes_that_are_no_words(trained, tmp_path):
    noise = 0.1 * np.random.default_rng(2).standard_normal(20 * RATE)
    soundfile.write(tmp_path / "noise.wav", noise, RATE)
    out = tmp_path / "here.kws"
    result = run_kws("calibrate", trained, "--negatives", tmp_path, "--out", out)
    assert result.exit_code == 0, result.output
    assert "_silence_" not in result.stdout
    before, after = (Spotter.load(path).events.threshold for path in (trained, out))
    assert after[2:] == before[2:]


def test_folders_without_enough_speakers(data, trained, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    for path in [*folder.glob("[rf]*/*.wav")]:
        path.rename(path.with_name(f"one_nohash_{path.stem[1:4]}.wav"))
    assert assign_split("one") == "train"
    for result, message in (
        (
            train_custom("rise", "fall", data=folder, out=tmp_path / "a.kws"),
            "no clips to validate on",
        ),
        (evaluate_custom(trained, folder), "no clips to judge by"),
    ):
        assert (result.exit_code, "Traceback" in result.output) == (1, False), result.output
        assert message in result.stderr


def test_another_encoder_is_noticed_on_resume(trained, data, tmp_path):
    options = {"data": data, "out": tmp_path / "a.kws", "learning_rate": 0.002}
    checkpoint = trained.with_suffix(".pt")
    assert train_custom("rise", **options, init_from=checkpoint).exit_code == 0
    result = run_kws(
        *("speech-commands", "train", "rise", "--protocol", "custom", "--data", data, *QUICK),
        *("--out", options["out"], "--learning-rate", "0.002", "--resume"),
    )
    assert result.exit_code == 1
    assert "another pre-trained encoder" in result.stderr


def test_info_describes_a_classifier(trained):
    result = run_kws("info", trained)
    assert result.exit_code == 0, result.output
    assert "custom" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--protocol", "custom", "--data", "."), "Name the words"),
        (("train", "yes", "--protocol", "v2-12", "--data", "."), "has its own words"),
        (("train", "--protocol", "v2-12"), "Missing option '--data'"),
        (("train", "--protocol", "v2-12", "--data", ".", "--in-context", "."), "No such option"),
        (("evaluate", "welcome", "--data", "."), "Missing option '--protocol'"),
        (("evaluate", "welcome", "--protocol", "custom"), "Missing option '--data'"),
        (
            ("evaluate", "welcome", "--protocol", "custom", "--data", ".", "--html", "a.html"),
            "No such option",
        ),
    ],
)
def test_wrong_usage(arguments, message):
    result = run_kws("speech-commands", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_model_of_another_protocol(data):
    result = evaluate_custom("welcome", data)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
