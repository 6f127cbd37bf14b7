"""Trains and evaluates classifiers of both sizes on protocols of parts of Speech Commands.

    python benchmarks/speech_commands/classifiers.py --data DATA --runs RUNS --protocol sc-8
        [--size large] [--seeds 0 1 2] [--init-from models/encoder_conv2d.pt]
    python benchmarks/speech_commands/classifiers.py --data DATA --runs RUNS --protocol sc-8
        --evaluate [--without-lexicon]

DATA has one folder per data set: speech_commands, and speech_commands_more for the eight words of
sc-8 and mini-8 (pack-9 and pack-9-unseen do without it); librispeech,
wake_words, precise_community, custom_commands, honk (other speech); spoken_words (by speak.py),
cut_words (by cut.py), spoken_nonsense (by recipes/phone_recognizer/speak.py); esc10 (noise). Data
sets of other speech that are missing are left out. RUNS keeps one model per run. Runs that are
there are not trained again; one that was stopped is resumed.

Choices are made on the validation split, by the mean accuracy of the classes, as it has few unknown
words. --half 0 or 1 leaves every second unknown word out of the training, and reports how many of
their clips are accepted. --evaluate uses the test split.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.report import add_out_option, write_report
from kws.runtime.engine import Engine
from kws.training.data.clips import find_clips
from kws.training.data.dataset import ClipDataset, load_clips
from kws.training.fit.config import bfloat16_devices
from kws.training.fit.progress import PrintedEpochs
from kws.training.model.network import SIZES
from kws.training.model.pretrained import init_from_pretrained
from kws.training.model.torch_engine import load_network
from kws.training.speech_commands import accuracy, protocols, train
from kws.training.speech_commands.config import ClassifierTrainConfig
from kws.training.speech_commands.dataset import UNKNOWN, LabeledClips
from kws.training.speech_commands.predict import (
    balanced_accuracy,
    load_lexicon,
    predict,
    predict_streaming,
)
from kws.training.speech_commands.train import add_pronunciations, make_classifier_config

OTHER_SPEECH = (
    *("librispeech", "wake_words", "precise_community", "custom_commands", "honk"),
    *("spoken_words", "spoken_nonsense", "cut_words"),
)
NOISE = "esc10"
FIRST_PART, SECOND_PART = "speech_commands", "speech_commands_more"
# Folders of the clips of each protocol.
PARTS = {
    "pack-9": (FIRST_PART,),
    "pack-9-unseen": (FIRST_PART,),
    "sc-8": (FIRST_PART, SECOND_PART),
    "mini-8": (FIRST_PART, SECOND_PART),
}
CHUNK_SAMPLES = 1280


@dataclass(frozen=True)
class TrainingData:
    """The recordings that a run uses beside the clips of the protocol."""

    other_speech: list[ClipDataset]
    heldout_speech: list[ClipDataset]
    background: list[ClipDataset]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--protocol", choices=PARTS, default="pack-9")
    parser.add_argument(
        "--half", type=int, choices=(0, 1), help="leave this half of the unknown words out"
    )
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=ClassifierTrainConfig.epochs)
    parser.add_argument("--init-from", type=Path, help="checkpoint of this size to start from")
    parser.add_argument("--learning-rate", type=float, default=ClassifierTrainConfig.learning_rate)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--evaluate", action="store_true", help="evaluate the runs in RUNS")
    parser.add_argument(
        "--without-lexicon", action="store_true", help="evaluate without the scores of phones"
    )
    add_out_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    protocol = load_protocol(args.protocol, args.data)
    rows = evaluate_runs(args, protocol) if args.evaluate else train_runs(args, protocol)
    write_report({"runs": rows}, args.out)


def load_protocol(name: str, data: Path) -> protocols.Protocol:
    return protocols.load(name, *(data / part for part in PARTS[name]), warn=print)


def train_runs(args: argparse.Namespace, protocol: protocols.Protocol) -> list[dict]:
    """Trains a run with each seed. Prints a line of JSON for each."""
    args.runs.mkdir(parents=True, exist_ok=True)
    left_out = None
    if args.half is not None:
        protocol, left_out = leave_out_half(protocol, args.half)
    data = load_training_data(args.data)
    rows = []
    for seed in args.seeds:
        path = args.runs / f"{run_name(args, seed)}.kws"
        figures = train_run(args, protocol, data, seed, path)
        if left_out is not None:
            figures |= count_accepted(path, left_out)
        rows.append({"run": path.stem, **figures})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def run_name(args: argparse.Namespace, seed: int) -> str:
    parts = [args.protocol]
    if args.half is not None:
        parts.append(f"half{args.half}")
    parts.append(args.size)
    if args.init_from:
        parts.append("pretrained")
    return "-".join([*parts, str(args.epochs), f"seed{seed}"])


def train_run(
    args: argparse.Namespace,
    protocol: protocols.Protocol,
    data: TrainingData,
    seed: int,
    path: Path,
) -> dict:
    start = time.perf_counter()
    train_config = ClassifierTrainConfig(
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        mixed_precision=bfloat16_devices(),
        seed=seed,
    )
    config, pronunciations = add_pronunciations(
        make_classifier_config(protocol.classes, args.size, args.init_from), protocol
    )
    if not path.exists():
        train.train(
            protocol,
            config,
            train_config,
            path,
            device=torch.device(args.device),
            other_speech=data.other_speech,
            heldout_speech=data.heldout_speech,
            background=data.background,
            resume=path.with_suffix(".pt").exists(),
            init_from=init_from_pretrained(config, args.init_from, seed)
            if args.init_from
            else None,
            pronunciations=pronunciations,
            progress=PrintedEpochs(),
        )
    minutes = (time.perf_counter() - start) / 60
    engine = Engine.load(str(path))
    predicted = predict_streaming(engine, protocol.validation)
    return {
        "parameters": engine.info.document["parameters"],
        "validation_accuracy": round(balanced_accuracy(protocol.validation, predicted), 4),
        "minutes": round(minutes, 1),
    }


def leave_out_half(
    protocol: protocols.Protocol, half: int
) -> tuple[protocols.Protocol, LabeledClips]:
    """The protocol without every second of the unknown words of its training split, and the clips
    of these words."""
    words = np.array(protocol.train.words)
    is_unknown = protocol.train.labels == protocol.classes.index(UNKNOWN)
    left_out = sorted({*words[is_unknown]})[half::2]
    is_left_out = is_unknown & np.isin(words, left_out)
    remaining = replace(
        protocol,
        train=protocol.train.select(~is_left_out),
        held_out=(*protocol.held_out, *left_out),
    )
    return remaining, protocol.train.select(is_left_out)


def count_accepted(path: Path, left_out: LabeledClips) -> dict[str, float]:
    """The share of the clips of unknown words that a model takes for one of its words."""
    engine = Engine.load(str(path))
    words = [i for i, name in enumerate(engine.info.words) if not name.startswith("_")]
    is_accepted = np.isin(predict_streaming(engine, left_out), words)
    return {
        "left_out_clips": len(left_out),
        "left_out_accepted": round(float(is_accepted.mean()), 4),
    }


def load_training_data(data: Path) -> TrainingData:
    folders = [data / name for name in OTHER_SPEECH if (data / name).is_dir()]
    print("other speech:", *(folder.name for folder in folders), flush=True)
    speech = [load_clips(find_clips(folder), warn=print) for folder in folders]
    return TrainingData(
        other_speech=[dataset.select(lambda clip: clip.split == "train") for dataset in speech],
        heldout_speech=[
            dataset.select(lambda clip: clip.split == "validation") for dataset in speech
        ],
        background=[load_clips(find_clips(data / NOISE), warn=print)],
    )


def evaluate_runs(args: argparse.Namespace, protocol: protocols.Protocol) -> list[dict]:
    """Evaluates all runs of the protocol on the test split. Prints the metrics of each."""
    rows = []
    # The name goes on with a size: "pack-9-[sl]" leaves out the runs of pack-9-unseen.
    for path in sorted(args.runs.glob(f"{args.protocol}-[sl]*.kws")):
        engine = Engine.load(str(path))
        if args.without_lexicon:
            engine.info.document.pop("lexicon", None)
        metrics = accuracy.evaluate_classifier(engine, protocol)
        comparison = compare_predictions(path, engine, protocol)
        print(path.stem, accuracy.format_report(metrics), comparison, sep="\n", flush=True)
        rows.append({"run": path.stem, **metrics, **comparison})
    return rows


def compare_predictions(path: Path, engine: Engine, protocol: protocols.Protocol) -> dict[str, int]:
    """How many clips the checkpoint, the model file, and the model file in chunks of 80 ms do not
    all predict alike."""
    network, lexicon = load_network(path.with_suffix(".pt")), load_lexicon(engine.info)
    clips = differences = 0
    for part in (protocol.validation, protocol.test, *protocol.extra_test_sets.values()):
        expected = predict(network, part, lexicon)
        whole = predict_streaming(engine, part)
        chunks = predict_streaming(engine, part, CHUNK_SAMPLES)
        clips += len(part)
        differences += int(((whole != expected) | (chunks != expected)).sum())
    return {"compared_clips": clips, "different_predictions": differences}


if __name__ == "__main__":
    main()
