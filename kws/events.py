"""From scores to events: one state machine, used by files and live audio alike.

A word is reported once its pooled score has stayed at or above the threshold for `confirm_frames` frames. The machine then
stays closed until the score has fallen below `release` (hysteresis) and `refractory_frames` have passed since the report,
so that one spoken word is one event. The machine counts frames, never a clock: the same scores always give the same events.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

NEVER = 1.1  # threshold of a class that is no word: no score reaches it


@dataclass(frozen=True)
class Detection:
    """One spoken word. Times are seconds since the beginning of the stream."""

    word: str
    start: float  # where the word begins
    end: float  # where it ends
    peak: float  # time of the highest score; the event is known `confirm_frames` after the threshold is reached
    score: float  # highest pooled score up to the report, 0 to 1


@dataclass(frozen=True)
class EventSettings:
    """How scores become events; `threshold` has one value per word."""

    threshold: tuple[float, ...]
    release_ratio: float = 0.5  # the score must fall below threshold × ratio before the word can fire again
    confirm_frames: int = 3
    refractory_frames: int = 20

    @property
    def targets(self) -> tuple[int, ...]:
        """Numbers of the words that can be events: all but the classes for what is none (unknown words, silence)."""
        return tuple(i for i, threshold in enumerate(self.threshold) if threshold < NEVER)

    def at(self, thresholds: Sequence[float]) -> "EventSettings":
        """These with other thresholds; what is never an event stays none."""
        return replace(self, threshold=tuple(old if old >= NEVER else new for old, new in zip(self.threshold, thresholds, strict=True)))


@dataclass(frozen=True)
class Scores:
    """Scores of F frames for W words. `times` [F]: the end, in seconds, of the audio each frame has seen; `pooled` [F, W] and
    `frames` [F, W]: probabilities; `extents` [F, W, 2]: seconds from that end back to the word's start and end, were it there."""

    times: np.ndarray
    pooled: np.ndarray
    frames: np.ndarray
    extents: np.ndarray


class EventMachine:
    """Turns the score tracks of one stream into events; feed it frames in any portions."""

    def __init__(self, words: tuple[str, ...], settings: EventSettings):
        self._tracks = [_Track(word, threshold, settings) for word, threshold in zip(words, settings.threshold, strict=True)]

    def feed(self, scores: Scores) -> list[Detection]:
        """Events that these frames complete, in the order in which they became known: the same for any portions."""
        found = [pair for i, track in enumerate(self._tracks) for pair in track.feed(scores, i)]
        return [event for _, event in sorted(found, key=lambda pair: pair[0])]


@dataclass
class _Track:
    word: str
    threshold: float
    settings: EventSettings
    _open: bool = True  # ready for a new word
    _closed_frames: int = 0  # frames since the last report
    _run: list[tuple[float, float, float, float]] = field(default_factory=list)  # (score, time, start, end) above threshold

    def feed(self, scores: Scores, column: int) -> list[tuple[int, Detection]]:
        """Events, each with the number of the frame that completed it."""
        pooled = scores.pooled[:, column]
        if self._open and not self._run and not (pooled >= self.threshold).any():
            return []
        found = []
        extents = scores.extents[:, column].clip(min=0)  # what a frame has not heard yet cannot be where its word ends
        rows = zip(pooled.tolist(), scores.times.tolist(), extents.tolist(), strict=True)
        for frame, (score, time, (to_start, to_end)) in enumerate(rows):
            if not self._open:
                self._rest(score)
            if self._open and score >= self.threshold:
                self._run.append((score, time, time - to_start, time - to_end))
                if len(self._run) == self.settings.confirm_frames:
                    found.append((frame, self._report()))
            else:
                self._run.clear()
        return found

    def _rest(self, score: float) -> None:
        self._closed_frames += 1
        if score < self.threshold * self.settings.release_ratio and self._closed_frames >= self.settings.refractory_frames:
            self._open = True

    def _report(self) -> Detection:
        score, peak, *_ = max(self._run)
        start, end = (float(np.average([row[i] for row in self._run], weights=[row[0] + 1e-9 for row in self._run])) for i in (2, 3))
        start = min(start, end)  # the two are estimated apart from each other
        self._open, self._closed_frames = False, 0
        self._run.clear()
        return Detection(self.word, round(max(start, 0.0), 3), round(max(end, 0.0), 3), round(peak, 3), round(score, 4))
