"""The DET curve as SVG: misses against false alarms per hour, one line per noise level, with a mark
at the model's own threshold.

Misses have a normal deviate scale, as usual for detectors (Martin et al., "The DET curve in
assessment of detection task performance", 1997), false alarms per hour a logarithmic one. Points
without any false alarm stand in a strip at the left: their rate is below what the hours can show.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from scipy.stats import norm

from kws.terminal.plot import without_font_cache
from kws.training.report.text import format_snr

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Drawn with a light theme; the page replaces them by its own colours, also for a dark theme.
_PAGE_COLOURS = {
    "#667080": "var(--soft)",
    "#d9dce3": "var(--line)",
    "#f6f7f9": "var(--panel)",
    "#ffffff": "var(--ground)",
}
_SOFT, _LINE, _PANEL, _GROUND = _PAGE_COLOURS
_LINE_COLOURS = ("#3b6fb6", "#2a9d9d", "#58a55c", "#d39a1e", "#d1495b", "#8d5a97")
_MISS_TICKS = (
    np.array(
        [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 90, 95, 99]  # per cent
    )
    / 100
)
_MAX_ALARMS_PER_HOUR = 100.0
_HINTS = "hints"  # id of the group of points with a tooltip
_SVG = "http://www.w3.org/2000/svg"


@dataclass(frozen=True)
class Point:
    """One threshold of a curve."""

    alarms_per_hour: float
    miss_rate: float
    threshold: float


@dataclass(frozen=True)
class Curve:
    """The curve at one noise level, its point at the model's own threshold, and the 95 % interval
    of the miss rate there."""

    name: str
    points: list[Point]
    own: Point
    miss_interval: tuple[float, float]


def draw_det_curve(word: dict, hours: float) -> str:
    """SVG of the curves of one word of a report; "" without clips or hours."""
    if not hours or not word["streams"]:
        return ""
    with without_font_cache():
        import matplotlib
        import matplotlib.figure  # lists the fonts
    curves = make_curves(word, hours)
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": word["word"], "font.size": 9}
    ):
        figure = draw_figure(curves, hours, word["clips"])
        svg = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=no_metadata)
    return _finish_svg(svg.getvalue(), curves)


def make_curves(word: dict, hours: float) -> list[Curve]:
    """The curves of one word of a report, one per noise level."""
    rows = [row for row in word["curve"] if row["false_alarms"] <= _MAX_ALARMS_PER_HOUR * hours]
    quiet = [number for number, row in enumerate(rows) if row["false_alarms"] == 0]
    rows = rows[: quiet[0] + 1] if quiet else rows  # higher thresholds only miss more
    own = word["points"][0]
    return [
        Curve(
            format_snr(level["snr_db"]),
            [
                Point(
                    row["false_alarms"] / hours,
                    row["by_snr"][number]["miss_rate"],
                    row["threshold"],
                )
                for row in rows
            ],
            Point(own["false_alarms_per_hour"], level["miss_rate"], own["threshold"]),
            tuple(level["miss_interval"]),
        )
        for number, level in enumerate(own["by_snr"])
    ]


def draw_figure(curves: Sequence[Curve], hours: float, clips: int) -> "Figure":
    """The picture of the curves. hours, clips: what the rates rest on, which limits the axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.subplots()
    points = [point for curve in curves for point in (*curve.points, curve.own)]
    _set_up_misses(axes, clips, max(point.miss_rate for point in points))
    left = _set_up_alarms(axes, hours, max(point.alarms_per_hour for point in points))
    axes.grid(color=_LINE)
    axes.tick_params(length=0, labelcolor=_SOFT)
    axes.spines[:].set_visible(False)
    for number, curve in enumerate(curves):
        _draw_curve(axes, curve, _LINE_COLOURS[number % len(_LINE_COLOURS)], left)
    axes.scatter(
        [_alarm_position(point, left) for point in points],
        [_miss_position(point.miss_rate, axes) for point in points],
        alpha=0,
        gid=_HINTS,
        clip_on=False,
    )
    axes.legend(frameon=False, labelcolor=_SOFT, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _set_up_misses(axes: "Axes", clips: int, highest: float) -> None:
    low = min(max(0.5 / clips, _MISS_TICKS[0]), 0.02)
    high = min(max(1.2 * highest, 0.2), 0.99)
    ticks = [each for each in _MISS_TICKS if low <= each <= high]
    axes.set_yscale("function", functions=(lambda p: norm.ppf(np.clip(p, 1e-9, 1)), norm.cdf))
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [f"{100 * each:g} %" for each in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylabel("words missed", color=_SOFT)


def _set_up_alarms(axes: "Axes", hours: float, highest: float) -> float:
    """Returns the position of points without any false alarm."""
    low = int(np.floor(np.log10(1 / hours)))
    high = max(int(np.ceil(np.log10(max(highest, 1.0)))), low + 1, 1)
    left_edge, left = 10 ** (low - 0.5), 10 ** (low - 0.25)
    axes.set_xscale("log")
    axes.set_xlim(left_edge, 10.0**high)
    axes.axvspan(left_edge, 10.0**low, color=_PANEL, linewidth=0)
    decades = [10.0**exponent for exponent in range(low, high + 1)]
    axes.set_xticks([left, *decades], ["none", *(f"{each:g}" for each in decades)])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("false alarms per hour", color=_SOFT)
    return left


def _draw_curve(axes: "Axes", curve: Curve, colour: str, left: float) -> None:
    axes.plot(
        [_alarm_position(point, left) for point in curve.points],
        [_miss_position(point.miss_rate, axes) for point in curve.points],
        color=colour,
        label=curve.name,
        clip_on=False,
    )
    x = _alarm_position(curve.own, left)
    low, high = (_miss_position(limit, axes) for limit in curve.miss_interval)
    axes.vlines(x, low, high, color=colour, alpha=0.45)
    axes.plot(
        x,
        _miss_position(curve.own.miss_rate, axes),
        "o",
        color=colour,
        markeredgecolor=_GROUND,
        clip_on=False,
    )


def _alarm_position(point: Point, left: float) -> float:
    return point.alarms_per_hour or left


def _miss_position(miss_rate: float, axes: "Axes") -> float:
    """A miss rate of 0 or 1 is at the edge of the picture."""
    return float(np.clip(miss_rate, *axes.get_ylim()))


def _finish_svg(svg: str, curves: Sequence[Curve]) -> str:
    """The SVG without its XML head, with tooltips and the colours of the page."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(svg)
    for name in ("width", "height"):
        del root.attrib[name]
    root.attrib |= {"class": "chart", "role": "img", "aria-label": "DET curve"}
    marks = root.findall(f".//{{{_SVG}}}g[@id='{_HINTS}']//{{{_SVG}}}use")
    hints = [_hint(curve, point) for curve in curves for point in (*curve.points, curve.own)]
    for mark, hint in zip(marks, hints, strict=True):
        ElementTree.SubElement(mark, f"{{{_SVG}}}title").text = hint
    text = ElementTree.tostring(root, encoding="unicode")
    for colour, replacement in _PAGE_COLOURS.items():
        text = text.replace(colour, replacement)
    return text


def _hint(curve: Curve, point: Point) -> str:
    return (
        f"{curve.name}, threshold {point.threshold:.3f}: {100 * point.miss_rate:.1f} % missed, "
        f"{point.alarms_per_hour:.2f} false alarms per hour"
    )
