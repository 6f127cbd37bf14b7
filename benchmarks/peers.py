"""Us and others, through one small interface: what listening costs, how much is installed, and what is heard of people.

    python benchmarks/peers.py [--data DATA --models MODELS [--phrases "smart mirror" "view glass"]]

Each engine gets a virtual environment of its own and hears the same 80 ms chunks in the same run, in turns, on one thread; the least of
several repetitions counts. microWakeWord and openWakeWord have words of their own ("alexa"), so they are judged by cost alone; PocketSphinx
takes any phrase in its dictionary as text. With DATA (wake_words and other speech, one folder a set; see people.py) and MODELS (made
by people.py) both are judged by people's recordings of the phrases: misses at one false alarm per hour.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
RATE = 16_000
CHUNK_SAMPLES = 1280
REPETITIONS = 5
REFRACTORY_SECONDS = 1.0
SPHINX_THRESHOLDS = (1e-45, 1e-40, 1e-35, 1e-30, 1e-25, 1e-20, 1e-15, 1e-10, 1e-5)
OTHER_SPEECH = ("speech_commands", "librispeech", "precise_community", "custom_commands", "honk", "wake_words")

Feed = Callable[[np.ndarray], bool]  # hears a chunk, int16 [1280]; whether its phrase was found in it


@dataclass(frozen=True)
class Peer:
    """An engine: the packages that install it, and how it begins to listen."""

    packages: tuple[str, ...]
    begin: Callable[[], Feed]


def _kws() -> Feed:
    from kws import Spotter

    stream = Spotter.load("welcome").stream()
    return lambda chunk: bool(stream.feed(chunk))


def _micro() -> Feed:
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model

    word, features = MicroWakeWord.from_builtin(Model.ALEXA), MicroWakeWordFeatures()
    return lambda chunk: any([word.process_streaming(part) for part in features.process_streaming(chunk.tobytes())])


def _open() -> Feed:
    from pyopen_wakeword import Model, OpenWakeWord, OpenWakeWordFeatures

    word, features = OpenWakeWord.from_builtin(Model.ALEXA), OpenWakeWordFeatures.from_builtin()
    return lambda chunk: (
        max((p for part in features.process_streaming(chunk.tobytes()) for p in word.process_streaming(part)), default=0) > 0.5
    )


def _sphinx(phrase: str = "alexa", threshold: float = 1e-20) -> Feed:
    from pocketsphinx import Decoder

    decoder = Decoder(keyphrase=phrase, kws_threshold=threshold, loglevel="FATAL")
    decoder.start_utt()

    def feed(chunk: np.ndarray) -> bool:
        decoder.process_raw(chunk.tobytes(), False, False)
        found = decoder.hyp() is not None
        if found:
            decoder.end_utt()
            decoder.start_utt()
        return found

    return feed


PEERS = {
    "kws": Peer((str(ROOT),), _kws),
    "microWakeWord": Peer(("pymicro-wakeword==2.5.0",), _micro),
    "openWakeWord": Peer(("pyopen-wakeword==1.1.0",), _open),
    "PocketSphinx": Peer(("pocketsphinx==5.1.1", "numpy"), _sphinx),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--models", type=pathlib.Path)
    parser.add_argument("--phrases", nargs="+", default=["smart mirror", "view glass"])
    parser.add_argument("--measure", choices=PEERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measured(PEERS[args.measure])))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(
            json.dumps({"machine": _machine(), "date": time.strftime("%Y-%m-%d"), "cost": costs(pathlib.Path(scratch))}, indent=2),
            flush=True,
        )
        if args.data:
            for phrase in args.phrases:
                print(json.dumps({"phrase": phrase, **detection(phrase, args.data, args.models)}), flush=True)


def costs(folder: pathlib.Path) -> dict[str, dict]:
    """Each engine in its own environment; repetitions of all take turns, so that the machine's moods meet all alike."""
    environments = {name: _installed(peer, folder / name) for name, peer in PEERS.items()}
    runs: dict[str, list[dict]] = {name: [] for name in PEERS}
    for _ in range(REPETITIONS):
        for name, python in environments.items():
            told = subprocess.run([python, __file__, "--measure", name], check=True, capture_output=True, text=True, env=_one_thread())
            runs[name].append(json.loads(told.stdout.splitlines()[-1]))
    least = {name: min(run["CPU s per s"] for run in some) for name, some in runs.items()}
    return {
        name: {
            "CPU s per s": least[name],
            "times kws": round(least[name] / least["kws"], 2),
            "peak memory, MB": min(run["peak memory, MB"] for run in some),
            "installed, MB": round(_size(folder / name) / 1e6),
        }
        for name, some in runs.items()
    }


def measured(peer: Peer) -> dict:
    """In an environment of the engine's own: a minute of recordings, after a minute to warm up."""
    chunks, feed = _minute(), peer.begin()
    for chunk in chunks:
        feed(chunk)
    start = time.process_time()
    for chunk in chunks:
        feed(chunk)
    seconds = (time.process_time() - start) / 60
    return {"CPU s per s": round(seconds, 5), "peak memory, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def _minute() -> list[np.ndarray]:
    import wave

    parts = []
    for path in sorted((ROOT / "recordings").glob("*.wav")):
        with wave.open(str(path)) as file:
            parts.append(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
    return np.split(np.resize(np.concatenate(parts), 60 * RATE), 60 * RATE // CHUNK_SAMPLES)


def detection(phrase: str, data: pathlib.Path, models: pathlib.Path) -> dict:
    """Share of people's recordings that are missed at one false alarm per hour: our model from text, and PocketSphinx."""
    from people import RATES, judge, spoken_folder

    from kws.engine import OnnxEngine

    name = phrase.replace(" ", "_")
    path = next(iter(sorted(models.glob(f"{name}-*-human0-seed0.onnx"))), None)
    if path is None:
        raise SystemExit(f"{models}: no model of '{phrase}'. Train it with people.py.")
    ours = judge(OnnxEngine(str(path)), data, spoken_folder(models, name, 0), name)
    return {"kws": ours["all speech"][RATES[0]], "PocketSphinx": sphinx(phrase, data)}


def sphinx(phrase: str, data: pathlib.Path) -> dict:
    """Misses of PocketSphinx at the most sensitive of its thresholds that stays within one false alarm per hour."""
    from kws.training.clips import BACKGROUND, find_clips

    name = phrase.replace(" ", "_")
    words = [clip.path for clip in find_clips(data / "wake_words" / name)]
    others = [clip.path for folder in OTHER_SPEECH for clip in find_clips(data / folder) if clip.label not in (name, BACKGROUND)]
    heard = cache(lambda threshold: _events(_sphinx(phrase, threshold), others))

    def quiet(threshold: float) -> bool:
        alarms, seconds = heard(threshold)
        return sum(alarms) * 3600 <= seconds

    at = bisect_left(SPHINX_THRESHOLDS, True, key=quiet)  # each takes minutes
    if at == len(SPHINX_THRESHOLDS):
        return {"missed": None}
    threshold = SPHINX_THRESHOLDS[at]
    (alarms, seconds), (found, _) = heard(threshold), _events(_sphinx(phrase, threshold), words)
    missed = sum(count == 0 for count in found)
    return {
        "threshold": threshold,
        "false alarms": sum(alarms),
        "hours": round(seconds / 3600, 2),
        "missed": round(missed / len(found), 4),
    }


def _events(feed: Feed, paths: Iterable[pathlib.Path]) -> tuple[list[int], float]:
    """Events in each recording, which is heard between seconds of silence, and the seconds of all."""
    from kws import audio

    counts, total = [], 0
    for path in paths:
        samples = np.pad(np.round(audio.read(path) * 32767).astype(np.int16), RATE)
        last, count = -np.inf, 0
        for at in range(0, len(samples) - CHUNK_SAMPLES + 1, CHUNK_SAMPLES):
            if feed(samples[at : at + CHUNK_SAMPLES]) and at - last > REFRACTORY_SECONDS * RATE:
                last, count = at, count + 1
        counts.append(count)
        total += len(samples) - 2 * RATE
    return counts, total / RATE


def _installed(peer: Peer, folder: pathlib.Path) -> str:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "-q", *peer.packages], check=True)
    return str(folder / "bin" / "python")


def _size(folder: pathlib.Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def _machine() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    processor = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
