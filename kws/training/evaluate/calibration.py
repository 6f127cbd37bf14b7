"""Calibration: a table of false alarms per hour, threshold and miss rate, measured on validation
audio.

Each row has 95 % intervals (`kws.training.evaluate.intervals`): `false_alarms_interval` per hour
and `miss_interval`. Rows measured without recordings of the word have no misses.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kws.runtime.postprocess import SCORE_DIGITS, EventSettings
from kws.training.data.clips import SPEECH
from kws.training.evaluate.hours import (
    group_by_kind,
    hours_by_kind,
    is_rate_measurable,
    lowest_measurable_rate,
)
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
CALIBRATION_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # per hour
DEFAULT_RATE = 0.5  # false alarms per hour at the default threshold of a model
_UNRECORDED_DEFAULT_RATE = 1.0  # of tables that do not tell theirs
_LOWEST_DEFAULT_THRESHOLD = 0.5
_MAX_TRUSTED_RATE = 1.0  # hours that show no lower one say too little to choose a threshold by


def threshold_steps(lowest_log_odds: float) -> tuple[float, ...]:
    """Thresholds in even steps of log odds, so that they are dense close to 1: no two scores there,
    of SCORE_DIGITS, lie between the same two. The last is 1."""
    log_odds = np.arange(lowest_log_odds, np.log(10.0**SCORE_DIGITS), 0.1)
    steps = (round(float(each), SCORE_DIGITS) for each in 1 / (1 + np.exp(-log_odds)))
    return tuple(dict.fromkeys([*steps, 1.0]))


THRESHOLDS = threshold_steps(-2.0)


def calibrate(
    words: Sequence[str],
    settings: EventSettings,
    scored_words: Sequence[Sequence[ScoredWord]],
    scored_recordings: Sequence[ScoredRecording],
    rate: float = DEFAULT_RATE,
) -> dict:
    """The calibration table of a model with these words and settings.

    scored_words: one list per word of the model; empty where nothing is known of its misses.
    scored_recordings: validation audio without the words. rate: false alarms per hour that the
    default threshold aims at. The table has a row for each word and each rate that so many hours
    can show, of CALIBRATION_RATES, `rate` and the lowest of all: the lowest threshold within that
    rate, in all the recordings and in running speech alone.
    """
    rows = [
        row
        for index in settings.targets
        for row in _rows(words[index], scored_words[index], scored_recordings, rate)
    ]
    return {
        "hours": round(total_hours(scored_recordings), 5),
        "hours_by_kind": hours_by_kind(scored_recordings),
        "target_false_alarms_per_hour": rate,
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


def default_threshold(calibration: Mapping, word: str, fallback: float) -> float:
    """The threshold at the rate that the calibration aims at, at least 0.5.

    If the calibration has too few hours for that: the threshold at the lowest rate that it has; if
    that is above one alarm per hour, `fallback` where it is higher.
    """
    target = calibration.get("target_false_alarms_per_hour", _UNRECORDED_DEFAULT_RATE)
    rows = sorted(
        (row["false_alarms_per_hour"], row["threshold"])
        for row in calibration["rows"]
        if row["word"] == word
    )
    within = [threshold for rate, threshold in rows if rate <= target]
    if within:
        return max(_LOWEST_DEFAULT_THRESHOLD, within[-1])
    if rows:
        lowest_rate, threshold = rows[0]
        trusted = lowest_rate <= _MAX_TRUSTED_RATE
        return max(_LOWEST_DEFAULT_THRESHOLD if trusted else fallback, threshold)
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
    return max([_LOWEST_DEFAULT_THRESHOLD, *np.array(THRESHOLDS)[recalls >= recall].tolist()])


def _rows(
    word: str,
    scored_words: Sequence[ScoredWord],
    scored_recordings: Sequence[ScoredRecording],
    target_rate: float,
) -> list[dict]:
    hours = total_hours(scored_recordings)
    alarms = count_alarms(scored_recordings, word, THRESHOLDS)
    speech = group_by_kind(scored_recordings).get(SPEECH, [])
    speech_alarms = count_alarms(speech, word, THRESHOLDS)
    counts = [(alarms, hours), (speech_alarms, total_hours(speech))]
    hits = count_hits(scored_words, THRESHOLDS)
    return [
        {
            "word": word,
            "false_alarms_per_hour": each_rate,
            "threshold": THRESHOLDS[at],
            "false_alarms": int(alarms[at]),
            "false_alarms_interval": _round_interval(poisson(int(alarms[at]), hours)),
            **_misses(len(scored_words) - int(hits[at]), len(scored_words)),
        }
        for each_rate in _measurable_rates(hours, target_rate)
        if (at := _lowest_threshold_at(each_rate, counts)) is not None
    ]


def _measurable_rates(hours: float, target_rate: float) -> list[float]:
    """The rates of a table of so many hours, the lowest first."""
    lowest = lowest_measurable_rate(hours)
    rates = {*CALIBRATION_RATES, target_rate}
    if lowest < max(rates):
        rates.add(lowest)
    return [rate for rate in sorted(rates) if is_rate_measurable(hours, rate)]


def _lowest_threshold_at(rate: float, counts: Sequence[tuple[np.ndarray, float]]) -> int | None:
    """Index of the lowest threshold within the rate in each of several sets of recordings that can
    show it; None if even the highest has more. counts: alarms [T] and hours of each set."""
    lowest = [
        lowest_threshold_within(alarms, rate * hours)
        for alarms, hours in counts
        if is_rate_measurable(hours, rate)
    ]
    return None if None in lowest else max(at for at in lowest if at is not None)


def _misses(missed: int, clips: int) -> dict:
    if not clips:
        return {}
    return {
        "miss_rate": round(missed / clips, 4),
        "miss_interval": _round_interval(wilson(missed, clips)),
    }


def _round_interval(interval: tuple[float, float]) -> list[float]:
    return [round(limit, 4) for limit in interval]
