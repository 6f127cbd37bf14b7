"""What listening costs: CPU per second of audio live and on files, memory, cold start, size of
the installation.

    pip install pymicro-wakeword==2.5.0        # the peer, timed in the same run
    python benchmarks/cost.py [--model models/welcome.onnx]

Everything runs on one thread. Machines are noisy: the smallest of several repetitions counts, and
the ratio to the peer says most.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import soundfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
RATE = 16_000
CHUNK_SAMPLES = 1280  # 80 ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default=str(ROOT / "models" / "welcome.onnx"))
    parser.add_argument("--memory-hours", type=float, default=10.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        report = {
            "machine": (
                f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
            ),
            "date": time.strftime("%Y-%m-%d"),
            "largest difference of scores, file against chunks": chunking(args.model),
            "streaming, CPU s per s": streaming(args.model),
            "file": file_scan(args.model, speech(folder / "hour.wav", 1.0)),
            "installed": installed(folder, args.memory_hours),
        }
    print(json.dumps(report, indent=2))


def chunking(model: str) -> float:
    """A minute in one piece, and in chunks of 80 ms, of 1 to 3 000 samples, and of one sample (its
    first second)."""
    from kws import Spotter

    spotter, samples, rng = Spotter.load(model), _minute(), np.random.default_rng(0)
    cuts = {
        "80 ms": np.arange(CHUNK_SAMPLES, len(samples), CHUNK_SAMPLES),
        "random": np.cumsum(rng.integers(1, 3000, len(samples) // 1500)),
        "single": np.arange(1, RATE),
    }
    whole = spotter.scores(samples).pooled
    return max(
        float(np.abs(whole - _fed(spotter, np.split(samples, cut[cut < len(samples)]))).max())
        for cut in cuts.values()
    )


def _fed(spotter, chunks: list[np.ndarray]) -> np.ndarray:
    stream, parts = spotter.stream(), []
    for chunk in chunks:
        stream.feed(chunk)
        parts.append(stream.scores.pooled)
    return np.concatenate(parts)


def streaming(model: str) -> dict:
    """CPU seconds per second of audio in 80 ms chunks: this engine, and the peer on the
    same samples."""
    from kws import Spotter

    stream = Spotter.load(model).stream()
    chunks = _minute().reshape(-1, CHUNK_SAMPLES)
    heard: dict[str, Callable[[np.ndarray], object]] = {
        "kws": stream.feed,
        "pymicro-wakeword": _peer(),
    }
    seconds = {name: [] for name in heard}
    for _ in range(7):
        for name, feed in heard.items():
            start = time.process_time()
            for chunk in chunks:
                feed(chunk)
            seconds[name].append((time.process_time() - start) / 60)
    best = {name: round(min(times), 5) for name, times in seconds.items()}
    return {**best, "kws / peer": round(best["kws"] / best["pymicro-wakeword"], 2)}


def _peer() -> Callable[[np.ndarray], None]:
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model

    word, features = MicroWakeWord.from_builtin(Model.ALEXA), MicroWakeWordFeatures()

    def feed(chunk: np.ndarray) -> None:
        for part in features.process_streaming(chunk.tobytes()):
            word.process_streaming(part)

    return feed


def file_scan(model: str, path: pathlib.Path) -> dict:
    """Times real time at which one thread scans an hour of 16 kHz WAV."""
    from kws import Spotter

    spotter = Spotter.load(model)
    times = []
    for _ in range(3):
        start = time.process_time()
        events = len(list(spotter.detect(path)))
        times.append(time.process_time() - start)
    return {"times real time": round(3600 / min(times)), "events": events}


def installed(folder: pathlib.Path, hours: float) -> dict:
    """Size, cold start and peak memory of the light installation, in a virtual environment of
    its own."""
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([environment / "bin" / "pip", "install", "-q", ROOT], check=True)
    size = sum(
        path.lstat().st_size
        for path in environment.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    kws = str(environment / "bin" / "kws")
    short = speech(folder / "short.wav", 10 / 3600)
    walls = [_run(kws, "detect", str(short))[0] for _ in range(9)]
    _, memory = _run(kws, "detect", str(speech(folder / "long.wav", hours)))
    return {
        "virtual environment, MB": round(size / 1e6),
        "detect on 10 s, cold, wall s, median": round(statistics.median(walls), 2),
        f"peak memory on {hours:g} h, MB": round(memory / 1e6),
    }


def _run(*command: str) -> tuple[float, int]:
    """Wall seconds and peak resident bytes of a command."""
    # From a process of its own: a child's peak begins at the size of whoever started it, and this
    # one has numpy and a model loaded.
    starter = (
        "import os, subprocess, sys, time; start = time.perf_counter(); "
        "child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "_, status, usage = os.wait4(child.pid, 0); "
        "print(time.perf_counter() - start, usage.ru_maxrss * 1024, status)"
    )
    told = subprocess.run(
        [sys.executable, "-S", "-c", starter, *command], check=True, capture_output=True, text=True
    ).stdout
    seconds, peak, status = told.split()
    assert status == "0", command
    return float(seconds), int(peak)


def speech(path: pathlib.Path, hours: float) -> pathlib.Path:
    """A 16-bit WAV of the demo recordings, over and over."""
    minute = _minute()
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(max(round(hours * 60), 1)):
            file.write(minute[: round(hours * 3600 * RATE)])
    return path


def _minute() -> np.ndarray:
    parts = [
        soundfile.read(path, dtype="int16")[0]
        for path in sorted((ROOT / "recordings").glob("*.wav"))
    ]
    return np.resize(np.concatenate(parts), 60 * RATE)


def _processor() -> str:
    lines = (
        pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        if pathlib.Path("/proc/cpuinfo").exists()
        else []
    )
    return next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")),
        platform.processor(),
    )


if __name__ == "__main__":
    main()
