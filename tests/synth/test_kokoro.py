"""Kokoro without its network: its voices, their blends, damaged files."""

import numpy as np
import pytest

from kws.errors import SynthError
from kws.synth.engines import kokoro
from kws.synth.pronunciation import load_g2p


@pytest.fixture
def voices(tmp_path, monkeypatch):
    """Three files that are named like voices, and one that is not; none holds what it should."""
    monkeypatch.setenv("KWS_KOKORO_VOICES", str(tmp_path))
    for name in ("af_bella", "bm_lewis", "jf_alpha", "somebody"):
        np.zeros((510, 256), np.float32).tofile(tmp_path / f"{name}.bin")
    return tmp_path


def test_known_voices_whose_files_exist(voices):
    assert kokoro.voice_names() == ["af_bella", "bm_lewis", "jf_alpha"]
    assert len(kokoro._load_digests()) == 54


def test_english_voices_speak_more_often_than_others(voices):
    drawn = kokoro.ENGINE.voices()
    assert drawn.count("af_bella") == drawn.count("bm_lewis") > drawn.count("jf_alpha") == 1


def test_half_of_the_blends_are_one_voice_and_weights_add_up(voices):
    settings = [
        kokoro.ENGINE.settings("af_bella", np.random.default_rng(seed)) for seed in range(300)
    ]
    parts = [[part.split(":") for part in str(each["voice"]).split("+")] for each in settings]
    assert all(each[0][0] == "af_bella" for each in parts)
    assert all(
        sum(float(share) for _, share in each) == pytest.approx(1, abs=2e-3) for each in parts
    )
    assert np.mean([len(each) == 1 for each in parts]) == pytest.approx(0.5, abs=0.1)
    assert {name for each in parts for name, _ in each} == {"af_bella", "bm_lewis", "jf_alpha"}


def test_a_voice_alone_is_not_blended(voices):
    for name in ("bm_lewis", "jf_alpha"):
        (voices / f"{name}.bin").unlink()
    assert {
        str(kokoro.ENGINE.settings("af_bella", np.random.default_rng(seed))["voice"])
        for seed in range(20)
    } == {"af_bella:1"}


def test_a_damaged_voice(voices):
    with pytest.raises(SynthError, match=r"af_bella\.bin: is not this voice as published"):
        kokoro._load_style("af_bella")


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("KWS_KOKORO_VOICES", str(tmp_path))
    monkeypatch.setattr(kokoro, "find_spec", lambda name: None)
    assert kokoro.ENGINE.missing() == "the package hibari-tts and 7 more"
    monkeypatch.setattr(kokoro, "find_spec", lambda name: object())
    assert kokoro.ENGINE.missing() == f"voices in {tmp_path}"


def test_a_comma_is_lengthened():
    assert kokoro._repeat_pauses(np.arange(3, 8), np.array([5]), 2).tolist() == [
        3,
        4,
        5,
        5,
        5,
        6,
        7,
    ]
    assert kokoro._repeat_pauses(np.arange(3, 8), np.array([], int), 2).tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("settings", "phonemes"),
    [
        ({}, "sˈA həlˈO əɡˈɛn"),
        ({"phrase": "hello"}, "sˈA həlˈO əɡˈɛn"),
        ({"phrase": "hello", "stress": "own"}, "sˈA həlˈO əɡˈɛn"),
        ({"phrase": "hello", "stress": "weak"}, "sˈA həlˌO əɡˈɛn"),
        ({"phrase": "hello", "phonemes": "HH EH1 L OW0"}, "sˈA hˈɛlO əɡˈɛn"),
        ({"phrase": "hello", "phonemes": "HH EH1 L OW0", "stress": "weak"}, "sˈA hˌɛlO əɡˈɛn"),
        ({"phonemes": "HH EH1 L OW0"}, "hˈɛlO"),
    ],
)
def test_a_phrase_in_a_sentence_has_its_own_phonemes_and_stress(settings, phonemes):
    assert kokoro._phonemize(load_g2p(british=False), "say hello again", settings) == phonemes
