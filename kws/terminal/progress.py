"""Progress bars on stderr. Nothing is shown where stderr is not a terminal."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from kws.terminal.stdio import escape_control_chars

if TYPE_CHECKING:
    from tqdm import tqdm

Item = TypeVar("Item")

_DELAY_SECONDS = 0.5  # shorter work needs no bar
_AUDIO_DELAY_SECONDS = 1.0
_AUDIO_FORMAT = "{percentage:3.0f}% |{bar:30}| {n_fmt} of {total_fmt} s of audio, {remaining} left"
_AUDIO_FORMAT_WITHOUT_TOTAL = "{n_fmt} s of audio"


def progress_bar(
    items: Iterable[Item] | None,
    title: str,
    *,
    unit: str,
    total: int | float | None = None,
    visible: bool = True,
    **options: Any,
) -> "tqdm[Item]":
    """The items, with a bar while they are iterated; without items, a bar to `update`.

    total: number of units, if known. options: further options of tqdm.
    """
    from tqdm import tqdm

    settings = {"delay": _DELAY_SECONDS, "leave": False, "file": sys.stderr} | options
    hidden = not (visible and sys.stderr.isatty())
    title = escape_control_chars(title)
    return tqdm(items, desc=title, unit=unit, total=total, disable=hidden, **settings)


class AudioProgress:
    """A bar of seconds of audio. `durations` are read only if there is a bar to draw."""

    def __init__(self, durations: Iterable[float | None]):
        self._bar: tqdm | None = None
        if not sys.stderr.isatty():
            return
        lengths = list(durations)
        known = [seconds for seconds in lengths if seconds is not None]
        total = sum(known) if len(known) == len(lengths) else None
        self._bar = progress_bar(
            None,
            "",
            unit="s",
            total=total,
            bar_format=_AUDIO_FORMAT_WITHOUT_TOTAL if total is None else _AUDIO_FORMAT,
            unit_scale=True,
            delay=_AUDIO_DELAY_SECONDS,
        )

    def advance(self, seconds: float) -> None:
        if self._bar is not None:
            self._bar.update(seconds)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@contextmanager
def above_bars() -> Iterator[None]:
    """Around output: bars are erased before it and drawn again below it."""
    if "tqdm" not in sys.modules:
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        yield
