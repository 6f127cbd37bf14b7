"""Trains variants of the network for a short while on the same material, to choose by measurement.

    python experiments/variants.py --data DATA --work WORK --out variants.jsonl
        [--only NAME ...]

Each is judged on held-out voices (Piper joe, five Kokoro voices) at 10 dB and on held-out real
speech: the miss rate at the lowest threshold with at most ten false alarms per hour. Ten, since
after so short a training fewer would measure chance.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "recipes" / "welcome"))
from train import CONFIG, RECIPE, WORD, gather

from kws.audio.recordings import SAMPLE_RATE
from kws.runtime.engine import Engine
from kws.runtime.spotter import Spotter
from kws.training.data.keyword_data import KeywordData, heldout_waves
from kws.training.detection import train
from kws.training.evaluate.calibration import THRESHOLDS, lowest_threshold_within
from kws.training.evaluate.scoring import (
    count_alarms,
    count_hits,
    score_clips,
    score_words,
    total_hours,
)
from kws.training.model.network import NetworkConfig, ScanningCNN, fold_batch_norms

VARIANTS = {
    "as shipped": {},
    "3 long kernels (19, 21, 25)": {"kernels": (19, 21, 25)},
    "short field, 0.9 s (7 7 7 7 9 9)": {"kernels": (7, 7, 7, 7, 9, 9)},
    "64 channels": {"channels": 64},
    "128 channels, 4 blocks (13 15 17 19)": {"channels": 128, "kernels": (13, 15, 17, 19)},
    "24 mel bands": {"mels": 24},
    "64 mel bands": {"mels": 64},
    "10 ms frames (stride 1)": {
        "stride": 1,
        "kernels": (17, 19, 21, 23, 25, 27),
        "pool_frames": 10,
    },
}
FALSE_ALARMS_PER_HOUR = 10.0
SHORT = replace(
    RECIPE, epochs=1, steps_per_epoch=400, batch=128, learning_rate=3e-3, ema_decay=0.99
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()
    keyword_data = gather(args.data, args.work / "spoken")
    for name in args.only:
        row = {"variant": name, **measure(keyword_data, replace(CONFIG, **VARIANTS[name]))}
        print(json.dumps(row), flush=True)
        with args.out.open("a") as file:
            file.write(json.dumps(row) + "\n")


def measure(keyword_data: KeywordData, config) -> dict:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "variant.onnx"
        document = train.train(keyword_data, config, SHORT, path, device=torch.device("cpu"))
        engine = Engine.load(str(path))
    word = keyword_data.heldout_words[0]
    spotter = Spotter(engine, engine.info.events)
    scored_words = list(score_words(spotter, 0, word.dataset, word.endpoints, snr_db=10.0))
    recordings = score_clips(spotter, heldout_waves(keyword_data))
    alarms = count_alarms(recordings, WORD, THRESHOLDS)
    within = lowest_threshold_within(alarms, FALSE_ALARMS_PER_HOUR * total_hours(recordings))
    threshold = THRESHOLDS[-1 if within is None else within]
    return {
        "parameters": document["parameters"],
        "receptive field, s": round(document["receptive_field_seconds"], 3),
        "million multiplications per s": round(million_multiplications(config), 1),
        "loss": document["training"]["last_epoch"]["loss"],
        "missed at 10 dB, 10 false alarms per hour": round(
            1 - float(count_hits(scored_words, [threshold])[0]) / len(scored_words), 4
        ),
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }


@torch.no_grad()
def million_multiplications(config: NetworkConfig) -> float:
    """Of convolutions and products of matrices, per second of audio."""
    network = fold_batch_norms(ScanningCNN(config))
    state = network.initial_state()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, config.frame_samples), state)
    frames_per_second = SAMPLE_RATE / config.frame_samples
    return counter.get_total_flops() / 2 * frames_per_second / 1e6  # torch counts additions, too


if __name__ == "__main__":
    main()
