"""What does a wider network buy a detector from text? Trains detectors that differ in nothing but
their channels, and evaluates them as `benchmarks/people.py` does, with the verifier and without.

    python experiments/width.py --data DATA --runs RUNS [--phrases snowboy] [--channels 96 208]
        [--seeds 0 1] [--epochs 12] [--init-from models/encoder.pt]
    python experiments/width.py --data DATA --runs RUNS --evaluate

DATA is that of `benchmarks/people.py`. RUNS keeps the synthetic clips, spoken once a phrase for all
runs, and one model per run. Runs that are there are not trained again; one that was stopped is
resumed. There is one stage: hard negatives would be other ones for each network. The encoder has
one width, so only that one can start from it.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.people import NOISE, PHRASES, SPEECH, evaluate, synth_folder
from benchmarks.report import add_out_option, write_report
from kws.runtime.engine import Engine
from kws.synth.phrase import folder_name
from kws.training.data.keyword_data import DataFolders, load_keyword_data
from kws.training.detection.from_text import SynthConfig, synthesize_folders
from kws.training.detection.train import train
from kws.training.fit.config import TrainConfig, bfloat16_devices
from kws.training.fit.progress import PrintedEpochs
from kws.training.model.network import NetworkConfig
from kws.training.model.pretrained import init_from_pretrained, load_verifier

SYNTH_SEED = 0


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--phrases", nargs="+", choices=PHRASES, default=["view glass", "snowboy"])
    parser.add_argument("--channels", type=int, nargs="+", default=[96, 144, 208])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--synth-clips", type=int, default=SynthConfig.clips)
    parser.add_argument("--epochs", type=int, default=SynthConfig.epochs)
    parser.add_argument("--init-from", type=Path, help="checkpoint of this width to start from")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--evaluate", action="store_true", help="evaluate the runs in RUNS")
    add_out_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.evaluate:
        evaluate_runs(args)
        return
    for seed in args.seeds:
        for phrase in args.phrases:
            synth_config = SynthConfig(phrase, args.synth_clips, SYNTH_SEED)
            for channels in args.channels:
                path = args.runs / f"{run_name(args, synth_config.name, channels, seed)}.kws"
                if not path.exists():
                    train_run(args, synth_config, channels, seed, path)


def run_name(args: argparse.Namespace, name: str, channels: int, seed: int) -> str:
    start = "pretrained" if args.init_from else "scratch"
    return f"{name}-{channels}-{start}-{args.synth_clips}-{args.epochs}-seed{seed}"


def train_run(
    args: argparse.Namespace, synth_config: SynthConfig, channels: int, seed: int, path: Path
) -> None:
    """Trains one detector. Prints how long it took, without the synthesis."""
    name = synth_config.name
    folders = synthesize_folders(
        synth_config,
        DataFolders(
            synth_folder(args.runs, name, SYNTH_SEED),
            negatives=tuple(args.data / each for each in SPEECH),
            background=(args.data / NOISE,),
        ),
    )
    start = time.perf_counter()
    config = NetworkConfig((name,), channels=channels)
    train_config = TrainConfig(epochs=args.epochs, mixed_precision=bfloat16_devices(), seed=seed)
    keyword_data = load_keyword_data(
        [name], folders, max_word_seconds=train_config.max_word_seconds, warn=lambda text: None
    )
    train(
        keyword_data,
        config,
        train_config,
        path,
        device=torch.device("cpu"),
        resume=path.with_suffix(".pt").exists(),
        init_from=init_from_pretrained(config, args.init_from, seed) if args.init_from else None,
        progress=PrintedEpochs(path.stem),
        model_card={"human": []},
        verifier_candidates=[load_verifier({name: synth_config.pronunciations})],
    )
    minutes = round((time.perf_counter() - start) / 60, 1)
    print(json.dumps({"run": path.stem, "minutes": minutes}), flush=True)


def evaluate_runs(args: argparse.Namespace) -> None:
    """Prints a line of JSON for each run, without and with the verifier; the report has all."""
    rows = []
    for name in map(folder_name, args.phrases):
        synth = synth_folder(args.runs, name, SYNTH_SEED)
        paths = [path for seed in args.seeds for path in args.runs.glob(f"{name}-*-seed{seed}.kws")]
        for path in sorted(paths):
            for verifier in (False, True):
                engine = Engine.load(str(path), verifier=verifier)
                metrics = evaluate(engine, args.data, synth, name)
                rows.append({"run": path.stem, "verifier": verifier, **metrics})
                print(json.dumps(rows[-1]), flush=True)
    write_report({"runs": rows}, args.out)


if __name__ == "__main__":
    main()
