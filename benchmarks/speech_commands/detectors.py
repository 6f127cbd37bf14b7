"""The seven words of pack-9 as detectors: one network for all, trained to fire at the end of each, judged in streams of ten seconds.

    python benchmarks/trunk/transcribe.py --data DATA; python benchmarks/speech_commands/cut.py --data DATA
    python benchmarks/speech_commands/detectors.py --data DATA --out RUNS [--epochs 20] [--trunk models/trunk.pt] [--seed 0]
    python benchmarks/speech_commands/detectors.py --data DATA --out RUNS --judge validation

Learned from: the training speakers of speech_commands and of without_words (LibriSpeech where none of the seven is said),
precise_community, custom_commands, honk and wake_words, in two rounds (`kws train --mine`); noise is esc10. Judged: each word once in ten
seconds of pink noise at 10 dB, by speakers of the part that is named, at the lowest threshold of the word with at most one false alarm per
hour: in all of the other speech, and, apart, in that of speakers who were not learned from. Recordings in which a word is said are not
counted for that word; "no" is said in "snowboy", which is not learned from either.
"""

import argparse
import json
import pathlib
import re
from dataclasses import dataclass

import numpy as np
import torch

from kws.audio import SAMPLE_RATE
from kws.engine import OnnxEngine
from kws.synth.neighbours import pronunciations
from kws.training import trials
from kws.training.calibrate import lowest_within
from kws.training.clips import Clip, extent, find_clips, read_bank
from kws.training.evaluation import CURVE
from kws.training.fit import Recipe, mixed_precision
from kws.training.intervals import wilson
from kws.training.matching import alarm_counts, hits
from kws.training.material import Folders, gather
from kws.training.network import SIZES, NetworkConfig
from kws.training.protocols import PACK_WORDS
from kws.training.rounds import first_path, train_in_rounds
from kws.training.session import Hooks
from kws.training.trunk import band_channels, readings, with_trunk

SPEECH = ("without_words", "precise_community", "custom_commands", "honk", "wake_words/smart_mirror", "wake_words/view_glass")
CONTAINING = {"no": "wake_words/snowboy"}
WRITTEN = ("honk.jsonl", "precise_community.jsonl")  # what a recogniser heard in those of SPEECH whose words nobody told
SNR_DB = 10.0
STREAM_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--trunk", type=pathlib.Path, help="checkpoint to begin with, of this size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--judge", choices=("validation", "test"), help="judge the runs that are there by these speakers")
    parser.add_argument("--alone", action="store_true", help="… as if there were no reader in them")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.judge:
        for path in sorted(args.out.glob("seven-*seed[0-9].onnx")):
            engine = OnnxEngine(str(path), alone=args.alone)
            print(json.dumps({"run": path.stem, "part": args.judge, **judge(engine, args.data, args.judge)}), flush=True)
        return
    how = [args.size, *["trunk"] * bool(args.trunk), args.epochs]
    path = args.out / f"{'-'.join(map(str, ['seven', *how]))}-seed{args.seed}.onnx"
    if not path.exists():
        run(args, path)


def run(args: argparse.Namespace, path: pathlib.Path) -> None:
    others = tuple(args.data / name for name in SPEECH)
    folders = Folders(args.data / "speech_commands", negatives=others, background=(args.data / "esc10",), mine=others)
    material = gather(PACK_WORDS, folders, warn=print)
    config = NetworkConfig(PACK_WORDS, band_channels=band_channels(args.trunk), **SIZES[args.size])
    recipe = Recipe(epochs=args.epochs, learning_rate=args.learning_rate, mixed_precision=mixed_precision(), seed=args.seed)
    resume = first_path(path).with_suffix(".pt").exists()
    start = with_trunk(config, args.trunk, args.seed) if args.trunk else None
    hooks = Hooks(epoch=lambda entry: print(path.stem, json.dumps(entry), flush=True))
    asked = readings({word: pronunciations(word) for word in PACK_WORDS})
    how = {"resume": resume, "start": start, "hooks": hooks, "readings": asked}
    train_in_rounds(material, config, recipe, path, device=torch.device("cpu"), **how)


@dataclass(frozen=True)
class Heard:
    """Events [words, thresholds of the curve] in some recordings, each heard by itself, and their hours; `learned`: whether by speakers
    of training; `said`: those of the words that are said in them."""

    learned: bool
    said: frozenset[str]
    events: np.ndarray
    hours: float


def judge(engine: OnnxEngine, data: pathlib.Path, part: str) -> dict:
    heard = [_listened(engine, *group) for group in _groups(data)]
    counted = {"all speech": heard, "speech of others": [each for each in heard if not each.learned]}
    clips = [clip for clip in find_clips(data / "speech_commands") if clip.part == part]
    found = {word: _found(engine, number, [clip for clip in clips if clip.label == word]) for number, word in enumerate(PACK_WORDS)}
    results = {kind: {word: _missed(engine, n, found[word], each) for n, word in enumerate(PACK_WORDS)} for kind, each in counted.items()}
    means = {kind: round(float(np.mean([each["missed"] for each in words.values()])), 4) for kind, words in results.items()}
    return {"mean missed": means, **results}


def _groups(data: pathlib.Path) -> list[tuple[bool, frozenset[str], list[Clip]]]:
    """All other speech, by whether it is of training speakers and which of the words are said in it."""
    said = {row["file"]: _words(row) for name in WRITTEN for row in map(json.loads, (data / name).read_text().splitlines())}
    groups: dict[tuple[bool, frozenset[str]], list[Clip]] = {}
    for clip in (clip for name in SPEECH for clip in find_clips(data / name)):
        groups.setdefault((clip.part == "train", said.get(clip.path.name, frozenset())), []).append(clip)
    for word, name in CONTAINING.items():
        groups.setdefault((False, frozenset([word])), []).extend(find_clips(data / name))
    return [(*group, clips) for group, clips in groups.items()]


def _words(row: dict) -> frozenset[str]:
    """Those of the words that a recogniser wrote down."""
    return frozenset(re.sub(r"[^a-z]", "", text.lower()) for text, *_ in row["words"]) & frozenset(PACK_WORDS)


def _listened(engine: OnnxEngine, learned: bool, said: frozenset[str], clips: list[Clip]) -> Heard:
    bank = read_bank(clips, warn=print)
    pooled = (trials.listen(engine, [wave]).pooled for wave in bank)
    events = sum(np.array([alarm_counts(each, CURVE, engine.info.events) for each in scores.T]) for scores in pooled)
    return Heard(learned, said, events, bank.seconds / 3600)


def _missed(engine: OnnxEngine, number: int, found: np.ndarray, heard: list[Heard]) -> dict:
    """Of one word, whose clips were found [clips, thresholds]; where it is said it is no false alarm."""
    without = [each for each in heard if PACK_WORDS[number] not in each.said]
    alarms = sum(each.events[number] for each in without)
    hours = sum(each.hours for each in without)
    at = lowest_within(alarms, hours)
    missed = len(found) - (0 if at is None else int(found[:, at].sum()))  # where no threshold is high enough, none is found
    return {
        "hours": round(hours, 2),
        "threshold": None if at is None else CURVE[at],
        "false alarms": None if at is None else int(alarms[at]),
        "clips": len(found),
        "missed": round(missed / len(found), 4),
        "interval": [round(limit, 4) for limit in wilson(missed, len(found))],
    }


def _found(engine: OnnxEngine, number: int, clips: list[Clip]) -> np.ndarray:
    """Whether each clip of a word is found at its place, anywhere in ten seconds of noise, at each threshold of the curve."""
    bank = read_bank(clips, warn=print)
    return np.array([hits(_placed(engine, wave, i), number, CURVE, engine.info.events) for i, wave in enumerate(bank)])


def _placed(engine: OnnxEngine, wave: np.ndarray, seed: int) -> trials.Trial:
    place = np.array(extent(wave))
    lead = float(np.random.default_rng(seed).uniform(0, STREAM_SECONDS - len(wave) / SAMPLE_RATE))
    tail = STREAM_SECONDS - len(wave) / SAMPLE_RATE - lead
    audio = trials.place(wave, place, SNR_DB, seed, lead_seconds=lead, tail_seconds=tail)
    return trials.trial(engine, audio, *(lead + place))


if __name__ == "__main__":
    main()
