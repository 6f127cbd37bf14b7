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
from kws.training.evaluate.calibration import is_rate_measurable, lowest_threshold_within
from kws.training.evaluate.intervals import poisson, wilson
from kws.training.evaluate.scoring import RecordingResult, StreamResult

Key = TypeVar("Key", bound=Hashable)

TARGET_RATES = (0.1, 0.5, 1.0)  # false alarms per hour
# Thresholds, even in log odds.
CURVE_THRESHOLDS = tuple(float(f"{1 / (1 + np.exp(-x)):.5f}") for x in np.arange(-3.0, 9.01, 0.1))
POSITION_BINS = 5  # equal parts of a stream
MAX_LISTED_ERRORS = 100  # misses and false alarms that are listed


@dataclass(frozen=True)
class EvaluationData:
    """All that was heard of a model: streams of each word (none where there are no clips), and
    recordings without the words."""

    spotter: Spotter
    stream_results: tuple[list[StreamResult], ...]
    recording_results: list[RecordingResult]
    stream_seconds: float

    @property
    def hours(self) -> float:
        return sum(each.seconds for each in self.recording_results) / 3600

    @property
    def stream_hours(self) -> float:
        return sum(map(len, self.stream_results)) * self.stream_seconds / 3600


def compute_metrics(evaluation_data: EvaluationData) -> list[dict]:
    """One dictionary per word; its keys are an interface, docs/evaluation.md lists them."""
    return [
        _word_metrics(evaluation_data, index) for index in evaluation_data.spotter.events.targets
    ]


def compute_miss_rate(stream_results: Sequence[StreamResult], missed: Sequence[bool]) -> dict:
    """How many of these streams were missed."""
    clips = len({each.clip.path for each in stream_results})
    rate = sum(missed) / len(stream_results) if stream_results else None
    interval = None if rate is None else [round(limit, 5) for limit in wilson(rate * clips, clips)]
    return {
        "streams": len(stream_results),
        "clips": clips,
        "missed": int(sum(missed)),
        "miss_rate": _round_rate(rate),
        "miss_interval": interval,
    }


def compute_alarm_rate(count: int, hours: float) -> dict:
    """So many false alarms in so many hours."""
    rate, interval = (
        (count / hours, [round(limit, 5) for limit in poisson(count, hours)])
        if hours
        else (None, None)
    )
    return {
        "false_alarms": count,
        "false_alarms_per_hour": _round_rate(rate),
        "false_alarms_interval": interval,
    }


def _word_metrics(evaluation_data: EvaluationData, index: int) -> dict:
    stream_results, word = (
        evaluation_data.stream_results[index],
        evaluation_data.spotter.words[index],
    )
    missed = [each.event is None for each in stream_results]
    alarms = [
        (each, event)
        for each in evaluation_data.recording_results
        for event in each.alarms
        if event.word == word
    ]
    counts = sum(
        (each.counts[index] for each in evaluation_data.recording_results),
        np.zeros(len(CURVE_THRESHOLDS), int),
    )
    own = _operating_point(
        stream_results,
        missed,
        evaluation_data.spotter.events.threshold[index],
        compute_alarm_rate(len(alarms), evaluation_data.hours),
    )
    return {
        "word": word,
        "clips": len({each.clip.path for each in stream_results}),
        "speakers": len({each.clip.speaker for each in stream_results}),
        "streams": len(stream_results),
        "points": [
            {"target_false_alarms_per_hour": None, **own},
            *(
                _operating_point_at(stream_results, counts, evaluation_data.hours, rate)
                for rate in TARGET_RATES
            ),
        ],
        "by_position": _by_position(stream_results, missed, evaluation_data.stream_seconds),
        "by_speaker": _by_speaker(stream_results, missed),
        **_timing(stream_results),
        "duplicates": sum(each.duplicates for each in stream_results),
        "false_alarms_in_streams": _count_stream_alarms(evaluation_data, word),
        "curve": [_curve_point(stream_results, counts, at) for at in range(len(CURVE_THRESHOLDS))],
        "worst_misses": [_describe_miss(each) for each in find_worst_misses(stream_results)],
        "worst_false_alarms": [
            _describe_alarm(*each) for each in find_worst_alarms(evaluation_data, word)
        ],
    }


def _operating_point(
    stream_results: Sequence[StreamResult], missed: Sequence[bool], threshold: float, alarms: dict
) -> dict:
    by_snr = _group_by(stream_results, missed, lambda each: each.stream.snr_db)
    rows = [
        {"snr_db": snr_db, **row}
        for snr_db, row in sorted(by_snr, key=lambda row: _noisiness(row[0]))
    ]
    return {
        "threshold": threshold,
        **alarms,
        **compute_miss_rate(stream_results, missed),
        "by_snr": rows,
    }


def _operating_point_at(
    stream_results: Sequence[StreamResult], counts: np.ndarray, hours: float, rate: float
) -> dict:
    """The point at this many false alarms per hour, or why there is none."""
    if not is_rate_measurable(hours, rate):
        reason = (
            f"{hours:.2f} h cannot show it; it takes {1 / rate:g} h"
            if hours
            else "nothing without the word was heard"
        )
        return {"target_false_alarms_per_hour": rate, "unknown": reason}
    at = lowest_threshold_within(counts, rate * hours)
    if at is None:
        return {
            "target_false_alarms_per_hour": rate,
            "unknown": f"it fires more often than that even at {CURVE_THRESHOLDS[-1]}",
        }
    missed = [each.best_threshold < CURVE_THRESHOLDS[at] for each in stream_results]
    return {
        "target_false_alarms_per_hour": rate,
        **_operating_point(
            stream_results, missed, CURVE_THRESHOLDS[at], compute_alarm_rate(int(counts[at]), hours)
        ),
    }


def _group_by(
    stream_results: Sequence[StreamResult],
    missed: Sequence[bool],
    key: Callable[[StreamResult], Key],
) -> list[tuple[Key, dict]]:
    pairs: dict[Key, list[tuple[StreamResult, bool]]] = {}
    for each, flag in zip(stream_results, missed, strict=True):
        pairs.setdefault(key(each), []).append((each, flag))
    return [(name, compute_miss_rate(*zip(*group, strict=True))) for name, group in pairs.items()]


def _noisiness(snr_db: float | None) -> float:
    return -np.inf if snr_db is None else -snr_db


def _by_position(
    stream_results: Sequence[StreamResult], missed: Sequence[bool], seconds: float
) -> list[dict]:
    width = seconds / POSITION_BINS
    rows = _group_by(
        stream_results, missed, lambda each: min(int(each.stream.start / width), POSITION_BINS - 1)
    )
    return [
        {"from_seconds": round(part * width, 3), "to_seconds": round((part + 1) * width, 3), **row}
        for part, row in sorted(rows)
    ]


def _by_speaker(stream_results: Sequence[StreamResult], missed: Sequence[bool]) -> list[dict]:
    """Worst first."""
    rows = [
        {"speaker": name, **row}
        for name, row in _group_by(stream_results, missed, lambda each: each.clip.speaker)
    ]
    return sorted(rows, key=lambda row: (-row["miss_rate"], -row["streams"], row["speaker"]))


def _timing(stream_results: Sequence[StreamResult]) -> dict:
    """Of the words that were found: when that was known, and how far off the event's ends are."""
    detections = [
        (each.stream, each.event, each.decision_seconds)
        for each in stream_results
        if each.event and each.decision_seconds is not None
    ]
    return {
        "latency_seconds": _summarize_errors(
            [decision_seconds - stream.end for stream, _, decision_seconds in detections]
        ),
        "start_error_seconds": _summarize_errors(
            [event.start - stream.start for stream, event, _ in detections]
        ),
        "end_error_seconds": _summarize_errors(
            [event.end - stream.end for stream, event, _ in detections]
        ),
    }


def _summarize_errors(seconds: Sequence[float]) -> dict | None:
    """The middle, and what half and nearly all of them are within, regardless of sign."""
    if not seconds:
        return None
    size = np.abs(seconds)
    numbers = {
        "median": np.median(seconds),
        "median_abs": np.median(size),
        "p95_abs": np.percentile(size, 95),
    }
    return {name: round(float(value), 4) for name, value in numbers.items()}


def _count_stream_alarms(evaluation_data: EvaluationData, word: str) -> dict:
    """Events of a word in streams, which are not the word's: beside its place, or where another
    word is said."""
    stray_alarms = [
        (evaluation_data.spotter.words[index], event)
        for index, stream_results in enumerate(evaluation_data.stream_results)
        for each in stream_results
        for event in each.alarms
        if event.word == word
    ]
    others = sum(spoken_word != word for spoken_word, _ in stray_alarms)
    return {
        "count": len(stray_alarms),
        "on_other_words": others,
        "hours": round(evaluation_data.stream_hours, 4),
    }


def _curve_point(stream_results: Sequence[StreamResult], counts: np.ndarray, at: int) -> dict:
    missed = [each.best_threshold < CURVE_THRESHOLDS[at] for each in stream_results]
    by_snr = sorted(
        _group_by(stream_results, missed, lambda each: each.stream.snr_db),
        key=lambda row: _noisiness(row[0]),
    )
    rates = [{"snr_db": snr_db, "miss_rate": row["miss_rate"]} for snr_db, row in by_snr]
    rate = _round_rate(sum(missed) / len(missed)) if missed else None
    return {
        "threshold": CURVE_THRESHOLDS[at],
        "false_alarms": int(counts[at]),
        "miss_rate": rate,
        "by_snr": rates,
    }


def find_worst_misses(stream_results: Iterable[StreamResult]) -> list[StreamResult]:
    """Missed clips, each in the least noise in which it was missed: those first that were missed in
    less noise, by lower scores."""
    ordered = sorted(
        (each for each in stream_results if not each.event),
        key=lambda each: (_noisiness(each.stream.snr_db), each.best_threshold),
    )
    first: dict[Path, StreamResult] = {}
    for each in ordered:
        first.setdefault(each.clip.path, each)
    return list(first.values())[:MAX_LISTED_ERRORS]


def find_worst_alarms(
    evaluation_data: EvaluationData, word: str
) -> list[tuple[RecordingResult | StreamResult, Detection, bool]]:
    """False alarms, those in streams too, the highest scores first; after them (False) what came
    nearest to being one."""
    sources: list[RecordingResult | StreamResult] = [
        *evaluation_data.recording_results,
        *(each for streams in evaluation_data.stream_results for each in streams),
    ]
    detections = [
        (each, event, True) for each in sources for event in each.alarms if event.word == word
    ]
    near_alarms = [
        (each, event, False)
        for each in evaluation_data.recording_results
        for event in each.near_alarms
        if event.word == word
    ]
    return sorted([*detections, *near_alarms], key=lambda item: (not item[2], -item[1].score))[
        :MAX_LISTED_ERRORS
    ]


def _describe_miss(each: StreamResult) -> dict:
    stream = each.stream
    place = {"start": round(stream.start, 3), "end": round(stream.end, 3)}
    return {
        "file": str(each.clip.path),
        "snr_db": stream.snr_db,
        **place,
        "score": round(each.best_threshold, 4),
    }


def _describe_alarm(each: RecordingResult | StreamResult, event: Detection, fired: bool) -> dict:
    """`file` is the recording, or the clip in whose stream it was."""
    place = (
        {"file": str(each.clip.path), "snr_db": each.stream.snr_db}
        if isinstance(each, StreamResult)
        else {"file": str(each.path)}
    )
    return {
        **place,
        "in_stream": isinstance(each, StreamResult),
        "start": event.start,
        "end": event.end,
        "score": event.score,
        "fired": fired,
    }


def _round_rate(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 5)
