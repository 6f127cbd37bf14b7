"""Short trainings, for one process, or for several that `torchrun` starts: torchrun
--nproc-per-node 2 shared_training.py FOLDER."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sounds import RATE, make_dataset, quiet, tone

from kws.errors import DataError, KwsError
from kws.training import distributed
from kws.training.augment.mixer import ExampleMixer
from kws.training.augment.rooms import simulate_room_responses
from kws.training.data.noise import make_coloured_noise
from kws.training.data.sources import NegativeSource, aligned_word, unaligned_word
from kws.training.detection.train import detection_objective
from kws.training.fit.trainer import Objective, TrainConfig, TrainState, fit
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig
from kws.training.speech_commands.batches import ClassificationBatches, ClassifierTrainConfig
from kws.training.speech_commands.dataset import LabeledClips
from kws.training.speech_commands.train import (
    lead_samples,
    make_classification_task,
    make_classifier_config,
)
from kws.training.speech_commands.unknowns import SpeechClips

CPU = torch.device("cpu")
# Not seed 0: in its first step as many frames put the end of the word too late as too early, all by
# far. So the gradient of the head's bias for that end is nothing but rounding, which AdamW blows up
# to 3e-3 of a step: differently for one process and for two.
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
SORTING = ClassifierTrainConfig(**SHORT)
ONE_WORD = NetworkConfig(("word",), mels=12, channels=8, kernels=(5, 5))
CLASSES = NetworkConfig(
    ("low", "high", "_unknown_"), mels=12, channels=8, kernels=(5, 7), pool_frames=8
)


@dataclass(frozen=True)
class Lesson:
    """What to train, and on what."""

    config: NetworkConfig
    train_config: TrainConfig
    batches: torch.utils.data.Dataset
    task: Objective

    def run(self, path: Path, **callbacks: Callable) -> TrainState:
        """Trains to the end, going on from the checkpoint if there is one."""
        run = TrainState(self.config, self.train_config, CPU, "the same data")
        if path.exists():
            run.restore(path)
        fit(
            run,
            self.batches,
            self.task,
            path=path,
            **{"validate": lambda network: {}, "workers": 0, **callbacks},
        )
        return run


def detection(train_config: TrainConfig = DETECTION) -> Lesson:
    """Tones with noise; word clips with and without known places, so that every part of the loss is
    asked for."""
    words = [
        aligned_word("word", make_dataset(clip(700))),
        unaligned_word("word", make_dataset(clip(720))),
    ]
    others = [NegativeSource(make_dataset(clip(300), clip(1500)), 1.0)]
    earliest = ONE_WORD.clip_frame_samples / RATE
    batches = ExampleMixer(
        ["word"], words, others, None,
        clip_seconds=train_config.clip_seconds, earliest_end_seconds=earliest,
        batch=train_config.batch, seed=train_config.seed,
    )  # fmt: skip
    return Lesson(
        ONE_WORD, train_config, batches, detection_objective(rooms(), train_config, ONE_WORD)
    )


def sorting(
    config: NetworkConfig = CLASSES, train_config: ClassifierTrainConfig = SORTING
) -> Lesson:
    """Clips of tones, with everything that may be done to them."""
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
    nothing = SpeechClips(*np.zeros((2, 0, RATE), np.int16))
    lead = lead_samples(config)
    reads = {"lead": lead, "phone_ids": {"low": [1], "high": [2, 1]}}
    batches = ClassificationBatches(
        part, config.words, noise, nothing, lead + config.clip_frame_samples, train_config, **reads
    )
    return Lesson(
        config, train_config, batches, make_classification_task(rooms(), train_config, config)
    )


def reading() -> Lesson:
    """The same, by a network that reads, too: its loss is many times as large at first, so it
    learns more slowly."""
    return sorting(replace(CLASSES, phones="_ab"), replace(SORTING, learning_rate=1e-3))


def small() -> Lesson:
    """One step of a network as it comes with kws."""
    return sorting(
        make_classifier_config(CLASSES.words, "small"),
        replace(SORTING, epochs=1, steps_per_epoch=1),
    )


LESSONS = {"detection": detection, "sorting": sorting, "reading": reading}


def clip(pitch: float) -> np.ndarray:
    return np.concatenate([quiet(0.1), tone(0.3, pitch), quiet(0.1)])


def rooms() -> torch.Tensor:
    return torch.from_numpy(simulate_room_responses(3, np.random.default_rng(0)))


def stop_in_the_second_process(step: int, loss: float) -> None:
    if step == 4 and distributed.rank() == 1:
        raise KeyboardInterrupt


def full_disk(entry: dict) -> None:
    raise DataError("the disk is full")


def outcome(attempt: Callable[[], TrainState]) -> str:
    """What became of it: its error, or "done"."""
    try:
        attempt()
    except (KwsError, KeyboardInterrupt) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def main(folder: Path) -> None:
    outcomes = {}
    with distributed.init_distributed(CPU):
        weights = {
            name: lesson().run(folder / f"{name}.pt").network.state_dict()
            for name, lesson in LESSONS.items()
        }
        small().run(folder / "small.pt")
        outcomes["interrupted"] = outcome(
            lambda: detection().run(folder / "stopped.pt", on_step=stop_in_the_second_process)
        )
        outcomes["failed"] = outcome(
            lambda: detection().run(folder / "failed.pt", on_epoch=full_disk)
        )
        outcomes["uneven"] = outcome(
            lambda: detection(replace(DETECTION, accumulate=3)).run(folder / "uneven.pt")
        )
        checkpoint.save(
            {"outcomes": outcomes, "weights": weights}, folder / f"rank{distributed.rank()}.pt"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
