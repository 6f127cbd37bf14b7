"""Does a second round with mined negatives pay? Trains a detector with and without, in as many
steps, and judges both.

    python experiments/mining.py --data DATA --out RUNS [--word cat] [--seeds 0 1]
        [--arms plain mined ...] [--share 0.08]
    python experiments/mining.py --data DATA --out RUNS --judge

DATA holds one folder a set of recordings: speech_commands (its other words are what the word is
told from), and librispeech, wake_words, precise_community, custom_commands: other speech. RUNS
keeps one model for each run; a run that is there is not trained again, one that was stopped goes
on. The arms:

    plain        one round; the other speech is not heard at all
    mined        two rounds; of the other speech only what fired after the first is learned from
                 (kws train --mine)
    heard        one round; the other speech is drawn from at random all the time
                 (kws train --negatives)
    heard-mined  two rounds; both

Judged by speakers that were held out, the validation and the test part apart: words in pink noise
at 10 dB, false alarms on all speech of DATA without the word.
"""

import argparse
import json
import logging
import pathlib
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from kws.audio.endpoints import find_endpoints
from kws.runtime.engine import Engine
from kws.runtime.spotter import Spotter
from kws.training.data.clips import BACKGROUND, find_clips
from kws.training.data.dataset import ClipDataset, load_clips
from kws.training.data.keyword_data import DataFolders, load_keyword_data
from kws.training.detection.train import train
from kws.training.detection.two_stage import second_stage_config, train_two_stage
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
from kws.training.fit.hard_negatives import MiningConfig
from kws.training.fit.progress import PrintedEpochs
from kws.training.model.network import NetworkConfig

OTHER_SPEECH = ("librispeech", "wake_words", "precise_community", "custom_commands")
# The second round has two epochs.
FIRST = TrainConfig(epochs=4, steps_per_epoch=200, batch=64, learning_rate=3e-3, ema_decay=0.99)
SNR_DB = 10.0
ALARMS_PER_HOUR = (1.0, 5.0)
MISS_RATES = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Arm:
    """Whether the other speech is drawn from at random, and whether it is mined."""

    heard: bool
    mined: bool


ARMS = {
    "plain": Arm(False, False),
    "mined": Arm(False, True),
    "heard": Arm(True, False),
    "heard-mined": Arm(True, True),
}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    parser.add_argument("--word", default="cat")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument(
        "--share",
        type=float,
        default=MiningConfig.max_share,
        help="of the negatives drawn that are mined ones",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--judge", action="store_true", help="judge the runs that are there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.judge:
        judge_all(args.data, args.out, args.word)
        return
    for seed in args.seeds:
        for arm in args.arms:
            share = ""
            if args.share != MiningConfig.max_share and ARMS[arm].mined:
                share = f"-{args.share:g}"
            train_arm(
                args.data,
                args.out / f"{args.word}-{arm}{share}-{seed}.onnx",
                args.word,
                ARMS[arm],
                seed,
                args.share,
            )


def train_arm(
    data: pathlib.Path, path: pathlib.Path, word: str, arm: Arm, seed: int, share: float
) -> None:
    """Trains one run, or goes on with it."""
    if path.exists():
        return
    other = tuple(data / name for name in OTHER_SPEECH)
    folders = DataFolders(
        data / "speech_commands",
        negatives=other if arm.heard else (),
        hard_negatives=other if arm.mined else (),
    )
    train_config = replace(FIRST, seed=seed)
    keyword_data = load_keyword_data(
        [word], folders, max_word_seconds=train_config.max_word_seconds, warn=print
    )
    if not arm.mined:
        train_config = replace(
            train_config, epochs=FIRST.epochs + second_stage_config(FIRST).epochs
        )
    learn = train
    if arm.mined:
        learn = partial(train_two_stage, mining=MiningConfig(max_share=share))
    began = path.with_suffix(".first.pt" if arm.mined else ".pt").exists()
    learn(
        keyword_data,
        NetworkConfig((word,)),
        train_config,
        path,
        device=torch.device("cpu"),
        progress=PrintedEpochs(path.stem),
        resume=began,
    )


def judge_all(data: pathlib.Path, runs: pathlib.Path, word: str) -> None:
    """A line of JSON for each run, and for the first round of those with two."""
    datasets = {part: _heldout(data, word, part) for part in ("validation", "test")}
    for path in sorted(runs.glob(f"{word}-*.onnx")):
        engine = Engine.load(str(path))
        print(
            json.dumps(
                {
                    "run": path.stem,
                    **{part: judge(engine, *dataset) for part, dataset in datasets.items()},
                }
            ),
            flush=True,
        )


def judge(engine: Engine, words: ClipDataset, speech: list[ClipDataset]) -> dict:
    """Misses in noise at given rates of false alarms, and false alarms at given rates of misses."""
    spotter = Spotter(engine, engine.info.events)
    endpoints = np.array([find_endpoints(wave) for wave in words])
    scored_words = list(score_words(spotter, 0, words, endpoints, SNR_DB))
    missed = 1 - count_hits(scored_words, CURVE_THRESHOLDS) / len(scored_words)
    recordings = [each for dataset in speech for each in score_clips(spotter, dataset)]
    hours = total_hours(recordings)
    alarms = count_alarms(recordings, spotter.words[0], CURVE_THRESHOLDS)
    return {
        "clips": len(words),
        "hours": round(hours, 2),
        "missed": {
            f"{rate:g} per hour": _missed(missed, lowest_threshold_within(alarms, rate * hours))
            for rate in ALARMS_PER_HOUR
        },
        "false_alarms": {
            f"{rate:.0%} missed": _alarms(alarms, np.flatnonzero(missed <= rate))
            for rate in MISS_RATES
        },
    }


def _missed(missed: np.ndarray, at: int | None) -> float | None:
    return None if at is None else round(float(missed[at]), 4)


def _alarms(alarms: np.ndarray, within: np.ndarray) -> list | None:
    """Events, and their 95 % interval, at the highest threshold that misses no more."""
    if not len(within):
        return None
    count = int(alarms[within[-1]])
    return [count, *(round(limit, 1) for limit in poisson(count, 1.0))]


def _heldout(data: pathlib.Path, word: str, part: str) -> tuple[ClipDataset, list[ClipDataset]]:
    clips = [
        clip
        for clip in find_clips(data / "speech_commands")
        if clip.split == part and clip.label != BACKGROUND
    ]
    speech = [
        clip for name in OTHER_SPEECH for clip in find_clips(data / name) if clip.split == part
    ]
    words, others = (
        [clip for clip in clips if (clip.label == word) == wanted] for wanted in (True, False)
    )
    return load_clips(words, warn=print), [
        load_clips(others, warn=print),
        load_clips(speech, warn=print),
    ]


if __name__ == "__main__":
    main()
