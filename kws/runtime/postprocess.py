"""From scores to events: one state machine, used by files and live audio alike.

The level of a frame is the lowest score of the last `confirm_frames` frames: the highest threshold
at which a word would be confirmed there. An event is a peak of the level, and its score is the
height of the peak. What is a peak depends on the scores alone. The level of a peak

- is higher than in the `refractory_frames` before it, and no lower than in the `LOOKAHEAD_FRAMES` after;
- is more than the score came down to since the level was last as high, by `release_ratio`: a long
  hump is one word;
- does not follow, within the refractory time, a peak of at least `SAME_WORD_RATIO` of its height: then
  the word is known already, and this is how it ends.

The threshold only chooses among the peaks: the events at one are those at any lower one whose score
reaches it. An event is known `LOOKAHEAD_FRAMES` after its peak. The machine counts frames, never a
clock, and compares scores in the digits that it tells: the same scores give the same events.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

UNREACHABLE_THRESHOLD = 1.1  # threshold of a class that is no word: no score reaches it
LOOKAHEAD_FRAMES = 6  # 0.12 s; with the confirmation, 0.06 s, it stays below 0.2 s
SAME_WORD_RATIO = (
    0.8  # of a peak's height: some words have a second, higher peak when silence follows
)
SCORE_DIGITS = 4  # of a score: what is compared with a threshold is what is told


@dataclass(frozen=True)
class Detection:
    """One spoken word. Times are seconds since the beginning of the stream."""

    word: str
    start: float  # where the word begins
    end: float  # where it ends
    peak: float  # time of the highest score
    score: float  # 0 to 1: the highest threshold at which this is an event


@dataclass(frozen=True)
class EventSettings:
    """How scores become events; `threshold` has one value per word."""

    threshold: tuple[float, ...]
    release_ratio: float = 0.5  # of the next peak, at most 1: the score must fall below it before
    confirm_frames: int = 3
    refractory_frames: int = 20  # at least WAIT_FRAMES are kept

    @property
    def targets(self) -> tuple[int, ...]:
        """Numbers of the words that can be events: all but the classes for what is none (unknown
        words, silence)."""
        return tuple(
            i for i, threshold in enumerate(self.threshold) if threshold < UNREACHABLE_THRESHOLD
        )

    def at(self, thresholds: Sequence[float]) -> "EventSettings":
        """These with other thresholds; what is never an event stays none."""
        return replace(
            self,
            threshold=tuple(
                old if old >= UNREACHABLE_THRESHOLD else new
                for old, new in zip(self.threshold, thresholds, strict=True)
            ),
        )


@dataclass(frozen=True)
class Scores:
    """Scores of F frames for W words. `times` [F]: the end, in seconds, of the audio each frame has
    seen; `pooled` [F, W] and `frames` [F, W]: probabilities; `boundaries` [F, W, 2]: seconds from that
    end back to the word's start and end, were it there."""

    times: np.ndarray
    pooled: np.ndarray
    frames: np.ndarray
    boundaries: np.ndarray


class DetectionPostprocessor:
    """Turns the score tracks of one stream into events; feed it frames in any portions."""

    def __init__(self, words: tuple[str, ...], settings: EventSettings):
        pairs = zip(words, settings.threshold, strict=True)
        trackers = [_PeakTracker(word, threshold, settings) for word, threshold in pairs]
        self._trackers = [(i, trackers[i]) for i in settings.targets]

    def feed(self, scores: Scores) -> list[Detection]:
        """Events that these frames complete, in the order in which they became known: the same for
        any portions."""
        detections = [pair for i, tracker in self._trackers for pair in tracker.feed(scores, i)]
        return [event for _, event in sorted(detections, key=lambda pair: pair[0])]


@dataclass(slots=True)
class _Frame:
    """The word as one frame hears it."""

    score: float
    time: float
    start: float
    end: float


@dataclass(slots=True)
class _Level:
    """The level of a frame, and the lowest score since the level was last as high."""

    frame: int
    height: float
    lowest: float


class _LevelStack:
    """The levels that none has exceeded since: falling, and so no more than a score has values."""

    def __init__(self) -> None:
        self._levels: list[_Level] = []
        self._lowest = np.inf  # score since the latest of them

    def skip(self, score: float) -> None:
        """Takes a score whose level is of no interest."""
        self._lowest = min(self._lowest, score)

    def add(self, frame: int, height: float) -> _Level | None:
        """Adds a level. Gives the latest one as high, with the lowest score since, or None."""
        lowest, self._lowest = self._lowest, np.inf
        while self._levels and self._levels[-1].height < height:
            popped = self._levels.pop()
            lowest = min(lowest, popped.lowest, popped.height)
        last = self._levels[-1] if self._levels else None
        previous_level = _Level(last.frame, last.height, lowest) if last else None
        if last and last.height == height:  # for what comes, this frame stands for both
            lowest = min(lowest, self._levels.pop().lowest)
        self._levels.append(_Level(frame, height, lowest))
        return previous_level


@dataclass(slots=True)
class _Peak:
    frame: int
    height: float
    rising_frames: list[_Frame]  # the frames that lead to it


class _PeakTracker:
    """The peaks of one word. Below `_min_score` nothing has a say but the lowest score."""

    def __init__(self, word: str, threshold: float, settings: EventSettings):
        self._word, self._threshold, self._settings = word, threshold, settings
        self._min_distance_frames = max(settings.refractory_frames, LOOKAHEAD_FRAMES)
        self._min_score = threshold * min(settings.release_ratio, SAME_WORD_RATIO)
        self._frame = 0  # number of the latest
        # The latest frames, back to one below the floor.
        self._recent_frames: deque[_Frame] = deque(
            maxlen=self._min_distance_frames + settings.confirm_frames
        )
        self._level_stack = _LevelStack()
        self._pending_peak: _Peak | None = None  # a peak, unless something higher follows
        self._last_peak: _Peak | None = None

    def feed(self, scores: Scores, column: int) -> list[tuple[int, Detection]]:
        """Events, each with the number of the frame that completed it."""
        pooled = scores.pooled[:, column]
        if (
            not self._pending_peak
            and round(float(pooled.max(initial=-1)), SCORE_DIGITS) < self._min_score
        ):
            self._skip_frames(pooled)
            return []
        # What a frame has not heard yet cannot be where its word ends.
        boundaries = scores.boundaries[:, column].clip(min=0)
        rows = zip(pooled.tolist(), scores.times.tolist(), boundaries.tolist(), strict=True)
        detections = []
        for score, time, (to_start, to_end) in rows:
            event = self._process_frame(
                _Frame(round(score, SCORE_DIGITS), time, time - to_start, time - to_end)
            )
            if event:
                detections.append((self._frame, event))
        return detections

    def _skip_frames(self, pooled: np.ndarray) -> None:
        self._frame += len(pooled)
        if len(pooled):
            self._recent_frames.clear()
            self._level_stack.skip(round(float(pooled.min()), SCORE_DIGITS))

    def _process_frame(self, frame: _Frame) -> Detection | None:
        self._frame += 1
        height = self._level(frame)
        event = self._resolve_pending_peak(height)
        if height < self._min_score:
            self._level_stack.skip(frame.score)
        elif self._is_peak(height, self._level_stack.add(self._frame, height)):
            self._pending_peak = _Peak(self._frame, height, list(self._recent_frames))
        return event

    def _level(self, frame: _Frame) -> float:
        """The lowest score of the latest frames; -inf where one of them is below the floor."""
        if frame.score < self._min_score:
            self._recent_frames.clear()
            return -np.inf
        self._recent_frames.append(frame)
        length = self._settings.confirm_frames
        if len(self._recent_frames) < length:
            return -np.inf
        return min(self._recent_frames[-i].score for i in range(1, length + 1))

    def _is_peak(self, height: float, previous_level: _Level | None) -> bool:
        """Whether the frame is far from the latest one as high, and the score fell enough since."""
        if previous_level is None:
            return True
        released = previous_level.lowest < self._settings.release_ratio * height
        return released and self._frame - previous_level.frame > self._min_distance_frames

    def _resolve_pending_peak(self, height: float) -> Detection | None:
        """The event that is known now: a peak that nothing has exceeded, of a word that is news."""
        peak = self._pending_peak
        if peak is None:
            return None
        if height > peak.height:
            self._pending_peak = None
            return None
        if self._frame < peak.frame + LOOKAHEAD_FRAMES:
            return None
        is_repeat = self._last_peak is not None and self._is_same_word(self._last_peak, peak)
        self._pending_peak, self._last_peak = None, peak
        return None if is_repeat or peak.height < self._threshold else self._make_detection(peak)

    def _is_same_word(self, earlier: _Peak, peak: _Peak) -> bool:
        is_near = peak.frame - earlier.frame <= self._min_distance_frames
        return is_near and earlier.height >= SAME_WORD_RATIO * peak.height

    def _make_detection(self, peak: _Peak) -> Detection:
        """The word of a peak. The first frames of the rise that leads there tell its place best."""
        length = self._settings.confirm_frames
        released = self._settings.release_ratio * peak.height
        first = max(
            (i + 1 for i, each in enumerate(peak.rising_frames) if each.score < released), default=0
        )
        onset_frames = peak.rising_frames[first : first + length]
        highest = max(peak.rising_frames[-length:], key=lambda each: (each.score, each.time))
        weights = [each.score + 1e-9 for each in onset_frames]
        start = max(np.average([each.start for each in onset_frames], weights=weights), 0.0)
        end = max(np.average([each.end for each in onset_frames], weights=weights), 0.0)
        start = min(start, end)  # the two are estimated apart from each other
        start, end, peak_time = (round(float(seconds), 3) for seconds in (start, end, highest.time))
        return Detection(self._word, start, end, peak_time, peak.height)
