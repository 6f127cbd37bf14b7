"""Audio that has been through a codec."""

import numpy as np
import pytest
from sounds import RATE, tone

from kws.training.augment.codec import code_opus


def snr_db(wave: np.ndarray, coded: np.ndarray) -> float:
    return float(10 * np.log10((wave**2).sum() / ((coded - wave) ** 2).sum()))


@pytest.mark.parametrize("samples", [0, 1, 400, 4800, 5000, 8000, 16_000, 31_999, 32_001, 50_123])
def test_length_and_place_do_not_change(samples):
    wave = tone(samples / RATE, 440)
    coded = code_opus(wave, 32_000)
    assert len(coded) == len(wave)
    if samples >= 4800:
        assert snr_db(wave, coded) > 10


def test_fewer_bits_lose_more():
    rng = np.random.default_rng(0)
    wave = sum(tone(2.0, hz) * rng.uniform(0.2, 1.0) for hz in (250, 730, 1890, 3100)) / 4
    few, many = (snr_db(wave, code_opus(wave, bits)) for bits in (8_000, 40_000))
    assert few < many
