"""A meter for live audio: one line on stderr, if that is a terminal."""

import sys

import numpy as np

from kws.audio.formats import to_float32
from kws.runtime.postprocess import EventSettings, Scores
from kws.terminal.stdio import escape_control_chars

_CELLS = 24
_REDRAWS_PER_SECOND = 15  # of audio
_LEVELS = " ▁▂▃▄▅▆▇█"
_LEVEL_RANGE_DB = 60.0
_CLEAR = "\r\x1b[K"


class Meter:
    """Shows time, loudness, and the score of the most likely word beside its threshold."""

    def __init__(self, words: tuple[str, ...], settings: EventSettings):
        self._words = words
        self._thresholds = settings.threshold
        self._targets = settings.targets
        self.is_visible = sys.stderr.isatty()
        self._next_seconds = 0.0

    def show(self, seconds: float, samples: np.ndarray, scores: Scores) -> None:
        """Draws the meter at `seconds` of the stream. samples [n]: the last block; scores: its
        scores."""
        if seconds < self._next_seconds or not len(scores.pooled):
            return
        self._next_seconds = seconds + 1 / _REDRAWS_PER_SECOND
        peaks = scores.pooled.max(axis=0)
        word = max(self._targets, key=lambda target: peaks[target])
        minutes, rest = divmod(seconds, 60)
        bar = _score_bar(float(peaks[word]), self._thresholds[word])
        text = (
            f"{minutes:3.0f}:{rest:04.1f}  {_level_bar(samples)}  "
            f"{escape_control_chars(self._words[word])} {bar} {peaks[word]:.2f}"
        )
        print(_CLEAR + text, end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.is_visible:
            print(_CLEAR, end="", file=sys.stderr, flush=True)


def _score_bar(score: float, threshold: float) -> str:
    """A bar filled up to `score`, with a mark at the threshold (both 0 to 1)."""
    filled = round(score * _CELLS)
    cells = ["█" if cell < filled else "░" for cell in range(_CELLS)]
    cells[min(int(threshold * _CELLS), _CELLS - 1)] = "│" if score < threshold else "┃"
    return "".join(cells)


def _level_bar(samples: np.ndarray) -> str:
    power = float(np.mean(to_float32(samples) ** 2)) if len(samples) else 0.0
    decibels = 10 * np.log10(power + 1e-12)
    level = np.clip(1 + decibels / _LEVEL_RANGE_DB, 0, 1) * (len(_LEVELS) - 1)
    return _LEVELS[round(float(level))]
