"""What was heard, counted: misses and false alarms of each word, with 95 % intervals, as one
plain dictionary.

Every share of misses says on how many streams and on how many different clips it rests. Its
interval counts clips: one clip in five noises is not five speakers. A rate of false alarms that the
hours cannot show is said to be unknown.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from kws.runtime.postprocess import Detection
from kws.runtime.spotter import Spotter
from kws.training.evaluate.calibration import lowest_within, supports
from kws.training.evaluate.intervals import poisson, wilson
from kws.training.evaluate.scoring import Heard, Listened

Key = TypeVar("Key", bound=Hashable)

RATES = (0.1, 0.5, 1.0)  # false alarms per hour
# Thresholds, even in log odds.
CURVE = tuple(float(f"{1 / (1 + np.exp(-x)):.5f}") for x in np.arange(-3.0, 9.01, 0.1))
POSITIONS = 5  # equal parts of a stream
WORST = 100  # misses and false alarms that are listed


@dataclass(frozen=True)
class Evidence:
    """All that was heard of a model: streams of each word (none where there are no clips), and
    recordings without the words."""

    spotter: Spotter
    heard: tuple[list[Heard], ...]
    listened: list[Listened]
    stream_seconds: float

    @property
    def hours(self) -> float:
        return sum(each.seconds for each in self.listened) / 3600

    @property
    def stream_hours(self) -> float:
        return sum(map(len, self.heard)) * self.stream_seconds / 3600


def judge(evidence: Evidence) -> list[dict]:
    """One dictionary per word; its keys are an interface, docs/evaluation.md lists them."""
    return [_word(evidence, index) for index in evidence.spotter.events.targets]


def share_missed(heard: Sequence[Heard], missed: Sequence[bool]) -> dict:
    """How many of these streams were missed."""
    clips = len({each.clip.path for each in heard})
    rate = sum(missed) / len(heard) if heard else None
    interval = None if rate is None else [round(limit, 5) for limit in wilson(rate * clips, clips)]
    return {
        "streams": len(heard),
        "clips": clips,
        "missed": int(sum(missed)),
        "miss_rate": _rounded(rate),
        "miss_interval": interval,
    }


def alarm_rate(count: int, hours: float) -> dict:
    """So many false alarms in so many hours."""
    rate, interval = (
        (count / hours, [round(limit, 5) for limit in poisson(count, hours)])
        if hours
        else (None, None)
    )
    return {
        "false_alarms": count,
        "false_alarms_per_hour": _rounded(rate),
        "false_alarms_interval": interval,
    }


def _word(evidence: Evidence, index: int) -> dict:
    heard, word = evidence.heard[index], evidence.spotter.words[index]
    missed = [each.event is None for each in heard]
    alarms = [
        (each, event) for each in evidence.listened for event in each.alarms if event.word == word
    ]
    counts = sum((each.counts[index] for each in evidence.listened), np.zeros(len(CURVE), int))
    own = _point(
        heard,
        missed,
        evidence.spotter.events.threshold[index],
        alarm_rate(len(alarms), evidence.hours),
    )
    return {
        "word": word,
        "clips": len({each.clip.path for each in heard}),
        "speakers": len({each.clip.speaker for each in heard}),
        "streams": len(heard),
        "points": [
            {"wanted": None, **own},
            *(_wanted(heard, counts, evidence.hours, rate) for rate in RATES),
        ],
        "by_position": _by_position(heard, missed, evidence.stream_seconds),
        "by_speaker": _by_speaker(heard, missed),
        **_timing(heard),
        "doubles": sum(each.doubles for each in heard),
        "false_alarms_in_streams": _in_streams(evidence, word),
        "curve": [_curve_point(heard, counts, at) for at in range(len(CURVE))],
        "worst_misses": [_miss(each) for each in worst_misses(heard)],
        "worst_false_alarms": [_alarm(*each) for each in worst_alarms(evidence, word)],
    }


def _point(heard: Sequence[Heard], missed: Sequence[bool], threshold: float, alarms: dict) -> dict:
    by_snr = _grouped(heard, missed, lambda each: each.stream.snr_db)
    rows = [
        {"snr_db": snr_db, **row}
        for snr_db, row in sorted(by_snr, key=lambda row: _noisiness(row[0]))
    ]
    return {"threshold": threshold, **alarms, **share_missed(heard, missed), "by_snr": rows}


def _wanted(heard: Sequence[Heard], counts: np.ndarray, hours: float, rate: float) -> dict:
    """The point at this many false alarms per hour, or why there is none."""
    if not supports(hours, rate):
        why = (
            f"{hours:.2f} h cannot show it; it takes {1 / rate:g} h"
            if hours
            else "nothing without the word was heard"
        )
        return {"wanted": rate, "unknown": why}
    at = lowest_within(counts, rate * hours)
    if at is None:
        return {"wanted": rate, "unknown": f"it fires more often than that even at {CURVE[-1]}"}
    missed = [each.best < CURVE[at] for each in heard]
    return {"wanted": rate, **_point(heard, missed, CURVE[at], alarm_rate(int(counts[at]), hours))}


def _grouped(
    heard: Sequence[Heard], missed: Sequence[bool], key: Callable[[Heard], Key]
) -> list[tuple[Key, dict]]:
    pairs: dict[Key, list[tuple[Heard, bool]]] = {}
    for each, flag in zip(heard, missed, strict=True):
        pairs.setdefault(key(each), []).append((each, flag))
    return [(name, share_missed(*zip(*group, strict=True))) for name, group in pairs.items()]


def _noisiness(snr_db: float | None) -> float:
    return -np.inf if snr_db is None else -snr_db


def _by_position(heard: Sequence[Heard], missed: Sequence[bool], seconds: float) -> list[dict]:
    width = seconds / POSITIONS
    rows = _grouped(heard, missed, lambda each: min(int(each.stream.start / width), POSITIONS - 1))
    return [
        {"from_seconds": round(part * width, 3), "to_seconds": round((part + 1) * width, 3), **row}
        for part, row in sorted(rows)
    ]


def _by_speaker(heard: Sequence[Heard], missed: Sequence[bool]) -> list[dict]:
    """Worst first."""
    rows = [
        {"speaker": name, **row}
        for name, row in _grouped(heard, missed, lambda each: each.clip.speaker)
    ]
    return sorted(rows, key=lambda row: (-row["miss_rate"], -row["streams"], row["speaker"]))


def _timing(heard: Sequence[Heard]) -> dict:
    """Of the words that were found: when that was known, and how far off the event's ends are."""
    found = [
        (each.stream, each.event, each.decided)
        for each in heard
        if each.event and each.decided is not None
    ]
    return {
        "decided_after_end_seconds": _spread(
            [decided - stream.end for stream, _, decided in found]
        ),
        "start_error_seconds": _spread([event.start - stream.start for stream, event, _ in found]),
        "end_error_seconds": _spread([event.end - stream.end for stream, event, _ in found]),
    }


def _spread(seconds: Sequence[float]) -> dict | None:
    """The middle, and what half and nearly all of them are within, regardless of sign."""
    if not seconds:
        return None
    size = np.abs(seconds)
    numbers = {
        "median": np.median(seconds),
        "median_size": np.median(size),
        "p95_size": np.percentile(size, 95),
    }
    return {name: round(float(value), 4) for name, value in numbers.items()}


def _in_streams(evidence: Evidence, word: str) -> dict:
    """Events of a word in streams, which are not the word's: beside its place, or where another
    word is said."""
    beside = [
        (evidence.spotter.words[index], event)
        for index, heard in enumerate(evidence.heard)
        for each in heard
        for event in each.alarms
        if event.word == word
    ]
    others = sum(said != word for said, _ in beside)
    return {
        "count": len(beside),
        "of_them_on_other_words": others,
        "hours": round(evidence.stream_hours, 4),
    }


def _curve_point(heard: Sequence[Heard], counts: np.ndarray, at: int) -> dict:
    missed = [each.best < CURVE[at] for each in heard]
    by_snr = sorted(
        _grouped(heard, missed, lambda each: each.stream.snr_db), key=lambda row: _noisiness(row[0])
    )
    rates = [{"snr_db": snr_db, "miss_rate": row["miss_rate"]} for snr_db, row in by_snr]
    rate = _rounded(sum(missed) / len(missed)) if missed else None
    return {
        "threshold": CURVE[at],
        "false_alarms": int(counts[at]),
        "miss_rate": rate,
        "by_snr": rates,
    }


def worst_misses(heard: Iterable[Heard]) -> list[Heard]:
    """Missed clips, each in the least noise in which it was missed: those first that were missed in
    less noise, by lower scores."""
    ordered = sorted(
        (each for each in heard if not each.event),
        key=lambda each: (_noisiness(each.stream.snr_db), each.best),
    )
    first: dict[Path, Heard] = {}
    for each in ordered:
        first.setdefault(each.clip.path, each)
    return list(first.values())[:WORST]


def worst_alarms(evidence: Evidence, word: str) -> list[tuple[Listened | Heard, Detection, bool]]:
    """False alarms, those in streams too, the highest scores first; after them (False) what came
    nearest to being one."""
    sources: list[Listened | Heard] = [
        *evidence.listened,
        *(each for streams in evidence.heard for each in streams),
    ]
    found = [(each, event, True) for each in sources for event in each.alarms if event.word == word]
    near = [
        (each, event, False)
        for each in evidence.listened
        for event in each.near
        if event.word == word
    ]
    return sorted([*found, *near], key=lambda item: (not item[2], -item[1].score))[:WORST]


def _miss(each: Heard) -> dict:
    stream = each.stream
    place = {"start": round(stream.start, 3), "end": round(stream.end, 3)}
    return {
        "file": str(each.clip.path),
        "snr_db": stream.snr_db,
        **place,
        "score": round(each.best, 4),
    }


def _alarm(each: Listened | Heard, event: Detection, fired: bool) -> dict:
    """`file` is the recording, or the clip in whose stream it was."""
    place = (
        {"file": str(each.clip.path), "snr_db": each.stream.snr_db}
        if isinstance(each, Heard)
        else {"file": str(each.path)}
    )
    return {
        **place,
        "in_stream": isinstance(each, Heard),
        "start": event.start,
        "end": event.end,
        "score": event.score,
        "fired": fired,
    }


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 5)
