"""Plots of recordings."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kws.errors import MissingExtraError
from kws.runtime.postprocess import Detection, Scores
from kws.terminal.plot import plot

EVENT = Detection("yes", 0.5, 0.984, 1.02, 0.9312)


def scores(seconds: float, words: int) -> Scores:
    times = np.arange(0.02, seconds, 0.02)
    pooled = np.random.default_rng(0).random((len(times), words)).astype(np.float32)
    return Scores(times, pooled, pooled, np.zeros((len(times), words, 2), np.float32))


@pytest.mark.parametrize(
    ("seconds", "words", "events"),
    [
        (3.0, {"yes": 0.5}, [EVENT]),
        (2.0, {"yes": 0.5, "no": 0.9}, []),
        (0.001, {"yes": 0.5}, []),
    ],
    ids=["one event", "two words", "next to nothing"],
)
def test_a_plot_is_a_png(
    tmp_path: Path, seconds: float, words: dict[str, float], events: list[Detection]
) -> None:
    samples = np.random.default_rng(0).standard_normal(int(seconds * 16_000)).astype(np.float32)
    plot(tmp_path / "p.png", samples, scores(seconds, len(words)), events, words)
    head = (tmp_path / "p.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", head[16:]) == (1560, 858)


def test_a_plot_marks_its_events(tmp_path: Path) -> None:
    pictures = []
    for events in ([], [EVENT]):
        plot(tmp_path / "p.png", np.zeros(32_000, np.float32), scores(2.0, 1), events, {"yes": 0.5})
        pictures.append((tmp_path / "p.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_without_matplotlib_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[plot\]'"):
        plot(tmp_path / "p.png", np.zeros(16_000, np.float32), scores(1.0, 1), [], {"yes": 0.5})


def test_importing_the_plot_does_not_import_matplotlib() -> None:
    code = "import sys, kws.terminal.plot; sys.exit('matplotlib' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2]
        ).returncode
        == 0
    )
