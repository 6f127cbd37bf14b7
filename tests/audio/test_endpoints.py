"""Endpoints of the sound in a clip."""

import numpy as np
import pytest
from sounds import quiet, tone

from kws.audio.endpoints import find_endpoints


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.concatenate([quiet(0.3), tone(0.4), quiet(0.3)]), (0.3, 0.7)),
        (np.concatenate([tone(0.2), quiet(0.8)]), (0.0, 0.2)),
        (np.concatenate([quiet(0.5), tone(0.5)]), (0.5, 1.0)),
        (np.concatenate(
            [quiet(0.2), tone(0.2), quiet(0.1), tone(0.2), quiet(0.3)]
        ), (0.2, 0.7)),
        (np.concatenate(
            [quiet(0.2), tone(0.2), quiet(0.1), tone(0.2, amplitude=0.05), quiet(0.3)]
        ), (0.2, 0.7)),
        (np.concatenate(
            [quiet(0.2), tone(0.2), quiet(0.1), tone(0.2, amplitude=0.005), quiet(0.3)]
        ), (0.2, 0.4)),
        (np.concatenate([tone(0.02), quiet(0.28), tone(0.4), quiet(0.3)]), (0.3, 0.7)),
        (np.concatenate([tone(0.04), quiet(0.26), tone(0.4), quiet(0.3)]), (0.0, 0.7)),
        (np.concatenate(
            [quiet(0.3), tone(0.4), quiet(0.08), tone(0.02), quiet(0.2)]
        ), (0.3, 0.8)),
        (quiet(1.0), (0.0, 1.0)),
        (tone(0.01), (0.0, 0.01)),
        (quiet(0), (0.0, 0.0)),
    ],
    ids=[
        "in the middle", "at the beginning", "at the end", "with a pause",
        "20 dB weaker second part", "40 dB weaker second part",
        "far short blip", "far longer sound", "near short blip", "silence",
        "shorter than two frames", "nothing",
    ],
)  # fmt: skip
def test_bursts(samples, expected):
    assert find_endpoints(samples) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("noise", [1e-4, 3e-3, 0.02])
@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_in_noise_at_any_level(noise, gain):
    rng = np.random.default_rng(0)
    samples = np.concatenate([quiet(0.4), tone(0.3), quiet(0.5)])
    samples = gain * (samples + noise * rng.standard_normal(len(samples)))
    assert find_endpoints(samples) == pytest.approx((0.4, 0.7), abs=0.011)
