"""Misses and false alarms of each word, with 95 % intervals, as one plain dictionary.

A miss rate says on how many streams and on how many different clips it rests. Its interval counts
clips, because one clip at five noise levels is not five speakers. A rate of false alarms that the
hours cannot show is unknown.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from kws.runtime.postprocess import Detection
from kws.runtime.spotter import Spotter
from kws.training.evaluate.calibration import lowest_threshold_within, threshold_steps
from kws.training.evaluate.hours import explain_too_few_hours, is_rate_measurable
from kws.training.evaluate.intervals import poisson, wilson
from kws.training.evaluate.scoring import (
    NEAR_FRACTION,
    ScoredRecording,
    StreamResult,
    count_alarms,
    total_hours,
)
from kws.training.evaluate.test_streams import EvaluationStreams

Key = TypeVar("Key", bound=Hashable)

TARGET_RATES = (0.1, 0.5, 1.0)  # false alarms per hour
CURVE_THRESHOLDS = threshold_steps(-3.0)
POSITION_BINS = 5  # equal parts of a stream
MAX_LISTED_ERRORS = 100  # misses, and as many false alarms
_NEAR_SECONDS = 1.0  # an event this close to a false alarm is the same one


@dataclass(frozen=True)
class EvaluationData:
    """All results of a model: the test streams of each word (none for a word without clips) with
    their results, and the recordings without the words."""

    spotter: Spotter
    streams: tuple[EvaluationStreams, ...]
    stream_results: tuple[list[StreamResult], ...]
    scored_recordings: list[ScoredRecording]

    @property
    def hours(self) -> float:
        return total_hours(self.scored_recordings)

    @property
    def stream_hours(self) -> float:
        return sum(len(each.all) * each.seconds for each in self.streams) / 3600

    def audio(self, result: StreamResult) -> np.ndarray:
        """The samples of a test stream."""
        return self.streams[self.spotter.words.index(result.word)].audio(result.stream)

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """The model's own threshold of each word."""
        return dict(zip(self.spotter.words, self.spotter.events.threshold, strict=True))


@dataclass(frozen=True)
class FalseAlarm:
    """A false alarm, in a recording or in a test stream. Without `fired` it only came near."""

    source: ScoredRecording | StreamResult
    event: Detection
    fired: bool

    @property
    def path(self) -> Path | None:
        """The recording, or the clip in the stream."""
        return self.source.clip.path if isinstance(self.source, StreamResult) else self.source.path


def compute_metrics(
    data: EvaluationData, target_rates: Sequence[float] = TARGET_RATES
) -> list[dict]:
    """One dictionary per word. Its keys are an interface, see docs/reference/evaluation-json.md.
    target_rates: false alarms per hour of its operating points, beside the model's own."""
    return [_word_metrics(data, index, target_rates) for index in data.spotter.events.targets]


def compute_miss_rate(stream_results: Sequence[StreamResult], missed: Sequence[bool]) -> dict:
    """The share of these streams that is missed, with its interval. missed: one flag per stream."""
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
    """`count` false alarms in `hours` as a rate with its interval."""
    rate = interval = None
    if hours:
        rate = count / hours
        interval = [round(limit, 5) for limit in poisson(count, hours)]
    return {
        "false_alarms": count,
        "false_alarms_per_hour": _round_rate(rate),
        "false_alarms_interval": interval,
    }


def find_worst_misses(stream_results: Iterable[StreamResult]) -> list[StreamResult]:
    """Missed clips, each at the lowest noise level at which it is missed: low noise first, then low
    scores."""
    ordered = sorted(
        (each for each in stream_results if each.missed),
        key=lambda each: (_noisiness(each.stream.snr_db), each.best_score),
    )
    first_of_clip: dict[Path, StreamResult] = {}
    for each in ordered:
        first_of_clip.setdefault(each.clip.path, each)
    return list(first_of_clip.values())[:MAX_LISTED_ERRORS]


def find_worst_alarms(data: EvaluationData, word: str) -> list[FalseAlarm]:
    """False alarms in recordings and streams, high scores first; then the events that came
    nearest to the threshold."""
    threshold = data.thresholds[word]
    alarms = [
        alarm
        for each in data.scored_recordings
        for alarm in _recording_alarms(each, word, threshold)
    ]
    alarms += [FalseAlarm(each, event, True) for each, event in _stream_alarms(data, word)]
    ordered = sorted(alarms, key=lambda each: (not each.fired, -each.event.score))
    return ordered[:MAX_LISTED_ERRORS]


def _word_metrics(data: EvaluationData, index: int, target_rates: Sequence[float]) -> dict:
    word, stream_results = data.spotter.words[index], data.stream_results[index]
    counts = count_alarms(data.scored_recordings, word, CURVE_THRESHOLDS)
    missed = [each.missed for each in stream_results]
    return {
        "word": word,
        "clips": len({each.clip.path for each in stream_results}),
        "speakers": len({each.clip.speaker for each in stream_results}),
        "streams": len(stream_results),
        "points": [
            _own_point(data, word, stream_results),
            *(_point_at(stream_results, counts, data.hours, rate) for rate in target_rates),
        ],
        "by_position": _by_position(stream_results, missed, data.streams[index].seconds),
        "by_speaker": _by_speaker(stream_results, missed),
        **_timing(stream_results),
        "duplicates": sum(len(each.match.duplicates) for each in stream_results),
        "false_alarms_in_streams": _count_stream_alarms(data, word),
        "curve": [_curve_point(stream_results, counts, at) for at in range(len(CURVE_THRESHOLDS))],
        "worst_misses": [_describe_miss(each) for each in find_worst_misses(stream_results)],
        "worst_false_alarms": [_describe_alarm(each) for each in find_worst_alarms(data, word)],
    }


def _own_point(data: EvaluationData, word: str, stream_results: Sequence[StreamResult]) -> dict:
    """The operating point at the model's own threshold."""
    threshold = data.thresholds[word]
    count = int(count_alarms(data.scored_recordings, word, [threshold])[0])
    return {
        "target_false_alarms_per_hour": None,
        **_operating_point(stream_results, threshold, compute_alarm_rate(count, data.hours)),
    }


def _point_at(
    stream_results: Sequence[StreamResult], counts: np.ndarray, hours: float, rate: float
) -> dict:
    """The operating point at this many false alarms per hour, or why there is none."""
    target = {"target_false_alarms_per_hour": rate}
    if not is_rate_measurable(hours, rate):
        return {**target, "unknown": explain_too_few_hours(hours)}
    at = lowest_threshold_within(counts, rate * hours)
    if at is None:
        highest = CURVE_THRESHOLDS[-1]
        return {**target, "unknown": f"even at {highest} there are more false alarms"}
    alarms = compute_alarm_rate(int(counts[at]), hours)
    return {**target, **_operating_point(stream_results, CURVE_THRESHOLDS[at], alarms)}


def _operating_point(
    stream_results: Sequence[StreamResult], threshold: float, alarms: dict
) -> dict:
    missed = _missed_at(stream_results, threshold)
    return {
        "threshold": threshold,
        **alarms,
        **compute_miss_rate(stream_results, missed),
        "by_snr": _by_snr(stream_results, missed),
    }


def _curve_point(stream_results: Sequence[StreamResult], counts: np.ndarray, at: int) -> dict:
    threshold = CURVE_THRESHOLDS[at]
    missed = _missed_at(stream_results, threshold)
    return {
        "threshold": threshold,
        "false_alarms": int(counts[at]),
        "miss_rate": _round_rate(sum(missed) / len(missed)) if missed else None,
        "by_snr": [
            {"snr_db": row["snr_db"], "miss_rate": row["miss_rate"]}
            for row in _by_snr(stream_results, missed)
        ],
    }


def _missed_at(stream_results: Sequence[StreamResult], threshold: float) -> list[bool]:
    return [each.best_score < threshold for each in stream_results]


def _by_snr(stream_results: Sequence[StreamResult], missed: Sequence[bool]) -> list[dict]:
    """The clean streams first, then rising noise."""
    rates = _miss_rates_by(stream_results, missed, lambda each: each.stream.snr_db)
    return [{"snr_db": snr_db, **rates[snr_db]} for snr_db in sorted(rates, key=_noisiness)]


def _by_position(
    stream_results: Sequence[StreamResult], missed: Sequence[bool], seconds: float
) -> list[dict]:
    width = seconds / POSITION_BINS
    rates = _miss_rates_by(
        stream_results, missed, lambda each: min(int(each.stream.start / width), POSITION_BINS - 1)
    )
    return [
        {
            "from_seconds": round(number * width, 3),
            "to_seconds": round((number + 1) * width, 3),
            **rates[number],
        }
        for number in sorted(rates)
    ]


def _by_speaker(stream_results: Sequence[StreamResult], missed: Sequence[bool]) -> list[dict]:
    """The worst speaker first."""
    rates = _miss_rates_by(stream_results, missed, lambda each: each.clip.speaker)
    rows = [{"speaker": name, **row} for name, row in rates.items()]
    return sorted(rows, key=lambda row: (-row["miss_rate"], -row["streams"], row["speaker"]))


def _miss_rates_by(
    stream_results: Sequence[StreamResult],
    missed: Sequence[bool],
    key: Callable[[StreamResult], Key],
) -> dict[Key, dict]:
    groups: dict[Key, list[int]] = {}
    for number, each in enumerate(stream_results):
        groups.setdefault(key(each), []).append(number)
    return {
        name: compute_miss_rate([stream_results[i] for i in group], [missed[i] for i in group])
        for name, group in groups.items()
    }


def _noisiness(snr_db: float | None) -> float:
    return -np.inf if snr_db is None else -snr_db


def _timing(stream_results: Sequence[StreamResult]) -> dict:
    """Latency and localisation of the words that are detected."""
    hits = [(each.stream, each.match.hit) for each in stream_results if each.match.hit]
    return {
        "latency_seconds": _summarize_errors(
            [hit.decision_seconds - stream.end for stream, hit in hits]
        ),
        "start_error_seconds": _summarize_errors(
            [hit.event.start - stream.start for stream, hit in hits]
        ),
        "end_error_seconds": _summarize_errors(
            [hit.event.end - stream.end for stream, hit in hits]
        ),
    }


def _summarize_errors(seconds: Sequence[float]) -> dict | None:
    """The median, and the median and 95th percentile of the absolute values."""
    if not seconds:
        return None
    sizes = np.abs(seconds)
    return {
        "median": round(float(np.median(seconds)), 4),
        "median_abs": round(float(np.median(sizes)), 4),
        "p95_abs": round(float(np.percentile(sizes, 95)), 4),
    }


def _stream_alarms(data: EvaluationData, word: str) -> list[tuple[StreamResult, Detection]]:
    """False alarms of a word in the test streams of all words."""
    return [
        (each, event)
        for stream_results in data.stream_results
        for each in stream_results
        for event in each.false_alarms
        if event.word == word
    ]


def _recording_alarms(scored: ScoredRecording, word: str, threshold: float) -> list[FalseAlarm]:
    """False alarms of a word in a recording, and the events that only came near."""
    events = [event for event in scored.candidates if event.word == word]
    fired = [event for event in events if event.score >= threshold]
    near = [
        event
        for event in events
        if NEAR_FRACTION * threshold <= event.score < threshold
        and not any(abs(event.peak - other.peak) < _NEAR_SECONDS for other in fired)
    ]
    return [FalseAlarm(scored, event, event in fired) for event in [*fired, *near]]


def _count_stream_alarms(data: EvaluationData, word: str) -> dict:
    alarms = _stream_alarms(data, word)
    return {
        "count": len(alarms),
        "on_other_words": sum(each.word != word for each, _ in alarms),
        "hours": round(data.stream_hours, 4),
    }


def _describe_miss(missed: StreamResult) -> dict:
    return {
        "file": str(missed.clip.path),
        "snr_db": missed.stream.snr_db,
        "start": round(missed.stream.start, 3),
        "end": round(missed.stream.end, 3),
        "score": round(missed.best_score, 4),
    }


def _describe_alarm(alarm: FalseAlarm) -> dict:
    """`snr_db` is there in a stream only."""
    source = alarm.source
    return {
        "file": str(alarm.path),
        **({"snr_db": source.stream.snr_db} if isinstance(source, StreamResult) else {}),
        "in_stream": isinstance(source, StreamResult),
        "start": alarm.event.start,
        "end": alarm.event.end,
        "score": alarm.event.score,
        "fired": alarm.fired,
    }


def _round_rate(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 5)
