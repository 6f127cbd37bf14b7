"""Thresholds that mean something: a table of false alarms per hour, threshold and miss rate, measured on validation audio."""

from collections.abc import Sequence

import numpy as np

from kws.engine import Engine
from kws.events import EventSettings, Scores
from kws.training.trials import Trial, at_threshold, events, miss_rate

RATES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
# Fine where it matters: between one half and nearly one, by the odds.
THRESHOLDS = tuple(float(f"{1 / (1 + np.exp(-x)):.5f}") for x in np.arange(-2.0, 8.01, 0.25))


def calibrate(engine: Engine, trials: Sequence[list[Trial]], silence: Scores, hours: float, settings: EventSettings) -> dict:
    """The calibration table of a model.

    trials: one list per word; silence: scores of `hours` of validation audio in which no word is said. For each word and each
    rate that so many hours can show (at least one alarm's worth), the lowest threshold that stays within the rate.
    """
    words = engine.info.words
    rows = []
    for index, word in enumerate(words):
        alarms = {t: _count(silence, word, words, at_threshold(settings, t)) for t in THRESHOLDS}
        for rate in RATES:
            fitting = [t for t in THRESHOLDS if alarms[t] <= rate * hours]
            if rate * hours < 1 or not fitting:
                continue
            missed = miss_rate(trials[index], index, words, at_threshold(settings, fitting[0]))
            rows.append(
                {
                    "word": word,
                    "false_alarms_per_hour": rate,
                    "threshold": fitting[0],
                    "false_alarms": alarms[fitting[0]],
                    "miss_rate": round(missed, 4),
                }
            )
    return {"hours": round(hours, 3), "clips": [len(each) for each in trials], "rows": rows}


def default_threshold(calibration: dict, word: str) -> float:
    """The threshold at about one false alarm per hour, never below one half; 0.9 where the calibration heard too little."""
    rows = [row for row in calibration["rows"] if row["word"] == word and row["false_alarms_per_hour"] <= 1.0]
    return max(0.5, rows[-1]["threshold"]) if rows else 0.9


def _count(scores: Scores, word: str, words: tuple[str, ...], settings: EventSettings) -> int:
    return sum(event.word == word for event in events(scores, words, settings))
