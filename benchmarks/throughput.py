"""Measures the speed of training: clips per second, and the time of each part of a step.

    python benchmarks/throughput.py --data DATA [--size large] [--steps 20] [--threads 1]

DATA holds speech_commands, the seven words of pack-9 in Speech Commands layout. Each step trains on
128 clips of one second. The first steps are not counted. Here a step makes its batch itself; in a
training a worker process makes it, and where there is a core for that it costs no time.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.report import add_out_option, print_report
from kws.training.augment.rooms import simulate_room_responses
from kws.training.augment.waveform import seeded_generator
from kws.training.fit.config import bfloat16_devices
from kws.training.fit.state import TrainState
from kws.training.model.network import SIZES
from kws.training.speech_commands import protocols
from kws.training.speech_commands.batches import ClassificationBatches
from kws.training.speech_commands.config import ClassifierTrainConfig
from kws.training.speech_commands.objective import ClassificationObjective, lead_samples
from kws.training.speech_commands.train import make_classifier_config
from kws.training.speech_commands.unknowns import cut_speech_clips

WARM_UP_STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    add_out_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    protocol = protocols.load("pack-9", args.data / "speech_commands", warn=print)
    config = make_classifier_config(protocol.classes, args.size)
    train_config = ClassifierTrainConfig(mixed_precision=bfloat16_devices())
    lead = lead_samples(config)
    batches = ClassificationBatches(
        protocol.train,
        protocol.classes,
        protocol.noise,
        cut_speech_clips([], {*protocol.train.words} - {""}),
        lead + config.clip_frame_samples,
        train_config,
        lead=lead,
    )
    state = TrainState(config, train_config, torch.device(args.device), fingerprint="")
    print_report(measure(batches, state, train_config, args.steps), args.out)


def measure(
    batches: ClassificationBatches,
    state: TrainState,
    train_config: ClassifierTrainConfig,
    steps: int,
) -> dict:
    """Seconds of each part of a step; clips per second, with batches made by another process."""
    device = state.device
    rooms = torch.from_numpy(simulate_room_responses(100, np.random.default_rng(0)))
    objective = ClassificationObjective(state.network.config, rooms.to(device), train_config)
    seconds: dict[str, float] = defaultdict(float)
    for step in range(steps + WARM_UP_STEPS):
        if step == WARM_UP_STEPS:
            seconds.clear()
        with timed(seconds, "batch", device):
            batch = batches[step].to(device)
        with timed(seconds, "augmentation", device):
            prepared = objective.prepare(batch, seeded_generator(train_config.seed, step))
        with timed(seconds, "forward", device):
            loss = objective.loss(state.network.train(), prepared)
        with timed(seconds, "backward", device):
            loss.backward()
        with timed(seconds, "optimiser", device):
            state.optimiser.step()
            state.optimiser.zero_grad()
            state.ema_model.update_parameters(state.network)
    seconds_per_step = {part: round(total / steps, 4) for part, total in seconds.items()}
    training_seconds = sum(seconds_per_step.values()) - seconds_per_step["batch"]
    return {
        "parameters": sum(parameter.numel() for parameter in state.network.parameters()),
        "seconds_per_step": seconds_per_step,
        "clips_per_second": round(train_config.batch / training_seconds),
    }


@contextmanager
def timed(seconds: dict[str, float], part: str, device: torch.device) -> Iterator[None]:
    """Adds the wall seconds of its block to those of a part."""
    start = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds[part] += time.perf_counter() - start


if __name__ == "__main__":
    main()
