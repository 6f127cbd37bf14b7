"""The loss: lowest where the network fires after each word and nowhere else."""

import pytest
import torch

from kws.training.detection.objective import TargetZones, detection_loss, frame_ends
from kws.training.model.network import NetworkConfig, Output

CONFIG = NetworkConfig(("word", "other"))
FRAMES = 100
ends = frame_ends(CONFIG, FRAMES, torch.device("cpu")).double()
TARGETS = TargetZones()
NONE = [torch.nan, torch.nan]


def output(*fired: tuple[float, float], word: int = 0, sure: float = 12.0) -> Output:
    """A network that fires in these stretches (seconds) and says nothing about extents."""
    logits = torch.full((1, 2, FRAMES), -sure)
    for start, end in fired:
        logits[0, word, (ends >= start) & (ends <= end)] = sure
    return Output(
        logits,
        torch.nn.functional.logsigmoid(logits),
        torch.zeros(1, 2, 2, FRAMES),
        torch.zeros(1, 0, FRAMES),
    )


def loss(
    made: Output, *endpoints: list[float], word: int = 0, boundary_weight: float = 0.0
) -> float:
    targets = TargetZones(boundary_weight=boundary_weight)
    return detection_loss(
        made, torch.tensor([word]), torch.tensor([[*endpoints]]), CONFIG, targets
    ).item()


def after(end: float) -> tuple[float, float]:
    return end + TARGETS.fire_from_seconds - 1e-6, end + TARGETS.fire_until_seconds + 1e-6


ONCE, TWICE = ([1.5, 2.0], NONE), ([1.5, 2.0], [2.2, 2.8])


@pytest.mark.parametrize(
    ("fired", "endpoints", "word"),
    [
        ([after(2.0)], ONCE, 0),
        ([after(2.0), after(2.8)], TWICE, 0),
        ([(1.95, 2.4)], ONCE, 0),  # a little early and for some time after is left free
        ([], (NONE, NONE), -1),
        ([(2.3, 2.32)], (NONE, NONE), 0),  # somewhere
    ],
    ids=["once", "twice", "free stretch", "no word", "unknown place"],
)
def test_what_is_asked_for_costs_nothing(fired, endpoints, word):
    assert loss(output(*fired), *endpoints, word=word) < 1e-3


@pytest.mark.parametrize(
    ("fired", "endpoints", "word"),
    [
        ([], ONCE, 0),
        ([after(2.0)], TWICE, 0),
        ([after(2.8)], TWICE, 0),
        ([(1.6, 1.7), after(2.0)], ONCE, 0),
        ([after(2.0), after(2.8)], ONCE, 0),
        ([after(2.0)], (NONE, NONE), -1),
        ([after(2.0)], ONCE, 1),
        ([], (NONE, NONE), 0),
    ],
    ids=[
        "missed",
        "second missed",
        "first missed",
        "on half the word",
        "once too often",
        "for nothing",
        "the other word",
        "unknown place missed",
    ],
)
def test_what_is_wrong_costs_much(fired, endpoints, word):
    assert loss(output(*fired), *endpoints, word=word) > 1


def test_extents_are_asked_of_the_frames_that_fire_for_the_word_they_fire_for():
    made = output(after(2.0), after(2.8))
    truth = torch.zeros(1, 2, 2, FRAMES)
    for start, end in TWICE:
        fires = (ends > after(end)[0]) & (ends < after(end)[1])
        truth[0, 0, 0, fires], truth[0, 0, 1, fires] = (
            (ends - start).float()[fires],
            (ends - end).float()[fires],
        )
    assert loss(made._replace(boundaries=truth), *TWICE, boundary_weight=1.0) < 1e-3
    assert loss(made, *TWICE, boundary_weight=1.0) > 0.5


def test_order_of_places_does_not_matter():
    made = output(after(2.0), (2.6, 2.7), sure=2.0)
    assert loss(made, *TWICE, boundary_weight=1.0) == pytest.approx(
        loss(made, *reversed(TWICE), boundary_weight=1.0)
    )
