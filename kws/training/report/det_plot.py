"""The DET curve as SVG: misses against false alarms per hour, one line per level of noise, a mark
at the model's own threshold.

Misses in normal deviates, as usual for detectors (Martin et al., "The DET curve in assessment of
detection task performance", 1997), false alarms per hour in decades. Where no alarm was heard at
all, the rate is below what the hours can show: these points stand in a strip at the left.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
from scipy.stats import norm

from kws.training.report.text import format_snr

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 64, 14, 46
_STRIP = 56  # of points without any alarm
# From no noise to much.
_COLOURS = ("#3b6fb6", "#2a9d9d", "#58a55c", "#d39a1e", "#d1495b", "#8d5a97")
_MISS_TICKS = (
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.4,
    0.6,
    0.8,
    0.9,
    0.95,
    0.99,
)
_MOST_PER_HOUR = 100.0
_NAME_HEIGHT = 15


@dataclass(frozen=True)
class Point:
    """One threshold on a line; `alarms` per hour."""

    alarms: float
    missed: float
    threshold: float


@dataclass(frozen=True)
class Line:
    """The curve at one level of noise, and its point at the model's own threshold with the limits
    of its misses."""

    name: str
    colour: str
    points: list[Point]
    own: Point
    limits: tuple[float, float]


class Axes:
    """From rates to places in the picture. `hours` and `clips` limit what can be told apart
    from nothing."""

    def __init__(self, hours: float, clips: int, most_alarms: float, most_missed: float):
        # Few minutes can show tens of alarms per hour at best.
        lowest = float(np.floor(np.log10(1 / hours)))
        self._decades = (
            lowest,
            max(float(np.ceil(np.log10(max(most_alarms, 1.0)))), lowest + 1, 1.0),
        )
        self._misses = (
            min(max(0.5 / clips, _MISS_TICKS[0]), 0.02),
            min(max(most_missed * 1.2, 0.2), 0.99),
        )

    @property
    def decades(self) -> list[float]:
        return [
            10.0**exponent for exponent in range(int(self._decades[0]), int(self._decades[1]) + 1)
        ]

    @property
    def miss_ticks(self) -> list[float]:
        return [tick for tick in _MISS_TICKS if self._misses[0] <= tick <= self._misses[1]]

    def x(self, alarms: float) -> float:
        low, high = self._decades
        if alarms <= 0:
            return _LEFT + _STRIP / 2
        return (
            _LEFT
            + _STRIP
            + (float(np.log10(alarms)) - low) / (high - low) * (_WIDTH - _LEFT - _STRIP - _RIGHT)
        )

    def y(self, missed: float) -> float:
        low, high = norm.ppf(self._misses)
        return (
            _HEIGHT
            - _BOTTOM
            - (float(norm.ppf(np.clip(missed, *self._misses))) - low)
            / (high - low)
            * (_HEIGHT - _TOP - _BOTTOM)
        )


def draw_det_curve(word: dict, hours: float) -> str:
    """SVG of the curves of one word of a report; "" where there are no words or no hours
    to draw."""
    if not hours or not word["streams"]:
        return ""
    lines = _make_lines(word, hours)
    points = [point for line in lines for point in (*line.points, line.own)]
    axes = Axes(
        hours,
        word["clips"],
        max(point.alarms for point in points),
        max(point.missed for point in points),
    )
    elements = [
        *_draw_grid(axes),
        *(part for line in lines for part in _draw_curve(axes, line)),
        *_draw_labels(axes, lines),
    ]
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="DET '
        f'curve">{"".join(elements)}</svg>'
    )


def _make_lines(word: dict, hours: float) -> list[Line]:
    own = word["points"][0]
    # Below, the score never falls to the release.
    curve = word["curve"][int(np.argmax([row["false_alarms"] for row in word["curve"]])) :]
    curve = [row for row in curve if row["false_alarms"] <= _MOST_PER_HOUR * hours]
    silent = [i for i, row in enumerate(curve) if row["false_alarms"] == 0]
    curve = curve[: silent[0] + 1] if silent else curve  # higher thresholds only miss more
    return [
        Line(
            format_snr(row["snr_db"]),
            _COLOURS[i % len(_COLOURS)],
            [
                Point(
                    each["false_alarms"] / hours, each["by_snr"][i]["miss_rate"], each["threshold"]
                )
                for each in curve
            ],
            Point(own["false_alarms_per_hour"], row["miss_rate"], own["threshold"]),
            tuple(row["miss_interval"]),
        )
        for i, row in enumerate(own["by_snr"])
    ]


def _draw_grid(axes: Axes) -> Iterator[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    yield f'<rect x="{_LEFT}" y="{_TOP}" width="{_STRIP}" height="{bottom - _TOP}" class="strip"/>'
    yield _draw_text(_LEFT + _STRIP / 2, bottom + 17, "none", "middle")
    for alarms in axes.decades:
        x = axes.x(alarms)
        name = _draw_text(x, bottom + 17, f"{alarms:g}", "middle")
        yield f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" class="grid"/>{name}'
    for missed in axes.miss_ticks:
        y = axes.y(missed)
        name = _draw_text(_LEFT - 8, y + 4, f"{missed * 100:g} %", "end")
        yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="grid"/>{name}'
    yield _draw_text((_LEFT + _STRIP + right) / 2, _HEIGHT - 6, "false alarms per hour", "middle")
    yield (
        f'<text transform="translate(13 {(_TOP + bottom) / 2}) rotate(-90)" '
        'text-anchor="middle">words missed</text>'
    )


def _draw_curve(axes: Axes, line: Line) -> Iterator[str]:
    path = " ".join(
        f"{axes.x(point.alarms):.1f},{axes.y(point.missed):.1f}" for point in line.points
    )
    yield (
        f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="2" '
        'stroke-linejoin="round"/>'
    )
    x, y = axes.x(line.own.alarms), axes.y(line.own.missed)
    low, high = map(axes.y, line.limits)
    yield (
        f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{line.colour}" '
        'stroke-width="2" opacity="0.45"/>'
    )
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{line.colour}" class="mark"/>'
    for point in (*line.points, line.own):  # unseen, for the pointer to rest on
        hint = (
            f"{line.name}, threshold {point.threshold:.3f}: {point.missed:.1%} missed, "
            f"{point.alarms:.2f} false alarms per hour"
        )
        place = f'cx="{axes.x(point.alarms):.1f}" cy="{axes.y(point.missed):.1f}"'
        yield f'<circle {place} r="6" class="hint"><title>{escape(hint)}</title></circle>'


def _draw_labels(axes: Axes, lines: list[Line]) -> Iterator[str]:
    """At the right end of each line, moved apart where two would overlap."""
    ends = [
        (axes.y(end.missed), axes.x(end.alarms), line)
        for line in lines
        for end in [(line.points or [line.own])[0]]
    ]
    limit: float = _HEIGHT - _BOTTOM
    for y, x, line in sorted(ends, key=lambda end: -end[0]):
        limit = min(y, limit)
        yield _draw_text(
            x + 8, limit + 4, line.name, "start", f' class="name" style="fill:{line.colour}"'
        )
        limit -= _NAME_HEIGHT


def _draw_text(x: float, y: float, text: str, anchor: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>{escape(text)}</text>'
