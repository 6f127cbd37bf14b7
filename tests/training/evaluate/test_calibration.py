"""The calibration table: what each row promises, its intervals, and which rows there are not."""

from dataclasses import replace

import numpy as np
import pytest
from tracks import MACHINE, bursts, detect, make_track

from kws.runtime.model_file import ModelInfo
from kws.runtime.postprocess import Detection
from kws.terminal.describe import describe
from kws.training.data.clips import MUSIC, NOISE, SPEECH
from kws.training.evaluate.calibration import (
    THRESHOLDS,
    calibrate,
    default_threshold,
    highest_threshold_with_recall,
    lowest_threshold_within,
)
from kws.training.evaluate.hours import (
    describe_hours,
    explain_too_few_hours,
    hours_by_kind,
    is_rate_measurable,
    lowest_measurable_rate,
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
    rates = [row["false_alarms_per_hour"] for row in table["rows"]]
    assert rates == [0.25, 0.5, 1.0, 2.0, 5.0, 10.0]
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
    assert [row["false_alarms_per_hour"] for row in table["rows"]] == [4.0, 5.0, 10.0]
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


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (0.0, np.inf),
        (147 / 3600, 25),
        (0.51, 2.0),
        (1.469, 0.69),
        (2.1, 0.48),
        (9.9, 0.11),
        (10.0, 0.1),
        (17.0, 0.059),
        (100.0, 0.01),
    ],
)
def test_the_lowest_rate_that_hours_can_show(hours, expected):
    assert lowest_measurable_rate(hours) == expected
    if hours:
        assert is_rate_measurable(hours, expected)
        assert not is_rate_measurable(hours, 0.9 * expected)


def test_too_few_hours_are_explained_in_the_unit_they_are_told_in():
    assert explain_too_few_hours(2.1) == "2.10 h cannot show fewer than 0.48 per hour"
    assert explain_too_few_hours(147 / 3600) == "147 s cannot show fewer than 25 per hour"
    assert explain_too_few_hours(0.0) == "there is no audio without the word"


def make_recording(hours: float, alarms: int, kind: str = SPEECH) -> ScoredRecording:
    """A recording with events of different scores from 0.9 on."""
    events = [Detection("word", t, t, t, round(0.9 + t / 1e4, 4)) for t in range(alarms)]
    return ScoredRecording(3600 * hours, tuple(events), kind=kind)


def calibrate_on(*recordings: ScoredRecording, rate: float = 0.5) -> dict:
    return calibrate(("word",), MACHINE, [[]], recordings, rate)


def test_hours_by_kind():
    recordings = [make_recording(0.8, 0, MUSIC), make_recording(5.2, 0)]
    kinds = hours_by_kind([*recordings, *[ScoredRecording(1.0, ())] * 36])
    assert kinds == {"speech": 5.2, "short_clips": 0.01, "music": 0.8}
    assert describe_hours(kinds) == "5.20 h of speech, 36 s in clips below 2 s, 0.80 h of music"
    assert describe_hours({}) == "0 s"


def test_hours_of_noise_do_not_hide_the_alarms_in_speech():
    speech, noise = make_recording(4.0, 40), make_recording(16.0, 0, NOISE)
    alone, diluted = calibrate_on(speech), calibrate_on(speech, noise)
    thresholds, diluted_thresholds = (
        {row["false_alarms_per_hour"]: row["threshold"] for row in table["rows"]}
        for table in (alone, diluted)
    )
    for rate in (0.5, 1.0, 2.0, 5.0, 10.0):
        assert diluted_thresholds[rate] == thresholds[rate]
    assert diluted["rows"][0]["false_alarms_per_hour"] == 0.05  # 20 h, most of them noise
    assert diluted["hours_by_kind"] == {"speech": 4.0, "noise": 16.0}


def test_alarms_in_music_raise_the_threshold():
    speech, music = make_recording(4.0, 2), make_recording(1.0, 40, MUSIC)
    without, with_music = calibrate_on(speech), calibrate_on(speech, music)
    assert default_threshold(without, "word", 0.9) == 0.5
    assert default_threshold(with_music, "word", 0.9) > 0.9


@pytest.mark.parametrize("target", [0.3, 7.0, 30.0])
def test_the_rate_that_is_asked_for_has_a_row(target):
    table = calibrate_on(make_recording(4.0, 300), rate=target)
    (row,) = [row for row in table["rows"] if row["false_alarms_per_hour"] == target]
    assert row["false_alarms"] <= target * 4
    assert default_threshold(table, "word", 0.9) == max(0.5, row["threshold"])


def test_thresholds_tell_apart_all_scores_near_one():
    assert set(np.round(np.arange(0.9989, 1.00005, 1e-4), 4)) <= set(THRESHOLDS)


def test_default_threshold():
    rows = [
        {"word": "a", "false_alarms_per_hour": rate, "threshold": t}
        for rate, t in ((0.5, 0.95), (1.0, 0.8), (2.0, 0.6))
    ]
    table = {"rows": rows, "target_false_alarms_per_hour": 0.5}
    assert default_threshold(table, "a", 0.9) == 0.95
    assert default_threshold({**table, "target_false_alarms_per_hour": 1.5}, "a", 0.9) == 0.8
    assert default_threshold({"rows": rows}, "a", 0.9) == 0.8  # a table that tells no rate
    low = [{**row, "threshold": 0.3} for row in rows]
    assert default_threshold({**table, "rows": low}, "a", 0.9) == 0.5
    # Too few hours for one alarm in two hours, but enough for one in one.
    assert default_threshold({**table, "rows": rows[1:]}, "a", 0.9) == 0.8
    # Too few hours for one alarm per hour, but enough to know that 0.5 is too low.
    assert default_threshold({**table, "rows": rows[2:]}, "a", 0.9) == 0.9
    assert default_threshold({**table, "rows": rows[2:]}, "a", 0.5) == 0.6
    assert default_threshold(table, "b", 0.7) == 0.7


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.95] * 10, 0.9478),
        ([0.95] * 9 + [0.2], 0.9478),
        ([0.95] * 8 + [0.7, 0.2], 0.69),
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
    assert info.thresholds_for(1.0) == (table["rows"][2]["threshold"],)
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
