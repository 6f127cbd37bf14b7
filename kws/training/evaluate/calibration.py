"""Calibration: a table of false alarms per hour, threshold and miss rate, measured on validation
audio.

Each row has 95 % intervals (`kws.training.evaluate.intervals`): `false_alarms_interval` per hour
and `miss_interval`. Rows measured without recordings of the word have no misses.
"""

from collections.abc import Sequence

import numpy as np

from kws.runtime.postprocess import EventSettings
from kws.training.evaluate.intervals import CONFIDENCE, poisson, wilson
from kws.training.evaluate.scoring import (
    ScoredRecording,
    ScoredWord,
    count_alarms,
    count_hits,
    total_hours,
)

# Used where too little audio was scored to choose a threshold.
DEFAULT_THRESHOLD, DEFAULT_THRESHOLD_WITH_VERIFIER = 0.9, 0.5
CALIBRATION_RATES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # false alarms per hour
# Even steps of log odds, so that they are dense close to 1.
THRESHOLDS = tuple(float(f"{1 / (1 + np.exp(-x)):.5f}") for x in np.arange(-2.0, 8.01, 0.25))


def calibrate(
    words: Sequence[str],
    settings: EventSettings,
    scored_words: Sequence[Sequence[ScoredWord]],
    scored_recordings: Sequence[ScoredRecording],
) -> dict:
    """The calibration table of a model with these words and settings.

    scored_words: one list per word of the model; empty where nothing is known of its misses.
    scored_recordings: validation audio without the words. The table has one row for each word and
    each rate in CALIBRATION_RATES that so many hours can show: the lowest threshold within that
    rate.
    """
    rows = [
        row
        for index in settings.targets
        for row in _rows(words[index], scored_words[index], scored_recordings)
    ]
    return {
        "hours": round(total_hours(scored_recordings), 3),
        "clips": [len(each) for each in scored_words],
        "confidence": CONFIDENCE,
        "rows": rows,
    }


def lowest_threshold_within(counts: np.ndarray, max_count: float) -> int | None:
    """Index of the lowest threshold with at most `max_count` alarms; None if even the highest
    threshold has more.

    counts [T]: alarms at each threshold. They never rise with the threshold.
    """
    candidates = np.flatnonzero(np.asarray(counts) <= max_count)
    return int(candidates[0]) if len(candidates) else None


def is_rate_measurable(hours: float, rate: float) -> bool:
    """Whether `hours` of audio are enough for `rate` alarms per hour: at least one is expected."""
    return rate * hours >= 1


def default_threshold(calibration: dict, word: str, fallback: float) -> float:
    """The threshold at about one false alarm per hour, at least 0.5.

    If the calibration has too few hours for that: `fallback`, or the threshold at the lowest rate
    it has, whichever is higher.
    """
    rows = sorted(
        (row["false_alarms_per_hour"], row["threshold"])
        for row in calibration["rows"]
        if row["word"] == word
    )
    within = [threshold for rate, threshold in rows if rate <= 1.0]
    if within:
        return max(0.5, within[-1])
    if rows:
        _, threshold = rows[0]
        return max(fallback, threshold)
    return fallback


def set_default_thresholds(
    settings: EventSettings, words: Sequence[str], calibration: dict, fallback: Sequence[float]
) -> EventSettings:
    """The settings with the default threshold of each word. fallback: one threshold per word."""
    return settings.at(
        [
            default_threshold(calibration, word, each)
            for word, each in zip(words, fallback, strict=True)
        ]
    )


def highest_threshold_with_recall(recall: float, scored_words: Sequence[ScoredWord]) -> float:
    """The highest threshold, at least 0.5, at which this share (0-1) of the words is detected."""
    recalls = count_hits(scored_words, THRESHOLDS) / max(len(scored_words), 1)
    return max([0.5, *np.array(THRESHOLDS)[recalls >= recall].tolist()])


def _rows(
    word: str, scored_words: Sequence[ScoredWord], scored_recordings: Sequence[ScoredRecording]
) -> list[dict]:
    hours = total_hours(scored_recordings)
    alarms = count_alarms(scored_recordings, word, THRESHOLDS)
    hits = count_hits(scored_words, THRESHOLDS)
    return [
        {
            "word": word,
            "false_alarms_per_hour": rate,
            "threshold": THRESHOLDS[at],
            "false_alarms": int(alarms[at]),
            "false_alarms_interval": _round_interval(poisson(int(alarms[at]), hours)),
            **_misses(len(scored_words) - int(hits[at]), len(scored_words)),
        }
        for rate, at in _measurable_rates(alarms, hours)
    ]


def _measurable_rates(alarms: np.ndarray, hours: float) -> list[tuple[float, int]]:
    """The rates that the hours can show, each with the index of its threshold."""
    thresholds = [
        (rate, lowest_threshold_within(alarms, rate * hours))
        for rate in CALIBRATION_RATES
        if is_rate_measurable(hours, rate)
    ]
    return [(rate, at) for rate, at in thresholds if at is not None]


def _misses(missed: int, clips: int) -> dict:
    if not clips:
        return {}
    return {
        "miss_rate": round(missed / clips, 4),
        "miss_interval": _round_interval(wilson(missed, clips)),
    }


def _round_interval(interval: tuple[float, float]) -> list[float]:
    return [round(limit, 4) for limit in interval]
