"""Do detectors made from text hear people? Trains one for each phrase of the wake-word benchmark,
and judges it by people's recordings.

    python benchmarks/people.py --data DATA --out RUNS --mine --init-from models/encoder.pt
        [--phrases snowboy] [--human 10]
    python benchmarks/people.py --data DATA --out RUNS --judge [--alone | --reread]

DATA holds one folder a set of recordings: wake_words (people who say the phrases), and
speech_commands, librispeech, precise_community, custom_commands, honk (other speech), esc10
(noise). RUNS keeps what is spoken, and one model for each run; a run that is there is not trained
again, one that was stopped goes on. No recording of the phrase under test is learned from; or, with
--human N, N of them, which are then not judged by (the files do not say who speaks).

Judged by all recordings of the phrase, clean and in pink noise at 10 dB, at no more than 1 and 0.5
false alarms per hour over all other speech: that of the training speakers, too, and, apart, over
that of others alone; as the model comes, at its own threshold; and at a few other ones.
"""

import argparse
import json
import logging
import pathlib
import shutil
import tempfile
import time

import numpy as np
import torch

from kws.audio.endpoints import find_endpoints
from kws.runtime.engine import Engine
from kws.runtime.model_file import FORMAT
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
from kws.training.model.export import export
from kws.training.model.network import SIZES, NetworkConfig
from kws.training.model.pretrained import band_channels, init_from_pretrained, load_verifier
from kws.training.model.torch_engine import load_network

PHRASES = ("snowboy", "smart mirror", "view glass")
SPEECH = (
    "speech_commands",
    "librispeech",
    "precise_community",
    "custom_commands",
    "honk",
    "wake_words",
)
NOISE = ("esc10",)
SNRS_DB = (None, 10.0)
RATES = (1.0, 0.5)  # false alarms per hour
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.8)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    parser.add_argument("--phrases", nargs="+", choices=PHRASES, default=list(PHRASES))
    parser.add_argument(
        "--human", type=int, default=0, help="recordings of the phrase to learn from"
    )
    parser.add_argument("--clips", type=int, default=SynthConfig.clips)
    parser.add_argument("--epochs", type=int, default=SynthConfig.epochs)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument(
        "--init-from", type=pathlib.Path, help="checkpoint to begin with, of this size"
    )
    parser.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--mine",
        action="store_true",
        help="in two rounds: the second learns from what fires in the first",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", action="store_true", help="judge the runs that are there")
    parser.add_argument(
        "--without-verifier", action="store_true", help="… as if there were no reader in them"
    )
    parser.add_argument(
        "--reread",
        action="store_true",
        help="… with the reader that comes with kws now in place of theirs",
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for phrase in args.phrases:
        speech = SynthConfig(phrase, args.clips, args.seed)
        how = [
            args.size,
            *["trunk"] * bool(args.init_from),
            *["mined"] * args.mine,
            args.clips,
            args.epochs,
            f"human{args.human}",
        ]
        path = args.out / f"{'-'.join(map(str, [speech.name, *how]))}-seed{args.seed}.onnx"
        if args.judge:
            for found in sorted(args.out.glob(f"{speech.name}-*-human*-seed[0-9].onnx")):
                spoken_ = spoken_folder(args.out, speech.name, found.stem.rpartition("seed")[2])
                engine = (
                    reread(found)
                    if args.reread
                    else Engine.load(str(found), verifier=not args.without_verifier)
                )
                print(
                    json.dumps(
                        {"run": found.stem, **judge(engine, args.data, spoken_, speech.name)}
                    ),
                    flush=True,
                )
        elif not path.exists():
            run(args, speech, path)


def run(args: argparse.Namespace, speech: SynthConfig, path: pathlib.Path) -> None:
    """Trains one detector, from the phrase to a calibrated model, and says how long it took."""
    began, learned = time.perf_counter(), human(args, speech.name)
    folders = DataFolders(
        spoken_folder(args.out, speech.name, args.seed),
        negatives=tuple(args.data / name for name in SPEECH),
        background=tuple(args.data / name for name in NOISE),
        own_recordings=(folder_of(learned, path.with_suffix(".human")),) if learned else (),
        hard_negatives=tuple(args.data / name for name in SPEECH) if args.mine else (),
    )
    folders = synthesize_folders(speech, folders)
    minutes = [(time.perf_counter() - began) / 60]
    train_config = TrainConfig(
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        mixed_precision=bfloat16_devices(),
        seed=args.seed,
    )
    keyword_data = load_keyword_data(
        [speech.name],
        folders,
        max_word_seconds=train_config.max_word_seconds,
        warn=lambda text: None,
    )
    config = NetworkConfig(
        (speech.name,), band_channels=band_channels(args.init_from), **SIZES[args.size]
    )
    resume, device = (
        (first_stage_path(path) if args.mine else path).with_suffix(".pt").exists(),
        torch.device("cpu"),
    )
    model_card = {"human": [clip.path.name for clip in learned]}
    init_from = init_from_pretrained(config, args.init_from, args.seed) if args.init_from else None
    learn = train_two_stage if args.mine else train
    how = {
        "device": device,
        "resume": resume,
        "init_from": init_from,
        "progress": PrintedEpochs(path.stem),
        "model_card": model_card,
    }
    learn(
        keyword_data,
        config,
        train_config,
        path,
        verifier_candidates=[load_verifier({speech.name: speech.pronunciations})],
        **how,
    )
    minutes.append((time.perf_counter() - began) / 60)
    print(
        json.dumps(
            {
                "run": path.stem,
                "minutes to speak": round(minutes[0], 1),
                "minutes in all": round(minutes[1], 1),
            }
        ),
        flush=True,
    )


def spoken_folder(out: pathlib.Path, name: str, seed: int | str) -> pathlib.Path:
    return out / f"{name}-seed{seed}.synth"


def human(args: argparse.Namespace, name: str) -> list[Clip]:
    """The recordings of the phrase that are learned from."""
    clips = find_clips(args.data / "wake_words" / name)
    return [
        clips[i]
        for i in np.random.default_rng(args.seed).choice(len(clips), args.human, replace=False)
    ]


def folder_of(clips: list[Clip], folder: pathlib.Path) -> pathlib.Path:
    for clip in clips:
        (folder / clip.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(clip.path, folder / clip.label)
    return folder


def reread(path: pathlib.Path) -> Engine:
    """A model with the reader that comes with kws, in place of its own. Its thresholds stay as they
    were calibrated."""
    document = Engine.load(str(path)).info.document
    sounds = document["verifier"]["pronunciations"]
    plain = {name: value for name, value in document.items() if name != "verifier"}
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / path.name
        export(
            load_network(path.with_suffix(".pt")),
            {**plain, "format": FORMAT},
            copy,
            load_verifier(sounds),
        )
        return Engine.load(str(copy))


def judge(engine: Engine, data: pathlib.Path, spoken: pathlib.Path, name: str) -> dict:
    """Misses at one false alarm per hour, and how many of its neighbours fire there, said by voices
    that were held out."""
    learned = set(engine.info.document["human"])
    words = [
        clip for clip in find_clips(data / "wake_words" / name) if clip.path.name not in learned
    ]
    spotter = Spotter(engine, engine.info.events)
    found = {snr_db: _score_clips(spotter, words, snr_db) for snr_db in SNRS_DB}
    own = int(np.searchsorted(CURVE_THRESHOLDS, engine.info.events.threshold[0]))
    near = [
        clip for clip in find_clips(spoken / WORDS) if clip.label != name and clip.split == "test"
    ]
    clips = [
        clip
        for name_ in SPEECH
        for clip in find_clips(data / name_)
        if clip.label not in (name, BACKGROUND)
    ]
    heard, others = (
        _count_alarms(spotter, [clip for clip in clips if (clip.split == "train") is learned_])
        for learned_ in (True, False)
    )
    everything = heard[0] + others[0], heard[1] + others[1]
    kind_of, fires = _read_kinds(spoken), _score_clips(spotter, near, None)
    kinds = np.array([kind_of[clip.label] for clip in near])
    within = {rate: lowest_threshold_within(everything[0], rate * everything[1]) for rate in RATES}
    return {
        "clips": len(words),
        "all speech": {rate: _metrics_at(at, found, *everything) for rate, at in within.items()},
        "speech of others": {
            rate: _metrics_at(lowest_threshold_within(others[0], rate * others[1]), found, *others)
            for rate in RATES
        },
        "as it comes": _metrics_at(own, found, *everything),
        "at thresholds": [
            _metrics_at(int(np.searchsorted(CURVE_THRESHOLDS, each)), found, *everything)
            for each in THRESHOLDS
        ],
        "alarms of others": [
            int(others[0][np.searchsorted(CURVE_THRESHOLDS, each)]) for each in THRESHOLDS
        ],
        "neighbours that fire": {
            f"{CURVE_THRESHOLDS[at]:g}": {
                str(kind): f"{fires[kinds == kind, at].sum()} of {(kinds == kind).sum()}"
                for kind in np.unique(kinds)
            }
            for at in (within[RATES[0]], own)
            if at is not None
        },
    }


def _read_kinds(spoken: pathlib.Path) -> dict[str, str]:
    """Of each folder of spoken neighbours, why it is one."""
    lines = (spoken / "confusables.txt").read_text().splitlines()
    return {
        folder_name(text): kind
        for kind, _, text in (line.partition("\t") for line in lines)
        if text
    }


def _score_clips(spotter: Spotter, clips: list[Clip], snr_db: float | None) -> np.ndarray:
    """Whether there is an event [clips, thresholds of the curve] in each of some recordings, clean
    or in pink noise: anywhere in the recording, as many are noisy around the phrase."""
    waves = [
        embed_word(wave, find_endpoints(wave), snr_db, seed=i).audio
        for i, wave in enumerate(load_clips(clips, warn=print))
    ]
    word = spotter.words[0]
    scored = score_clips(spotter, waves)
    return np.array([count_alarms([each], word, CURVE_THRESHOLDS) > 0 for each in scored])


def _count_alarms(spotter: Spotter, clips: list[Clip]) -> tuple[np.ndarray, float]:
    """Events at each threshold of the curve in some recordings, and their hours."""
    dataset = load_clips(clips, warn=print)
    scored = score_clips(spotter, dataset)
    return count_alarms(scored, spotter.words[0], CURVE_THRESHOLDS), dataset.seconds / 3600


def _metrics_at(
    at: int | None, found: dict[float | None, np.ndarray], alarms: np.ndarray, hours: float
) -> dict:
    """What is missed, and how often it fires, at one threshold of the curve."""
    if at is None:
        return {"hours": round(hours, 2), "missed": None}
    shares = {}
    for snr_db, hit in found.items():
        missed = int((~hit[:, at]).sum())
        interval = [round(limit, 4) for limit in wilson(missed, len(hit))]
        shares["clean" if snr_db is None else f"{snr_db:g} dB"] = [
            round(missed / len(hit), 4),
            interval,
        ]
    return {
        "hours": round(hours, 2),
        "threshold": CURVE_THRESHOLDS[at],
        "false alarms": int(alarms[at]),
        "missed": shares,
    }


if __name__ == "__main__":
    main()
