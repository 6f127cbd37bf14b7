"""Which events are the word: matched to its place, at one threshold or at many at once.

An event is the word's when its peak lies from EARLY_SECONDS before to LATE_SECONDS after the end of
the word (`kws.training.evaluate.scored_words`). The first such event is the hit; a further one is a double, and
what lies outside is a false alarm.

A curve needs the events at a hundred thresholds. They are found once, at the lowest; their scores
tell those at the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kws.runtime.postprocess import Detection, EventSettings, Scores
from kws.training.evaluate.scored_words import Trial, events, is_hit


@dataclass(frozen=True)
class Match:
    """The events of one word said once."""

    hit: int | None  # number of the event that is the word
    duplicates: tuple[int, ...]
    false_alarms: tuple[int, ...]


def match_events(events: Sequence[Detection], word_end: float) -> Match:
    """Sorts the events of a word (in their order) by where it ends, in seconds."""
    on_word_events = [i for i, event in enumerate(events) if is_hit(event.peak, word_end)]
    false_alarms = tuple(i for i in range(len(events)) if i not in on_word_events)
    return Match(
        on_word_events[0] if on_word_events else None, tuple(on_word_events[1:]), false_alarms
    )


def best_score(
    trial: Trial,
    word: int,
    settings: EventSettings,
    *,
    audio_seconds: float = np.inf,
) -> float:
    """The highest threshold at which word number `word` is found in its trial; 0 where at none.

    `audio_seconds`: where the audio ends, if silence was heard after it. As in `kws.runtime.spotter`, no
    event is later.
    """
    audio_end = round(audio_seconds, 3)
    detections = _word_events(trial.scores, word, 0.0, settings)
    on_word_events = [
        event.score for event in detections if is_hit(min(event.peak, audio_end), trial.end)
    ]
    return max(on_word_events, default=0.0)


def hits(
    trial: Trial,
    word: int,
    thresholds: Sequence[float],
    settings: EventSettings,
) -> np.ndarray:
    """Whether word number `word` is found in its trial, for each threshold [T]."""
    return np.asarray(thresholds) <= best_score(trial, word, settings)


def alarm_counts(
    scores: Scores,
    word: int,
    thresholds: Sequence[float],
    settings: EventSettings,
) -> np.ndarray:
    """Number of events of word number `word` at each threshold [T], in audio without the word."""
    detections = _word_events(scores, word, min(thresholds), settings)
    event_scores = np.array([event.score for event in detections])
    return (event_scores >= np.asarray(thresholds)[:, None]).sum(axis=1)


def _word_events(
    scores: Scores,
    word: int,
    threshold: float,
    settings: EventSettings,
) -> list[Detection]:
    """Events of word number `word` alone."""
    word_slice = slice(word, word + 1)
    rest = (each[:, word_slice] for each in (scores.pooled, scores.frames, scores.boundaries))
    track = Scores(scores.times, *rest)
    return events(track, ("",), replace(settings, threshold=(threshold,)))
