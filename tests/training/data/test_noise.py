"""Coloured noise."""

import numpy as np
import pytest

from kws.training.data.noise import make_coloured_noise


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0], ids=["white", "pink", "brown"])
def test_colour_of_noise(slope):
    power = np.abs(np.fft.rfft(make_coloured_noise(2**17, slope, np.random.default_rng(0)))) ** 2
    octaves = [power[2**k : 2 ** (k + 1)].mean() for k in range(6, 16)]
    assert np.polyfit(np.arange(6, 16), np.log2(octaves), 1)[0] == pytest.approx(-slope, abs=0.1)
