"""Real-time streams on one core: the share of the core that they take, and how late events come.

    python benchmarks/streams.py --speech FOLDER [--streams 500] [--seconds 30]

Each source delivers 80 ms of speech every 80 ms, at its own phase; the word is said in it once.
One source stalls for ten seconds and then delivers all of them at once, another one delivers a
second at a time. One thread of one core wakes every 20 ms and feeds the pool what was delivered
meanwhile. The clock alone decides when a source delivers, so a pool that is too slow shows as
delay. The events are compared with those of the same audio in one piece. Needs Linux.
"""

import argparse
import os
import sys
import time
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.report import ROOT, add_out_option, print_report
from benchmarks.speech import SAMPLE_RATE, SPEECH_HELP, SPEECH_SECONDS, read_speech, say_word
from kws import Spotter
from kws.runtime.stream import Pool, PoolDetection

WAKE_SECONDS = 0.02
BLOCK_SECONDS = 0.08
STALL_SECONDS, BURST_SECONDS = 10.0, 1.0
MILLISECONDS = 1e3


class Delivery(NamedTuple):
    """A source has all samples up to `end`, so many seconds after the start."""

    due: float
    source: str
    end: int


class Run(NamedTuple):
    """How a pool kept up: events, delay of each delivery, CPU and wall seconds."""

    events: list[PoolDetection]
    delays: np.ndarray
    cpu_seconds: float
    wall_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True, help=SPEECH_HELP)
    parser.add_argument("--model", default=str(ROOT / "models" / "welcome.kws"))
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30.0)
    add_out_option(parser)
    args = parser.parse_args()
    spotter, speech = Spotter.load(args.model), read_speech(args.speech, SPEECH_SECONDS)
    print_report(measure_real_time(spotter, speech, args.streams, args.seconds), args.out)


def measure_real_time(spotter: Spotter, speech: np.ndarray, streams: int, seconds: float) -> dict:
    """Share of a core, delays and lost events of so many real-time streams."""
    sources = make_sources(say_word(speech, spotter, seconds), streams, seconds)
    deliveries = schedule(sources, seconds)
    run = run_on_one_core(spotter.pool(), sources, deliveries)
    expected = {
        PoolDetection(name, event)
        for name, audio in sources.items()
        for event in spotter.detect(audio)
    }
    p50, p99, highest = np.percentile(run.delays, (50, 99, 100)) * MILLISECONDS
    return {
        "streams": streams,
        "seconds": round(run.wall_seconds, 1),
        "share_of_core": round(run.cpu_seconds / run.wall_seconds, 3),
        "delay_ms": {"p50": round(p50, 1), "p99": round(p99, 1), "max": round(highest, 1)},
        "events": len(run.events),
        "events_that_differ": len(expected.symmetric_difference(run.events)),
    }


def make_sources(speech: np.ndarray, streams: int, seconds: float) -> dict[str, np.ndarray]:
    """Audio of each source by its name: parts of the speech that begin at other places."""
    samples = round(seconds * SAMPLE_RATE)
    starts = np.linspace(0, len(speech) - samples, streams).astype(int)
    return {f"source {i}": speech[start : start + samples] for i, start in enumerate(starts)}


def schedule(sources: dict[str, np.ndarray], seconds: float) -> list[Delivery]:
    """What the sources deliver, in the order of time. The first one stalls, the second one
    delivers in bursts."""
    phases = np.random.default_rng(0).uniform(0, BLOCK_SECONDS, len(sources))
    deliveries = []
    for number, (name, phase) in enumerate(zip(sources, phases, strict=True)):
        times = np.arange(1, round(seconds / BLOCK_SECONDS) + 1) * BLOCK_SECONDS
        if number == 0:
            stall = (seconds - STALL_SECONDS) / 2
            times = times[(times < stall) | (times >= stall + STALL_SECONDS)]
        elif number == 1:
            times = np.arange(BURST_SECONDS, seconds + BURST_SECONDS / 2, BURST_SECONDS)
        for heard in times.tolist():
            deliveries.append(Delivery(phase + heard, name, round(heard * SAMPLE_RATE)))
    return sorted(deliveries, key=attrgetter("due"))


def run_on_one_core(pool: Pool, sources: dict[str, np.ndarray], deliveries: list[Delivery]) -> Run:
    """Feeds the deliveries to the pool as they come."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        return _run(pool, sources, deliveries)
    finally:
        os.sched_setaffinity(0, cores)


def _run(pool: Pool, sources: dict[str, np.ndarray], deliveries: list[Delivery]) -> Run:
    for source in sources:
        pool.add(source)
    due = np.array([delivery.due for delivery in deliveries])
    delays, events, done = np.zeros(len(due)), [], 0
    heard = dict.fromkeys(sources, 0)
    start, cpu_start = time.perf_counter(), time.process_time()
    while done < len(deliveries):
        time.sleep(WAKE_SECONDS - (time.perf_counter() - start) % WAKE_SECONDS)
        ready = int(np.searchsorted(due, time.perf_counter() - start, "right"))
        ends = {delivery.source: delivery.end for delivery in deliveries[done:ready]}
        events += pool.feed({name: sources[name][heard[name] : end] for name, end in ends.items()})
        heard |= ends
        delays[done:ready] = time.perf_counter() - start - due[done:ready]
        done = ready
    seconds = time.process_time() - cpu_start, time.perf_counter() - start
    for source in sources:
        events += pool.finish(source)
    return Run(events, delays, *seconds)


if __name__ == "__main__":
    main()
