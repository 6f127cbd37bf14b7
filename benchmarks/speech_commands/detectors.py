"""The seven words of pack-9 as detectors: one network for all, trained to fire at the end of each,
judged in streams of ten seconds.

    python recipes/phone_recognizer/transcribe.py --data DATA;
    python benchmarks/speech_commands/cut.py --data DATA
    python benchmarks/speech_commands/detectors.py --data DATA --out RUNS [--epochs 20]
        [--init-from models/encoder.pt] [--seed 0]
    python benchmarks/speech_commands/detectors.py --data DATA --out RUNS --judge validation

Learned from: the training speakers of speech_commands and of without_words (LibriSpeech where none
of the seven is said), precise_community, custom_commands, honk and wake_words, in two rounds
(`kws train --mine`); noise is esc10. Judged: each word once in ten seconds of pink noise at 10 dB,
by speakers of the part that is named, at the lowest threshold of the word with at most one false
alarm per hour: in all of the other speech, and, apart, in that of speakers who were not learned
from. Recordings in which a word is said are not counted for that word; "no" is said in "snowboy",
which is not learned from either.
"""

import argparse
import json
import pathlib
import re

import numpy as np
import torch

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
TRANSCRIBED = ("honk", "precise_community")  # of which a recogniser wrote down what nobody told
SNR_DB = 10.0
STREAM_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate)
    parser.add_argument(
        "--init-from", type=pathlib.Path, help="checkpoint to begin with, of this size"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--judge",
        choices=("validation", "test"),
        help="judge the runs that are there by these speakers",
    )
    parser.add_argument(
        "--without-verifier", action="store_true", help="… as if there were no reader in them"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.judge:
        for path in sorted(args.out.glob("seven-*seed[0-9].onnx")):
            engine = Engine.load(str(path), verifier=not args.without_verifier)
            print(
                json.dumps(
                    {"run": path.stem, "part": args.judge, **judge(engine, args.data, args.judge)}
                ),
                flush=True,
            )
        return
    how = [args.size, *["trunk"] * bool(args.init_from), args.epochs]
    path = args.out / f"{'-'.join(map(str, ['seven', *how]))}-seed{args.seed}.onnx"
    if not path.exists():
        run(args, path)


def run(args: argparse.Namespace, path: pathlib.Path) -> None:
    others = tuple(args.data / name for name in SPEECH)
    folders = DataFolders(
        args.data / "speech_commands",
        negatives=others,
        background=(args.data / "esc10",),
        hard_negatives=others,
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
    resume = first_stage_path(path).with_suffix(".pt").exists()
    init_from = init_from_pretrained(config, args.init_from, args.seed) if args.init_from else None
    asked = verifier_candidates({word: pronunciations(word) for word in PACK_WORDS})
    train_two_stage(
        keyword_data,
        config,
        train_config,
        path,
        device=torch.device("cpu"),
        resume=resume,
        init_from=init_from,
        progress=PrintedEpochs(path.stem),
        verifier_candidates=asked,
    )


def judge(engine: Engine, data: pathlib.Path, part: str) -> dict:
    speech = [clip for name in SPEECH for clip in find_clips(data / name)]
    learned, others = (
        [clip for clip in speech if (clip.split == "train") is wish] for wish in (True, False)
    )
    others += [clip for name in CONTAINING.values() for clip in find_clips(data / name)]
    spotter = Spotter(engine, engine.info.events)
    scored_learned, scored_others = (_score_speech(spotter, clips) for clips in (learned, others))
    counted = {"all speech": scored_learned + scored_others, "speech of others": scored_others}
    recordings_by_word = _recordings_saying(data)
    clips = [clip for clip in find_clips(data / "speech_commands") if clip.split == part]
    found = {
        word: _best_scores(spotter, number, [clip for clip in clips if clip.label == word])
        for number, word in enumerate(PACK_WORDS)
    }
    results = {
        kind: {
            word: _miss_metrics(
                word,
                found[word],
                [each for each in every if each.path not in recordings_by_word[word]],
            )
            for word in PACK_WORDS
        }
        for kind, every in counted.items()
    }
    means = {
        kind: round(float(np.mean([each["missed"] for each in words.values()])), 4)
        for kind, words in results.items()
    }
    return {"mean missed": means, **results}


def _score_speech(spotter: Spotter, clips: list[Clip]) -> list[ScoredRecording]:
    scored = []
    for result in score_recordings(spotter, clips):
        if isinstance(result, AudioError):
            print(f"left out: {result}")
        else:
            scored.append(result)
    return scored


def _recordings_saying(data: pathlib.Path) -> dict[str, set[pathlib.Path]]:
    """The recordings of other speech in which each word is said, as a folder or a
    recogniser tells."""
    recordings_by_word = {
        word: {clip.path for clip in find_clips(data / CONTAINING[word])}
        if word in CONTAINING
        else set()
        for word in PACK_WORDS
    }
    for name in TRANSCRIBED:
        paths = {clip.path.name: clip.path for clip in find_clips(data / name)}
        for row in map(json.loads, (data / f"{name}.jsonl").read_text().splitlines()):
            for word in {
                re.sub(r"[^a-z]", "", text.lower()) for text, *_ in row["words"]
            } & recordings_by_word.keys():
                recordings_by_word[word].add(paths[row["file"]])
    return recordings_by_word


def _miss_metrics(word: str, best_scores: list[float], without: list[ScoredRecording]) -> dict:
    """Misses of one word at one false alarm per hour in recordings without it."""
    alarms = count_alarms(without, word, CURVE_THRESHOLDS)
    hours = total_hours(without)
    at = lowest_threshold_within(alarms, hours)
    # If no threshold is high enough, every clip is missed.
    missed = sum(at is None or score < CURVE_THRESHOLDS[at] for score in best_scores)
    return {
        "hours": round(hours, 2),
        "threshold": None if at is None else CURVE_THRESHOLDS[at],
        "false alarms": None if at is None else int(alarms[at]),
        "clips": len(best_scores),
        "missed": round(missed / len(best_scores), 4),
        "interval": [round(limit, 4) for limit in wilson(missed, len(best_scores))],
    }


def _best_scores(spotter: Spotter, number: int, clips: list[Clip]) -> list[float]:
    """The highest threshold at which each clip of a word is detected, anywhere in ten seconds of
    noise."""
    dataset = load_clips(clips, warn=print)

    def score(i: int) -> float:
        return score_word(spotter, number, _embed(dataset[i], i)).best_score

    return list(map_in_parallel(score, range(len(dataset))))


def _embed(wave: np.ndarray, seed: int) -> EmbeddedWord:
    spare_seconds = STREAM_SECONDS - len(wave) / SAMPLE_RATE
    lead = float(np.random.default_rng(seed).uniform(0, spare_seconds))
    return embed_word(
        wave,
        find_endpoints(wave),
        SNR_DB,
        seed=seed,
        lead_seconds=lead,
        tail_seconds=spare_seconds - lead,
    )


if __name__ == "__main__":
    main()
