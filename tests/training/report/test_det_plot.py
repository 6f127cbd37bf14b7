"""The DET plot: its scales, its points, and an SVG that fits into a page."""

from xml.etree import ElementTree

import numpy as np
import pytest

from kws.training.report.det_plot import draw_det_curve, draw_figure, make_curves

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


def make_word(hours: float, alarms: tuple[int, ...], *, streams: int = 20) -> dict:
    """The result of a word at two noise levels, with these false alarms at THRESHOLDS."""
    levels = [{"snr_db": None, "miss_rate": 0.1}, {"snr_db": 10.0, "miss_rate": 0.3}]
    own = {
        "threshold": 0.5,
        "false_alarms_per_hour": alarms[2] / hours,
        "by_snr": [{**level, "miss_interval": [0.05, 0.5]} for level in levels],
    }
    curve = [
        {"threshold": threshold, "false_alarms": count, "by_snr": levels}
        for threshold, count in zip(THRESHOLDS, alarms, strict=True)
    ]
    return {"word": "rise", "clips": 10, "streams": streams, "points": [own], "curve": curve}


@pytest.mark.parametrize("hours", [0.005, 0.05, 0.5, 100.0])
@pytest.mark.parametrize("alarms", [(0, 0, 0, 0, 0), (1, 1, 1, 0, 0), (40, 20, 5, 1, 0)])
def test_false_alarm_rates_are_in_their_order_however_few_the_hours(hours, alarms):
    figure = draw_figure(make_curves(make_word(hours, alarms), hours), hours, clips=10)
    (axes,) = figure.axes
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks[0] == "none" and np.all(np.diff([float(tick) for tick in ticks[1:]]) > 0)
    assert np.all(np.diff(axes.get_xticks()) > 0)
    assert float(ticks[1]) <= 1 / hours
    for line in axes.get_lines():
        x, y = np.atleast_1d(line.get_xdata()), np.atleast_1d(line.get_ydata())
        assert np.all((x >= axes.get_xlim()[0]) & (x <= axes.get_xlim()[1]))
        assert np.all((y >= axes.get_ylim()[0]) & (y <= axes.get_ylim()[1]))


def test_a_curve_ends_at_the_first_threshold_without_false_alarms():
    clean, noisy = make_curves(make_word(1.0, (200, 20, 5, 0, 0)), 1.0)
    # More than 100 per hour are not drawn.
    assert [point.threshold for point in clean.points] == [0.3, 0.5, 0.7]
    assert [point.alarms_per_hour for point in clean.points] == [20, 5, 0]
    assert (clean.name, noisy.name) == ("clean", "10 dB")
    assert {point.miss_rate for point in noisy.points} == {0.3}


def test_each_point_has_a_tooltip():
    word = make_word(1.0, (40, 20, 5, 1, 0))
    root = ElementTree.fromstring(draw_det_curve(word, 1.0))
    hints = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(hints) == 2 * (5 + 1)
    assert hints[0] == "clean, threshold 0.100: 10.0 % missed, 40.00 false alarms per hour"


def test_the_picture_is_the_same_every_time():
    word = make_word(1.0, (40, 20, 5, 1, 0))
    assert draw_det_curve(word, 1.0) == draw_det_curve(word, 1.0)


def test_without_hours_or_streams_there_is_no_picture():
    assert draw_det_curve(make_word(1.0, (0,) * 5), 0.0) == ""
    assert draw_det_curve(make_word(1.0, (0,) * 5, streams=0), 1.0) == ""
