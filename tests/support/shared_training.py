"""Short trainings for one process, or for several that torchrun starts:

torchrun --nproc-per-node 2 shared_training.py FOLDER
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sounds import RATE, make_dataset, quiet, tone
from torch import Tensor

from kws.errors import DataError, KwsError
from kws.training import distributed
from kws.training.augment.mixer import ExampleMixer
from kws.training.augment.rooms import simulate_room_responses
from kws.training.data.noise import make_coloured_noise
from kws.training.data.sources import NegativeSource, aligned_word, unaligned_word
from kws.training.detection.objective import DetectionObjective
from kws.training.fit.config import TrainConfig
from kws.training.fit.progress import TrainingProgress
from kws.training.fit.state import TrainState
from kws.training.fit.trainer import Objective, fit
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig
from kws.training.speech_commands.batches import ClassificationBatches
from kws.training.speech_commands.config import ClassifierTrainConfig
from kws.training.speech_commands.dataset import LabeledClips
from kws.training.speech_commands.objective import ClassificationObjective, lead_samples
from kws.training.speech_commands.unknowns import SpeechClips

CPU = torch.device("cpu")
SHORT = {
    "epochs": 3,
    "steps_per_epoch": 3,
    "batch": 8,
    "accumulate": 2,
    "learning_rate": 1e-2,
    "ema_decay": 0.8,
    "seed": 2,
}
DETECTION = TrainConfig(**SHORT, clip_seconds=1.2)
CLASSIFICATION = ClassifierTrainConfig(**SHORT)
ONE_WORD = NetworkConfig(("word",), mels=12, channels=8, kernels=(5, 5))
CLASSES = NetworkConfig(
    ("low", "high", "_unknown_"), mels=12, channels=8, kernels=(5, 7), pool_frames=8
)


class EpochLog(TrainingProgress):
    """Keeps the metrics of each epoch; stops the training after one of them."""

    def __init__(self, stop_after: int | None = None):
        self.epochs: list[dict] = []
        self._stop_after = stop_after

    def epoch(self, metrics: dict) -> None:
        self.epochs.append(metrics)

    def should_stop(self) -> bool:
        return bool(self.epochs) and self.epochs[-1]["epoch"] == self._stop_after


@dataclass(frozen=True)
class ShortTraining:
    """A network, its data and its objective."""

    config: NetworkConfig
    train_config: TrainConfig
    batches: torch.utils.data.Dataset
    objective: Objective

    def load_state(self, path: Path) -> TrainState:
        """The state of the checkpoint if there is one, else a new one."""
        state = TrainState(self.config, self.train_config, CPU, "the same data")
        if path.exists():
            state.restore(path)
        return state

    def run(
        self, path: Path, progress: TrainingProgress | None = None, state: TrainState | None = None
    ) -> TrainState:
        """Trains to the end, from the checkpoint if there is one."""
        state = state or self.load_state(path)
        fit(
            state,
            self.batches,
            self.objective,
            path=path,
            validate=lambda network: {},
            progress=progress,
            workers=0,
        )
        return state


def detection(train_config: TrainConfig = DETECTION) -> ShortTraining:
    """Tones in noise; word clips with and without known endpoints, so that every part of the loss
    has a gradient."""
    words = [
        aligned_word("word", make_dataset(clip(700))),
        unaligned_word("word", make_dataset(clip(720))),
    ]
    negatives = [NegativeSource(make_dataset(clip(300), clip(1500)), 1.0)]
    batches = ExampleMixer(
        ["word"],
        words,
        negatives,
        None,
        clip_seconds=train_config.clip_seconds,
        earliest_end_seconds=ONE_WORD.clip_frame_samples / RATE,
        batch=train_config.batch,
        seed=train_config.seed,
    )
    objective = DetectionObjective(ONE_WORD, rooms(), train_config)
    return ShortTraining(ONE_WORD, train_config, batches, objective)


def classification(
    config: NetworkConfig = CLASSES, train_config: ClassifierTrainConfig = CLASSIFICATION
) -> ShortTraining:
    """Clips of tones, with all augmentation."""
    waves = [
        np.resize(np.round(clip(pitch) * 32767).astype(np.int16), RATE)
        for pitch in (500, 520, 2000, 2100, 1000, 1100)
    ]
    part = LabeledClips(
        np.stack(waves),
        np.array([0, 0, 1, 1, 2, 2]),
        tuple("abcdef"),
        ("low", "low", "high", "high", "mid", "mid"),
    )
    noise = make_dataset(make_coloured_noise(3 * RATE, 1.0, np.random.default_rng(1)) / 20)
    no_speech = SpeechClips()
    lead = lead_samples(config)
    batches = ClassificationBatches(
        part,
        config.words,
        noise,
        no_speech,
        lead + config.clip_frame_samples,
        train_config,
        lead=lead,
        phone_ids={"low": [1], "high": [2, 1]},
    )
    objective = ClassificationObjective(config, rooms(), train_config)
    return ShortTraining(config, train_config, batches, objective)


def classification_with_phones(
    # The phone loss is many times as large at first, so it learns more slowly.
    train_config: ClassifierTrainConfig = replace(CLASSIFICATION, learning_rate=1e-3),  # noqa: B008
) -> ShortTraining:
    return classification(replace(CLASSES, phones="_ab"), train_config)


TRAININGS = {
    "detection": detection,
    "classification": classification,
    "classification with phones": classification_with_phones,
}


def clip(pitch: float) -> np.ndarray:
    return np.concatenate([quiet(0.1), tone(0.3, pitch), quiet(0.1)])


def rooms() -> Tensor:
    return torch.from_numpy(simulate_room_responses(3, np.random.default_rng(0)))


class InterruptRankOne(TrainingProgress):
    """Ctrl-C in the second process alone, in the second epoch."""

    def __init__(self) -> None:
        self._step = 0

    def step(self, step: int, loss: float) -> None:
        self._step = step

    def should_stop(self) -> bool:
        return self._step == 4 and distributed.rank() == 1


class FullDisk(TrainingProgress):
    """An error in the first process alone."""

    def epoch(self, metrics: dict) -> None:
        raise DataError("the disk is full")


def outcome(attempt: Callable[[], TrainState]) -> str:
    """The error of an attempt, or "done"."""
    try:
        attempt()
    except (KwsError, KeyboardInterrupt) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


class ScaledObjective(Objective):
    """An objective with a smaller loss, whose gradients are not clipped."""

    def __init__(self, objective: Objective, scale: float):
        self._objective, self._scale = objective, scale

    def prepare(self, batch: object, generator: torch.Generator) -> object:
        return self._objective.prepare(batch, generator)

    def loss(self, network: torch.nn.Module, prepared: object) -> Tensor:
        return self._scale * self._objective.loss(network, prepared)


def first_gradient(training: ShortTraining, path: Path) -> dict[str, Tensor]:
    """A thousandth of the gradient of the first step, which is not clipped."""
    one_step = replace(
        training,
        train_config=replace(training.train_config, epochs=1, steps_per_epoch=1),
        objective=ScaledObjective(training.objective, 1e-3),
    )
    network = one_step.run(path).network
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def main(folder: Path) -> None:
    weights, gradients = {}, {}
    with distributed.init_distributed(CPU):
        for name, make in TRAININGS.items():
            network = make().run(folder / f"{name}.pt").network
            weights[name] = dict(network.named_parameters())
            gradients[name] = first_gradient(make(), folder / f"{name} first.pt")
        outcomes = {
            "interrupted": outcome(lambda: detection().run(folder / "a.pt", InterruptRankOne())),
            "failed": outcome(lambda: detection().run(folder / "b.pt", FullDisk())),
            "uneven": outcome(
                lambda: detection(replace(DETECTION, accumulate=3)).run(folder / "c.pt")
            ),
        }
        checkpoint.save(
            {"outcomes": outcomes, "weights": weights, "gradients": gradients},
            folder / f"rank{distributed.rank()}.pt",
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
