"""What does each ingredient of the recipe for clips bring? Trains on pack-9 with all of them, and
with one left out at a time.

    python benchmarks/speech_commands/ablation.py --data DATA --out RUNS --init-from models/encoder.pt
        [--half 1] [--rows noise ...]
    python benchmarks/speech_commands/ablation.py --out RUNS --table

DATA as for pack9.py. A run is short, from the trunk, with every second unknown word left out of
training; a run that is there is not trained again. Judged by the validation part, clean and in pink
noise at 10 dB (every class counting alike), and by the words left out.
"""

import argparse
import itertools
import json
import pathlib
from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
from pack9 import hold_out_half, load_training_data, measure_false_accepts

from kws.runtime.engine import Engine
from kws.training.augment.waveform import AugmentConfig, add_noise
from kws.training.data.noise import make_coloured_noise
from kws.training.fit.config import TrainConfig
from kws.training.model.pretrained import init_from_pretrained
from kws.training.speech_commands import protocols, train
from kws.training.speech_commands.config import ClassifierTrainConfig, default_learning_rate
from kws.training.speech_commands.dataset import LabeledClips
from kws.training.speech_commands.predict import balanced_accuracy, predict_streaming
from kws.training.speech_commands.train import make_classifier_config

NOTHING, NO_TRUNK, BANDS = "nothing", "the trunk", "the trunk, but with a stem that looks at bands"
KERNELS = {  # in frames of 20 ms, without a trunk, which has kernels of its own
    "the trunk, with kernels half as long": (5, 5, 5, 5, 7, 7),
    "the trunk, with kernels twice as long": (17, 17, 21, 21, 25, 29),
}
FALLING = "the fall of the learning rate (cosine)"
SNR_DB = 10.0
HALVES = (0, 1)
WITHOUT: dict[str, dict] = {
    NOTHING: {},
    NO_TRUNK: {},
    BANDS: {},
    **{row: {} for row in KERNELS},
    "unknown words made of known ones": {
        "reversed_fraction": 0.0,
        "cross_word_splice_fraction": 0.0,
        "shuffled_fraction": 0.0,
    },
    "other speech as unknown words": {
        "other_speech_fraction": 0.0,
        "snippet_fraction": 0.0,
        "isolated_fraction": 0.0,
    },
    "unknown words more often": {"unknown_weight": 1.0},
    "every class and word as often": {"balanced": False},
    "noise": {"noisy_fraction": 0.0},
    "speed": {"speed_range": (1.0, 1.0)},
    "speed, gain and unknown words made of known ones": {
        **{"speed_range": (1.0, 1.0), "gain_fraction": 0.0},
        **{"reversed_fraction": 0.0, "cross_word_splice_fraction": 0.0, "shuffled_fraction": 0.0},
    },
    "shift": {"shift_seconds": 0.0},
    "masks (SpecAugment)": {"mel_masks": 0, "time_masks": 0},
    "mixup": {"mixup": 0.0},
    "label smoothing": {"label_smoothing": 0.0},
    "averaging of weights": {"ema_decay": 0.0},
    "warm-up": {"warmup": 0.0},
    FALLING: {},
    "random filters": {"equalized_fraction": 0.0},
    "rooms": {"room_fraction": 0.0},
    "gain": {"gain_fraction": 0.0},
    "known words from other data sets": {
        "out_of_corpus_fraction": 0.0,
        "out_of_corpus_unknown_fraction": 0.0,
    },
    "room tone under other data sets": {"match_room_tone_fraction": 0.0},
    "words mended from two recordings": {"same_word_splice_fraction": 0.0},
    "fresh silence": {"random_silence_fraction": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    parser.add_argument("--init-from", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--half",
        type=int,
        choices=HALVES,
        default=0,
        help="of the unknown words, which to leave out",
    )
    parser.add_argument("--rows", nargs="+", choices=WITHOUT, default=list(WITHOUT))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--table", action="store_true", help="print what is there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.table:
        print(table(args.out))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    protocol, left_out = hold_out_half(
        protocols.load("pack-9", args.data / "speech_commands", warn=print), args.half
    )
    keyword_data, noisy = load_training_data(args.data), in_noise(protocol.validation, SNR_DB)
    for row in args.rows:
        for seed in args.seeds:
            path = (
                args.out
                / f"{row.replace(',', '').replace(' ', '_')}-half{args.half}-seed{seed}.onnx"
            )
            if path.with_suffix(".json").exists():
                continue
            init_from = None if row in (NO_TRUNK, BANDS, *KERNELS) else args.init_from
            train_config = ClassifierTrainConfig(
                epochs=args.epochs,
                learning_rate=default_learning_rate(init_from),
                seed=seed,
                **WITHOUT[row],
            )
            config = make_classifier_config(
                protocol.classes, "small", None if row == BANDS else args.init_from
            )
            # What reading brings is another question.
            config = replace(config, kernels=KERNELS.get(row, config.kernels), phones="")
            network = init_from_pretrained(config, init_from, seed) if init_from else None
            with (
                patch.object(TrainConfig, "learning_rate_at", steady)
                if row == FALLING
                else nullcontext()
            ):
                train.train(
                    protocol,
                    config,
                    train_config,
                    path,
                    device=torch.device("cpu"),
                    init_from=network,
                    **keyword_data,
                )
            engine = Engine.load(str(path))
            right = [
                balanced_accuracy(part, predict_streaming(engine, part))
                for part in (protocol.validation, noisy)
            ]
            report = {
                "row": row,
                "half": args.half,
                "seed": seed,
                "right": right[0],
                "right in noise": right[1],
                "taken": measure_false_accepts(path, left_out)["of them taken"],
            }
            path.with_suffix(".json").write_text(json.dumps(report) + "\n")
            print(path.stem, report, flush=True)


def steady(train_config: TrainConfig, step: int) -> float:
    """A learning rate that stays, after the warm-up, where the cosine is on average."""
    return (
        min(
            (step + 1)
            / max(train_config.warmup * train_config.epochs * train_config.steps_per_epoch, 1),
            1.0,
        )
        * train_config.learning_rate
        / 2
    )


def in_noise(part: LabeledClips, snr_db: float) -> LabeledClips:
    """The clips of a part in pink noise."""
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(
        np.stack([make_coloured_noise(part.samples.shape[1], 1.0, rng) for _ in range(len(part))])
    )
    noise /= noise.square().mean(1, keepdim=True).sqrt()
    clean = torch.from_numpy(part.samples).float() / 32768
    config = AugmentConfig(snr_db=(snr_db, snr_db), noisy_fraction=1.0)
    noisy = add_noise(clean, noise, config, torch.Generator().manual_seed(0))
    return replace(part, samples=(noisy.clamp(-1, 1) * 32767).round().to(torch.int16).numpy())


def table(runs: pathlib.Path) -> str:
    """Markdown: of each row and half the means over the seeds and their range."""
    reports = [json.loads(path.read_text()) for path in sorted(runs.glob("*.json"))]
    lines = [
        (
            "| without | half | seeds | right | right at 10 dB | of words never heard, taken for a "
            "known one |"
        ),
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row, half in itertools.product(WITHOUT, HALVES):
        found = [report for report in reports if (report["row"], report["half"]) == (row, half)]
        if found:
            cells = [
                _cell([report[what] for report in found])
                for what in ("right", "right in noise", "taken")
            ]
            lines.append(f"| {row} | {half} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    return f"{np.mean(values) * 100:.1f} % ({min(values) * 100:.1f}–{max(values) * 100:.1f})"


if __name__ == "__main__":
    main()
