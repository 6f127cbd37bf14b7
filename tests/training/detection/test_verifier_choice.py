"""A reader for words that people recorded: chosen where it helps, by the recordings that were
held out."""

import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from sounds import RATE, make_dataset

from kws.cli.main import main
from kws.synth import pronunciation
from kws.synth.confusables import pronunciations
from kws.training.data.keyword_data import KeywordData
from kws.training.data.sources import aligned_word
from kws.training.detection.model_card import select_verifier
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.pretrained import STRICT_FUSION, shipped_checkpoint, verifier_candidates
from kws.training.model.torch_engine import load_network

RECORDINGS = Path(__file__).parents[3] / "recordings"
QUICK = ("--epochs", "1", "--steps-per-epoch", "1")


def fires_always(word: str) -> ScanningCNN:
    network = ScanningCNN(NetworkConfig((word,))).eval()
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.constant_(network.head.bias, 2.0)
    return network


def welcomes() -> list[np.ndarray]:
    rows = csv.DictReader((RECORDINGS / "events.csv").read_text().splitlines())
    said = [
        (row["file"], float(row["start"]), float(row["end"]))
        for row in rows
        if row["file"] != "noise.wav"
    ]
    return [
        soundfile.read(RECORDINGS / name, dtype="float32")[0][
            round(start * RATE) : round(end * RATE)
        ]
        for name, start, end in said
    ]


def heldout(word: str) -> KeywordData:
    """The word as it is said in the recordings, and 400 s of noise."""
    hiss = (0.01 * np.random.default_rng(0).standard_normal(400 * RATE)).astype(np.float32)
    noise = make_dataset(hiss)
    return KeywordData(
        (word,),
        (),
        (),
        noise,
        (aligned_word(word, make_dataset(*welcomes())),),
        (noise,),
        torch.zeros(1, 1),
    )


def knows_the_word(word: str) -> ScanningCNN:
    network = load_network(shipped_checkpoint("welcome.pt")).eval()
    network.config = replace(network.config, words=(word,))
    return network


@pytest.mark.parametrize(
    ("network", "sounds", "helps"),
    [
        (fires_always, "welcome", True),
        (knows_the_word, "welcome", False),
        (knows_the_word, "view glass", False),
    ],
    ids=["what is said", "not needed", "another word"],
)
def test_a_verifier_is_chosen_where_it_helps(network, sounds, helps, tmp_path, caplog):
    caplog.set_level(logging.INFO, "kws")
    offered = verifier_candidates({"word": pronunciations(sounds)})
    reading = select_verifier(network("word"), heldout("word"), tmp_path / "scratch.onnx", offered)
    assert (reading is not None) is helps
    assert caplog.messages[0].startswith("verifier used" if helps else "no verifier")
    assert list(tmp_path.iterdir()) == []


def test_what_there_is_to_choose_from():
    none, *weighed = verifier_candidates({"word": pronunciations("welcome")})
    assert none is None
    assert weighed[1].fusion == STRICT_FUSION != weighed[0].fusion


def test_too_little_to_choose_by(tiny_model, tmp_path):
    out = tmp_path / "rise.onnx"
    result = CliRunner().invoke(
        main,
        [
            "train",
            "rise",
            "--data",
            str(tiny_model.data),
            "--out",
            str(out),
            "--verifier",
            "auto",
            *QUICK,
        ],
    )
    assert result.exit_code == 0, result.stderr
    assert (
        "no verifier: too little other speech is held out (0.00 h) to tell if it would help; "
        "add --negatives"
    ) in result.stderr


def test_without_a_dictionary_nothing_begins(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(pronunciation, "find_spec", lambda name: None)
    result = CliRunner().invoke(
        main,
        [
            "train",
            "rise",
            "--data",
            str(tiny_model.data),
            "--out",
            str(tmp_path / "a.onnx"),
            "--verifier",
            "auto",
        ],
    )
    assert result.exit_code == 1
    assert "pip install hibari-tts" in result.stderr
    assert list(tmp_path.iterdir()) == []
