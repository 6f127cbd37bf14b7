"""The calibration table: what each row promises, its intervals, and which rows there are not."""

from dataclasses import replace

import numpy as np
import pytest
from tracks import MACHINE, bursts, detect, make_track

from kws.runtime.model_file import ModelInfo
from kws.runtime.postprocess import Detection
from kws.terminal.describe import describe
from kws.training.evaluate.calibration import (
    THRESHOLDS,
    calibrate,
    default_threshold,
    highest_threshold_with_recall,
    is_rate_measurable,
    lowest_threshold_within,
)
from kws.training.evaluate.intervals import poisson, wilson
from kws.training.evaluate.scoring import (
    LOWEST_THRESHOLD,
    Candidate,
    ScoredRecording,
    ScoredWord,
)

HOURS = 4.0
NEGATIVES = make_track(bursts(40_000, 150, 7))
RECORDING = ScoredRecording(HOURS * 3600, tuple(detect(NEGATIVES, LOWEST_THRESHOLD)))


def make_word(track_seed: int) -> ScoredWord:
    events = detect(make_track(bursts(300, 3, track_seed)), 0.0)
    return ScoredWord(3.0, 3.6, tuple(Candidate(event, event.peak + 0.12) for event in events))


def make_words(*scores: float) -> list[ScoredWord]:
    events = [Detection("word", 3.0, 3.4, 3.4, score) for score in scores]
    return [ScoredWord(3.0, 3.4, (Candidate(event, 3.52),)) for event in events]


WORDS = [make_word(100 + seed) for seed in range(30)]


@pytest.fixture(scope="module")
def table() -> dict:
    return calibrate(("word",), MACHINE, [WORDS], [RECORDING])


def test_rows_hold_what_they_promise_by_the_post_processor(table):
    assert [row["false_alarms_per_hour"] for row in table["rows"]] == [0.5, 1.0, 2.0, 5.0, 10.0]
    for row in table["rows"]:
        allowed = row["false_alarms_per_hour"] * HOURS
        assert row["false_alarms"] == len(detect(NEGATIVES, row["threshold"])) <= allowed
        lower = [threshold for threshold in THRESHOLDS if threshold < row["threshold"]]
        assert len(detect(NEGATIVES, lower[-1])) > allowed
        missed = [word.match(row["threshold"]).hit is None for word in WORDS]
        assert row["miss_rate"] == pytest.approx(np.mean(missed), abs=1e-4)


def test_rows_have_intervals(table):
    assert (table["hours"], table["clips"], table["confidence"]) == (HOURS, [30], 0.95)
    for row in table["rows"]:
        assert row["false_alarms_interval"] == pytest.approx(
            poisson(row["false_alarms"], HOURS), abs=1e-4
        )
        missed = round(row["miss_rate"] * 30)
        assert row["miss_interval"] == pytest.approx(wilson(missed, 30), abs=1e-4)


def test_without_clips_of_the_word_the_misses_are_unknown():
    table = calibrate(("word",), MACHINE, [[]], [RECORDING])
    assert table["rows"]
    assert all("miss_rate" not in row and "miss_interval" not in row for row in table["rows"])


def test_a_rate_that_the_hours_cannot_show_has_no_row():
    table = calibrate(("word",), MACHINE, [[]], [ScoredRecording(900.0, ())])
    assert [row["false_alarms_per_hour"] for row in table["rows"]] == [5.0, 10.0]
    # No alarm in H hours: fewer than 3 / H per hour.
    assert table["rows"][0]["false_alarms_interval"] == pytest.approx([0, 3 / 0.25], abs=0.02)
    assert calibrate(("word",), MACHINE, [[]], [])["rows"] == []


@pytest.mark.parametrize(
    ("counts", "most", "expected"),
    [([9, 5, 2, 0], 2, 2), ([9, 5, 2, 0], 100, 0), ([9, 5, 2, 1], 0, None), ([0, 0, 0, 0], 0, 0)],
    ids=["first within", "all within", "none within", "no alarms"],
)
def test_lowest_threshold_within_the_rate(counts, most, expected):
    assert lowest_threshold_within(np.array(counts), most) == expected


@pytest.mark.parametrize(
    ("hours", "rate", "expected"),
    [(10, 0.1, True), (9.9, 0.1, False), (1.5, 1.0, True), (0, 1.0, False)],
)
def test_rates_that_hours_can_show(hours, rate, expected):
    assert is_rate_measurable(hours, rate) == expected


def test_default_threshold():
    rows = [
        {"word": "a", "false_alarms_per_hour": rate, "threshold": t}
        for rate, t in ((0.5, 0.95), (1.0, 0.8), (2.0, 0.6))
    ]
    assert default_threshold({"rows": rows}, "a", 0.9) == 0.8
    assert default_threshold({"rows": [{**row, "threshold": 0.3} for row in rows]}, "a", 0.9) == 0.5
    # Too few hours for one alarm per hour, but enough to know that 0.5 is too low.
    assert default_threshold({"rows": rows[2:]}, "a", 0.9) == 0.9
    assert default_threshold({"rows": rows[2:]}, "a", 0.5) == 0.6
    assert default_threshold({"rows": rows}, "b", 0.7) == 0.7


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.95] * 10, 0.93991),
        ([0.95] * 9 + [0.2], 0.93991),
        ([0.95] * 8 + [0.7, 0.2], 0.67918),
        ([0.95] * 5 + [0.2] * 5, 0.5),
        ([], 0.5),
    ],
    ids=["all", "all but one", "nine at a lower threshold", "at least one half", "no clips"],
)
def test_highest_threshold_with_recall(scores, expected):
    assert highest_threshold_with_recall(0.9, make_words(*scores)) == expected


@pytest.mark.parametrize("with_intervals", [True, False], ids=["new table", "old table"])
def test_tables_are_read_and_shown(table, tmp_path, with_intervals):
    path = tmp_path / "model.kws"
    path.touch()
    rows = (
        table["rows"]
        if with_intervals
        else [{k: v for k, v in row.items() if not k.endswith("interval")} for row in table["rows"]]
    )
    info = ModelInfo(
        path,
        {"words": ["word"], "events": {"threshold": [0.5]}, "calibration": {**table, "rows": rows}},
    )
    assert info.thresholds_for(1.0) == (table["rows"][1]["threshold"],)
    text = describe(info)
    assert "miss rate" in text
    assert ("miss interval" in text and " – " in text) == with_intervals


def test_words_have_their_own_rows():
    events = [replace(event, word="loud") for event in RECORDING.candidates]
    recording = ScoredRecording(HOURS * 3600, tuple(events))
    settings = replace(MACHINE, threshold=(0.5, 0.5))
    table = calibrate(("loud", "quiet"), settings, [[], []], [recording])
    thresholds = {
        word: {row["threshold"] for row in table["rows"] if row["word"] == word}
        for word in ("loud", "quiet")
    }
    assert thresholds["quiet"] == {THRESHOLDS[0]}
    assert min(thresholds["loud"]) > THRESHOLDS[0]
