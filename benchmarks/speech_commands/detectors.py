"""The seven words of pack-9 as detectors: one network for all, trained to fire at the end of each, judged in streams of ten seconds.

    python benchmarks/trunk/transcribe.py --data DATA; python benchmarks/speech_commands/cut.py --data DATA
    python benchmarks/speech_commands/detectors.py --data DATA --out RUNS [--epochs 12] [--trunk models/trunk.pt] [--seed 0]
    python benchmarks/speech_commands/detectors.py --data DATA --out RUNS --judge validation

Learned from: the training speakers of speech_commands and of without_words (LibriSpeech where none of the seven is said),
precise_community, custom_commands and honk, in two rounds (`kws train --mine`); noise is esc10. Judged: each word once in ten seconds of
pink noise at 10 dB, by speakers of the part that is named, at the lowest threshold of the word with at most one false alarm per hour in
all of wake_words, of which nothing is learned from, and in the other speakers of the other speech.
"""

import argparse
import json
import pathlib

import numpy as np
import torch

from kws.engine import OnnxEngine
from kws.training import trials
from kws.training.calibrate import lowest_within
from kws.training.clips import Clip, extent, find_clips, read_bank
from kws.training.evaluation import CURVE
from kws.training.fit import Recipe
from kws.training.intervals import wilson
from kws.training.matching import alarm_counts, hits
from kws.training.material import Folders, gather
from kws.training.network import SIZES, NetworkConfig
from kws.training.protocols import PACK_WORDS
from kws.training.rounds import first_path, train_in_rounds
from kws.training.session import Hooks
from kws.training.trunk import with_trunk

SPEECH = ("without_words", "precise_community", "custom_commands", "honk")
UNHEARD = "wake_words"
SNR_DB = 10.0
STREAM_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--trunk", type=pathlib.Path, help="checkpoint to begin with, of this size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--judge", choices=("validation", "test"), help="judge the runs that are there by these speakers")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.judge:
        for path in sorted(args.out.glob("seven-*seed[0-9].onnx")):
            print(json.dumps({"run": path.stem, "part": args.judge, **judge(OnnxEngine(str(path)), args.data, args.judge)}), flush=True)
        return
    how = [args.size, *["trunk"] * bool(args.trunk), args.epochs]
    path = args.out / f"{'-'.join(map(str, ['seven', *how]))}-seed{args.seed}.onnx"
    if not path.exists():
        run(args, path)


def run(args: argparse.Namespace, path: pathlib.Path) -> None:
    others = tuple(args.data / name for name in SPEECH)
    folders = Folders(args.data / "speech_commands", negatives=others, background=(args.data / "esc10",), mine=others)
    material = gather(PACK_WORDS, folders, warn=print)
    config = NetworkConfig(PACK_WORDS, **SIZES[args.size])
    recipe = Recipe(epochs=args.epochs, learning_rate=args.learning_rate, seed=args.seed)
    resume = first_path(path).with_suffix(".pt").exists()
    start = with_trunk(config, args.trunk, args.seed) if args.trunk and not resume else None
    hooks = Hooks(epoch=lambda entry: print(path.stem, json.dumps(entry), flush=True))
    train_in_rounds(material, config, recipe, path, device=torch.device("cpu"), resume=resume, start=start, hooks=hooks)


def judge(engine: OnnxEngine, data: pathlib.Path, part: str) -> dict:
    heard = [clip for name in SPEECH for clip in find_clips(data / name) if clip.part != "train"]
    bank = read_bank([*heard, *find_clips(data / UNHEARD)], warn=print)
    pooled = trials.listen(engine, (bank[i] for i in range(len(bank)))).pooled
    clips = [clip for clip in find_clips(data / "speech_commands") if clip.label in PACK_WORDS and clip.part == part]
    hours = bank.seconds / 3600
    words = {
        word: _word(engine, number, [clip for clip in clips if clip.label == word], pooled[:, number], hours)
        for number, word in enumerate(engine.info.words)
    }
    found = [each["missed"] for each in words.values() if each["missed"] is not None]
    return {"hours": round(hours, 2), "mean missed": round(float(np.mean(found)), 4), "words": words}


def _word(engine: OnnxEngine, number: int, clips: list[Clip], pooled: np.ndarray, hours: float) -> dict:
    alarms = alarm_counts(pooled, CURVE, engine.info.events)
    at = lowest_within(alarms, hours)
    if at is None:
        return {"clips": len(clips), "missed": None}
    bank = read_bank(clips, warn=print)
    hit = [_hit(engine, number, bank[i], i, CURVE[at]) for i in range(len(bank))]
    missed = len(hit) - sum(hit)
    interval = [round(limit, 4) for limit in wilson(missed, len(hit))]
    return {
        **{"clips": len(hit), "threshold": CURVE[at], "false alarms": int(alarms[at])},
        **{"missed": round(missed / len(hit), 4), "interval": interval},
    }


def _hit(engine: OnnxEngine, number: int, wave: np.ndarray, seed: int, threshold: float) -> bool:
    """Whether the word is found at its place, anywhere in ten seconds of noise."""
    place = np.array(extent(wave))
    lead = float(np.random.default_rng(seed).uniform(0, STREAM_SECONDS - len(wave) / 16_000))
    tail = STREAM_SECONDS - len(wave) / 16_000 - lead
    audio = trials.place(wave, place, SNR_DB, seed, lead_seconds=lead, tail_seconds=tail)
    return bool(hits(trials.trial(engine, audio, *(lead + place)), number, [threshold], engine.info.events)[0])


if __name__ == "__main__":
    main()
