"""Us and others, through one small interface: what listening costs, how much is installed, and what
is heard of people.

    python benchmarks/peers.py [--data DATA --models MODELS [--phrases "smart mirror" snowboy]]

Each engine gets a virtual environment of its own and hears the same 80 ms chunks in the same run,
in turns, on one thread; the least of several repetitions counts. microWakeWord and openWakeWord
have words of their own ("alexa"), so they are judged by cost alone; PocketSphinx takes any phrase
in its dictionary as text. With DATA (wake_words and other speech, one folder a set; see
people.py) and MODELS (made by people.py) both are judged by people's recordings of the phrases,
misses at one false alarm per hour; this hears PocketSphinx in the environment that runs it (pip
install pocketsphinx==5.1.1).
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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pocketsphinx import Decoder

ROOT = pathlib.Path(__file__).resolve().parent.parent
RATE = 16_000
CHUNK_SAMPLES = 1280
REPETITIONS = 5
SPHINX_THRESHOLD = 1e-60  # finds nearly everything, and much that is nothing like it
SPELLED = {"snowboy": "snow boy"}  # what PocketSphinx' dictionary lacks

# Hears a chunk, int16 [1280]; whether its phrase was found in it.
Feed = Callable[[np.ndarray], bool]


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
    return lambda chunk: any(
        [word.process_streaming(part) for part in features.process_streaming(chunk.tobytes())]
    )


def _open() -> Feed:
    from pyopen_wakeword import Model, OpenWakeWord, OpenWakeWordFeatures

    word, features = OpenWakeWord.from_builtin(Model.ALEXA), OpenWakeWordFeatures.from_builtin()
    return lambda chunk: (
        max(
            (
                p
                for part in features.process_streaming(chunk.tobytes())
                for p in word.process_streaming(part)
            ),
            default=0,
        )
        > 0.5
    )


def _sphinx() -> Feed:
    from pocketsphinx import Decoder

    decoder = Decoder(keyphrase="alexa", kws_threshold=1e-20, loglevel="FATAL")
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
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--models", type=pathlib.Path)
    parser.add_argument("--phrases", nargs="+", default=["snowboy", "smart mirror", "view glass"])
    parser.add_argument("--measure", choices=PEERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measured(PEERS[args.measure])))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(
            json.dumps(
                {
                    "machine": _machine(),
                    "date": time.strftime("%Y-%m-%d"),
                    "cost": costs(pathlib.Path(scratch)),
                },
                indent=2,
            ),
            flush=True,
        )
        if args.data:
            for report in detection(args.phrases, args.data, args.models):
                print(json.dumps(report), flush=True)


def costs(folder: pathlib.Path) -> dict[str, dict]:
    """Each engine in its own environment; repetitions of all take turns, so that the machine's
    moods meet all alike."""
    environments = {name: _installed(peer, folder / name) for name, peer in PEERS.items()}
    runs: dict[str, list[dict]] = {name: [] for name in PEERS}
    for _ in range(REPETITIONS):
        for name, python in environments.items():
            told = subprocess.run(
                [python, __file__, "--measure", name],
                check=True,
                capture_output=True,
                text=True,
                env=_one_thread(),
            )
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
    return {
        "CPU s per s": round(seconds, 5),
        "peak memory, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _minute() -> list[np.ndarray]:
    import wave

    parts = []
    for path in sorted((ROOT / "recordings").glob("*.wav")):
        with wave.open(str(path)) as file:
            parts.append(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
    return np.split(np.resize(np.concatenate(parts), 60 * RATE), 60 * RATE // CHUNK_SAMPLES)


def detection(phrases: list[str], data: pathlib.Path, models: pathlib.Path) -> Iterator[dict]:
    """Of each phrase what is missed of people's recordings at one false alarm per hour: by our
    model from text, and by PocketSphinx."""
    from people import RATES, judge, spoken_folder

    from kws.runtime.engine import Engine
    from kws.synth.phrase import folder_name

    paths = {}
    for name in map(folder_name, phrases):
        found = sorted(models.glob(f"{name}-*-human0-seed0.onnx"))
        if not found:
            raise SystemExit(f"{models}: no model of '{name}'. Train it with people.py.")
        paths[name] = found[0]
    theirs = sphinx({SPELLED.get(phrase, phrase): folder_name(phrase) for phrase in phrases}, data)
    for name, path in paths.items():
        ours = judge(Engine.load(str(path)), data, spoken_folder(models, name, 0), name)
        yield {"phrase": name, "kws": ours["all speech"][RATES[0]], "PocketSphinx": theirs[name]}


def sphinx(names: dict[str, str], data: pathlib.Path) -> dict[str, dict]:
    """Misses of PocketSphinx at the lowest threshold with at most one false alarm per hour. It
    hears what ours hears, once, and listens for all phrases at a threshold at which it finds nearly
    everything: how sure it is of each tells what any other would let pass.

    names: phrase → the folder of its recordings.
    """
    from people import SNRS_DB, SPEECH

    from kws.audio.endpoints import find_endpoints
    from kws.training.data.clips import BACKGROUND, find_clips
    from kws.training.data.dataset import load_clips
    from kws.training.evaluate.test_streams import embed_word

    decoder = _listening(names)
    clips = [
        clip for folder in SPEECH for clip in find_clips(data / folder) if clip.label != BACKGROUND
    ]
    # By what is said (a phrase under test, or anything else) and by what was found in it.
    sure: dict[str, dict[str, list[float]]] = {}
    seconds, best = {}, {name: {} for name in names.values()}
    for said in (*names.values(), "other speech"):
        dataset = load_clips(
            [
                clip
                for clip in clips
                if (clip.label if clip.label in best else "other speech") == said
            ],
            warn=print,
        )
        waves = list(dataset)
        sure[said] = {name: [] for name in best}
        seconds[said] = dataset.seconds
        for wave in waves:
            for phrase, certainty in _found(decoder, wave):
                sure[said][names[phrase]].append(certainty)
        if said in best:
            for snr_db in SNRS_DB:
                heard = (
                    _found(decoder, embed_word(wave, find_endpoints(wave), snr_db, seed=i).audio)
                    for i, wave in enumerate(waves)
                )
                best[said][snr_db] = [
                    max((p for phrase, p in found if names[phrase] == said), default=0.0)
                    for found in heard
                ]
    return {name: _at_one_per_hour(name, sure, seconds, best[name]) for name in best}


def _at_one_per_hour(
    name: str, sure: dict, seconds: dict[str, float], best: dict[float | None, list[float]]
) -> dict:
    alarms = sorted((p for said in sure if said != name for p in sure[said][name]), reverse=True)
    hours = sum(seconds[said] for said in sure if said != name) / 3600
    threshold = alarms[int(hours)] if len(alarms) > hours else 0.0  # one more would be too many
    missed = {
        "clean" if snr_db is None else f"{snr_db:g} dB": round(
            float(np.mean(np.array(p) <= threshold)), 4
        )
        for snr_db, p in best.items()
    }
    return {
        "hours": round(hours, 2),
        "false alarms": min(len(alarms), int(hours)),
        "missed": missed,
    }


def _listening(phrases: Iterable[str]) -> "Decoder":
    from pocketsphinx import Decoder

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{phrase} /{SPHINX_THRESHOLD:g}/\n" for phrase in phrases)
        file.flush()
        return Decoder(kws=file.name, loglevel="FATAL")


def _found(decoder: "Decoder", audio: np.ndarray) -> list[tuple[str, float]]:
    """The phrases found in audio [n] of one utterance, and how sure PocketSphinx is of each."""
    decoder.start_utt()
    samples = np.clip(np.round(audio * 32767), -32768, 32767).astype("<i2")
    for chunk in np.split(samples, range(CHUNK_SAMPLES, len(samples), CHUNK_SAMPLES)):
        decoder.process_raw(chunk.tobytes(), False, False)
    decoder.end_utt()
    return [(part.word.strip(), part.prob) for part in decoder.seg()] if decoder.hyp() else []


def _installed(peer: Peer, folder: pathlib.Path) -> str:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "-q", *peer.packages], check=True)
    return str(folder / "bin" / "python")


def _size(folder: pathlib.Path) -> int:
    return sum(
        path.lstat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )


def _one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def _machine() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    processor = next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")),
        platform.processor(),
    )
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
