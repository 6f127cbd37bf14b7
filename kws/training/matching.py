"""Which events are the word: matched to its place, at one threshold or at many at once.

An event is the word's when its peak lies from EARLY_SECONDS before to LATE_SECONDS after the end of the word (`kws.training.trials`).
The first such event is the hit; a further one is a double, and what lies outside is a false alarm.

A curve needs the events at a hundred thresholds. The event machine looks at every frame; `report_frames` looks only where a
report is possible, and finds the same frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kws.events import Detection, EventSettings
from kws.training.trials import Trial, is_on_word


@dataclass(frozen=True)
class Match:
    """The events of one word said once."""

    hit: int | None  # number of the event that is the word
    doubles: tuple[int, ...]
    outside: tuple[int, ...]


def match(events: Sequence[Detection], word_end: float) -> Match:
    """Sorts the events of a word (in their order) by where it ends, in seconds."""
    on_word = [i for i, event in enumerate(events) if is_on_word(event.peak, word_end)]
    outside = tuple(i for i in range(len(events)) if i not in on_word)
    return Match(on_word[0] if on_word else None, tuple(on_word[1:]), outside)


def report_frames(pooled: np.ndarray, thresholds: Sequence[float], settings: EventSettings) -> list[np.ndarray]:
    """For each threshold, the numbers of the frames at which the event machine reports a word with the scores `pooled` [F]."""
    pooled = np.asarray(pooled, np.float64)  # a threshold must not be rounded to single precision
    lowest = held(pooled, settings.confirm_frames)
    highest = lowest.max(initial=-np.inf)
    nothing = np.zeros(0, int)
    return [_reports(pooled, lowest, each, settings) if each <= highest else nothing for each in thresholds]


def peak_seconds(times: np.ndarray, pooled: np.ndarray, frames: np.ndarray, settings: EventSettings) -> np.ndarray:
    """`Detection.peak` of the events reported at `frames`; times, pooled [F]. Of equal scores the last is the peak."""
    run = np.arange(settings.confirm_frames)
    scores = pooled[frames[:, None] - run]
    return times[frames - scores.argmax(axis=1)].round(3)


def hits(trial: Trial, word: int, thresholds: Sequence[float], settings: EventSettings, *, audio_seconds: float = np.inf) -> np.ndarray:
    """Whether word number `word` is found in its trial, for each threshold [T].

    `audio_seconds`: where the audio ends, if silence was heard after it; as in `kws.spotter`, no event is later.
    """
    pooled, times = trial.scores.pooled[:, word], trial.scores.times
    frames = report_frames(pooled, thresholds, settings)
    peaks = [np.minimum(peak_seconds(times, pooled, each, settings), round(audio_seconds, 3)) for each in frames]
    return np.array([bool(is_on_word(each, trial.end).any()) for each in peaks])


def alarm_counts(pooled: np.ndarray, thresholds: Sequence[float], settings: EventSettings) -> np.ndarray:
    """Number of events at each threshold [T], of the scores `pooled` [F] of audio without the word."""
    return np.array([len(frames) for frames in report_frames(pooled, thresholds, settings)])


def held(pooled: np.ndarray, length: int) -> np.ndarray:
    """The lowest score of the `length` frames that end at each frame [F]: a report there needs it at the threshold."""
    lowest = np.full(len(pooled), -np.inf)
    if len(pooled) >= length:
        lowest[length - 1 :] = np.lib.stride_tricks.sliding_window_view(pooled, length).min(axis=1)
    return lowest


def _reports(pooled: np.ndarray, lowest: np.ndarray, threshold: float, settings: EventSettings) -> np.ndarray:
    ready = np.flatnonzero(lowest >= threshold)
    low = np.append(np.flatnonzero(pooled < threshold * settings.release_ratio), len(pooled))
    reopening = low[np.searchsorted(low[:-1], ready + max(settings.refractory_frames, 1))]
    # After a report at each of these frames, which would be next? A run may begin with the frame that opens the machine.
    following = np.searchsorted(ready, reopening + settings.confirm_frames - 1).tolist()
    found, at = [], 0
    while at < len(ready):
        found.append(at)
        at = following[at]
    return ready[np.array(found, int)]
