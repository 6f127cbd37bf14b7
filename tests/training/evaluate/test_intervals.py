"""Intervals against published values, and their coverage."""

import math

import pytest

from kws.training.evaluate.intervals import poisson, wilson


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [
        (0, 10, (0.0, 0.2775)),
        (1, 100, (0.0018, 0.0545)),
        (5, 10, (0.2366, 0.7634)),
        (81, 263, (0.2553, 0.3662)),  # Newcombe, Statistics in Medicine 1998, table I, method 3
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (10, 10, (0.7225, 1.0)),
    ],
)
def test_wilson_of_the_literature(count, total, expected):
    assert wilson(count, total) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, (0.0, 2.9957)),
        (1, (0.0253, 5.5716)),
        (2, (0.2422, 7.2247)),
        (10, (4.7954, 18.3904)),
        (100, (81.364, 121.627)),
    ],
)
def test_poisson_of_the_literature(count, expected):
    """Garwood 1936. Without any alarm: -log 0.05, the rule of three."""
    assert poisson(count, 1.0) == pytest.approx(expected, abs=1e-3)


def test_without_trials_the_share_is_unknown():
    assert wilson(0, 0) == (0.0, 1.0)


def test_misses_and_hits_are_mirror_images():
    low, high = wilson(7, 50)
    assert wilson(43, 50) == pytest.approx((1 - high, 1 - low))


def test_rates_scale_with_the_hours():
    assert poisson(4, 8.0) == pytest.approx([limit / 8 for limit in poisson(4, 1.0)])


@pytest.mark.parametrize("rate", [0.05, 0.5, 1.0, 2.0, 3.3, 5.0, 12.0])
def test_poisson_covers_the_true_rate(rate):
    held = sum(
        math.exp(-rate) * rate**k / math.factorial(k)
        for k in range(60)
        if poisson(k, 1.0)[0] <= rate <= poisson(k, 1.0)[1]
    )
    assert held >= (0.94 if 3.0 < rate < 3.7 else 0.95)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_wilson_covers_the_true_share(share):
    chances = [math.comb(150, k) * share**k * (1 - share) ** (150 - k) for k in range(151)]
    held = sum(
        chance
        for k, chance in enumerate(chances)
        if wilson(k, 150)[0] <= share <= wilson(k, 150)[1]
    )
    assert held == pytest.approx(0.95, abs=0.025)
