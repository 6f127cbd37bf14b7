"""Short trainings, for one process, or for several that `torchrun` starts: torchrun
--nproc-per-node 2 shared_training.py FOLDER."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sounds import RATE, make_bank, quiet, tone

from kws.errors import DataError, KwsError
from kws.training import distributed
from kws.training.augment.mixer import Mixer, Source, coloured_noise, placed_word, unplaced_word
from kws.training.augment.waveform import simulated_rooms
from kws.training.detection.train import detection_task
from kws.training.fit.trainer import Recipe, Run, Task, fit
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig
from kws.training.speech_commands.batches import ClassBatches, ClassRecipe
from kws.training.speech_commands.dataset import Part
from kws.training.speech_commands.train import lead_samples, sorting_config, sorting_task
from kws.training.speech_commands.unknowns import Pieces

CPU = torch.device("cpu")
# Not seed 0: in its first step as many frames put the end of the word too late as too early, all by
# far. So the gradient of the head's bias for that end is nothing but rounding, which AdamW blows up
# to 3e-3 of a step: differently for one process and for two.
SHORT = {
    "epochs": 3,
    "steps_per_epoch": 3,
    "batch": 8,
    "shards": 2,
    "learning_rate": 1e-2,
    "averaging": 0.8,
    "seed": 2,
}
DETECTION = Recipe(**SHORT, clip_seconds=1.2)
SORTING = ClassRecipe(**SHORT)
ONE_WORD = NetworkConfig(("word",), mels=12, channels=8, kernels=(5, 5))
CLASSES = NetworkConfig(
    ("low", "high", "_unknown_"), mels=12, channels=8, kernels=(5, 7), pool_frames=8
)


@dataclass(frozen=True)
class Lesson:
    """What to train, and on what."""

    config: NetworkConfig
    recipe: Recipe
    batches: torch.utils.data.Dataset
    task: Task

    def run(self, path: Path, **hooks: Callable) -> Run:
        """Trains to the end, going on from the checkpoint if there is one."""
        run = Run(self.config, self.recipe, CPU, "the same data")
        if path.exists():
            run.restore(path)
        fit(
            run,
            self.batches,
            self.task,
            path=path,
            **{"validate": lambda network: {}, "workers": 0, **hooks},
        )
        return run


def detection(recipe: Recipe = DETECTION) -> Lesson:
    """Tones with noise; word clips with and without known places, so that every part of the loss is
    asked for."""
    words = [placed_word("word", make_bank(clip(700))), unplaced_word("word", make_bank(clip(720)))]
    others = [Source(make_bank(clip(300), clip(1500)), 1.0)]
    earliest = ONE_WORD.clip_frame_samples / RATE
    batches = Mixer(
        ["word"], words, others, None,
        clip_seconds=recipe.clip_seconds, earliest_end_seconds=earliest,
        batch=recipe.batch, seed=recipe.seed,
    )  # fmt: skip
    return Lesson(ONE_WORD, recipe, batches, detection_task(rooms(), recipe, ONE_WORD))


def sorting(config: NetworkConfig = CLASSES, recipe: ClassRecipe = SORTING) -> Lesson:
    """Clips of tones, with everything that may be done to them."""
    waves = [
        np.resize(np.round(clip(pitch) * 32767).astype(np.int16), RATE)
        for pitch in (500, 520, 2000, 2100, 1000, 1100)
    ]
    part = Part(
        np.stack(waves),
        np.array([0, 0, 1, 1, 2, 2]),
        tuple("abcdef"),
        ("low", "low", "high", "high", "mid", "mid"),
    )
    noise = make_bank(coloured_noise(3 * RATE, 1.0, np.random.default_rng(1)) / 20)
    nothing = Pieces(*np.zeros((2, 0, RATE), np.int16))
    lead = lead_samples(config)
    reads = {"lead": lead, "spelled": {"low": [1], "high": [2, 1]}}
    batches = ClassBatches(
        part, config.words, noise, nothing, lead + config.clip_frame_samples, recipe, **reads
    )
    return Lesson(config, recipe, batches, sorting_task(rooms(), recipe, config))


def reading() -> Lesson:
    """The same, by a network that reads, too: its loss is many times as large at first, so it
    learns more slowly."""
    return sorting(replace(CLASSES, letters="_ab"), replace(SORTING, learning_rate=1e-3))


def small() -> Lesson:
    """One step of a network as it comes with kws."""
    return sorting(
        sorting_config(CLASSES.words, "small"), replace(SORTING, epochs=1, steps_per_epoch=1)
    )


LESSONS = {"detection": detection, "sorting": sorting, "reading": reading}


def clip(pitch: float) -> np.ndarray:
    return np.concatenate([quiet(0.1), tone(0.3, pitch), quiet(0.1)])


def rooms() -> torch.Tensor:
    return torch.from_numpy(simulated_rooms(3, np.random.default_rng(0)))


def stop_in_the_second_process(step: int, loss: float) -> None:
    if step == 4 and distributed.rank() == 1:
        raise KeyboardInterrupt


def full_disk(entry: dict) -> None:
    raise DataError("the disk is full")


def outcome(attempt: Callable[[], Run]) -> str:
    """What became of it: its error, or "done"."""
    try:
        attempt()
    except (KwsError, KeyboardInterrupt) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def main(folder: Path) -> None:
    outcomes = {}
    with distributed.joined(CPU):
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
            lambda: detection(replace(DETECTION, shards=3)).run(folder / "uneven.pt")
        )
        checkpoint.save(
            {"outcomes": outcomes, "weights": weights}, folder / f"rank{distributed.rank()}.pt"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
