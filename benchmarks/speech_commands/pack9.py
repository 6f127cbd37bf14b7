"""Trains the two sizes on the pack-9 protocols, and judges them.

    python benchmarks/speech_commands/pack9.py --data DATA --out RUNS [--size small]
        [--seeds 0 1 2] [--init-from models/encoder.pt]
    python benchmarks/speech_commands/pack9.py --data DATA --out RUNS --judge [--alone]

Either with --protocol pack-9 (the default) or pack-9-unseen. DATA holds one folder a set of
recordings: speech_commands (the pack of seven whole words); librispeech, wake_words,
precise_community, custom_commands, honk: other speech, whose training speakers are heard as unknown
words; what was made of them or spoken: spoken_words (by speak.py in this folder), cut_words (by
cut.py), spoken_nonsense (by trunk/speak.py); esc10: noise. RUNS keeps one model for each run; a run
that is there is not trained again, one that was stopped goes on. Every choice is made on the
validation part, whose accuracy is the mean over the classes since it holds few unknown words, and
on words never heard: with --half 0 or 1 every second unknown word is left out of training, and
judged by. `--judge` opens the test part.
"""

import argparse
import json
import pathlib
import time
from dataclasses import replace

import numpy as np
import torch

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
    # Made; those that are not there are left out, and it is said.
    *("spoken_words", "spoken_nonsense", "cut_words"),
)
NOISE = ("esc10",)
CHUNK_SAMPLES = 1280


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    parser.add_argument("--protocol", choices=("pack-9", "pack-9-unseen"), default="pack-9")
    parser.add_argument(
        "--half",
        type=int,
        choices=(0, 1),
        help="leave half of the unknown words out of training, and choose by them",
    )
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=ClassifierTrainConfig.epochs)
    parser.add_argument(
        "--init-from", type=pathlib.Path, help="checkpoint to begin with, of this size"
    )
    parser.add_argument("--learning-rate", type=float, default=ClassifierTrainConfig.learning_rate)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--judge", action="store_true", help="judge all runs that are there, by the test part"
    )
    parser.add_argument(
        "--alone", action="store_true", help="… as if their networks could not read"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    protocol = protocols.load(args.protocol, args.data / "speech_commands", warn=print)
    if args.judge:
        for path in sorted(args.out.glob(f"{args.protocol}-[sl]*.onnx")):
            engine = Engine.load(str(path))
            if args.alone:
                engine.info.document.pop("lexicon", None)
            comparison = compare_decisions(path, engine, protocol)
            report = {**accuracy.judge(engine, protocol), **comparison}
            print(path.stem, accuracy.format_report(report), comparison, sep="\n", flush=True)
            path.with_suffix(".alone.json" if args.alone else ".json").write_text(
                json.dumps(report, indent=2) + "\n"
            )
        return
    left_out = None
    if args.half is not None:
        protocol, left_out = hold_out_half(protocol, args.half)
    keyword_data = load_training_data(args.data)
    for seed in args.seeds:
        train_config = ClassifierTrainConfig(
            epochs=args.epochs,
            learning_rate=args.learning_rate,
            mixed_precision=bfloat16_devices(),
            seed=seed,
        )
        half = [] if args.half is None else [f"half{args.half}"]
        parts = [
            args.protocol,
            *half,
            args.size,
            *(["trunk"] if args.init_from else []),
            str(args.epochs),
            f"seed{seed}",
        ]
        path = args.out / f"{'-'.join(parts)}.onnx"
        print(
            json.dumps(
                {
                    "run": path.stem,
                    **run(protocol, args, train_config, keyword_data, path),
                    **measure_false_accepts(path, left_out),
                }
            ),
            flush=True,
        )


def hold_out_half(
    protocol: protocols.Protocol, half: int
) -> tuple[protocols.Protocol, LabeledClips]:
    """The protocol without every second of the unknown words of its training part, and the clips of
    these words."""
    words, unknown = (
        np.array(protocol.train.words),
        protocol.train.labels == protocol.classes.index(UNKNOWN),
    )
    left_out = sorted({*words[unknown]})[half::2]
    out = unknown & np.isin(words, left_out)
    return replace(
        protocol, train=protocol.train.select(~out), held_out=(*protocol.held_out, *left_out)
    ), protocol.train.select(out)


def measure_false_accepts(path: pathlib.Path, left_out: LabeledClips | None) -> dict[str, float]:
    """How many of the words that were left out are taken for one of the seven."""
    if left_out is None:
        return {}
    engine = Engine.load(str(path))
    words = [i for i, name in enumerate(engine.info.words) if not name.startswith("_")]
    return {
        "left out": len(left_out),
        "of them taken": round(
            float(np.isin(predict_streaming(engine, left_out), words).mean()), 4
        ),
    }


def run(
    protocol: protocols.Protocol,
    args: argparse.Namespace,
    train_config: ClassifierTrainConfig,
    keyword_data: dict[str, list[ClipDataset]],
    path: pathlib.Path,
) -> dict:
    began, resume = time.perf_counter(), path.with_suffix(".pt").exists()
    config, sounds = add_pronunciations(
        make_classifier_config(protocol.classes, args.size, args.init_from), protocol
    )
    if not path.exists():
        device = torch.device(args.device)
        init_from = (
            init_from_pretrained(config, args.init_from, train_config.seed)
            if args.init_from
            else None
        )
        train.train(
            protocol,
            config,
            train_config,
            path,
            device=device,
            resume=resume,
            init_from=init_from,
            pronunciations=sounds,
            progress=PrintedEpochs(),
            **keyword_data,
        )
    minutes = (time.perf_counter() - began) / 60
    engine = Engine.load(str(path))
    clips = train_config.epochs * train_config.steps_per_epoch * train_config.batch
    return {
        "parameters": engine.info.document["parameters"],
        "validation": round(
            balanced_accuracy(protocol.validation, predict_streaming(engine, protocol.validation)),
            4,
        ),
        "minutes": round(minutes, 1),
        "clips per second": round(clips / minutes / 60),
    }


def compare_decisions(
    path: pathlib.Path, engine: Engine, protocol: protocols.Protocol
) -> dict[str, int]:
    """Clips, and those of them that the checkpoint, the model file and the model file in chunks of
    80 ms do not all sort alike."""
    network = load_network(path.with_suffix(".pt"))
    parts = (protocol.validation, protocol.test, *protocol.extra_test_sets.values())
    predictions = [
        np.stack(
            [
                predict(network, part, load_lexicon(engine.info)),
                predict_streaming(engine, part),
                predict_streaming(engine, part, CHUNK_SAMPLES),
            ]
        )
        for part in parts
    ]
    return {
        "clips sorted in three ways": sum(map(len, parts)),
        "sorted differently": int(
            sum((prediction != prediction[0]).any(0).sum() for prediction in predictions)
        ),
    }


def load_training_data(data: pathlib.Path) -> dict[str, list[ClipDataset]]:
    """What is heard beside the protocol's clips."""
    present_folders = [data / name for name in OTHER_SPEECH if (data / name).is_dir()]
    print("other speech:", *(folder.name for folder in present_folders), flush=True)
    speech = [load_clips(find_clips(folder), warn=print) for folder in present_folders]
    return {
        "other_speech": [dataset.select(lambda clip: clip.split == "train") for dataset in speech],
        "heldout_speech": [
            dataset.select(lambda clip: clip.split == "validation") for dataset in speech
        ],
        "background": [load_clips(find_clips(data / name), warn=print) for name in NOISE],
    }


if __name__ == "__main__":
    main()
