"""Measures the cost of detection: CPU time live, on files and of many streams; cold start, memory.

    pip install pymicro-wakeword==2.5.0 pocketsphinx==5.1.1 onnxruntime matplotlib
    kws export welcome --onnx welcome.onnx
    python benchmarks/cost.py --speech FOLDER --onnx welcome.onnx [--install] \\
        [--out docs/results/cost.json]

Whatever is compared takes turns in one process, on one thread. Each figure is the median of the
rounds, and each ratio the median of the ratios within a round, so that a busy machine does little
harm. With --out a figure is drawn beside the report. With --install the light install and the wheel
are measured, too. Needs Linux and 2 GB in the folder for temporary files.
"""

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

# Before NumPy is imported: threads of its BLAS would count, and wait for work at full speed.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.cost_figure import draw_costs
from benchmarks.demo_audio import demo_audio
from benchmarks.peers import CHUNK_SAMPLES, install, start_micro_wake_word, start_pocket_sphinx
from benchmarks.report import ROOT, add_out_option, print_report
from benchmarks.speech import SAMPLE_RATE, SPEECH_HELP, SPEECH_SECONDS, read_speech, say_word
from benchmarks.streams import measure_real_time
from kws import Spotter
from kws.runtime.kernel import KernelModel
from kws.runtime.model_file import read_model
from kws.runtime.numpy_network import NumpyNetwork
from kws.runtime.python_stream import PythonModel
from kws.runtime.spotter import BLOCK_SECONDS

LIVE_SECONDS, FILE_SECONDS, PEER = 80, 3600, "micro_wake_word"
ROUNDS, FILE_ROUNDS, COLD_STARTS = 7, 5, 15
CHUNK_MILLISECONDS = (10, 20, 40, 80, 160, 320, 1000, 10_000)
STREAMS = (1, 10, 100, 500, 1000, 2000)
STREAM_STEPS = 4000  # of all streams together, at least
REAL_TIME_STREAMS, REAL_TIME_SECONDS = (500, 2000), 30.0
WORD_EVERY_SECONDS = 3.0
MEMORY_HOURS = 10
# A child's peak memory starts at the size of the process that started it, and the benchmark is
# large: a small process in between starts the command.
LAUNCHER = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, status)
"""

Feed = Callable[[np.ndarray], object]  # takes int16 samples [n]


class Launch(NamedTuple):
    """What a command took."""

    cpu_seconds: float
    peak_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True, help=SPEECH_HELP)
    parser.add_argument(
        "--onnx", type=Path, required=True, metavar="FILE", help="the same model as ONNX"
    )
    parser.add_argument("--model", default=str(ROOT / "models" / "welcome.kws"))
    parser.add_argument(
        "--install", action="store_true", help="install kws in a new environment, measure its size"
    )
    add_out_option(parser)
    args = parser.parse_args()
    spotter, speech = Spotter.load(args.model), read_speech(args.speech, SPEECH_SECONDS)
    kinds = {
        "speech": speech,
        "word_every_3_s": say_word(speech, spotter, WORD_EVERY_SECONDS),
        "demo": demo_audio(SPEECH_SECONDS),
    }
    figures = {
        "largest_score_difference": compare_chunking(spotter, kinds["word_every_3_s"]),
        "live": {
            kind: measure_live(start_engines(spotter, args.onnx), audio)
            for kind, audio in kinds.items()
        },
        "by_chunk": measure_by_chunk(spotter, args.onnx, speech),
        "by_streams": measure_by_streams(spotter, speech),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures["file"] = measure_files(spotter, kinds, folder)
        command = [sys.executable, "-m", "kws"]
        if args.install:
            figures["installation"] = measure_installation(folder)
            command = [str(folder / "environment" / "bin" / "kws")]
        figures["detect"] = measure_detect(command, speech, folder)
    figures["real_time"] = [
        measure_real_time(spotter, speech, streams, REAL_TIME_SECONDS)
        for streams in REAL_TIME_STREAMS
    ]
    print_report(figures, args.out)
    if args.out:
        draw_costs(figures).savefig(args.out.with_suffix(".png"), dpi=160)


def time_in_turns(tasks: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each task in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds + 1):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            seconds[name].append(time.process_time() - start)
    return {name: times[1:] for name, times in seconds.items()}


def compare_chunking(spotter: Spotter, speech: np.ndarray) -> float:
    """Largest difference between the scores of a minute in one piece and those of the same minute
    in chunks: of 80 ms, of 1 to 3000 samples, and of one sample (its first second)."""
    samples, rng = speech[: 60 * SAMPLE_RATE], np.random.default_rng(0)
    expected = _scores_by_cuts(spotter, samples, np.zeros(0, int))
    cuts = (
        np.arange(CHUNK_SAMPLES, len(samples), CHUNK_SAMPLES),
        np.cumsum(rng.integers(1, 3000, len(samples) // 1500)),
        np.arange(1, SAMPLE_RATE),
    )
    return max(
        float(np.abs(expected - _scores_by_cuts(spotter, samples, cut)).max()) for cut in cuts
    )


def _scores_by_cuts(spotter: Spotter, samples: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    stream, parts = spotter.stream(), []
    for chunk in np.split(samples, cuts[cuts < len(samples)]):
        stream.feed(chunk)
        parts.append(stream.scores.pooled)
    return np.concatenate(parts)


def start_engines(spotter: Spotter, onnx: Path) -> dict[str, Feed]:
    """A stream of each engine."""
    return {
        "kws": spotter.stream().feed,
        "kws_events_only": spotter.stream(events_only=True).feed,
        "kernel": start_kernel(spotter),
        "kws_numpy": start_numpy(spotter),
        "onnxruntime": start_onnxruntime(onnx),
        "micro_wake_word": start_micro_wake_word(),
        "pocket_sphinx": start_pocket_sphinx(),
    }


def start_kernel(spotter: Spotter) -> Feed:
    """A stream of the C kernel alone, as `events_only` asks its verifier. Its output goes
    nowhere."""
    kernel = cast(KernelModel, spotter.engine.runner)
    stream = spotter.stream(events_only=True).engine_stream.runner_stream
    nowhere = (ctypes.c_void_p * 5)()

    def feed(samples: np.ndarray) -> None:
        kernel.library.kws_step_int16(
            kernel.handle, stream.address, samples.ctypes.data, len(samples), nowhere
        )

    return feed


def start_numpy(spotter: Spotter) -> Feed:
    """A stream of the fallback, for machines where the kernel cannot be loaded."""
    model = read_model(spotter.info.path)
    network = NumpyNetwork(model.tensors_of("network"))
    return PythonModel(network, model.info, model.make_verifier()).open_stream().step


def start_onnxruntime(path: Path) -> Feed:
    """A stream of the scanning network in ONNX Runtime, without verifier and post-processing."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    state = np.zeros((1, session.get_inputs()[1].shape[1]), np.float32)

    def feed(samples: np.ndarray) -> None:
        nonlocal state
        audio = samples[None].astype(np.float32) / 32768
        *_, state = session.run(None, {"audio": audio, "state": state})

    return feed


def measure_live(engines: dict[str, Feed], speech: np.ndarray) -> dict[str, dict[str, float]]:
    """CPU seconds per second of audio of each engine, in chunks of 80 ms, and their ratio to
    pymicro-wakeword's."""
    chunks = speech[: LIVE_SECONDS * SAMPLE_RATE].reshape(-1, CHUNK_SAMPLES)
    tasks = {name: partial(_feed_all, feed, chunks) for name, feed in engines.items()}
    seconds = time_in_turns(tasks, ROUNDS)
    return {
        name: {
            "cpu_seconds_per_second": _round(statistics.median(times) / LIVE_SECONDS),
            "ratio_to_micro_wake_word": _round(_median_ratio(times, seconds[PEER])),
        }
        for name, times in seconds.items()
    }


def _feed_all(feed: Callable[[Any], object], chunks: Iterable[Any]) -> None:
    for chunk in chunks:
        feed(chunk)


def _median_ratio(times: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def _round(value: float) -> float:
    """Three digits that count."""
    return float(f"{value:.3g}")


def measure_by_chunk(spotter: Spotter, onnx: Path, speech: np.ndarray) -> dict[str, dict]:
    """CPU seconds per second of speech by milliseconds of a chunk. ONNX Runtime takes whole frames
    alone."""
    samples = speech[: LIVE_SECONDS * SAMPLE_RATE]
    names = ("kws_events_only", "kernel", "onnxruntime", "micro_wake_word")
    engines = start_engines(spotter, onnx)
    figures: dict[str, dict] = {name: {} for name in names}
    for milliseconds in CHUNK_MILLISECONDS:
        chunk_samples = milliseconds * SAMPLE_RATE // 1000
        chunks = samples.reshape(-1, chunk_samples)
        fitting = [
            name
            for name in names
            if name != "onnxruntime" or chunk_samples % spotter.info.frame_samples == 0
        ]
        tasks = {name: partial(_feed_all, engines[name], chunks) for name in fitting}
        for name, times in time_in_turns(tasks, FILE_ROUNDS).items():
            figures[name][milliseconds] = _round(statistics.median(times) / LIVE_SECONDS)
    return figures


def measure_by_streams(spotter: Spotter, speech: np.ndarray) -> dict[str, dict[int, float]]:
    """CPU seconds per second of a stream, by the number of streams, each fed 80 ms of speech at a
    time: in a pool, and one by one."""
    chunks = speech[: len(speech) // CHUNK_SAMPLES * CHUNK_SAMPLES].reshape(-1, CHUNK_SAMPLES)
    figures: dict[str, dict[int, float]] = {"pool": {}, "one_by_one": {}}
    for count in STREAMS:
        pool, streams = spotter.pool(), {}
        for number in range(count):
            pool.add(str(number))
            streams[str(number)] = spotter.stream(events_only=True)
        places = np.linspace(0, len(chunks), count, endpoint=False).astype(int)
        steps = [
            {
                name: chunks[(place + step) % len(chunks)]
                for name, place in zip(streams, places, strict=True)
            }
            for step in range(-(-STREAM_STEPS // count))
        ]
        tasks = {
            "pool": partial(_feed_all, pool.feed, steps),
            "one_by_one": partial(_feed_streams, streams, steps),
        }
        seconds = len(steps) * count * CHUNK_SAMPLES / SAMPLE_RATE
        for name, times in time_in_turns(tasks, FILE_ROUNDS).items():
            figures[name][count] = _round(statistics.median(times) / seconds)
    return figures


def _feed_streams(streams: dict, steps: Iterable[dict[str, np.ndarray]]) -> None:
    for step in steps:
        for name, samples in step.items():
            streams[name].feed(samples)


def measure_files(spotter: Spotter, kinds: dict[str, np.ndarray], folder: Path) -> dict[str, dict]:
    """How many times faster than real time one thread scans an hour of WAV, the kernel alone the
    same samples, and the events."""
    block = round(BLOCK_SECONDS * SAMPLE_RATE)
    tasks: dict[str, Callable[[], object]] = {}
    for kind, speech in kinds.items():
        samples = np.resize(speech, FILE_SECONDS * SAMPLE_RATE)
        path = write_audio(folder / f"{kind}.wav", samples, FILE_SECONDS)
        tasks[kind] = partial(_detect, spotter, path)
        tasks[f"kernel {kind}"] = partial(
            _feed_all, start_kernel(spotter), samples.reshape(-1, block)
        )
    seconds = time_in_turns(tasks, FILE_ROUNDS)
    times_real_time = {
        name: round(FILE_SECONDS / statistics.median(times)) for name, times in seconds.items()
    }
    return {
        kind: {
            "times_real_time": times_real_time[kind],
            "kernel_times_real_time": times_real_time[f"kernel {kind}"],
            "events": _detect(spotter, folder / f"{kind}.wav"),
        }
        for kind in kinds
    }


def _detect(spotter: Spotter, path: Path) -> int:
    return len(list(spotter.detect(path)))


def measure_installation(folder: Path) -> dict[str, float]:
    """Size of kws without extras: in a new virtual environment, `folder/environment`, and as a
    wheel."""
    environment, wheels = folder / "environment", folder / "wheels"
    python = install([str(ROOT)], environment)
    command = [python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(wheels), str(ROOT)]
    subprocess.run(command, check=True)
    wheel_bytes = sum(path.stat().st_size for path in wheels.iterdir())
    # As `du -sh --apparent-size` has it: files, folders, links.
    size = subprocess.run(["du", "-sb", environment], check=True, capture_output=True, text=True)
    return {
        "installed_mb": round(int(size.stdout.split()[0]) / 1e6, 1),
        "wheel_mb": round(wheel_bytes / 1e6, 2),
    }


def measure_detect(command: list[str], speech: np.ndarray, folder: Path) -> dict[str, float]:
    """CPU time of a new process that scans ten seconds, and peak memory on these and on ten
    hours."""
    short = write_audio(folder / "short.wav", speech, 10)
    long = write_audio(folder / "long.wav", speech, MEMORY_HOURS * 3600)
    starts = [_launch(*command, "detect", str(short)) for _ in range(COLD_STARTS)]
    cpu_seconds = [start.cpu_seconds for start in starts]
    peak_bytes = statistics.median(start.peak_bytes for start in starts)
    return {
        "cold_cpu_seconds": round(statistics.median(cpu_seconds), 3),
        "cold_cpu_seconds_least": round(min(cpu_seconds), 3),
        "peak_memory_mb": round(peak_bytes / 1e6, 1),
        "hours": MEMORY_HOURS,
        "peak_memory_mb_on_hours": round(
            _launch(*command, "detect", str(long)).peak_bytes / 1e6, 1
        ),
    }


def _launch(*command: str) -> Launch:
    """What a command took, its children included."""
    launcher = [sys.executable, "-S", "-c", LAUNCHER, *command]
    environment = {name: os.environ[name] for name in os.environ if name != "OPENBLAS_NUM_THREADS"}
    output = subprocess.run(
        launcher, check=True, capture_output=True, text=True, env=environment
    ).stdout
    cpu_seconds, peak_bytes, status = output.split()
    assert status == "0", command
    return Launch(float(cpu_seconds), int(peak_bytes))


def write_audio(path: Path, samples: np.ndarray, seconds: int) -> Path:
    """Writes samples as 16-bit WAV, from the beginning again until it is so long."""
    left = seconds * SAMPLE_RATE
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        while left:
            file.write(samples[:left])
            left -= min(left, len(samples))
    return path


if __name__ == "__main__":
    main()
