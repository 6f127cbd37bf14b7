"""Pooling heads against the formulas they stand for, and against the reasons for having them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kws.training.model.pooling import (
    FixedGeMPooling,
    GeMPooling,
    MaxPooling,
    MeanPooling,
    NoPooling,
    Pooling,
    PowerPooling,
)

HEADS = {
    "max": (MaxPooling, lambda y: max(y)),
    "mean": (MeanPooling, lambda y: sum(y) / len(y)),
    "gem, q = 1": (lambda window: GeMPooling(window, q=1), lambda y: sum(y) / len(y)),
    "gem, q = 3.5": (
        lambda window: GeMPooling(window, q=3.5),
        lambda y: (sum(p**3.5 for p in y) / len(y)) ** (1 / 3.5),
    ),
    "gem, q = 30": (
        lambda window: GeMPooling(window, q=30),
        lambda y: (sum(p**30 for p in y) / len(y)) ** (1 / 30),
    ),
    "gem-fixed": (FixedGeMPooling, lambda y: (sum(p**4 for p in y) / len(y)) ** (1 / 4)),
    "power, n = 0": (lambda window: PowerPooling(window, n=0), lambda y: sum(y) / len(y)),
    "power, n = 2.5": (
        lambda window: PowerPooling(window, n=2.5),
        lambda y: sum(p**3.5 for p in y) / sum(p**2.5 for p in y),
    ),
    "none": (NoPooling, lambda y: y[-1]),
}
HEAD_IDS = list(HEADS)

probabilities = st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=12)
exponents = st.floats(0, 200)


def score(head: Pooling, y: list[float]) -> float:
    """Score of one window."""
    return head.double().pool(torch.tensor(y, dtype=torch.float64).log()).exp().item()


def random_log_p(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.001, 0.999, shape)).log()


@pytest.mark.parametrize("window", [1, 3, 8])
@pytest.mark.parametrize("kind", HEAD_IDS)
def test_sliding_equals_brute_force_on_plain_probabilities(kind, window):
    make, formula = HEADS[kind]
    log_p = random_log_p(2, 3, 15)
    expected = [
        [[formula(track[i : i + window]) for i in range(15 - window + 1)] for track in row]
        for row in log_p.exp().tolist()
    ]
    torch.testing.assert_close(
        make(window)(log_p).exp(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=0
    )


@given(probabilities)
@settings(deadline=None)
def test_smallest_exponents_are_the_mean(y):
    assert score(GeMPooling(len(y), q=1), y) == pytest.approx(np.mean(y), rel=1e-5)
    assert score(PowerPooling(len(y), n=0), y) == pytest.approx(np.mean(y), rel=1e-4)


@given(probabilities)
@settings(deadline=None)
def test_large_exponents_are_the_maximum(y):
    exponent = 1000
    assert math.log(max(y)) - math.log(score(GeMPooling(len(y), q=exponent), y)) == pytest.approx(
        0, abs=math.log(len(y)) / exponent + 1e-9
    )
    # Σ ε (1 - ε)^n over frames that lie ε below the maximum is at most 1 / (e n) each.
    assert math.log(max(y)) - math.log(score(PowerPooling(len(y), n=exponent), y)) == pytest.approx(
        0, abs=len(y) / exponent
    )


@pytest.mark.parametrize(
    ("make", "least"), [(GeMPooling, 1), (PowerPooling, 0)], ids=["gem", "power"]
)
@given(y=probabilities, exponent=exponents, more=exponents)
@settings(deadline=None)
def test_score_grows_with_the_exponent_from_mean_to_maximum(make, least, y, exponent, more):
    low, high = (score(make(len(y), least + value), y) for value in (exponent, exponent + more))
    assert np.mean(y) * (1 - 1e-5) <= low <= high * (1 + 1e-5)
    assert high <= max(y) * (1 + 1e-5)


@pytest.mark.parametrize("kind", HEAD_IDS)
@pytest.mark.parametrize("factor", [1e-3, 0.5])
def test_score_scales_with_the_probabilities(kind, factor):
    head, log_p = HEADS[kind][0](5), random_log_p(20)
    torch.testing.assert_close(
        head(log_p + math.log(factor)), head(log_p) + math.log(factor), rtol=0, atol=1e-6
    )


STEEP = {
    "max": MaxPooling,
    "mean": MeanPooling,
    "none": NoPooling,
    **{f"gem, q = {q}": lambda window, q=q: GeMPooling(window, q) for q in (1, 2, 20, 21, 1000)},
    **{
        f"power, n = {n}": lambda window, n=n: PowerPooling(window, n) for n in (0, 1, 20, 21, 1000)
    },
}


@pytest.mark.parametrize("kind", STEEP)
@pytest.mark.parametrize(
    "y",
    [
        [1e-30] * 8,
        [1e-30] * 7 + [1.0],
        [1.0] * 8,
        [10.0 ** -(4 * i) for i in range(8)],
        [0.5, 0.5 - 1e-7] * 4,
    ],
    ids=["all tiny", "one hit", "all ones", "spread", "nearly equal"],
)
def test_values_and_gradients_stay_finite_in_single_precision(kind, y):
    head = STEEP[kind](8)
    log_p = torch.tensor(y, dtype=torch.float64).log().float().requires_grad_()
    value = head(log_p)
    value.sum().backward()
    assert value.isfinite().all()
    assert math.log(min(y)) - 0.01 <= value.item() <= math.log(max(y)) + 0.01
    assert log_p.grad.isfinite().all()
    # Scores scale with the probabilities.
    assert log_p.grad.sum().item() == pytest.approx(1, abs=0.01)
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def hit_in(frames: int, place: int, window: int) -> Tensor:
    """A hit of three frames in a recording that is otherwise nearly silent, as are the times before
    and after it."""
    p = torch.full((frames + 2 * window,), 1e-4, dtype=torch.float64)
    p[window + place : window + place + 3] = torch.tensor([0.4, 0.95, 0.7])
    return p.log()


@pytest.mark.parametrize("kind", HEAD_IDS)
def test_score_of_a_hit_does_not_depend_on_its_place_nor_on_the_length_of_the_recording(kind):
    head = HEADS[kind][0](8)
    scores = [
        head(hit_in(frames, place, 8)).amax().item()
        for frames in (3, 30, 1000)
        for place in (0, frames // 2 - 1, frames - 3)
    ]
    assert scores == pytest.approx([scores[0]] * len(scores), abs=1e-6)


@pytest.mark.parametrize("q", [1, 2, 4, 100])
@pytest.mark.parametrize("frames", [2, 50, 5000])
def test_one_hit_pooled_over_a_whole_recording_fades_with_its_length(frames, q):
    assert score(GeMPooling(frames, q), [1e-30] * (frames - 1) + [1.0]) == pytest.approx(
        frames ** (-1 / q), rel=1e-5
    )


@pytest.mark.parametrize("exponent", [1.5, 4.0, 25.0, 1000.0])
def test_exponents_start_at_the_requested_values(exponent):
    assert GeMPooling(8, exponent).q.item() == pytest.approx(exponent, rel=1e-5)
    assert PowerPooling(8, exponent).n.item() == pytest.approx(exponent, rel=1e-5)


def test_a_fixed_exponent_is_not_learned():
    head = FixedGeMPooling(4)
    head(random_log_p(6).float().requires_grad_()).sum().backward()
    assert head.free.grad is None
    assert head.q.item() == pytest.approx(4)
