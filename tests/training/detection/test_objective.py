"""The detection loss: lowest where the network fires after each word and nowhere else."""

import pytest
import torch

from kws.training.detection.objective import TargetZones, detection_loss, frame_ends
from kws.training.model.network import NetworkConfig, Output

CONFIG = NetworkConfig(("word", "other"))
FRAMES = 100
frame_end = frame_ends(CONFIG, FRAMES, torch.device("cpu")).double()
ZONES = TargetZones()
UNKNOWN = [torch.nan, torch.nan]
ONCE, TWICE = ([1.5, 2.0], UNKNOWN), ([1.5, 2.0], [2.2, 2.8])


def firing_output(
    *intervals: tuple[float, float], word: int = 0, confidence: float = 12.0
) -> Output:
    """Fires in these intervals (seconds), and predicts no boundaries."""
    logits = torch.full((1, 2, FRAMES), -confidence)
    for start, end in intervals:
        logits[0, word, (frame_end >= start) & (frame_end <= end)] = confidence
    return Output(
        logits,
        torch.nn.functional.logsigmoid(logits),
        torch.zeros(1, 2, 2, FRAMES),
        torch.zeros(1, 0, FRAMES),
    )


def loss(
    output: Output, *endpoints: list[float], word: int = 0, boundary_weight: float = 0.0
) -> float:
    zones = TargetZones(boundary_weight=boundary_weight)
    return detection_loss(
        output, torch.tensor([word]), torch.tensor([[*endpoints]]), CONFIG, zones
    ).item()


def fire_zone(end: float) -> tuple[float, float]:
    """The positive frames of a word that ends here."""
    return end + ZONES.fire_from_seconds - 1e-6, end + ZONES.fire_until_seconds + 1e-6


@pytest.mark.parametrize(
    ("fires", "endpoints", "word"),
    [
        ([fire_zone(2.0)], ONCE, 0),
        ([fire_zone(2.0), fire_zone(2.8)], TWICE, 0),
        ([(1.95, 2.4)], ONCE, 0),
        ([], (UNKNOWN, UNKNOWN), -1),
        ([(2.3, 2.32)], (UNKNOWN, UNKNOWN), 0),
    ],
    ids=["once", "twice", "a little early and late", "no word", "anywhere, endpoints unknown"],
)
def test_right_outputs_cost_nothing(fires, endpoints, word):
    assert loss(firing_output(*fires), *endpoints, word=word) < 1e-3


@pytest.mark.parametrize(
    ("fires", "endpoints", "word"),
    [
        ([], ONCE, 0),
        ([fire_zone(2.0)], TWICE, 0),
        ([fire_zone(2.8)], TWICE, 0),
        ([(1.6, 1.7), fire_zone(2.0)], ONCE, 0),
        ([fire_zone(2.0), fire_zone(2.8)], ONCE, 0),
        ([fire_zone(2.0)], (UNKNOWN, UNKNOWN), -1),
        ([fire_zone(2.0)], ONCE, 1),
        ([], (UNKNOWN, UNKNOWN), 0),
    ],
    ids=[
        "missed",
        "second missed",
        "first missed",
        "on half the word",
        "once too often",
        "without a word",
        "for another word",
        "missed, endpoints unknown",
    ],
)
def test_wrong_outputs_cost_much(fires, endpoints, word):
    assert loss(firing_output(*fires), *endpoints, word=word) > 1


def test_boundaries_are_those_of_the_utterance_that_a_frame_fires_for():
    output = firing_output(fire_zone(2.0), fire_zone(2.8))
    boundaries = torch.zeros(1, 2, 2, FRAMES)
    for start, end in TWICE:
        first, last = fire_zone(end)
        fires = (frame_end > first) & (frame_end < last)
        boundaries[0, 0, 0, fires] = (frame_end - start).float()[fires]
        boundaries[0, 0, 1, fires] = (frame_end - end).float()[fires]
    right = output._replace(boundaries=boundaries)
    assert loss(right, *TWICE, boundary_weight=1.0) < 1e-3
    assert loss(output, *TWICE, boundary_weight=1.0) > 0.5


def test_the_order_of_utterances_does_not_matter():
    output = firing_output(fire_zone(2.0), (2.6, 2.7), confidence=2.0)
    assert loss(output, *TWICE, boundary_weight=1.0) == pytest.approx(
        loss(output, *reversed(TWICE), boundary_weight=1.0)
    )
