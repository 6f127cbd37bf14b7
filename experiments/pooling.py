"""Which pooling head is best? Trains one detector of seven words with each, from several seeds, on
the same data, and judges them.

    python experiments/pooling.py --data DATA --out RUNS --init-from ENCODER.pt
        [--kinds gem max ...] [--seeds 0 1 2]
    python experiments/pooling.py --data DATA --out RUNS --judge

DATA holds one folder a set of recordings: speech_commands, and librispeech, wake_words,
custom_commands, precise_community: other speech, the last only to judge by. TRUNK is the checkpoint
of a small network (models/encoder.pt): each run begins with its layers and a new head, and learns to
detect. RUNS keeps one model for each run; a run that is there is not trained again, one that was
stopped goes on.

Judged by the validation speakers, 100 clips a word, and by their other speech. Figures are means
over the words and the seeds, with the range of the seeds: words taken for another (clean); words
missed in pink noise at 10 dB, at one false alarm per hour; words cut off after 60 % of their sound
that fire all the same, at that threshold; how far the reported start and end are off. "none" asks
its targets of every frame by itself.
"""

import argparse
import pathlib
from dataclasses import dataclass, replace

import numpy as np
import torch

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
HELD_OUT_SPEECH = "precise_community"
RECIPE = TrainConfig(epochs=1, steps_per_epoch=300, batch=128, learning_rate=3e-3, ema_decay=0.99)
CLIPS = 100
CUT_FRACTION = 0.6
SNR_DB = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    parser.add_argument("--init-from", type=pathlib.Path, help="checkpoint to begin with")
    parser.add_argument("--kinds", nargs="+", choices=POOLINGS, default=list(POOLINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--judge", action="store_true", help="judge the runs that are there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    others = tuple(args.data / name for name in OTHER_SPEECH)
    keyword_data = load_keyword_data(
        WORDS,
        DataFolders(args.data / "speech_commands", negatives=others),
        max_word_seconds=RECIPE.max_word_seconds,
        warn=print,
    )
    if args.judge:
        held_out_speech = load_clips(find_clips(args.data / HELD_OUT_SPEECH), warn=print)
        print(
            table(
                args.out,
                replace(
                    keyword_data,
                    heldout_negatives=(*keyword_data.heldout_negatives, held_out_speech),
                ),
            )
        )
        return
    for seed in args.seeds:
        for kind in args.kinds:
            run(keyword_data, kind, seed, args.out / f"{kind}-{seed}.onnx", args.init_from)


def run(
    keyword_data: KeywordData,
    kind: str,
    seed: int,
    path: pathlib.Path,
    init_from: pathlib.Path | None,
) -> None:
    if path.exists():
        return
    config, train_config = (
        NetworkConfig(WORDS, pooling=kind, band_channels=band_channels(init_from)),
        replace(RECIPE, seed=seed),
    )
    network, resume = (
        init_from_pretrained(config, init_from, seed) if init_from else None,
        path.with_suffix(".pt").exists(),
    )
    train(
        keyword_data,
        config,
        train_config,
        path,
        device=torch.device("cpu"),
        resume=resume,
        init_from=network,
        progress=PrintedEpochs(path.stem),
    )


@dataclass(frozen=True)
class Figures:
    """Of one run, means over the words: shares, and seconds."""

    confused: float
    missed: float
    cut_off: float
    start_error: float
    end_error: float


def table(runs: pathlib.Path, keyword_data: KeywordData) -> str:
    """Markdown; a row for each kind of pooling."""
    rows = []
    for kind in POOLINGS:
        found = [
            judge(Engine.load(str(path)), keyword_data)
            for path in sorted(runs.glob(f"{kind}-[0-9].onnx"))
        ]
        if found:
            columns = [
                *(
                    _share([getattr(each, name) for each in found])
                    for name in ("confused", "missed", "cut_off")
                ),
                *(
                    f"{np.mean([getattr(each, name) for each in found]):.3f} s"
                    for name in ("start_error", "end_error")
                ),
            ]
            rows.append(f"| {kind} | {len(found)} | {' | '.join(columns)} |")
            print(rows[-1], flush=True)
    head = (
        f"{keyword_data.heldout_hours:.2f} h without the words\n\n| pooling | seeds | confused | "
        "missed | cut off, fires | start | end |"
    )
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows])


def judge(engine: Engine, keyword_data: KeywordData) -> Figures:
    spotter = Spotter(engine, engine.info.events)
    recordings = score_clips(spotter, heldout_waves(keyword_data))
    each = [
        _judge_word(spotter, index, word.dataset, recordings)
        for index, word in enumerate(keyword_data.heldout_words)
    ]
    return Figures(*np.nanmean(each, axis=0))


def _judge_word(
    spotter: Spotter, index: int, dataset: ClipDataset, recordings: list[ScoredRecording]
) -> tuple[float, ...]:
    waves = [dataset[i] for i in range(min(CLIPS, len(dataset)))]
    endpoints = np.array([find_endpoints(wave) for wave in waves])
    cut_ends = endpoints[:, 0] + CUT_FRACTION * (endpoints[:, 1] - endpoints[:, 0])
    cut_waves = [wave[: _samples(end)] for wave, end in zip(waves, cut_ends, strict=True)]
    cut_endpoints = np.stack([endpoints[:, 0], cut_ends], axis=1)
    alarms = count_alarms(recordings, spotter.words[index], CURVE_THRESHOLDS)
    at = lowest_threshold_within(alarms, total_hours(recordings))
    threshold = 1.0 if at is None else CURVE_THRESHOLDS[at]
    best_words = [
        _best_word(spotter, wave, *each) for wave, each in zip(waves, endpoints, strict=True)
    ]
    noisy = list(score_words(spotter, index, waves, endpoints, SNR_DB))
    cut = list(score_words(spotter, index, cut_waves, cut_endpoints))
    hits = [(word, word.match(threshold).hit) for word in noisy]
    errors = [
        (abs(hit.event.start - word.start), abs(hit.event.end - word.end))
        for word, hit in hits
        if hit
    ]
    return (
        float(np.mean([best != index for best in best_words])),
        float(np.mean([hit is None for _, hit in hits])),
        float(np.mean([each.match(threshold).hit is not None for each in cut])),
        *(np.mean(errors, axis=0) if errors else (np.nan, np.nan)),
    )


def _best_word(spotter: Spotter, wave: np.ndarray, start: float, end: float) -> int:
    """The word with the highest score on a clip's word."""
    embedded = embed_word(wave, (start, end))
    scores = spotter.scores(embedded.audio)
    latest = embedded.end + LATE_TOLERANCE_SECONDS
    on_word = (scores.times >= embedded.start) & (scores.times <= latest)
    return int(scores.pooled[on_word].max(axis=0).argmax())


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _share(values: list[float]) -> str:
    return f"{np.mean(values):.1%} ({min(values):.1%} to {max(values):.1%})"


if __name__ == "__main__":
    main()
