"""Do hard negatives pay? Trains a detector with and without them, in as many steps, and evaluates
both.

    python experiments/mining.py --data DATA --runs RUNS [--word cat] [--seeds 0 1]
        [--arms plain mined ...]
    python experiments/mining.py --data DATA --runs RUNS --evaluate

DATA has one folder per data set: speech_commands (the word and others), and librispeech,
wake_words, precise_community, custom_commands (other speech). RUNS keeps one model per run. Runs
that are there are not trained again; one that was stopped is resumed. The arms:

    plain         one stage, without the other speech
    mined         two stages; the second adds the false alarms of the first in the other speech
                  (kws train --hard-negatives-from)
    random        one stage, with random parts of the other speech (kws train --negatives)
    random-mined  two stages, with both

The evaluation uses the validation and the test speakers, apart: words in pink noise at 10 dB, false
alarms in all speech of DATA without the word.
"""

import argparse
import json
import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.report import add_out_option, write_report
from kws.audio.endpoints import find_endpoints
from kws.runtime.engine import Engine
from kws.runtime.spotter import Spotter
from kws.training.data.clips import BACKGROUND, find_clips
from kws.training.data.dataset import ClipDataset, load_clips
from kws.training.data.keyword_data import DataFolders, load_keyword_data
from kws.training.detection.train import train
from kws.training.detection.two_stage import (
    first_stage_path,
    second_stage_config,
    train_two_stage,
)
from kws.training.evaluate.calibration import lowest_threshold_within
from kws.training.evaluate.intervals import poisson
from kws.training.evaluate.metrics import CURVE_THRESHOLDS
from kws.training.evaluate.scoring import (
    count_alarms,
    count_hits,
    score_clips,
    score_words,
    total_hours,
)
from kws.training.fit.config import TrainConfig
from kws.training.fit.progress import PrintedEpochs
from kws.training.model.network import NetworkConfig

OTHER_SPEECH = ("librispeech", "wake_words", "precise_community", "custom_commands")
FIRST_STAGE = TrainConfig(
    epochs=4, steps_per_epoch=200, batch=64, learning_rate=3e-3, ema_decay=0.99
)
SNR_DB = 10.0
FALSE_ALARMS_PER_HOUR = (1.0, 5.0)
MISS_RATES = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Arm:
    """How the other speech is used."""

    is_negative: bool
    is_mined: bool


ARMS = {
    "plain": Arm(False, False),
    "mined": Arm(False, True),
    "random": Arm(True, False),
    "random-mined": Arm(True, True),
}


@dataclass(frozen=True)
class HeldOut:
    """Recordings of held-out speakers."""

    words: ClipDataset
    negatives: tuple[ClipDataset, ...]


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--word", default="cat")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--evaluate", action="store_true", help="evaluate the runs in RUNS")
    add_out_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.evaluate:
        evaluate_runs(args)
        return
    for seed in args.seeds:
        for arm in args.arms:
            path = args.runs / f"{args.word}-{arm}-{seed}.kws"
            if not path.exists():
                train_run(args.data, path, args.word, ARMS[arm], seed)


def train_run(data: Path, path: Path, word: str, arm: Arm, seed: int) -> None:
    """Trains one run, or resumes it."""
    other_speech = tuple(data / name for name in OTHER_SPEECH)
    folders = DataFolders(
        data / "speech_commands",
        negatives=other_speech if arm.is_negative else (),
        hard_negatives=other_speech if arm.is_mined else (),
    )
    config, train_config = NetworkConfig((word,)), replace(FIRST_STAGE, seed=seed)
    keyword_data = load_keyword_data(
        [word], folders, max_word_seconds=train_config.max_word_seconds, warn=print
    )
    train_function = train_two_stage if arm.is_mined else train
    first_path = first_stage_path(path) if arm.is_mined else path
    if not arm.is_mined:
        epochs = train_config.epochs + second_stage_config(train_config).epochs
        train_config = replace(train_config, epochs=epochs)
    train_function(
        keyword_data,
        config,
        train_config,
        path,
        device=torch.device("cpu"),
        resume=first_path.with_suffix(".pt").exists(),
        progress=PrintedEpochs(path.stem),
    )


def evaluate_runs(args: argparse.Namespace) -> None:
    """Prints a line of JSON for each run, and for the first stage of those with two."""
    held_out = {
        split: load_held_out(args.data, args.word, split) for split in ("validation", "test")
    }
    rows = []
    for path in sorted(args.runs.glob(f"{args.word}-*.kws")):
        engine = Engine.load(str(path))
        metrics = {split: evaluate(engine, recordings) for split, recordings in held_out.items()}
        rows.append({"run": path.stem, **metrics})
        print(json.dumps(rows[-1]), flush=True)
    write_report({"runs": rows}, args.out)


def load_held_out(data: Path, word: str, split: str) -> HeldOut:
    commands = [
        clip
        for clip in find_clips(data / "speech_commands")
        if clip.split == split and clip.label != BACKGROUND
    ]
    other_speech = [
        clip for name in OTHER_SPEECH for clip in find_clips(data / name) if clip.split == split
    ]
    words = [clip for clip in commands if clip.label == word]
    other_words = [clip for clip in commands if clip.label != word]
    return HeldOut(
        load_clips(words, warn=print),
        (load_clips(other_words, warn=print), load_clips(other_speech, warn=print)),
    )


def evaluate(engine: Engine, held_out: HeldOut) -> dict:
    """Misses in noise at given rates of false alarms, and false alarms at given miss rates."""
    spotter = Spotter(engine, engine.info.events)
    endpoints = np.array([find_endpoints(wave) for wave in held_out.words])
    scored_words = list(score_words(spotter, 0, held_out.words, endpoints, SNR_DB))
    miss_rates = 1 - count_hits(scored_words, CURVE_THRESHOLDS) / len(scored_words)
    scored = [each for dataset in held_out.negatives for each in score_clips(spotter, dataset)]
    hours = total_hours(scored)
    alarms = count_alarms(scored, spotter.words[0], CURVE_THRESHOLDS)
    return {
        "clips": len(scored_words),
        "hours": round(hours, 2),
        "misses": [
            {
                "target_false_alarms_per_hour": rate,
                "missed": _missed(miss_rates, lowest_threshold_within(alarms, rate * hours)),
            }
            for rate in FALSE_ALARMS_PER_HOUR
        ],
        "false_alarms": [
            {"target_missed": rate, **_alarms(alarms, np.flatnonzero(miss_rates <= rate))}
            for rate in MISS_RATES
        ],
    }


def _missed(miss_rates: np.ndarray, at: int | None) -> float | None:
    return None if at is None else round(float(miss_rates[at]), 4)


def _alarms(alarms: np.ndarray, within: np.ndarray) -> dict:
    """False alarms at the highest of the thresholds that miss no more than wanted."""
    if not len(within):
        return {"false_alarms": None, "interval": None}
    count = int(alarms[within[-1]])
    return {
        "false_alarms": count,
        "interval": [round(limit, 1) for limit in poisson(count, 1.0)],
    }


if __name__ == "__main__":
    main()
