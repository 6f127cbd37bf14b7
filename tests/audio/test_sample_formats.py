"""Samples as integers and as floats in ±1."""

import numpy as np
import pytest

from kws.audio.formats import to_float32, to_int16


def test_every_16_bit_sample_survives_the_way_to_float_and_back():
    samples = np.arange(-32768, 32768).astype(np.int16)
    floats = to_float32(samples)
    assert (floats.dtype, floats.min(), floats.max()) == (np.float32, -1.0, 1 - 1 / 32768)
    assert np.array_equal(to_int16(floats), samples)


def test_louder_samples_are_clipped():
    samples = np.array([-2.0, -1.0, 1.0, 2.0], np.float32)
    assert to_int16(samples).tolist() == [-32768, -32768, 32767, 32767]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.uint8, [0, 128, 192]),
        (np.int32, [-(2**31), 0, 2**30]),
        (np.int64, [-(2**63), 0, 2**62]),
        (np.float64, [-1.0, 0.0, 0.5]),
    ],
)
def test_other_formats_have_the_same_full_scale(dtype, values):
    floats = to_float32(np.array(values, dtype))
    assert floats.dtype == np.float32
    assert floats.tolist() == [-1.0, 0.0, 0.5]
