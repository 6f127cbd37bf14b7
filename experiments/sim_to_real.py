"""What makes networks that learn from spoken words hear people? Trains detectors of a phrase, from
text, each with one thing changed.

    python experiments/sim_to_real.py --data DATA --out RUNS --init-from models/encoder.pt
        [--phrases snowboy] [--rows rooms ...]
    python experiments/sim_to_real.py --out RUNS --table

DATA and the phrases as for people.py, with which RUNS can be shared: the same clips are spoken. A
run is short: one round, with a part of the clips of the phrase and of those around it; one that is
there is not trained again. Judged by the network alone, without a reader.
"""

import argparse
import json
import logging
import math
import pathlib
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))

from people import NOISE, PHRASES, SPEECH, THRESHOLDS, judge, spoken_folder

from kws.runtime.engine import Engine
from kws.synth.render import read_manifest
from kws.training.data.keyword_data import DataFolders, KeywordData, load_keyword_data
from kws.training.data.sources import NegativeSource
from kws.training.detection.from_text import (
    IN_CONTEXT,
    SENTENCES,
    WORDS,
    SynthConfig,
    synthesize_folders,
)
from kws.training.detection.train import train
from kws.training.fit.config import TrainConfig, bfloat16_devices
from kws.training.fit.progress import PrintedEpochs
from kws.training.model.network import SIZES, NetworkConfig
from kws.training.model.pretrained import band_channels, init_from_pretrained

ALL = 800  # clips of the phrase that are spoken
Rows = list[dict[str, str]]  # of clips.csv


@dataclass(frozen=True)
class Change:
    """What is done otherwise: `clips` of the phrase, by whom; which other speech and noise, and how
    much of the speech; the training settings."""

    clips: int = 300
    speakers: Callable[[Rows], Rows] = lambda rows: rows
    speech: tuple[str, ...] = SPEECH
    noise: tuple[str, ...] = NOISE
    share: float = 1.0
    train_config: dict = field(default_factory=dict)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    parser.add_argument("--phrases", nargs="+", choices=PHRASES, default=list(PHRASES))
    parser.add_argument("--rows", nargs="+", choices=CHANGES, default=list(CHANGES))
    parser.add_argument(
        "--init-from", type=pathlib.Path, help="checkpoint to begin with, of the small size"
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print what is there")
    args = parser.parse_args()
    if args.table:
        print(table(args.out))
        return
    for row in args.rows:
        for phrase in args.phrases:
            speech = SynthConfig(phrase, ALL, args.seed)
            path = (
                args.out
                / f"{speech.name}-{row.replace(',', '').replace(' ', '_')}-seed{args.seed}.onnx"
            )
            if not path.with_suffix(".json").exists():
                run(args, speech, CHANGES[row], path)
                said = spoken_folder(args.out, speech.name, args.seed)
                found = judge(Engine.load(str(path), verifier=False), args.data, said, speech.name)
                report = {"phrase": phrase, "row": row, **found}
                path.with_suffix(".json").write_text(json.dumps(report) + "\n")
                print(json.dumps(report), flush=True)


def run(args: argparse.Namespace, speech: SynthConfig, change: Change, path: pathlib.Path) -> None:
    folders = DataFolders(
        spoken_folder(args.out, speech.name, args.seed),
        negatives=tuple(args.data / name for name in change.speech),
        background=tuple(args.data / name for name in change.noise),
    )
    everything = synthesize_folders(speech, folders)
    chosen = replace(everything, excluded=everything.excluded | _unheard(folders.data, change))
    settings = {
        "epochs": args.epochs,
        "mixed_precision": bfloat16_devices(),
        "seed": args.seed,
        **change.train_config,
    }
    train_config = TrainConfig(**settings)
    keyword_data = load_keyword_data(
        [speech.name], chosen, max_word_seconds=train_config.max_word_seconds, warn=print
    )
    keyword_data = with_share(keyword_data, change.share)
    config = NetworkConfig(
        (speech.name,), band_channels=band_channels(args.init_from), **SIZES["small"]
    )
    network = init_from_pretrained(config, args.init_from, args.seed) if args.init_from else None
    train(
        keyword_data,
        config,
        train_config,
        path,
        device=torch.device("cpu"),
        init_from=network,
        progress=PrintedEpochs(path.stem),
        model_card={"human": []},
    )


def _unheard(folder: pathlib.Path, change: Change) -> frozenset[pathlib.Path]:
    """The spoken clips that a run does not hear: of each text as large a share stays as of the
    phrase, of the speakers that are chosen."""
    unheard = []
    for place in (WORDS, IN_CONTEXT, SENTENCES):
        texts = defaultdict(list)
        for row in read_manifest(folder / place):
            texts[pathlib.Path(row["file"]).parent].append(row)
        for rows in texts.values():
            some = _shuffled(change.speakers(rows))[: math.ceil(len(rows) * change.clips / ALL)]
            heard = {row["file"] for row in some}
            unheard += [folder / place / row["file"] for row in rows if row["file"] not in heard]
    return frozenset(unheard)


def _shuffled(rows: Rows) -> Rows:
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def _by(keep: Callable[[str], bool]) -> Callable[[Rows], Rows]:
    return lambda rows: [row for row in rows if keep(row["engine"])]


def with_share(keyword_data: KeywordData, share: float) -> KeywordData:
    """As if there were only so much of each source of other speech; what is spoken, the first two
    of them, stays."""
    first, second, *people = keyword_data.negatives
    return replace(
        keyword_data, negatives=(first, second, *(_part(source, share) for source in people))
    )


def _part(source: NegativeSource, share: float) -> NegativeSource:
    chosen = {
        source.dataset.clips[i]
        for i in np.random.default_rng(0).permutation(len(source.dataset))[
            : math.ceil(len(source.dataset) * share)
        ]
    }
    return replace(source, dataset=source.dataset.select(chosen.__contains__))


CHANGES: dict[str, Change] = {
    "nothing": Change(),
    "nothing, but with other chances in training": Change(train_config={"seed": 1}),
    "800 clips": Change(clips=ALL),
    "100 clips": Change(clips=100),
    "Kokoro alone": Change(speakers=_by(lambda engine: engine == "kokoro")),
    "all but Kokoro": Change(speakers=_by(lambda engine: engine != "kokoro")),
    "a quarter of the other speech": Change(share=0.25),
    "LibriSpeech alone, no recorded noise": Change(speech=("librispeech",), noise=()),
    "no rooms": Change(train_config={"room_fraction": 0.0}),
    "no noise": Change(train_config={"noisy_fraction": 0.0}),
    "one level": Change(train_config={"gain_fraction": 0.0}),
    "no narrow bands": Change(train_config={"band_limited_fraction": 0.0}),
    "tempo as it is spoken": Change(train_config={"speed_range": (1.0, 1.0)}),
}


def table(runs: pathlib.Path) -> str:
    """Markdown: what is missed, of each phrase that is there, clean / at 10 dB: at no more than one
    false alarm per hour of all speech and of that of others, and at a threshold of one half, with
    the alarms in all speech there; and the neighbours that fire at one per hour."""
    reports = [json.loads(path.read_text()) for path in sorted(runs.glob("*.json"))]
    lines = [
        (
            "| what is done otherwise | phrase | all speech | of others | at one half, alarms | "
            "neighbours |"
        ),
        f"|---|---|{'---:|' * 4}",
    ]
    order = [(row, phrase) for row in CHANGES for phrase in PHRASES]
    chosen = sorted(
        (report for report in reports if "row" in report),
        key=lambda report: order.index((report["row"], report["phrase"])),
    )
    return "\n".join([*lines, *map(_line, chosen)])


def _line(report: dict) -> str:
    rates = [_missed(report[what]["1.0"]) for what in ("all speech", "speech of others")]
    half = report["at thresholds"][THRESHOLDS.index(0.5)]
    fire = next(iter(report["neighbours that fire"].values())).values()
    fires, clips = (sum(int(each.split(" of ")[place]) for each in fire) for place in (0, 1))
    cells = [
        report["row"],
        report["phrase"],
        *rates,
        f"{_missed(half)}; {half['false alarms']}",
        f"{fires} of {clips}",
    ]
    return f"| {' | '.join(cells)} |"


def _missed(found: dict) -> str:
    shares = found["missed"] or {}
    return (
        " / ".join(f"{share * 100:.1f}" for share, _ in shares.values()) + " %" if shares else "all"
    )


if __name__ == "__main__":
    main()
