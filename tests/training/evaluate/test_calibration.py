"""The table of thresholds: what each row promises, how sure it is, and what is not promised."""

from dataclasses import replace

import numpy as np
import pytest
from test_matching import MACHINE, make_scores

from kws.runtime.model_file import ModelInfo
from kws.runtime.postprocess import Scores
from kws.terminal.describe import describe
from kws.training.evaluate import scored_words
from kws.training.evaluate.calibration import (
    THRESHOLDS,
    build_table,
    default_threshold,
    highest_threshold_with_recall,
    is_rate_measurable,
    lowest_threshold_within,
)
from kws.training.evaluate.intervals import poisson, wilson
from kws.training.evaluate.matching import alarm_counts


def bursts(frames: int, count: int, seed: int) -> np.ndarray:
    """A score near nothing, with peaks of all heights now and then."""
    rng = np.random.default_rng(seed)
    pooled = np.full(frames, 0.01)
    for at in rng.integers(0, frames - 20, count):
        pooled[at : at + 20] = np.maximum(
            pooled[at : at + 20], rng.uniform(0.1, 1.0) * np.hanning(20)
        )
    return pooled


SILENCE = make_scores(bursts(40_000, 150, 7))


def calibrated(words: tuple[str, ...], spoken: list, silence: Scores, hours: float) -> dict:
    machine = replace(MACHINE, threshold=(0.5,) * len(words))
    return build_table(
        words,
        [alarm_counts(silence, i, THRESHOLDS, machine) for i in range(len(words))],
        hours,
        spoken,
        machine,
    )


def make_trials(count: int) -> list[scored_words.Trial]:
    return [
        scored_words.Trial(make_scores(bursts(300, 3, 100 + seed)), 3.0, 3.6)
        for seed in range(count)
    ]


@pytest.fixture(scope="module")
def made() -> dict:
    return calibrated(("word",), [make_trials(30)], SILENCE, 4.0)


def test_rows_keep_their_promise_by_the_event_machine(made):
    assert [row["false_alarms_per_hour"] for row in made["rows"]] == [0.5, 1.0, 2.0, 5.0, 10.0]
    for row in made["rows"]:
        at = MACHINE.at([row["threshold"]])
        assert (
            row["false_alarms"]
            == len(scored_words.events(SILENCE, ("word",), at))
            <= row["false_alarms_per_hour"] * 4
        )
        assert row["miss_rate"] == pytest.approx(
            scored_words.miss_rate(make_trials(30), 0, ("word",), at), abs=1e-4
        )
        lower = [t for t in THRESHOLDS if t < row["threshold"]]
        assert (
            len(scored_words.events(SILENCE, ("word",), MACHINE.at([lower[-1]])))
            > row["false_alarms_per_hour"] * 4
        )


def test_rows_say_how_sure_they_are(made):
    assert (made["hours"], made["clips"], made["confidence"]) == (4.0, [30], 0.95)
    for row in made["rows"]:
        assert row["false_alarms_interval"] == pytest.approx(
            poisson(row["false_alarms"], 4.0), abs=1e-4
        )
        assert row["miss_interval"] == pytest.approx(
            wilson(round(row["miss_rate"] * 30), 30), abs=1e-4
        )


def test_without_clips_of_the_word_nothing_is_said_of_misses():
    made = calibrated(("word",), [[]], SILENCE, 4.0)
    assert made["rows"]
    assert all("miss_rate" not in row and "miss_interval" not in row for row in made["rows"])


def test_what_the_hours_cannot_show_has_no_row():
    made = calibrated(("word",), [[]], make_scores(np.zeros(100)), 0.25)
    assert [row["false_alarms_per_hour"] for row in made["rows"]] == [5.0, 10.0]
    # None heard: < 3 / H.
    assert made["rows"][0]["false_alarms_interval"] == pytest.approx([0, 3 / 0.25], abs=0.02)
    assert calibrated(("word",), [[]], make_scores(np.zeros(0)), 0.0)["rows"] == []


@pytest.mark.parametrize(
    ("counts", "most", "expected"),
    [([9, 5, 2, 0], 2, 2), ([9, 5, 2, 0], 100, 0), ([9, 5, 2, 1], 0, None), ([0, 0, 0, 0], 0, 0)],
    ids=["first within", "all within", "none within", "silent"],
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
    assert default_threshold({"rows": rows[2:]}, "a", 0.9) == 0.9  # too little was heard,
    # But enough to know that at 0.5 it fires more than twice an hour.
    assert default_threshold({"rows": rows[2:]}, "a", 0.5) == 0.6
    assert default_threshold({"rows": rows}, "b", 0.7) == 0.7


@pytest.mark.parametrize(
    ("heights", "share", "expected"),
    [
        ([0.95] * 10, 0.9, 0.93991),
        ([0.95] * 9 + [0.2], 0.9, 0.93991),
        ([0.95] * 8 + [0.7, 0.2], 0.9, 0.67918),
        ([0.95] * 5 + [0.2] * 5, 0.9, 0.5),
        ([], 0.9, 0.5),
    ],
    ids=["all", "but one", "nine by a lower one", "never below one half", "no clips"],
)
def test_highest_threshold_that_finds_so_many(heights, share, expected):
    made = [
        scored_words.Trial(make_scores(np.where(np.arange(300) // 20 == 8, height, 0.01)), 3.0, 3.4)
        for height in heights
    ]
    assert highest_threshold_with_recall(share, made, 0, MACHINE) == expected


@pytest.mark.parametrize("with_intervals", [True, False], ids=["new table", "old table"])
def test_tables_are_read_and_shown(made, tmp_path, with_intervals):
    path = tmp_path / "model.onnx"
    path.touch()
    rows = (
        made["rows"]
        if with_intervals
        else [{k: v for k, v in row.items() if not k.endswith("interval")} for row in made["rows"]]
    )
    info = ModelInfo(
        path,
        {"words": ["word"], "events": {"threshold": [0.5]}, "calibration": {**made, "rows": rows}},
    )
    assert info.thresholds_for(1.0) == (made["rows"][1]["threshold"],)
    text = describe(info)
    assert "miss rate" in text
    assert ("miss interval" in text and " – " in text) == with_intervals


def test_words_have_their_own_rows():
    both = replace(
        SILENCE,
        pooled=np.hstack([SILENCE.pooled, 0 * SILENCE.pooled]),
        boundaries=SILENCE.boundaries.repeat(2, axis=1),
    )
    made = calibrated(("loud", "quiet"), [[], []], both, 4.0)
    assert {row["threshold"] for row in made["rows"] if row["word"] == "quiet"} == {THRESHOLDS[0]}
    assert min(row["threshold"] for row in made["rows"] if row["word"] == "loud") > THRESHOLDS[0]
