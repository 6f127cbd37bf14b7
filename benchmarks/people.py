"""Trains detectors from text, and evaluates them on recordings of people.

    python benchmarks/people.py --data DATA --runs RUNS [--phrases snowboy] [--human 10]
        [--two-stage] [--init-from models/encoder.pt]
    python benchmarks/people.py --data DATA --runs RUNS --evaluate [--without-verifier]

DATA has one folder per data set: wake_words (people who say the phrases); speech_commands,
librispeech, precise_community, custom_commands, honk (other speech); esc10 (noise). RUNS keeps the
synthetic clips and one model per run. Runs that are there are not trained again; one that was
stopped is resumed. No recording of the phrase is trained on; with --human N it is N of them, and
the evaluation leaves them out. (The files do not name their speakers.)

The evaluation uses all recordings of the phrase, clean and in pink noise at 10 dB. It reports
misses at no more than 1 and 0.5 false alarms per hour, at the model's own threshold and at a few
others. False alarms are counted in all other speech, and apart in that of speakers who are not in
the negatives of the training.
"""

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.report import add_out_option, write_report
from kws.audio.endpoints import find_endpoints
from kws.runtime.engine import Engine
from kws.runtime.spotter import Spotter
from kws.synth.phrase import folder_name
from kws.training.data.clips import BACKGROUND, Clip, find_clips
from kws.training.data.dataset import load_clips
from kws.training.data.keyword_data import DataFolders, load_keyword_data
from kws.training.detection.from_text import WORDS, SynthConfig, synthesize_folders
from kws.training.detection.train import train
from kws.training.detection.two_stage import first_stage_path, train_two_stage
from kws.training.evaluate.calibration import lowest_threshold_within
from kws.training.evaluate.intervals import wilson
from kws.training.evaluate.metrics import CURVE_THRESHOLDS
from kws.training.evaluate.scoring import count_alarms, score_clips
from kws.training.evaluate.test_streams import embed_word
from kws.training.fit.config import TrainConfig, bfloat16_devices
from kws.training.fit.progress import PrintedEpochs
from kws.training.model.network import SIZES, NetworkConfig
from kws.training.model.pretrained import band_channels, init_from_pretrained, load_verifier

PHRASES = ("snowboy", "smart mirror", "view glass")
SPEECH = (
    "speech_commands",
    "librispeech",
    "precise_community",
    "custom_commands",
    "honk",
    "wake_words",
)
NOISE = "esc10"
SNRS_DB = (None, 10.0)
FALSE_ALARMS_PER_HOUR = (1.0, 0.5)
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.8)


@dataclass(frozen=True)
class Alarms:
    """Events in recordings without the phrase: counts [T] at CURVE_THRESHOLDS, in so many hours."""

    counts: np.ndarray
    hours: float

    def __add__(self, other: "Alarms") -> "Alarms":
        return Alarms(self.counts + other.counts, self.hours + other.hours)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_training_options(parser)
    parser.add_argument("--phrases", nargs="+", choices=PHRASES, default=list(PHRASES))
    parser.add_argument(
        "--human", type=int, default=0, help="recordings of the phrase to train on (default: 0)"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.evaluate:
        evaluate_runs(args)
        return
    for phrase in args.phrases:
        synth_config = SynthConfig(phrase, args.synth_clips, args.seed)
        path = args.runs / f"{run_name(args, synth_config.name)}.kws"
        if not path.exists():
            train_run(args, synth_config, path)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """The options of scripts that train detectors from text and evaluate them."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--synth-clips", type=int, default=SynthConfig.clips)
    parser.add_argument("--epochs", type=int, default=SynthConfig.epochs)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--init-from", type=Path, help="checkpoint of this size to start from")
    parser.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--two-stage",
        action="store_true",
        help="train a second stage with the false alarms of the first",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate", action="store_true", help="evaluate the runs in RUNS")
    parser.add_argument(
        "--without-verifier", action="store_true", help="evaluate the networks alone"
    )
    add_out_option(parser)


def run_name(args: argparse.Namespace, name: str) -> str:
    parts = [name, args.size]
    if args.init_from:
        parts.append("pretrained")
    if args.two_stage:
        parts.append("two_stage")
    return "-".join(
        [*parts, str(args.synth_clips), str(args.epochs), f"human{args.human}", f"seed{args.seed}"]
    )


def train_run(args: argparse.Namespace, synth_config: SynthConfig, path: Path) -> None:
    """Trains the detector of one phrase, with the recordings of it that `args.human` asks for."""
    human_clips = draw_human_clips(args, synth_config.name)
    own_recordings = []
    if human_clips:
        own_recordings.append(copy_clips(human_clips, path.with_suffix(".human")))
    speech = [args.data / each for each in SPEECH]
    model_card = {"human": [clip.path.name for clip in human_clips]}
    train_detector(args, synth_config, path, speech, own_recordings, model_card)


def train_detector(
    args: argparse.Namespace,
    synth_config: SynthConfig,
    path: Path,
    speech: Sequence[Path],
    own_recordings: Sequence[Path] = (),
    model_card: dict | None = None,
) -> None:
    """Trains one detector, from the phrase to a calibrated model. Prints how long it took.

    speech: folders of speech without the phrase, which are mined, too, where there are two stages.
    """
    start, name = time.perf_counter(), synth_config.name
    folders = synthesize_folders(
        synth_config,
        DataFolders(
            synth_folder(args.runs, name, args.seed),
            negatives=tuple(speech),
            background=(args.data / NOISE,),
            own_recordings=tuple(own_recordings),
            hard_negatives=tuple(speech) if args.two_stage else (),
        ),
    )
    synthesis_seconds = time.perf_counter() - start
    config = NetworkConfig((name,), band_channels=band_channels(args.init_from), **SIZES[args.size])
    train_config = TrainConfig(
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        mixed_precision=bfloat16_devices(),
        seed=args.seed,
    )
    keyword_data = load_keyword_data(
        [name], folders, max_word_seconds=train_config.max_word_seconds, warn=lambda text: None
    )
    train_function = train_two_stage if args.two_stage else train
    first_path = first_stage_path(path) if args.two_stage else path
    train_function(
        keyword_data,
        config,
        train_config,
        path,
        device=torch.device("cpu"),
        resume=first_path.with_suffix(".pt").exists(),
        init_from=(
            init_from_pretrained(config, args.init_from, args.seed) if args.init_from else None
        ),
        progress=PrintedEpochs(path.stem),
        model_card=model_card,
        verifier_candidates=[load_verifier({name: synth_config.pronunciations})],
    )
    minutes = {
        "synthesis_minutes": round(synthesis_seconds / 60, 1),
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    print(json.dumps({"run": path.stem, **minutes}), flush=True)


def synth_folder(runs: Path, name: str, seed: int | str) -> Path:
    return runs / f"{name}-seed{seed}.synth"


def draw_human_clips(args: argparse.Namespace, name: str) -> list[Clip]:
    """The recordings of the phrase to train on."""
    clips = find_clips(args.data / "wake_words" / name)
    rng = np.random.default_rng(args.seed)
    return [clips[i] for i in rng.choice(len(clips), args.human, replace=False)]


def copy_clips(clips: list[Clip], folder: Path) -> Path:
    for clip in clips:
        (folder / clip.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(clip.path, folder / clip.label)
    return folder


def evaluate_runs(args: argparse.Namespace) -> None:
    """Prints a line of JSON for each run; the report has all of them."""
    rows = []
    for name in map(folder_name, args.phrases):
        for path in sorted(args.runs.glob(f"{name}-*-human*-seed[0-9].kws")):
            engine = Engine.load(str(path), verifier=not args.without_verifier)
            synth = synth_folder(args.runs, name, path.stem.rpartition("seed")[2])
            rows.append({"run": path.stem, **evaluate(engine, args.data, synth, name)})
            print(json.dumps(rows[-1]), flush=True)
    write_report({"runs": rows}, args.out)


def evaluate(engine: Engine, data: Path, synth: Path, name: str) -> dict:
    """Metrics of a detector of one phrase on people's recordings, and on the confusables in the
    folder `synth` of held-out voices."""
    human = set(engine.info.document["human"])
    words = [clip for clip in find_clips(data / "wake_words" / name) if clip.path.name not in human]
    spotter = Spotter(engine, engine.info.events)
    hits = {snr_db: detect_clips(spotter, words, snr_db) for snr_db in SNRS_DB}
    speech = [
        clip
        for folder in SPEECH
        for clip in find_clips(data / folder)
        if clip.label not in (name, BACKGROUND)
    ]
    seen = count_speech_alarms(spotter, [clip for clip in speech if clip.split == "train"])
    unseen = count_speech_alarms(spotter, [clip for clip in speech if clip.split != "train"])
    default = _curve_index(engine.info.events.threshold[0])
    return {
        "clips": len(words),
        "all_speech": metrics_at_rates(hits, seen + unseen),
        "unseen_speakers": metrics_at_rates(hits, unseen),
        "default_threshold": metrics_at(default, hits, seen + unseen),
        "thresholds": [
            {
                **metrics_at(_curve_index(threshold), hits, seen + unseen),
                "unseen_speaker_false_alarms": int(unseen.counts[_curve_index(threshold)]),
            }
            for threshold in THRESHOLDS
        ],
        "confusables": count_firing_confusables(spotter, synth, name, default),
    }


def metrics_at_rates(hits: dict[float | None, np.ndarray], alarms: Alarms) -> list[dict]:
    """Metrics at the lowest threshold within each rate of false alarms."""
    return [
        {
            "target_false_alarms_per_hour": rate,
            **metrics_at(lowest_threshold_within(alarms.counts, rate * alarms.hours), hits, alarms),
        }
        for rate in FALSE_ALARMS_PER_HOUR
    ]


def metrics_at(at: int | None, hits: dict[float | None, np.ndarray], alarms: Alarms) -> dict:
    """Misses and false alarms at one of CURVE_THRESHOLDS; nulls where no threshold is high
    enough."""
    if at is None:
        return {
            "hours": round(alarms.hours, 2),
            "threshold": None,
            "false_alarms": None,
            "missed": None,
        }
    missed = {}
    for snr_db, is_hit in hits.items():
        count = int((~is_hit[:, at]).sum())
        missed[noise_name(snr_db)] = {
            "rate": round(count / len(is_hit), 4),
            "interval": [round(limit, 4) for limit in wilson(count, len(is_hit))],
        }
    return {
        "hours": round(alarms.hours, 2),
        "threshold": CURVE_THRESHOLDS[at],
        "false_alarms": int(alarms.counts[at]),
        "missed": missed,
    }


def noise_name(snr_db: float | None) -> str:
    return "clean" if snr_db is None else f"noise_{snr_db:g}_db"


def count_firing_confusables(spotter: Spotter, synth: Path, name: str, at: int) -> list[dict]:
    """How many clips of confusables by held-out voices have an event at a threshold, by kind."""
    clips = [
        clip for clip in find_clips(synth / WORDS) if clip.label != name and clip.split == "test"
    ]
    kind_by_label = read_confusable_kinds(synth)
    kinds = np.array([kind_by_label[clip.label] for clip in clips])
    fires = detect_clips(spotter, clips, None)[:, at]
    return [
        {
            "kind": str(kind),
            "clips": int((kinds == kind).sum()),
            "fire": int(fires[kinds == kind].sum()),
        }
        for kind in np.unique(kinds)
    ]


def read_confusable_kinds(synth: Path) -> dict[str, str]:
    """The kind of each confusable, by the name of its folder."""
    lines = (synth / "confusables.txt").read_text().splitlines()
    rows = [line.partition("\t") for line in lines]
    return {folder_name(text): kind for kind, _, text in rows if text}


def detect_clips(spotter: Spotter, clips: list[Clip], snr_db: float | None) -> np.ndarray:
    """Whether each clip has an event [clips, CURVE_THRESHOLDS], clean or in pink noise. It may lie
    anywhere in the clip: many recordings are noisy around the phrase."""
    waves = [
        embed_word(wave, find_endpoints(wave), snr_db, seed=number).audio
        for number, wave in enumerate(load_clips(clips, warn=print))
    ]
    word = spotter.words[0]
    scored = score_clips(spotter, waves)
    hits = [count_alarms([each], word, CURVE_THRESHOLDS) > 0 for each in scored]
    return np.array(hits).reshape(len(scored), len(CURVE_THRESHOLDS))


def count_speech_alarms(spotter: Spotter, clips: list[Clip]) -> Alarms:
    dataset = load_clips(clips, warn=print)
    scored = score_clips(spotter, dataset)
    counts = count_alarms(scored, spotter.words[0], CURVE_THRESHOLDS)
    return Alarms(counts, dataset.seconds / 3600)


def _curve_index(threshold: float) -> int:
    return int(np.searchsorted(CURVE_THRESHOLDS, threshold))


if __name__ == "__main__":
    main()
