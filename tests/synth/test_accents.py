"""Accents of English."""

import numpy as np
import pytest

from kws.synth.accents import ACCENT_PROBABILITIES, ACCENTS
from kws.synth.engines import kokoro
from kws.synth.pronunciation import load_g2p


@pytest.mark.parametrize(
    ("accent", "spoken"),
    [
        ("us", "wɪð ðˈæt vˈɛɹi hˈæt"),
        ("gb", "wɪð ðˈat vˈɛɹi hˈat"),
        ("french", "wiz zˈæt vˈɛʁi ˈæt"),
        ("german", "vɪs zˈɛt vˈɛʁi hˈɛt"),
        ("indian", "ʋɪd dˈaʈ ʋˈɛɾi hˈaʈ"),
        ("mandarin", "wid dˈɛt wˈɛɻi hˈɛt"),
        ("south african", "wɨð ðˈɛt vˈeɾi hˈɛt"),
        ("spanish", "wid dˈat bˈɛɾi xˈat"),
    ],
)
def test_sounds_are_replaced(accent, spoken):
    phonemes = load_g2p(ACCENTS[accent].british)("with that very hat")
    assert ACCENTS[accent].apply(phonemes) == spoken


def test_each_accent_is_drawn():
    drawn = [kokoro._draw_accent(np.random.default_rng(seed)) for seed in range(2000)]
    assert sum(ACCENT_PROBABILITIES.values()) == pytest.approx(1)
    for accent, probability in ACCENT_PROBABILITIES.items():
        assert drawn.count(accent) / len(drawn) == pytest.approx(probability, abs=0.04)
        assert accent in drawn
