"""The training loop: it resumes bit for bit, stops where it is asked to, and never saves weights
that are not finite."""

import contextlib
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_training import CPU, DETECTION, ONE_WORD, EpochLog, detection

from kws.errors import DataError, KwsError
from kws.training.detection.objective import DetectionObjective
from kws.training.fit.config import TrainConfig, bfloat16_devices
from kws.training.fit.progress import TrainingProgress
from kws.training.fit.state import TrainState
from kws.training.model import checkpoint

SHORT = replace(DETECTION, accumulate=1, epochs=4)


def train(path: Path, stop_after: int | None = None, train_config: TrainConfig = SHORT) -> None:
    """Trains, from the checkpoint if there is one, and stops after an epoch of all."""
    with contextlib.suppress(KeyboardInterrupt):
        detection(train_config).run(path, EpochLog(stop_after))


@pytest.mark.parametrize("precision", [(), ("cpu",)], ids=["float32", "bfloat16"])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, precision):
    """It keeps its precision on a machine that would choose another."""
    train_config = replace(SHORT, mixed_precision=precision)
    train(tmp_path / "whole.pt", train_config=train_config)
    train(tmp_path / "parts.pt", stop_after=2, train_config=train_config)
    assert len(checkpoint.load(tmp_path / "parts.pt")["history"]) == 2
    train(tmp_path / "parts.pt")
    whole, parts = (checkpoint.load(tmp_path / name) for name in ("whole.pt", "parts.pt"))
    assert parts["train_config"]["mixed_precision"] == precision
    assert parts["history"] == whole["history"]
    for weights in ("network", "ema_network"):
        for name, tensor in whole[weights].items():
            assert torch.equal(tensor, parts[weights][name]), name


@pytest.mark.parametrize(
    ("capabilities", "devices"),
    [
        ({"avx512_bf16": True}, ("cuda", "cpu")),
        ({"avx512_bf16": False}, ("cuda",)),
        ({"neon": True}, ("cuda",)),
    ],
    ids=["with bfloat16", "without", "another kind of CPU"],
)
def test_bfloat16_where_it_is_faster(monkeypatch, capabilities, devices):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert bfloat16_devices() == devices


@pytest.mark.parametrize(
    ("config", "train_config", "data", "difference"),
    [
        (
            replace(ONE_WORD, channels=16),
            SHORT,
            "the same data",
            r"another network \(channels 8, now 16\)",
        ),
        (
            ONE_WORD,
            replace(SHORT, seed=1),
            "the same data",
            r"other training settings \(seed 2, now 1\)",
        ),
        (ONE_WORD, SHORT, "changed", "other data"),
    ],
    ids=["network", "settings", "data"],
)
def test_another_training_is_not_resumed(tmp_path, config, train_config, data, difference):
    train(tmp_path / "a.pt", stop_after=1)
    with pytest.raises(DataError, match=difference):
        TrainState(config, train_config, CPU, data).restore(tmp_path / "a.pt")


def test_progress_gets_every_step_and_stops_at_any(tmp_path):
    class StopAtStep4(TrainingProgress):
        def __init__(self) -> None:
            self.steps: list[int] = []

        def step(self, step: int, loss: float) -> None:
            self.steps.append(step)

        def should_stop(self) -> bool:
            return self.steps[-1] == 4

    progress = StopAtStep4()
    with pytest.raises(KeyboardInterrupt):
        detection(SHORT).run(tmp_path / "a.pt", progress)
    assert progress.steps == [0, 1, 2, 3, 4]
    assert len(checkpoint.load(tmp_path / "a.pt")["history"]) == 1


class InfiniteLoss(DetectionObjective):
    def loss(self, network, prepared):
        return super().loss(network, prepared) + torch.nan


class InfiniteGradient(DetectionObjective):
    """The loss is finite; the slope of the square root at 0 is not."""

    def loss(self, network, prepared):
        weight = network.head.weight
        return super().loss(network, prepared) + (weight - weight.detach()).abs().sqrt().sum()


@pytest.mark.parametrize("epochs", [0, 1], ids=["first epoch", "second epoch"])
@pytest.mark.parametrize(
    ("objective", "what"), [(InfiniteLoss, "the loss"), (InfiniteGradient, "the gradient")]
)
def test_what_is_not_finite_stops_before_the_weights_change(tmp_path, objective, what, epochs):
    path = tmp_path / "a.pt"
    saved_note = "nothing was saved yet"
    if epochs:
        train(path, stop_after=epochs)
        saved_note = "the checkpoint of epoch 1 was saved before"
    training = detection(SHORT)
    broken = replace(training, objective=objective(**vars(training.objective)))
    state = broken.load_state(path)
    before = {name: tensor.clone() for name, tensor in state.network.named_parameters()}
    with pytest.raises(KwsError, match=f"{what} became nan at step {3 * epochs}; {saved_note}"):
        broken.run(path, state=state)
    for name, tensor in state.network.named_parameters():
        assert torch.equal(before[name], tensor), name


def test_a_checkpoint_tells_how_it_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kws", "train", "two words"])
    train(tmp_path / "a.pt", stop_after=1)
    provenance = checkpoint.load(tmp_path / "a.pt")["provenance"]
    assert provenance["command"] == "kws train 'two words'"
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["versions"].keys() >= {"kws", "python", "numpy"}


def test_learning_rate_warms_up_and_falls_to_zero():
    train_config = TrainConfig(epochs=10, steps_per_epoch=10, warmup=0.1, learning_rate=1.0)
    rates = [train_config.learning_rate_at(step) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] < 0.01
