"""Thresholds that mean something: a table of false alarms per hour, threshold and miss rate,
measured on validation audio.

Each row says how sure it is: `false_alarms_interval` (per hour) and `miss_interval` are 95 %
intervals, see `kws.training.evaluate.intervals`. Tables made before there were intervals lack them, and
those made without recordings of the word lack the misses.
"""

from collections.abc import Sequence

import numpy as np

from kws.runtime.engine import Engine
from kws.runtime.postprocess import EventSettings, Scores
from kws.training.evaluate.intervals import CONFIDENCE, poisson, wilson
from kws.training.evaluate.matching import alarm_counts, hits
from kws.training.evaluate.scored_words import Trial

# Thresholds where too little was heard to choose one: of a network alone, of one with a reader.
DEFAULT_THRESHOLD, DEFAULT_THRESHOLD_WITH_VERIFIER = 0.9, 0.5
CALIBRATION_RATES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
# Fine where it matters: between one half and nearly one, by the odds.
THRESHOLDS = tuple(float(f"{1 / (1 + np.exp(-x)):.5f}") for x in np.arange(-2.0, 8.01, 0.25))


def calibrate(
    engine: Engine,
    trials: Sequence[list[Trial]],
    negative_scores: Scores,
    hours: float,
    settings: EventSettings,
) -> dict:
    """The calibration table of a model.

    trials: one list per word; silence: scores of `hours` of validation audio in which no word is
    said. For each word and each rate that so many hours can show (at least one alarm's worth), the
    lowest threshold that stays within the rate.
    """
    counts = [
        alarm_counts(negative_scores, index, THRESHOLDS, settings)
        for index in range(len(engine.info.words))
    ]
    return build_table(engine.info.words, counts, hours, trials, settings)


def build_table(
    words: Sequence[str],
    counts: Sequence[np.ndarray],
    hours: float,
    trials: Sequence[list[Trial]],
    settings: EventSettings,
) -> dict:
    """As `calibrate`, from the number of false alarms of each word at each of THRESHOLDS."""
    rows = []
    for index in settings.targets:
        word = words[index]
        found = [hits(trial, index, THRESHOLDS, settings) for trial in trials[index]]
        rows += [
            {
                "word": word,
                "false_alarms_per_hour": rate,
                "threshold": THRESHOLDS[at],
                **_alarm_count(int(counts[index][at]), hours),
            }
            | _miss_rate([trial[at] for trial in found])
            for rate, at in _measurable_rates(counts[index], hours)
        ]
    return {
        "hours": round(hours, 3),
        "clips": [len(each) for each in trials],
        "confidence": CONFIDENCE,
        "rows": rows,
    }


def lowest_threshold_within(counts: np.ndarray, max_count: float) -> int | None:
    """Number of the lowest threshold with at most so many alarms; None where the highest has more.

    counts [T]: of alarms; they never rise with the threshold.
    """
    candidates = np.flatnonzero(np.asarray(counts) <= max_count)
    return int(candidates[0]) if len(candidates) else None


def is_rate_measurable(hours: float, rate: float) -> bool:
    """Whether so many hours can show so few alarms per hour: one alarm at least should be expected
    in them."""
    return rate * hours >= 1


def default_threshold(calibration: dict, word: str, fallback: float) -> float:
    """The threshold at about one false alarm per hour, never below one half.

    Where the calibration heard too little for that, `fallback`, or the one at the lowest rate that
    it could show, if that is higher.
    """
    rows = sorted(
        (row["false_alarms_per_hour"], row["threshold"])
        for row in calibration["rows"]
        if row["word"] == word
    )
    candidates = [threshold for rate, threshold in rows if rate <= 1.0]
    return (
        max(0.5, candidates[-1])
        if candidates
        else max([fallback, *(threshold for _, threshold in rows[:1])])
    )


def set_default_thresholds(
    settings: EventSettings, words: Sequence[str], calibration: dict, fallback: Sequence[float]
) -> EventSettings:
    """The settings at the default threshold of each word."""
    return settings.at(
        [
            default_threshold(calibration, word, each)
            for word, each in zip(words, fallback, strict=True)
        ]
    )


def highest_threshold_with_recall(
    share: float, trials: Sequence[Trial], word: int, settings: EventSettings
) -> float:
    """The highest threshold, but never below one half, at which so many of the trials of word
    number `word` are found."""
    found = (
        np.mean([hits(trial, word, THRESHOLDS, settings) for trial in trials], axis=0)
        if trials
        else np.zeros(len(THRESHOLDS))
    )
    return max(
        [
            0.5,
            *(threshold for threshold, hit in zip(THRESHOLDS, found, strict=True) if hit >= share),
        ]
    )


def _measurable_rates(counts: np.ndarray, hours: float) -> list[tuple[float, int]]:
    """The rates that the hours can show, each with the number of its threshold."""
    candidates = [
        (rate, lowest_threshold_within(counts, rate * hours))
        for rate in CALIBRATION_RATES
        if is_rate_measurable(hours, rate)
    ]
    return [(rate, at) for rate, at in candidates if at is not None]


def _alarm_count(count: int, hours: float) -> dict:
    return {"false_alarms": count, "false_alarms_interval": _round_interval(poisson(count, hours))}


def _miss_rate(found: Sequence[bool]) -> dict:
    if not len(found):
        return {}
    missed = len(found) - int(sum(found))
    return {
        "miss_rate": round(missed / len(found), 4),
        "miss_interval": _round_interval(wilson(missed, len(found))),
    }


def _round_interval(interval: tuple[float, float]) -> list[float]:
    return [round(limit, 4) for limit in interval]
