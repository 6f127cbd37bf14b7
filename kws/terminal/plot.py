"""A plot of one recording: waveform, log-mel spectrogram, and the score over time with the
events."""

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kws.audio.recordings import SAMPLE_RATE
from kws.errors import MissingExtraError, install_hint
from kws.files import write_atomically
from kws.runtime.postprocess import Detection, Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Hertz = TypeVar("_Hertz", float, np.ndarray)

_COLUMNS = 2_000  # of the plot; more would not be visible
_WINDOW_SAMPLES = 512
_MEL_BANDS = 64
_HERTZ_TICKS = (200, 500, 1000, 2000, 4000)
_INK, _GRID, _WAVE = "#2b303a", "#d9dce3", "#4c6a92"
_WORD_COLOURS = ("#d1495b", "#00798c", "#edae49", "#66a182", "#8d5a97")


def plot(
    path: Path,
    samples: np.ndarray,
    scores: Scores,
    events: Sequence[Detection],
    thresholds: dict[str, float],
) -> None:
    """Draws samples [n] (16 kHz mono), their `scores` and `events` to the PNG at `path`;
    `thresholds` gives the words in order.

    Raises MissingExtraError without matplotlib, KwsError when the file cannot be written.
    """
    figure, (wave, mel, score) = _panels()
    _draw_wave(wave, samples)
    _draw_mel(mel, samples)
    _draw_scores(score, scores, thresholds)
    colours = dict(zip(thresholds, _colours(len(thresholds)), strict=True))
    for event in events:
        _mark_event(event, colours[event.word], wave, mel, score)
    score.set_xlim(0, max(len(samples) / SAMPLE_RATE, 0.01))
    figure.align_ylabels()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=130)
    write_atomically(path, png.getvalue())


@contextmanager
def without_font_cache() -> Iterator[None]:
    """Around an import of matplotlib: keeps its font cache out of the home folder, unless
    $MPLCONFIGDIR chooses a folder."""
    if "MPLCONFIGDIR" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="kws-") as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]


def _panels() -> "tuple[Figure, Sequence[Axes]]":
    try:
        with without_font_cache():
            from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            f"plots need matplotlib, which is not installed. {install_hint('plot')}"
        ) from None
    figure = Figure(figsize=(12, 6.6), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True, height_ratios=[1.0, 1.7, 1.5])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_GRID)
        axes.tick_params(colors=_INK, labelsize=9, length=0)
    return figure, panels


def _colours(count: int) -> list[str]:
    return [_WORD_COLOURS[i % len(_WORD_COLOURS)] for i in range(count)]


def _draw_wave(axes: "Axes", samples: np.ndarray) -> None:
    bin_samples = max(1, len(samples) // _COLUMNS)
    bins = samples[: len(samples) // bin_samples * bin_samples].reshape(-1, bin_samples)
    times = (np.arange(len(bins)) + 0.5) * bin_samples / SAMPLE_RATE
    axes.fill_between(
        times, bins.min(axis=1), bins.max(axis=1), color=_WAVE, linewidth=0.4, edgecolor=_WAVE
    )
    peak = max(float(np.abs(samples).max(initial=0.0)), 1e-3)
    axes.set_ylim(-1.1 * peak, 1.1 * peak)
    axes.set_ylabel("waveform", color=_INK)


def _draw_mel(axes: "Axes", samples: np.ndarray) -> None:
    decibels = log_mel(samples)
    max_decibels = float(np.percentile(decibels, 99.8))
    extent = (0, len(samples) / SAMPLE_RATE, 0, _MEL_BANDS)
    axes.imshow(
        decibels.T,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap="magma",
        vmin=max_decibels - 65,
        vmax=max_decibels,
        interpolation="nearest",
    )
    axes.set_yticks(
        _mel(np.array(_HERTZ_TICKS)) / _mel(SAMPLE_RATE / 2) * _MEL_BANDS,
        [f"{hertz:,}" for hertz in _HERTZ_TICKS],
    )
    axes.set_ylabel("log-mel, Hz", color=_INK)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Band powers in dB [columns, bands] of samples [n] (16 kHz), one column per 10 ms, but at most
    about 2,000."""
    hop = max(160, len(samples) // _COLUMNS)
    padded = np.pad(samples, (_WINDOW_SAMPLES // 2, _WINDOW_SAMPLES))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[
        : max(len(samples), 1) : hop
    ]
    power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW_SAMPLES))) ** 2
    return 10 * np.log10(power @ _mel_bands() + 1e-9)


def _mel(hertz: _Hertz) -> _Hertz:
    return 2595 * np.log10(1 + hertz / 700)


def _mel_bands() -> np.ndarray:
    """Triangular filters [frequencies, bands], evenly spaced in mel."""
    position = (
        _mel(np.fft.rfftfreq(_WINDOW_SAMPLES, 1 / SAMPLE_RATE))
        / _mel(SAMPLE_RATE / 2)
        * (_MEL_BANDS + 1)
    )
    return np.clip(1 - np.abs(position[:, None] - np.arange(1, _MEL_BANDS + 1)), 0, None)


def _draw_scores(axes: "Axes", scores: Scores, thresholds: dict[str, float]) -> None:
    for column, (colour, (word, threshold)) in enumerate(
        zip(_colours(len(thresholds)), thresholds.items(), strict=True)
    ):
        pooled = scores.pooled[:, column]
        axes.fill_between(scores.times, 0, pooled, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            scores.times,
            pooled,
            color=colour,
            linewidth=1.6,
            label=f"{word}, threshold {threshold:.2f}",
        )
        axes.axhline(threshold, color=colour, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(axis="y", color=_GRID, linewidth=0.6)
    axes.set_ylabel("score", color=_INK)
    axes.set_xlabel("seconds", color=_INK)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=6,
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
        borderpad=0,
    )


def _mark_event(event: Detection, colour: str, wave: "Axes", mel: "Axes", score: "Axes") -> None:
    for axes in (wave, score):
        axes.axvspan(event.start, event.end, color=colour, alpha=0.15, linewidth=0)
    for edge in (event.start, event.end):
        # A tint would hide the speech.
        mel.axvline(edge, color="white", linewidth=1.0, alpha=0.9)
    wave.annotate(
        f"{event.word}  {event.score:.2f}",
        ((event.start + event.end) / 2, 1.02),
        xycoords=("data", "axes fraction"),
        color=colour,
        fontsize=10,
        fontweight="bold",
        ha="center",
        va="bottom",
    )
