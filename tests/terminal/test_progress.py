"""Progress bars: only at a terminal, only for work that takes a while."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr

import pytest

from kws.terminal import progress
from kws.terminal.progress import AudioProgress, above_bars, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_by(work: Callable[[], object]) -> str:
    """What a terminal shows while this runs."""
    with redirect_stderr(Terminal()) as terminal:
        work()
    return terminal.getvalue()


def count_audio(*durations: float | None) -> None:
    bar = AudioProgress(durations)
    bar.advance(2.0)
    bar.close()


@pytest.mark.parametrize(
    ("delay", "durations", "shown"),
    [
        (0.0, (4.0, 4.0), ("%", "of 8.00 s of audio")),
        (0.0, (4.0, None), ("0.00 s of audio",)),
        (60.0, (4.0, 4.0), ()),
    ],
    ids=["known length", "unknown length", "short work"],
)
def test_seconds_of_audio(
    monkeypatch: pytest.MonkeyPatch, delay: float, durations: tuple, shown: tuple
) -> None:
    monkeypatch.setattr(progress, "_AUDIO_DELAY_SECONDS", delay)
    text = shown_by(lambda: count_audio(*durations))
    assert all(part in text for part in shown) and bool(text) == bool(shown)
    assert ("%" in text) == ("%" in shown)


def test_without_a_terminal_nothing_is_shown_or_read(capsys: pytest.CaptureFixture) -> None:
    durations = iter([1.0])
    bar = AudioProgress(durations)
    bar.advance(1.0)
    bar.close()
    assert next(durations) == 1.0
    assert list(progress_bar(range(3), "counting", unit="step")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_output_appears_above_the_bar() -> None:
    def work() -> None:
        with progress_bar(None, "counting", unit="step", total=2, delay=0.0) as bar:
            bar.update()
            with above_bars():
                print("a line", file=sys.stderr)

    before, _, after = shown_by(work).partition("a line\n")
    assert "counting" in before and before.rpartition("\r")[2].strip() == ""
    assert "counting" in after


def test_titles_are_escaped() -> None:
    text = shown_by(lambda: list(progress_bar([1], "a\nb", unit="step", delay=0.0)))
    assert "a\\nb" in text
