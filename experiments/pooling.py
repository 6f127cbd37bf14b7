"""Which pooling head is best? Trains one detector of seven words with each, from several seeds, and
evaluates them.

    python experiments/pooling.py --data DATA --runs RUNS --init-from models/encoder.pt
        [--kinds gem max ...] [--seeds 0 1 2]
    python experiments/pooling.py --data DATA --runs RUNS --evaluate

DATA has one folder per data set: speech_commands; librispeech, wake_words, custom_commands (other
speech); precise_community (other speech that is not trained on). Each run starts from an encoder of
the small size, with a new head. RUNS keeps one model per run. Runs that are there are not trained
again; one that was stopped is resumed.

The evaluation uses the validation speakers, 100 clips a word, and their other speech. Metrics are
means over words and seeds, with the range of the seeds: words confused with another (clean); words
missed in pink noise at 10 dB, at one false alarm per hour; words cut off after 60 % that fire all
the same at that threshold; errors of the reported start and end.
"""

import argparse
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kws.audio.endpoints import find_endpoints
from kws.audio.recordings import SAMPLE_RATE
from kws.runtime.engine import Engine
from kws.runtime.spotter import Spotter
from kws.training.data.clips import find_clips
from kws.training.data.dataset import ClipDataset, load_clips
from kws.training.data.keyword_data import (
    DataFolders,
    KeywordData,
    heldout_waves,
    load_keyword_data,
)
from kws.training.detection.train import train
from kws.training.evaluate.calibration import lowest_threshold_within
from kws.training.evaluate.metrics import CURVE_THRESHOLDS
from kws.training.evaluate.scoring import (
    LATE_TOLERANCE_SECONDS,
    ScoredRecording,
    count_alarms,
    score_clips,
    score_words,
    total_hours,
)
from kws.training.evaluate.test_streams import embed_word
from kws.training.fit.config import TrainConfig
from kws.training.fit.progress import PrintedEpochs
from kws.training.model.network import NetworkConfig
from kws.training.model.pooling import POOLINGS
from kws.training.model.pretrained import band_channels, init_from_pretrained

WORDS = ("yes", "no", "down", "up", "happy", "cat", "bed")
OTHER_SPEECH = ("librispeech", "wake_words", "custom_commands")
UNSEEN_SPEECH = "precise_community"
TRAIN_CONFIG = TrainConfig(
    epochs=1, steps_per_epoch=300, batch=128, learning_rate=3e-3, ema_decay=0.99
)
CLIPS = 100
CUT_FRACTION = 0.6
SNR_DB = 10.0


@dataclass(frozen=True)
class Metrics:
    """Rates (0-1) and errors in seconds."""

    confused: float
    missed: float
    cut_off_that_fire: float
    start_error: float
    end_error: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--init-from", type=Path, help="checkpoint to start from")
    parser.add_argument("--kinds", nargs="+", choices=POOLINGS, default=list(POOLINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--evaluate", action="store_true", help="print a table of the runs in RUNS")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    other_speech = tuple(args.data / name for name in OTHER_SPEECH)
    keyword_data = load_keyword_data(
        WORDS,
        DataFolders(args.data / "speech_commands", negatives=other_speech),
        max_word_seconds=TRAIN_CONFIG.max_word_seconds,
        warn=print,
    )
    if args.evaluate:
        unseen = load_clips(find_clips(args.data / UNSEEN_SPEECH), warn=print)
        heldout_negatives = (*keyword_data.heldout_negatives, unseen)
        print_table(args.runs, replace(keyword_data, heldout_negatives=heldout_negatives))
        return
    args.runs.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for kind in args.kinds:
            path = args.runs / f"{kind}-{seed}.kws"
            if not path.exists():
                train_run(keyword_data, kind, seed, path, args.init_from)


def train_run(
    keyword_data: KeywordData, kind: str, seed: int, path: Path, init_from: Path | None
) -> None:
    config = NetworkConfig(WORDS, pooling=kind, band_channels=band_channels(init_from))
    train(
        keyword_data,
        config,
        replace(TRAIN_CONFIG, seed=seed),
        path,
        device=torch.device("cpu"),
        resume=path.with_suffix(".pt").exists(),
        init_from=init_from_pretrained(config, init_from, seed) if init_from else None,
        progress=PrintedEpochs(path.stem),
    )


def print_table(runs: Path, keyword_data: KeywordData) -> None:
    """Markdown: a row for each kind of pooling."""
    names = [field.name for field in fields(Metrics)]
    print(f"{keyword_data.heldout_hours:.2f} h without the words\n")
    print(f"| pooling | seeds | {' | '.join(names)} |")
    print(f"|---|{'---:|' * (len(names) + 1)}")
    for kind in POOLINGS:
        results = [
            evaluate(Engine.load(str(path)), keyword_data)
            for path in sorted(runs.glob(f"{kind}-[0-9].kws"))
        ]
        if results:
            cells = [_format(name, [getattr(each, name) for each in results]) for name in names]
            print(f"| {kind} | {len(results)} | {' | '.join(cells)} |", flush=True)


def _format(name: str, values: list[float]) -> str:
    if name.endswith("_error"):
        return f"{np.mean(values):.3f} s"
    return f"{np.mean(values):.1%} ({min(values):.1%} to {max(values):.1%})"


def evaluate(engine: Engine, keyword_data: KeywordData) -> Metrics:
    """Means over the words."""
    spotter = Spotter(engine, engine.info.events)
    scored = score_clips(spotter, heldout_waves(keyword_data))
    rows = [
        evaluate_word(spotter, index, word.dataset, scored)
        for index, word in enumerate(keyword_data.heldout_words)
    ]
    means = {
        field.name: float(np.nanmean([getattr(row, field.name) for row in rows]))
        for field in fields(Metrics)
    }
    return Metrics(**means)


def evaluate_word(
    spotter: Spotter, index: int, dataset: ClipDataset, negatives: list[ScoredRecording]
) -> Metrics:
    waves = [dataset[i] for i in range(min(CLIPS, len(dataset)))]
    endpoints = np.array([find_endpoints(wave) for wave in waves])
    starts, ends = endpoints.T
    cut_ends = starts + CUT_FRACTION * (ends - starts)
    cut_waves = [
        wave[: round(end * SAMPLE_RATE)] for wave, end in zip(waves, cut_ends, strict=True)
    ]
    alarms = count_alarms(negatives, spotter.words[index], CURVE_THRESHOLDS)
    at = lowest_threshold_within(alarms, total_hours(negatives))
    threshold = 1.0 if at is None else CURVE_THRESHOLDS[at]
    best_words = [
        find_best_word(spotter, wave, start, end)
        for wave, start, end in zip(waves, starts, ends, strict=True)
    ]
    noisy = list(score_words(spotter, index, waves, endpoints, SNR_DB))
    cut = list(score_words(spotter, index, cut_waves, np.stack([starts, cut_ends], axis=1)))
    hits = [(word, word.match(threshold).hit) for word in noisy]
    start_errors = [abs(hit.event.start - word.start) for word, hit in hits if hit]
    end_errors = [abs(hit.event.end - word.end) for word, hit in hits if hit]
    return Metrics(
        confused=float(np.mean([best != index for best in best_words])),
        missed=float(np.mean([hit is None for _, hit in hits])),
        cut_off_that_fire=float(np.mean([each.match(threshold).hit is not None for each in cut])),
        start_error=float(np.mean(start_errors)) if start_errors else np.nan,
        end_error=float(np.mean(end_errors)) if end_errors else np.nan,
    )


def find_best_word(spotter: Spotter, wave: np.ndarray, start: float, end: float) -> int:
    """The word with the highest score at the end of a clip's word."""
    embedded = embed_word(wave, (start, end))
    scores = spotter.scores(embedded.audio)
    latest = embedded.end + LATE_TOLERANCE_SECONDS
    is_on_word = (scores.times >= embedded.start) & (scores.times <= latest)
    return int(scores.pooled[is_on_word].max(axis=0).argmax())


if __name__ == "__main__":
    main()
