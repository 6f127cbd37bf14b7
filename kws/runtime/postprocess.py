"""From scores to events: one state machine for files and live audio.

The level of a frame is the lowest score of the last `confirm_frames` frames: the highest threshold
at which a word would be confirmed there. An event is a peak of the level, and its score is the
height of the peak. A frame is a peak if

- the level is higher than in the `refractory_frames` before, and no lower than in the
  LOOKAHEAD_FRAMES after;
- the score has fallen below `release_ratio` of the level since the level was last as high: a long
  hump is one word;
- no peak of SAME_WORD_RATIO of its height lies within the refractory time before: such a peak has
  reported the word already, and this is the end of the word.

The threshold only selects peaks: the events at a threshold are those at a lower one whose score
reaches it. An event is known LOOKAHEAD_FRAMES after its peak. Time is counted in frames, and scores
are compared with the digits that are reported, so the same scores give the same events.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import NamedTuple

import numpy as np

UNREACHABLE_THRESHOLD = 1.1  # of a class that is no word, such as silence
LOOKAHEAD_FRAMES = 6  # 0.12 s; with the confirmation, 0.06 s, the latency stays below 0.2 s
SAME_WORD_RATIO = 0.8  # some words have a second, higher peak when silence follows
SCORE_DIGITS = 4  # scores are reported and compared with so many decimal digits


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
    """How scores become events. `threshold` has one value per word; `release_ratio`, at most 1, is
    a fraction of the next peak. The refractory time lasts at least LOOKAHEAD_FRAMES."""

    threshold: tuple[float, ...]
    release_ratio: float = 0.5
    confirm_frames: int = 3
    refractory_frames: int = 20

    @property
    def gates(self) -> tuple[float, ...]:
        """For each word the score below which frames change no event, whatever they are; infinity
        for a class that is no word.

        An event is at least as high as the threshold, and a peak that makes it a repetition is
        SAME_WORD_RATIO of it; whether that is a peak depends on scores below `release_ratio` of
        its own height.
        """
        ratio = SAME_WORD_RATIO * self.release_ratio
        rounding = 10**-SCORE_DIGITS
        return tuple(
            threshold * ratio - rounding if threshold < UNREACHABLE_THRESHOLD else np.inf
            for threshold in self.threshold
        )

    @property
    def targets(self) -> tuple[int, ...]:
        """Indices of the words that can be events: all but classes such as silence."""
        return tuple(
            i for i, threshold in enumerate(self.threshold) if threshold < UNREACHABLE_THRESHOLD
        )

    def at(self, thresholds: Sequence[float]) -> "EventSettings":
        """These settings with other thresholds; a class that is no word keeps its own."""
        pairs = zip(self.threshold, thresholds, strict=True)
        threshold = tuple(old if old >= UNREACHABLE_THRESHOLD else new for old, new in pairs)
        return replace(self, threshold=threshold)


@dataclass(frozen=True)
class Scores:
    """Scores of F frames for W words.

    times [F]: the end of the audio that each frame has seen, in seconds. pooled, frames [F, W]:
    probabilities. boundaries [F, W, 2]: seconds from the end of the frame back to the start and end
    of the word, if it were there.
    """

    times: np.ndarray
    pooled: np.ndarray
    frames: np.ndarray
    boundaries: np.ndarray


class DetectionPostprocessor:
    """Turns the scores of one stream into events. Frames may come in any portions."""

    def __init__(self, words: tuple[str, ...], settings: EventSettings, frame_seconds: float):
        pairs = zip(words, settings.threshold, strict=True)
        detectors = [_PeakDetector(*pair, settings, frame_seconds) for pair in pairs]
        self._detectors = [(i, detectors[i]) for i in settings.targets]

    def feed(self, pooled: np.ndarray, boundaries: np.ndarray) -> list[Detection]:
        """Events that these frames complete, in the order of the frames that completed them.

        pooled [F, W], boundaries [F, W, 2]: as in `Scores`, of the next F frames.
        """
        decisions = [
            decision
            for i, detector in self._detectors
            for decision in detector.feed(pooled[:, i].tolist(), boundaries, i)
        ]
        decisions.sort(key=attrgetter("frame"))
        return [decision.detection for decision in decisions]


class _Decision(NamedTuple):
    """A detection, and the number of the frame that completed it."""

    frame: int
    detection: Detection


class _Frame(NamedTuple):
    """Score and boundaries of one word in one frame; times in seconds since the beginning."""

    score: float
    time: float
    start: float
    end: float


class _Level(NamedTuple):
    """The level of a frame, and the lowest score since the level was last as high."""

    frame: int
    height: float
    lowest_since: float


class _LevelStack:
    """The levels that no later level has exceeded. They fall, so the digits of a score bound their
    number."""

    def __init__(self) -> None:
        self._levels: list[_Level] = []
        self._lowest = np.inf  # score since the latest of them

    def skip(self, score: float) -> None:
        """Takes a score whose level is too low to matter."""
        self._lowest = min(self._lowest, score)

    def add(self, frame: int, height: float) -> _Level | None:
        """Adds a level. Returns the latest level as high, with the lowest score since, or None."""
        lowest, self._lowest = self._lowest, np.inf
        while self._levels and self._levels[-1].height < height:
            lower = self._levels.pop()
            lowest = min(lowest, lower.lowest_since, lower.height)
        previous = None
        if self._levels:
            previous = self._levels[-1]._replace(lowest_since=lowest)
            if previous.height == height:  # from now on this frame stands for both
                lowest = min(lowest, self._levels.pop().lowest_since)
        self._levels.append(_Level(frame, height, lowest))
        return previous


class _Peak(NamedTuple):
    """A peak, and the frames that lead to it."""

    frame: int
    height: float
    rise: tuple[_Frame, ...]


class _PeakDetector:
    """The peaks of one word. Of frames below `_min_score` only the lowest score matters."""

    def __init__(self, word: str, threshold: float, settings: EventSettings, frame_seconds: float):
        self._word, self._threshold, self._settings = word, threshold, settings
        self._frame_seconds = frame_seconds
        self._min_distance_frames = max(settings.refractory_frames, LOOKAHEAD_FRAMES)
        self._min_score = threshold * min(settings.release_ratio, SAME_WORD_RATIO)
        self._frame = 0  # number of the latest frame
        # The latest frames since one below the minimum.
        self._recent_frames: deque[_Frame] = deque(
            maxlen=self._min_distance_frames + settings.confirm_frames
        )
        self._levels = _LevelStack()
        self._pending_peak: _Peak | None = None  # unless something higher follows
        self._last_peak: _Peak | None = None

    def feed(self, pooled: list[float], boundaries: np.ndarray, word: int) -> list[_Decision]:
        """pooled [F]: of this word; boundaries [F, W, 2]: of all words."""
        highest = round(max(pooled, default=-1.0), SCORE_DIGITS)
        if highest < self._min_score and not self._pending_peak:
            self._skip_frames(pooled)
            return []
        # A word cannot end after the audio that the frame has seen.
        rows = zip(pooled, boundaries[:, word].clip(min=0).tolist(), strict=True)
        decisions = []
        for score, (to_start, to_end) in rows:
            time = (self._frame + 1) * self._frame_seconds
            frame = _Frame(round(score, SCORE_DIGITS), time, time - to_start, time - to_end)
            detection = self._process_frame(frame)
            if detection:
                decisions.append(_Decision(self._frame, detection))
        return decisions

    def _skip_frames(self, pooled: list[float]) -> None:
        self._frame += len(pooled)
        if pooled:
            self._recent_frames.clear()
            self._levels.skip(round(min(pooled), SCORE_DIGITS))

    def _process_frame(self, frame: _Frame) -> Detection | None:
        self._frame += 1
        height = self._level(frame)
        detection = self._resolve_pending_peak(height)
        if height < self._min_score:
            self._levels.skip(frame.score)
        elif self._is_peak(height, self._levels.add(self._frame, height)):
            self._pending_peak = _Peak(self._frame, height, tuple(self._recent_frames))
        return detection

    def _level(self, frame: _Frame) -> float:
        """The lowest score of the last `confirm_frames` frames; -inf where one of them is below the
        minimum."""
        if not frame.score >= self._min_score:  # such as NaN, of weights that are too large
            self._recent_frames.clear()
            return -np.inf
        self._recent_frames.append(frame)
        count = self._settings.confirm_frames
        if len(self._recent_frames) < count:
            return -np.inf
        return min(self._recent_frames[-i].score for i in range(1, count + 1))

    def _is_peak(self, height: float, previous: _Level | None) -> bool:
        """Whether a frame is far enough from the latest level as high, and the score has fallen
        enough since."""
        if previous is None:
            return True
        is_released = previous.lowest_since < self._settings.release_ratio * height
        return is_released and self._frame - previous.frame > self._min_distance_frames

    def _resolve_pending_peak(self, height: float) -> Detection | None:
        """The detection of the pending peak, once nothing higher can follow in time."""
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
        """The word of a peak. Its start and end are means over the first frames of the rise, which
        estimate them best."""
        count = self._settings.confirm_frames
        released_score = self._settings.release_ratio * peak.height
        below = [i for i, frame in enumerate(peak.rise) if frame.score < released_score]
        onset = below[-1] + 1 if below else 0
        onset_frames = peak.rise[onset : onset + count]
        weights = [frame.score + 1e-9 for frame in onset_frames]
        start = max(np.average([frame.start for frame in onset_frames], weights=weights), 0.0)
        end = max(np.average([frame.end for frame in onset_frames], weights=weights), 0.0)
        highest = max(peak.rise[-count:], key=attrgetter("score", "time"))
        return Detection(
            word=self._word,
            start=round(float(min(start, end)), 3),  # the network estimates them separately
            end=round(float(end), 3),
            peak=round(float(highest.time), 3),
            score=peak.height,
        )
