"""Compares kws with other engines: CPU time, memory, size of the installation, and missed words.

    python benchmarks/peers.py [--data DATA --runs RUNS [--phrases "smart mirror" snowboy]]

Each engine runs in a virtual environment of its own, on the same minute of audio, in chunks of
80 ms, on one thread. The engines take turns; the least of several repetitions counts.

With DATA and RUNS (see people.py) the models in RUNS and PocketSphinx are also compared by
recordings of people: missed phrases at one false alarm per hour. microWakeWord and openWakeWord
have a fixed vocabulary ("alexa") and take no part in this. PocketSphinx accepts any phrase of its
dictionary; this part needs it in the present environment (pip install pocketsphinx==5.1.1).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.demo_audio import demo_audio
from benchmarks.report import ROOT, add_out_option, print_report

if TYPE_CHECKING:
    from pocketsphinx import Decoder

CHUNK_SAMPLES = 1280
SECONDS = 60
REPETITIONS = 5
# Low enough to detect nearly every utterance; false alarms are limited by the probability.
SPHINX_THRESHOLD = 1e-60
SPHINX_SPELLINGS = {"snowboy": "snow boy"}  # words that its dictionary lacks
OTHER_SPEECH = "other speech"

Feed = Callable[[np.ndarray], bool]  # chunk, int16 [1280] -> whether the phrase is detected


@dataclass(frozen=True)
class Peer:
    """An engine: the packages that install it, and a function that starts a stream."""

    packages: tuple[str, ...]
    start: Callable[[], Feed]


def start_kws() -> Feed:
    from kws import Spotter

    stream = Spotter.load("welcome").stream()
    return lambda chunk: bool(stream.feed(chunk))


def start_micro_wake_word() -> Feed:
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model

    word, features = MicroWakeWord.from_builtin(Model.ALEXA), MicroWakeWordFeatures()

    def feed(chunk: np.ndarray) -> bool:
        frames = list(features.process_streaming(chunk.tobytes()))
        return any([word.process_streaming(frame) for frame in frames])

    return feed


def start_open_wake_word() -> Feed:
    from pyopen_wakeword import Model, OpenWakeWord, OpenWakeWordFeatures

    word, features = OpenWakeWord.from_builtin(Model.ALEXA), OpenWakeWordFeatures.from_builtin()

    def feed(chunk: np.ndarray) -> bool:
        scores = [
            score
            for frame in features.process_streaming(chunk.tobytes())
            for score in word.process_streaming(frame)
        ]
        return max(scores, default=0.0) > 0.5

    return feed


def start_pocket_sphinx() -> Feed:
    from pocketsphinx import Decoder

    decoder = Decoder(keyphrase="alexa", kws_threshold=1e-20, loglevel="FATAL")
    decoder.start_utt()

    def feed(chunk: np.ndarray) -> bool:
        decoder.process_raw(chunk.tobytes(), False, False)
        is_detected = decoder.hyp() is not None
        if is_detected:
            decoder.end_utt()
            decoder.start_utt()
        return is_detected

    return feed


PEERS = {
    "kws": Peer((str(ROOT),), start_kws),
    "micro_wake_word": Peer(("pymicro-wakeword==2.5.0",), start_micro_wake_word),
    "open_wake_word": Peer(("pyopen-wakeword==1.1.0",), start_open_wake_word),
    "pocket_sphinx": Peer(("pocketsphinx==5.1.1", "numpy"), start_pocket_sphinx),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of recordings; see people.py")
    parser.add_argument("--runs", type=Path, help="folder of models; see people.py")
    parser.add_argument("--phrases", nargs="+", default=["snowboy", "smart mirror", "view glass"])
    add_out_option(parser)
    parser.add_argument("--measure", choices=PEERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(PEERS[args.measure])))
        return
    if (args.data is None) != (args.runs is None):
        parser.error("--data and --runs belong together")
    with tempfile.TemporaryDirectory() as folder:
        figures: dict = {"cost": measure_all(Path(folder))}
    if args.data:
        figures["detection"] = list(compare_detection(args.phrases, args.data, args.runs))
    print_report(figures, args.out)


def measure_all(folder: Path) -> dict[str, dict]:
    """Figures of each engine, measured in turns, so that a busy machine slows all of them."""
    pythons = {name: install(peer.packages, folder / name) for name, peer in PEERS.items()}
    runs: dict[str, list[dict]] = {name: [] for name in PEERS}
    for _ in range(REPETITIONS):
        for name, python in pythons.items():
            result = subprocess.run(
                [python, __file__, "--measure", name],
                check=True,
                capture_output=True,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            runs[name].append(json.loads(result.stdout.splitlines()[-1]))
    cpu_seconds = {
        name: min(run["cpu_seconds_per_second"] for run in repetitions)
        for name, repetitions in runs.items()
    }
    return {
        name: {
            "cpu_seconds_per_second": cpu_seconds[name],
            "ratio_to_kws": round(cpu_seconds[name] / cpu_seconds["kws"], 2),
            "peak_memory_mb": min(run["peak_memory_mb"] for run in repetitions),
            "installed_mb": round(folder_bytes(folder / name) / 1e6),
        }
        for name, repetitions in runs.items()
    }


def measure(peer: Peer) -> dict:
    """CPU time and memory of an engine, after a minute to warm up. Runs in its environment."""
    chunks, feed = np.split(demo_audio(SECONDS), SECONDS * 16_000 // CHUNK_SAMPLES), peer.start()
    for chunk in chunks:
        feed(chunk)
    start = time.process_time()
    for chunk in chunks:
        feed(chunk)
    cpu_seconds = time.process_time() - start
    return {
        "cpu_seconds_per_second": round(cpu_seconds / SECONDS, 5),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def install(packages: Iterable[str], folder: Path) -> str:
    """Installs packages into a new virtual environment. Returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "-q", *packages], check=True)
    return str(folder / "bin" / "python")


def folder_bytes(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)


def compare_detection(phrases: list[str], data: Path, runs: Path) -> Iterator[dict]:
    """Missed recordings of each phrase at one false alarm per hour, by kws and PocketSphinx."""
    from benchmarks.people import evaluate, synth_folder
    from kws.runtime.engine import Engine
    from kws.synth.phrase import folder_name

    models = {}
    for name in map(folder_name, phrases):
        paths = sorted(runs.glob(f"{name}-*-human0-seed0.kws"))
        if not paths:
            raise SystemExit(f"{runs}: no model of '{name}'. Train it with people.py.")
        models[name] = paths[0]
    labels = {SPHINX_SPELLINGS.get(phrase, phrase): folder_name(phrase) for phrase in phrases}
    pocket_sphinx = evaluate_pocket_sphinx(labels, data)
    for name, path in models.items():
        figures = evaluate(Engine.load(str(path)), data, synth_folder(runs, name, 0), name)
        yield {
            "phrase": name,
            "kws": figures["all_speech"][0],
            "pocket_sphinx": pocket_sphinx[name],
        }


def evaluate_pocket_sphinx(labels: dict[str, str], data: Path) -> dict[str, dict]:
    """Misses of PocketSphinx at the lowest threshold with at most one false alarm per hour.

    It scans each recording once for all phrases, at a very low threshold. The probability of each
    detection tells which of them a higher threshold keeps.

    labels: phrase as PocketSphinx spells it -> folder of its recordings.
    """
    from benchmarks.people import SNRS_DB, SPEECH, noise_name
    from kws.audio.endpoints import find_endpoints
    from kws.training.data.clips import BACKGROUND, find_clips
    from kws.training.data.dataset import load_clips
    from kws.training.evaluate.test_streams import embed_word

    decoder = make_decoder(labels)
    clips_by_label = defaultdict(list)
    for folder in SPEECH:
        for clip in find_clips(data / folder):
            if clip.label != BACKGROUND:
                label = clip.label if clip.label in labels.values() else OTHER_SPEECH
                clips_by_label[label].append(clip)
    alarms: dict[str, list[float]] = {name: [] for name in labels.values()}
    seconds = dict.fromkeys(labels.values(), 0.0)
    best: dict[str, dict[str, list[float]]] = {name: {} for name in labels.values()}
    for label, clips in clips_by_label.items():
        dataset = load_clips(clips, warn=print)
        for name in alarms:
            if name != label:
                seconds[name] += dataset.seconds
        for wave in dataset:
            for phrase, probability in detect_phrases(decoder, wave):
                if labels[phrase] != label:
                    alarms[labels[phrase]].append(probability)
        if label == OTHER_SPEECH:
            continue
        for snr_db in SNRS_DB:
            best[label][noise_name(snr_db)] = [
                max(
                    (
                        probability
                        for phrase, probability in detect_phrases(
                            decoder,
                            embed_word(wave, find_endpoints(wave), snr_db, seed=number).audio,
                        )
                        if labels[phrase] == label
                    ),
                    default=0.0,
                )
                for number, wave in enumerate(dataset)
            ]
    return {name: _metrics(alarms[name], seconds[name] / 3600, best[name]) for name in best}


def _metrics(alarms: list[float], hours: float, best: dict[str, list[float]]) -> dict:
    descending = sorted(alarms, reverse=True)
    # The first alarm that would be too many.
    threshold = descending[int(hours)] if len(descending) > hours else 0.0
    return {
        "hours": round(hours, 2),
        "false_alarms": min(len(alarms), int(hours)),
        "missed": {
            noise: round(float(np.mean(np.array(probabilities) <= threshold)), 4)
            for noise, probabilities in best.items()
        },
    }


def make_decoder(phrases: Iterable[str]) -> "Decoder":
    from pocketsphinx import Decoder

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{phrase} /{SPHINX_THRESHOLD:g}/\n" for phrase in phrases)
        file.flush()
        return Decoder(kws=file.name, loglevel="FATAL")


def detect_phrases(decoder: "Decoder", audio: np.ndarray) -> list[tuple[str, float]]:
    """The phrases that PocketSphinx detects in audio [n], float32, with their probabilities."""
    decoder.start_utt()
    samples = np.clip(np.round(audio * 32767), -32768, 32767).astype("<i2")
    for chunk in np.split(samples, range(CHUNK_SAMPLES, len(samples), CHUNK_SAMPLES)):
        decoder.process_raw(chunk.tobytes(), False, False)
    decoder.end_utt()
    return [(part.word.strip(), part.prob) for part in decoder.seg()] if decoder.hyp() else []


if __name__ == "__main__":
    main()
