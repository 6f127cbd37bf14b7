"""Clips per second of training, and what bounds them: the time of each part of a step.

    python benchmarks/throughput.py --data DATA [--size small] [--steps 20] [--device cpu]

DATA holds speech_commands, the pack of seven whole words. Batches of the pack-9 protocol, 128 clips
of one second; the first steps are not counted. Batches are made by a worker process, here in turns
with the rest: where there is a core for it, it costs no time.
"""

import argparse
import json
import pathlib
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from kws.training.augment.rooms import simulate_room_responses
from kws.training.augment.waveform import seeded_generator
from kws.training.fit.config import bfloat16_devices
from kws.training.fit.state import TrainState
from kws.training.model.network import SIZES
from kws.training.speech_commands import protocols
from kws.training.speech_commands.batches import ClassificationBatches
from kws.training.speech_commands.config import ClassifierTrainConfig
from kws.training.speech_commands.objective import ClassificationObjective
from kws.training.speech_commands.train import make_classifier_config
from kws.training.speech_commands.unknowns import cut_speech_clips

WARM_UP = 3  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    protocol = protocols.load("pack-9", args.data / "speech_commands", warn=print)
    config, train_config = (
        make_classifier_config(protocol.classes, args.size),
        ClassifierTrainConfig(mixed_precision=bfloat16_devices()),
    )
    pieces = cut_speech_clips([], {*protocol.train.words} - {""})
    batches = ClassificationBatches(
        protocol.train,
        protocol.classes,
        protocol.noise,
        pieces,
        config.clip_frame_samples,
        train_config,
    )
    print(
        json.dumps(
            measure(
                batches, TrainState(config, train_config, torch.device(args.device), ""), args.steps
            )
        )
    )


def measure(batches: ClassificationBatches, run: TrainState, steps: int) -> dict:
    """Seconds of each part of a step, and clips per second where batches are made beside it."""
    rooms = torch.from_numpy(simulate_room_responses(100, np.random.default_rng(0)))
    objective = ClassificationObjective(run.network.config, rooms.to(run.device), run.train_config)
    seconds: dict[str, float] = defaultdict(float)
    for step in range(steps + WARM_UP):
        if step == WARM_UP:
            seconds.clear()
        with timed(seconds, "making the batch", run.device):
            batch = batches[step].to(run.device)
        with timed(seconds, "augmenting it", run.device):
            generator = seeded_generator(run.train_config.seed, step)
            prepared = objective.prepare(batch, generator)
        with timed(seconds, "forward", run.device):
            loss = objective.loss(run.network.train(), prepared)
        with timed(seconds, "backward", run.device):
            loss.backward()
        with timed(seconds, "optimiser", run.device):
            run.optimiser.step()
            run.optimiser.zero_grad()
            run.ema_model.update_parameters(run.network)
    each = {part: round(total / steps, 4) for part, total in seconds.items()}
    beside = sum(each.values()) - each["making the batch"]
    parameters = sum(p.numel() for p in run.network.parameters())
    return {
        "parameters": parameters,
        "seconds a step": each,
        "clips per second": round(run.train_config.batch / beside),
    }


@contextmanager
def timed(seconds: dict[str, float], part: str, device: torch.device) -> Iterator[None]:
    began = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds[part] += time.perf_counter() - began


if __name__ == "__main__":
    main()
