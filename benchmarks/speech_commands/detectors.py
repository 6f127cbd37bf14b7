"""The seven words of pack-9 as detectors: trains one network for all of them, and evaluates it in
streams of ten seconds.

    python recipes/phone_recognizer/transcribe.py --data DATA
    python benchmarks/speech_commands/cut.py --data DATA
    python benchmarks/speech_commands/detectors.py --data DATA --runs RUNS [--epochs 20]
        [--init-from models/encoder_conv2d.pt] [--seed 0]
    python benchmarks/speech_commands/detectors.py --data DATA --runs RUNS --evaluate
        [--split validation]

Training uses, in two stages, the training speakers of speech_commands, without_words (LibriSpeech
where none of the seven is spoken), precise_community, custom_commands, honk and wake_words; noise
is esc10. In the evaluation each word is spoken once in ten seconds of pink noise at 10 dB, by the
speakers of a split. The threshold is the lowest with at most one false alarm per hour: in all other
speech, and apart in that of speakers who were not trained on. Recordings that contain a word do not
count for it. "snowboy" contains "no", and is not trained on.
"""

import argparse
import json
import logging
import re
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.report import add_out_option, write_report
from kws.audio.endpoints import find_endpoints
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import AudioError
from kws.runtime.engine import Engine
from kws.runtime.spotter import Spotter
from kws.synth.confusables import pronunciations
from kws.training.data.clips import Clip, find_clips
from kws.training.data.dataset import load_clips
from kws.training.data.keyword_data import DataFolders, load_keyword_data
from kws.training.detection.two_stage import first_stage_path, train_two_stage
from kws.training.evaluate.calibration import lowest_threshold_within
from kws.training.evaluate.intervals import wilson
from kws.training.evaluate.metrics import CURVE_THRESHOLDS
from kws.training.evaluate.scoring import (
    ScoredRecording,
    count_alarms,
    map_in_parallel,
    score_recordings,
    score_word,
    total_hours,
)
from kws.training.evaluate.test_streams import EmbeddedWord, embed_word
from kws.training.fit.config import TrainConfig, bfloat16_devices
from kws.training.fit.progress import PrintedEpochs
from kws.training.model.network import SIZES, NetworkConfig
from kws.training.model.pretrained import band_channels, init_from_pretrained, verifier_candidates
from kws.training.speech_commands.protocols import PACK_WORDS

SPEECH = (
    "without_words",
    "precise_community",
    "custom_commands",
    "honk",
    "wake_words/smart_mirror",
    "wake_words/view_glass",
)
CONTAINING = {"no": "wake_words/snowboy"}
TRANSCRIBED = ("honk", "precise_community")  # by transcribe.py
SNR_DB = 10.0
STREAM_SECONDS = 10.0


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--epochs", type=int, default=TrainConfig.epochs)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate)
    parser.add_argument("--init-from", type=Path, help="checkpoint of this size to start from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--evaluate", action="store_true", help="evaluate the runs in RUNS")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument(
        "--without-verifier", action="store_true", help="evaluate the networks alone"
    )
    add_out_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.evaluate:
        evaluate_runs(args)
        return
    pretrained = ["pretrained"] if args.init_from else []
    parts = ["seven", args.size, *pretrained, str(args.epochs), f"seed{args.seed}"]
    path = args.runs / f"{'-'.join(parts)}.kws"
    if not path.exists():
        train_run(args, path)


def train_run(args: argparse.Namespace, path: Path) -> None:
    speech = tuple(args.data / name for name in SPEECH)
    folders = DataFolders(
        args.data / "speech_commands",
        negatives=speech,
        background=(args.data / "esc10",),
        hard_negatives=speech,
    )
    config = NetworkConfig(
        PACK_WORDS, band_channels=band_channels(args.init_from), **SIZES[args.size]
    )
    train_config = TrainConfig(
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        mixed_precision=bfloat16_devices(),
        seed=args.seed,
    )
    keyword_data = load_keyword_data(
        PACK_WORDS, folders, max_word_seconds=train_config.max_word_seconds, warn=print
    )
    word_pronunciations = {word: pronunciations(word) for word in PACK_WORDS}
    train_two_stage(
        keyword_data,
        config,
        train_config,
        path,
        device=torch.device("cpu"),
        resume=first_stage_path(path).with_suffix(".pt").exists(),
        init_from=(
            init_from_pretrained(config, args.init_from, args.seed) if args.init_from else None
        ),
        progress=PrintedEpochs(path.stem),
        verifier_candidates=verifier_candidates(word_pronunciations),
    )


def evaluate_runs(args: argparse.Namespace) -> None:
    """Prints a line of JSON for each run; the report has all of them."""
    rows = []
    for path in sorted(args.runs.glob("seven-*seed[0-9].kws")):
        engine = Engine.load(str(path), verifier=not args.without_verifier)
        rows.append({"run": path.stem, **evaluate(engine, args.data, args.split)})
        print(json.dumps(rows[-1]), flush=True)
    write_report({"split": args.split, "runs": rows}, args.out)


def evaluate(engine: Engine, data: Path, split: str) -> dict:
    """Misses of each word, and their mean, at one false alarm per hour of all other speech and of
    that of unseen speakers."""
    spotter = Spotter(engine, engine.info.events)
    commands = [clip for clip in find_clips(data / "speech_commands") if clip.split == split]
    best_scores = {
        word: score_word_clips(spotter, index, [clip for clip in commands if clip.label == word])
        for index, word in enumerate(PACK_WORDS)
    }
    speech = [clip for name in SPEECH for clip in find_clips(data / name)]
    containing = [clip for name in CONTAINING.values() for clip in find_clips(data / name)]
    seen = score_speech(spotter, [clip for clip in speech if clip.split == "train"])
    unseen = score_speech(
        spotter, [*(clip for clip in speech if clip.split != "train"), *containing]
    )
    recordings_by_word = find_recordings_by_word(data)
    metrics = {}
    for name, scored in (("all_speech", seen + unseen), ("unseen_speakers", unseen)):
        words = {
            word: compute_metrics(
                word,
                best_scores[word],
                [each for each in scored if each.path not in recordings_by_word[word]],
            )
            for word in PACK_WORDS
        }
        mean = float(np.mean([each["missed"] for each in words.values()]))
        metrics[name] = {"mean_missed": round(mean, 4), "words": words}
    return metrics


def score_speech(spotter: Spotter, clips: list[Clip]) -> list[ScoredRecording]:
    scored = []
    for result in score_recordings(spotter, clips):
        if isinstance(result, AudioError):
            print(f"skipped: {result}")
        else:
            scored.append(result)
    return scored


def score_word_clips(spotter: Spotter, index: int, clips: list[Clip]) -> list[float]:
    """The highest threshold at which each clip of word number `index` is detected, in ten seconds
    of noise."""
    dataset = load_clips(clips, warn=print)

    def score(number: int) -> float:
        return score_word(spotter, index, embed(dataset[number], number)).best_score

    return list(map_in_parallel(score, range(len(dataset))))


def embed(wave: np.ndarray, seed: int) -> EmbeddedWord:
    """A clip at a random place in a stream of noise."""
    spare_seconds = STREAM_SECONDS - len(wave) / SAMPLE_RATE
    lead_seconds = float(np.random.default_rng(seed).uniform(0, spare_seconds))
    return embed_word(
        wave,
        find_endpoints(wave),
        SNR_DB,
        seed=seed,
        lead_seconds=lead_seconds,
        tail_seconds=spare_seconds - lead_seconds,
    )


def find_recordings_by_word(data: Path) -> dict[str, set[Path]]:
    """The recordings of other speech that contain each word, by their folder or transcript."""
    recordings: dict[str, set[Path]] = {word: set() for word in PACK_WORDS}
    for word, folder in CONTAINING.items():
        recordings[word] |= {clip.path for clip in find_clips(data / folder)}
    for name in TRANSCRIBED:
        paths = {clip.path.name: clip.path for clip in find_clips(data / name)}
        for line in (data / f"{name}.jsonl").read_text().splitlines():
            transcript = json.loads(line)
            spoken = {re.sub(r"[^a-z]", "", text.lower()) for text, *_ in transcript["words"]}
            for word in spoken & recordings.keys():
                recordings[word].add(paths[transcript["file"]])
    return recordings


def compute_metrics(word: str, best_scores: list[float], scored: list[ScoredRecording]) -> dict:
    """Misses of one word at one false alarm per hour in recordings without it."""
    alarms, hours = count_alarms(scored, word, CURVE_THRESHOLDS), total_hours(scored)
    at = lowest_threshold_within(alarms, hours)
    # If no threshold is high enough, every clip is missed.
    missed = sum(at is None or score < CURVE_THRESHOLDS[at] for score in best_scores)
    return {
        "hours": round(hours, 2),
        "threshold": None if at is None else CURVE_THRESHOLDS[at],
        "false_alarms": None if at is None else int(alarms[at]),
        "clips": len(best_scores),
        "missed": round(missed / len(best_scores), 4),
        "interval": [round(limit, 4) for limit in wilson(missed, len(best_scores))],
    }


if __name__ == "__main__":
    main()
