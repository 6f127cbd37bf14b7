"""What a person at a terminal sees besides results, all on stderr: a progress bar for files, a
meter for live audio.

Neither shows anything when stderr is not a terminal.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import numpy as np

from kws.runtime.postprocess import EventSettings, Scores
from kws.terminal.stdio import escape_control_chars

Item = TypeVar("Item")

_BAR_DELAY_SECONDS = 1.0  # work shorter than this needs no bar
_BAR_FORMAT = "{percentage:3.0f}% |{bar:30}| {n_fmt} of {total_fmt} s of audio, {remaining} left"
_COUNT_FORMAT = "{n_fmt} s of audio"
_METER_CELLS = 24
_METER_HERTZ = 15  # redraws per second of audio time are enough for the eye
_LEVELS = " ▁▂▃▄▅▆▇█"
_LEVEL_RANGE_DB = 60.0
_CLEAR = "\r\x1b[K"


@contextmanager
def above_bars() -> Iterator[None]:
    """Room for lines of output, where bars are drawn: they come again below."""
    if "tqdm" not in sys.modules:
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        yield


def print_message(text: str) -> None:
    """A line on stderr, above the bars; control characters of names are written out."""
    with above_bars(), suppress(OSError):  # where stderr is full or gone, the work goes on
        print(escape_control_chars(text), file=sys.stderr, flush=True)


def progress_bar(
    items: Iterable[Item], title: str, *, unit: str, total: int | None = None
) -> Iterable[Item]:
    """The items, with a bar on stderr if that is a terminal. total: how many they are, if known."""
    from tqdm import tqdm

    return tqdm(
        items,
        desc=escape_control_chars(title),
        total=total,
        unit=unit,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
        delay=0.5,
    )


class Progress:
    """Counts seconds of audio. `durations` are asked only if there is a bar to draw."""

    def __init__(self, durations: Iterable[float | None]):
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            lengths = list(durations)
            known = [seconds for seconds in lengths if seconds is not None]
            total = sum(known) if len(known) == len(lengths) else None
            bar_format = _COUNT_FORMAT if total is None else _BAR_FORMAT
            self._bar = tqdm(
                total=total,
                bar_format=bar_format,
                delay=_BAR_DELAY_SECONDS,
                unit_scale=True,
                file=sys.stderr,
                leave=False,
            )

    def advance(self, seconds: float) -> None:
        if self._bar is not None:
            self._bar.update(seconds)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Meter:
    """One line that shows time, loudness, and the score of the most likely word against
    its threshold."""

    def __init__(self, words: tuple[str, ...], settings: EventSettings):
        self._words = words
        self._thresholds = settings.threshold
        self._targets = settings.targets
        self._visible = sys.stderr.isatty()
        self._next_seconds = 0.0

    def show(self, seconds: float, samples: np.ndarray, scores: Scores) -> None:
        """Draws the state after `samples` [n] and the `scores` they made, at `seconds` of
        the stream."""
        if not self._visible or seconds < self._next_seconds or not len(scores.pooled):
            return
        self._next_seconds = seconds + 1 / _METER_HERTZ
        peaks = scores.pooled.max(axis=0)
        best_word = max(self._targets, key=lambda word: peaks[word])
        bar = score_bar(float(peaks[best_word]), self._thresholds[best_word])
        minutes, rest = divmod(seconds, 60)
        text = (
            f"{minutes:3.0f}:{rest:04.1f}  {_level_bar(samples)}  {escape_control_chars(self._words[best_word])} {bar} "
            f"{peaks[best_word]:.2f}"
        )
        print(_CLEAR + text, end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._visible:
            print(_CLEAR, end="", file=sys.stderr, flush=True)


def score_bar(score: float, threshold: float) -> str:
    """A bar of 24 cells, filled up to `score`, with a mark where the threshold is (both 0 to 1)."""
    filled = round(score * _METER_CELLS)
    cells = ["█" if cell < filled else "░" for cell in range(_METER_CELLS)]
    cells[min(int(threshold * _METER_CELLS), _METER_CELLS - 1)] = "│" if score < threshold else "┃"
    return "".join(cells)


def _level_bar(samples: np.ndarray) -> str:
    decibels = (
        10 * np.log10(float(np.mean(samples**2)) + 1e-12) if len(samples) else -_LEVEL_RANGE_DB
    )
    level_index = np.clip(1 + decibels / _LEVEL_RANGE_DB, 0, 1) * (len(_LEVELS) - 1)
    return _LEVELS[round(float(level_index))]
