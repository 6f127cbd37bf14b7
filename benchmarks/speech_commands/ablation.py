"""Measures what each ingredient of the classifier's training brings: pack-9 with all of them, and
with one left out at a time.

    python benchmarks/speech_commands/ablation.py --data DATA --runs RUNS
        --init-from models/encoder_conv2d.pt [--half 1] [--rows noise ...]
    python benchmarks/speech_commands/ablation.py --runs RUNS --table

DATA as for classifiers.py. A run is short, starts from an encoder, and leaves every second unknown
word out of the training. Runs that are there are not trained again. Metrics are the mean accuracy
of the classes on the validation split, clean and in pink noise at 10 dB, and the share of the clips
of the words left out that are accepted.
"""

import argparse
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.report import describe_run
from benchmarks.speech_commands.classifiers import (
    TrainingData,
    count_accepted,
    leave_out_half,
    load_training_data,
)
from kws.runtime.engine import Engine
from kws.training.augment.waveform import AugmentConfig, add_noise
from kws.training.data.noise import make_coloured_noise
from kws.training.model.pretrained import init_from_pretrained
from kws.training.speech_commands import protocols, train
from kws.training.speech_commands.config import ClassifierTrainConfig, default_learning_rate
from kws.training.speech_commands.dataset import LabeledClips
from kws.training.speech_commands.predict import balanced_accuracy, predict_streaming
from kws.training.speech_commands.train import make_classifier_config

NO_ENCODER, CONV2D_STEM = "encoder", "encoder, with the 2-D stem"
# In frames of 20 ms. These rows have no encoder, as its kernels are others.
KERNELS = {
    "encoder, with kernels half as long": (5, 5, 5, 5, 7, 7),
    "encoder, with kernels twice as long": (17, 17, 21, 21, 25, 29),
}
SNR_DB = 10.0
HALVES = (0, 1)
METRICS = ("accuracy", "accuracy_in_noise", "left_out_accepted")
SYNTHETIC_UNKNOWNS_OFF = {
    "reversed_fraction": 0.0,
    "cross_word_splice_fraction": 0.0,
    "shuffled_fraction": 0.0,
}
WITHOUT: dict[str, dict[str, Any]] = {
    "nothing": {},
    NO_ENCODER: {},
    CONV2D_STEM: {},
    **{row: {} for row in KERNELS},
    "synthetic unknowns": SYNTHETIC_UNKNOWNS_OFF,
    "other speech as unknowns": {
        "other_speech_fraction": 0.0,
        "snippet_fraction": 0.0,
        "isolated_fraction": 0.0,
    },
    "weight of unknowns": {"unknown_weight": 1.0},
    "balanced classes and words": {"balanced": False},
    "noise": {"noisy_fraction": 0.0},
    "speed": {"speed_range": (1.0, 1.0)},
    "speed, gain and synthetic unknowns": {
        "speed_range": (1.0, 1.0),
        "gain_fraction": 0.0,
        **SYNTHETIC_UNKNOWNS_OFF,
    },
    "shift": {"shift_seconds": 0.0},
    "SpecAugment": {"mel_masks": 0, "time_masks": 0},
    "mixup": {"mixup": 0.0},
    "label smoothing": {"label_smoothing": 0.0},
    "averaging of weights": {"ema_decay": 0.0},
    "warm-up": {"warmup": 0.0},
    "random filters": {"equalized_fraction": 0.0},
    "rooms": {"room_fraction": 0.0},
    "gain": {"gain_fraction": 0.0},
    "words from other data sets": {
        "out_of_corpus_fraction": 0.0,
        "out_of_corpus_unknown_fraction": 0.0,
    },
    "room tone under other data sets": {"match_room_tone_fraction": 0.0},
    "same-word splices": {"same_word_splice_fraction": 0.0},
    "random silence": {"random_silence_fraction": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--init-from", type=Path, help="checkpoint to start from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--half", type=int, choices=HALVES, default=0, help="of the unknown words to leave out"
    )
    parser.add_argument("--rows", nargs="+", choices=WITHOUT, default=list(WITHOUT))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--table", action="store_true", help="print a table of the runs in RUNS")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.table:
        print(format_table(args.runs))
        return
    if not args.data:
        parser.error("--data is needed to train")
    args.runs.mkdir(parents=True, exist_ok=True)
    protocol, left_out = leave_out_half(
        protocols.load("pack-9", args.data / "speech_commands", warn=print), args.half
    )
    data, noisy = load_training_data(args.data), add_pink_noise(protocol.validation, SNR_DB)
    for row, seed in itertools.product(args.rows, args.seeds):
        name = row.replace(",", "").replace(" ", "_")
        path = args.runs / f"{name}-half{args.half}-seed{seed}.kws"
        report_path = path.with_suffix(".json")
        if report_path.exists():
            continue
        train_row(args, protocol, data, row, seed, path)
        engine = Engine.load(str(path))
        clean_accuracy, noisy_accuracy = (
            round(balanced_accuracy(part, predict_streaming(engine, part)), 4)
            for part in (protocol.validation, noisy)
        )
        figures = {
            "row": row,
            "half": args.half,
            "seed": seed,
            "accuracy": clean_accuracy,
            "accuracy_in_noise": noisy_accuracy,
            **count_accepted(path, left_out),
        }
        report_path.write_text(json.dumps({**describe_run(), **figures}, indent=2) + "\n")
        print(json.dumps(figures), flush=True)


def train_row(
    args: argparse.Namespace,
    protocol: protocols.Protocol,
    data: TrainingData,
    row: str,
    seed: int,
    path: Path,
) -> None:
    """Trains a run without one ingredient."""
    init_from = None if row in (NO_ENCODER, CONV2D_STEM, *KERNELS) else args.init_from
    config = make_classifier_config(
        protocol.classes, "small", None if row == CONV2D_STEM else args.init_from
    )
    # Without phones: what they bring is measured by classifiers.py --without-lexicon.
    config = replace(config, kernels=KERNELS.get(row, config.kernels), phones="")
    train_config = ClassifierTrainConfig(
        epochs=args.epochs,
        learning_rate=default_learning_rate(init_from),
        seed=seed,
        **WITHOUT[row],
    )
    train.train(
        protocol,
        config,
        train_config,
        path,
        device=torch.device("cpu"),
        other_speech=data.other_speech,
        heldout_speech=data.heldout_speech,
        background=data.background,
        init_from=init_from_pretrained(config, init_from, seed) if init_from else None,
    )


def add_pink_noise(part: LabeledClips, snr_db: float) -> LabeledClips:
    rng = np.random.default_rng(0)
    samples = part.samples.shape[1]
    noise = torch.from_numpy(
        np.stack([make_coloured_noise(samples, 1.0, rng) for _ in range(len(part))])
    )
    noise /= noise.square().mean(1, keepdim=True).sqrt()
    clean = torch.from_numpy(part.samples).float() / 32768
    generator = torch.Generator().manual_seed(0)
    config = AugmentConfig(noisy_fraction=1.0, snr_db=(snr_db, snr_db))
    noisy = add_noise(clean, noise, config, generator)
    return replace(part, samples=(noisy.clamp(-1, 1) * 32767).round().to(torch.int16).numpy())


def format_table(runs: Path) -> str:
    """Markdown: the mean over the seeds, and their range, for each row and half."""
    reports = [json.loads(path.read_text()) for path in sorted(runs.glob("*.json"))]
    lines = [
        "| without | half | seeds | right | right at 10 dB | words left out, accepted |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row, half in itertools.product(WITHOUT, HALVES):
        chosen = [report for report in reports if (report["row"], report["half"]) == (row, half)]
        if chosen:
            cells = [_format_range([report[name] for report in chosen]) for name in METRICS]
            lines.append(f"| {row} | {half} | {len(chosen)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _format_range(values: list[float]) -> str:
    return f"{np.mean(values) * 100:.1f} % ({min(values) * 100:.1f}–{max(values) * 100:.1f})"


if __name__ == "__main__":
    main()
