"""A verifier is chosen where it helps on held-out recordings."""

import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
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


def make_firing_network() -> ScanningCNN:
    """Fires at every frame."""
    network = ScanningCNN(NetworkConfig(("word",))).eval()
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.constant_(network.head.bias, 2.0)
    return network


def load_welcome_network() -> ScanningCNN:
    """Detects "welcome", under another name."""
    network = load_network(shipped_checkpoint("welcome.pt")).eval()
    network.config = replace(network.config, words=("word",))
    return network


def read_welcomes() -> list[np.ndarray]:
    """The word in each of the recordings."""
    rows = csv.DictReader((RECORDINGS / "events.csv").read_text().splitlines())
    waves = []
    for row in rows:
        if row["file"] != "noise.wav":
            whole, _ = soundfile.read(RECORDINGS / row["file"], dtype="float32")
            start, end = (round(float(row[name]) * RATE) for name in ("start", "end"))
            waves.append(whole[start:end])
    return waves


def make_heldout_data() -> KeywordData:
    """The word in the recordings, and 400 s of noise."""
    noise = make_dataset(
        (0.01 * np.random.default_rng(0).standard_normal(400 * RATE)).astype(np.float32)
    )
    return KeywordData(
        names=("word",),
        words=(),
        negatives=(),
        noises=noise,
        heldout_words=(aligned_word("word", make_dataset(*read_welcomes())),),
        heldout_negatives=(noise,),
    )


@pytest.mark.parametrize(
    ("make_network", "phrase", "helps"),
    [
        (make_firing_network, "welcome", True),
        (load_welcome_network, "welcome", False),
        (load_welcome_network, "view glass", False),
    ],
    ids=["needed", "not needed", "of another phrase"],
)
def test_a_verifier_is_chosen_where_it_helps(make_network, phrase, helps, tmp_path, caplog):
    caplog.set_level(logging.INFO, "kws")
    candidates = verifier_candidates({"word": pronunciations(phrase)})
    scratch = tmp_path / "scratch.kws"
    verifier = select_verifier(make_network(), make_heldout_data(), scratch, candidates)
    assert (verifier is not None) is helps
    assert caplog.messages[0].startswith("verifier used" if helps else "no verifier")
    assert list(tmp_path.iterdir()) == []


def test_candidates_are_none_and_two_fusions():
    first, *others = verifier_candidates({"word": pronunciations("welcome")})
    assert first is None
    assert others[1].fusion == STRICT_FUSION != others[0].fusion


def kws_train(tiny_model, out: Path) -> Result:
    quick = ("--epochs", "1", "--steps-per-epoch", "1", "--verifier", "auto")
    command = ["train", "rise", "--data", tiny_model.data, "--out", out, *quick]
    return CliRunner().invoke(main, [str(each) for each in command])


def test_no_verifier_where_too_little_is_held_out_to_compare(tiny_model, tmp_path):
    result = kws_train(tiny_model, tmp_path / "rise.kws")
    assert result.exit_code == 0, result.stderr
    assert (
        "no verifier: 2 s of other speech are held out, too little to tell if it would help; "
        "add --negatives"
    ) in result.stderr


def test_without_a_dictionary_the_command_stops_at_once(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(pronunciation, "find_spec", lambda name: None)
    result = kws_train(tiny_model, tmp_path / "rise.kws")
    assert result.exit_code == 1
    assert "pip install hibari-tts" in result.stderr
    assert list(tmp_path.iterdir()) == []
