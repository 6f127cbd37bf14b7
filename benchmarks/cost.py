"""Measures the cost of detection: CPU time live and on files, memory, cold start, installed size.

    pip install pymicro-wakeword==2.5.0  # another engine, timed in the same run
    python benchmarks/cost.py [--model models/welcome.onnx] [--out docs/results/cost.json]

Everything runs on one thread. The least of several repetitions counts. Machines are noisy; the
ratio to the other engine says most.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.demo_audio import SAMPLE_RATE, demo_audio
from benchmarks.peers import CHUNK_SAMPLES, Feed, folder_bytes, install, start_micro_wake_word
from benchmarks.report import ROOT, add_out_option, print_report

if TYPE_CHECKING:
    from kws import Spotter

REPETITIONS, FILE_REPETITIONS, COLD_REPETITIONS = 7, 3, 9
# A child's peak memory starts at the size of the process that started it, and the benchmark is
# large: a small process in between starts the command.
LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss * 1024, status)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(ROOT / "models" / "welcome.onnx"))
    parser.add_argument(
        "--memory-hours", type=float, default=10.0, help="length of the file to measure memory with"
    )
    add_out_option(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {
            "largest_score_difference": compare_chunking(args.model),
            "streaming": measure_streaming(args.model),
            "file": measure_file(args.model, write_audio(folder / "hour.wav", 1.0)),
            "installation": measure_installation(folder, args.memory_hours),
        }
    print_report(figures, args.out)


def compare_chunking(model: str) -> float:
    """Largest difference between the scores of a minute in one piece and those of the same minute
    in chunks: of 80 ms, of 1 to 3000 samples, and of one sample (its first second)."""
    from kws import Spotter

    spotter, samples, rng = Spotter.load(model), demo_audio(60), np.random.default_rng(0)
    expected = spotter.scores(samples).pooled
    cuts = (
        np.arange(CHUNK_SAMPLES, len(samples), CHUNK_SAMPLES),
        np.cumsum(rng.integers(1, 3000, len(samples) // 1500)),
        np.arange(1, SAMPLE_RATE),
    )
    return max(
        float(np.abs(expected - _stream(spotter, samples, cut[cut < len(samples)])).max())
        for cut in cuts
    )


def _stream(spotter: "Spotter", samples: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    stream, parts = spotter.stream(), []
    for chunk in np.split(samples, cuts):
        stream.feed(chunk)
        parts.append(stream.scores.pooled)
    return np.concatenate(parts)


def measure_streaming(model: str) -> dict:
    """CPU seconds per second of audio in 80 ms chunks, by kws and by microWakeWord in turns."""
    from kws import Spotter

    stream = Spotter.load(model).stream()
    engines: dict[str, Feed] = {
        "kws": lambda chunk: bool(stream.feed(chunk)),
        "micro_wake_word": start_micro_wake_word(),
    }
    chunks = demo_audio(60).reshape(-1, CHUNK_SAMPLES)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(REPETITIONS):
        for name, feed in engines.items():
            start = time.process_time()
            for chunk in chunks:
                feed(chunk)
            seconds[name].append((time.process_time() - start) / 60)
    least = {name: round(min(times), 5) for name, times in seconds.items()}
    return {
        "cpu_seconds_per_second": least,
        "ratio": round(least["kws"] / least["micro_wake_word"], 2),
    }


def measure_file(model: str, path: Path) -> dict:
    """How many times faster than real time one thread scans an hour of WAV, and its events."""
    from kws import Spotter

    spotter, times = Spotter.load(model), []
    for _ in range(FILE_REPETITIONS):
        start = time.process_time()
        events = len(list(spotter.detect(path)))
        times.append(time.process_time() - start)
    return {"times_real_time": round(3600 / min(times)), "events": events}


def measure_installation(folder: Path, memory_hours: float) -> dict:
    """Size, cold start and peak memory of kws without extras, in a new virtual environment."""
    environment = folder / "environment"
    install([str(ROOT)], environment)
    size, kws = folder_bytes(environment), str(environment / "bin" / "kws")
    short, long = (
        write_audio(folder / "short.wav", 10 / 3600),
        write_audio(folder / "long.wav", memory_hours),
    )
    starts = [_launch(kws, "detect", str(short)) for _ in range(COLD_REPETITIONS)]
    _, peak_bytes = _launch(kws, "detect", str(long))
    return {
        "installed_mb": round(size / 1e6),
        "cold_start_seconds": round(statistics.median(seconds for seconds, _ in starts), 2),
        "hours": memory_hours,
        "peak_memory_mb": round(peak_bytes / 1e6),
    }


def _launch(*command: str) -> tuple[float, int]:
    """Wall seconds and peak resident bytes of a command."""
    launcher = [sys.executable, "-S", "-c", LAUNCHER, *command]
    output = subprocess.run(launcher, check=True, capture_output=True, text=True).stdout
    seconds, peak_bytes, status = output.split()
    assert status == "0", command
    return float(seconds), int(peak_bytes)


def write_audio(path: Path, hours: float) -> Path:
    """Writes demo audio as 16-bit WAV, minute by minute."""
    minute = demo_audio(60)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        for _ in range(max(round(hours * 60), 1)):
            file.write(minute[: round(hours * 3600 * SAMPLE_RATE)])
    return path


if __name__ == "__main__":
    main()
