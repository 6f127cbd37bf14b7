"""Metrics of test results that are made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import make_model, make_network
from sounds import make_dataset, tone

from kws import Spotter
from kws.runtime.postprocess import Detection, EventSettings
from kws.training.data.clips import Clip
from kws.training.evaluate.intervals import poisson, wilson
from kws.training.evaluate.metrics import (
    EvaluationData,
    compute_alarm_rate,
    compute_metrics,
    compute_miss_rate,
    find_worst_alarms,
    find_worst_misses,
)
from kws.training.evaluate.scoring import Candidate, Match, ScoredRecording, StreamResult
from kws.training.evaluate.test_streams import EvaluationStream, EvaluationStreams

SECONDS = 4.0
WORD = "word0"


@pytest.fixture(scope="module")
def spotter(tmp_path_factory) -> Spotter:
    """A model of one word with a threshold of one half."""
    path = make_model(tmp_path_factory.mktemp("model"), make_network())
    return Spotter(Spotter.load(path).engine, EventSettings((0.5,)))


def make_result(
    clip: int = 0,
    *,
    snr_db: float | None = None,
    start: float = 1.0,
    speaker: str = "",
    score: float = 0.9,
    false_alarms: tuple[Detection, ...] = (),
    duplicates: tuple[Detection, ...] = (),
) -> StreamResult:
    """A stream whose word reaches this score."""
    hit = None
    if score >= 0.5:
        event = Detection(WORD, start + 0.01, start + 0.48, start + 0.6, score)
        hit = Candidate(event, start + 0.62)
    return StreamResult(
        WORD,
        Clip(Path(f"{clip}.wav"), WORD, speaker or f"s{clip}"),
        EvaluationStream(clip, snr_db, start - 0.1, start, start + 0.5, (0, clip, 0)),
        Match(hit, duplicates, false_alarms),
        (),
        score,
    )


def make_event(score: float, start: float = 0.0) -> Detection:
    return Detection(WORD, start, start + 0.5, start + 0.6, score)


def make_recording(hours: float, *scores: float, name: str = "long.wav") -> ScoredRecording:
    """A recording with events of these scores, three seconds apart."""
    events = [make_event(score, 3.0 * number) for number, score in enumerate(scores)]
    return ScoredRecording(hours * 3600, tuple(events), Path(name))


def make_data(
    spotter: Spotter,
    results: list[StreamResult],
    recordings: list[ScoredRecording],
    *more_results: list[StreamResult],
) -> EvaluationData:
    """Results of one word, or of several."""
    all_results = (results, *more_results)
    streams = tuple(
        EvaluationStreams(
            make_dataset(*[tone(0.5)] * len(each)), [], snrs_db=[None], seconds=SECONDS, seed=0
        )
        for each in all_results
    )
    return EvaluationData(spotter, streams, all_results, recordings)


def compute(
    spotter: Spotter, results: list[StreamResult], recordings: list[ScoredRecording]
) -> dict:
    (word,) = compute_metrics(make_data(spotter, results, recordings))
    return word


def test_a_miss_rate_rests_on_clips_not_on_streams():
    results = [make_result(clip, snr_db=snr) for clip in range(10) for snr in (None, 10.0, 0.0)]
    row = compute_miss_rate(results, [each.stream.snr_db == 0.0 for each in results])
    assert (row["streams"], row["clips"], row["missed"]) == (30, 10, 10)
    assert row["miss_rate"] == pytest.approx(1 / 3, abs=1e-5)
    assert row["miss_interval"] == pytest.approx(wilson(10 / 3, 10), abs=1e-4)


def test_without_hours_there_is_no_rate():
    assert compute_alarm_rate(0, 0.0) == {
        "false_alarms": 0,
        "false_alarms_per_hour": None,
        "false_alarms_interval": None,
    }
    interval = compute_alarm_rate(3, 6.0)["false_alarms_interval"]
    assert interval == pytest.approx(poisson(3, 6.0), abs=1e-4)


def test_misses_by_noise_position_and_speaker(spotter):
    results = [
        make_result(0, snr_db=0.0, start=0.1, speaker="ann", score=0.1),
        make_result(0, snr_db=None, start=3.3, speaker="ann"),
        make_result(1, snr_db=0.0, start=1.0, speaker="ann"),
        make_result(1, snr_db=None, start=0.2, speaker="ann"),
        make_result(2, snr_db=0.0, start=3.9, speaker="bob"),
        make_result(2, snr_db=None, start=2.0, speaker="bob"),
    ]
    word = compute(spotter, results, [])
    assert (word["clips"], word["speakers"], word["streams"]) == (3, 2, 6)
    point = word["points"][0]
    assert [(row["snr_db"], row["missed"], row["streams"]) for row in point["by_snr"]] == [
        (None, 0, 3),
        (0.0, 1, 3),
    ]
    assert [
        (row["from_seconds"], row["missed"], row["streams"]) for row in word["by_position"]
    ] == [(0.0, 1, 2), (0.8, 0, 1), (1.6, 0, 1), (3.2, 0, 2)]
    assert [(row["speaker"], row["missed"], row["streams"]) for row in word["by_speaker"]] == [
        ("ann", 1, 4),
        ("bob", 0, 2),
    ]
    assert point["missed"] == sum(row["missed"] for row in word["by_position"]) == 1


def test_latency_and_localisation(spotter):
    word = compute(spotter, [*map(make_result, range(4)), make_result(9, score=0.1)], [])
    assert word["latency_seconds"]["median"] == pytest.approx(0.12)
    assert word["start_error_seconds"]["median"] == pytest.approx(0.01)
    assert word["end_error_seconds"] == pytest.approx(
        {"median": -0.02, "median_abs": 0.02, "p95_abs": 0.02}
    )
    assert compute(spotter, [make_result(score=0.1)], [])["start_error_seconds"] is None


def test_alarms_beside_words_are_counted_apart_from_the_hours(spotter):
    event = make_event(0.8)
    results = [make_result(0, false_alarms=(event,), duplicates=(event,)), make_result(1)]
    word = compute(spotter, results, [make_recording(2.0)])
    assert word["false_alarms_in_streams"] == {
        "count": 1,
        "on_other_words": 0,
        "hours": round(2 * SECONDS / 3600, 4),
    }
    point = word["points"][0]
    assert (point["false_alarms"], word["duplicates"], point["missed"]) == (0, 1, 0)
    assert point["false_alarms_interval"] == pytest.approx([0, 3.0 / 2.0], abs=0.01)


def test_alarms_on_other_words_are_named(tmp_path):
    engine = Spotter.load(make_model(tmp_path, make_network(2))).engine
    spotter = Spotter(engine, EventSettings((0.5, 0.5)))
    other = replace(make_result(1), word="word1", other_events=(make_event(0.8),))
    data = make_data(spotter, [make_result(0)], [], [other])
    counts = [word["false_alarms_in_streams"] for word in compute_metrics(data)]
    assert [(each["count"], each["on_other_words"]) for each in counts] == [(1, 1), (0, 0)]


def test_rates_that_the_hours_cannot_show_are_unknown(spotter):
    points = compute(spotter, [make_result()], [make_recording(1.5)])["points"]
    assert [(point["target_false_alarms_per_hour"], "unknown" in point) for point in points] == [
        (None, False),
        (0.1, True),
        (0.5, True),
        (1.0, False),
    ]
    assert points[1]["unknown"] == "1.50 h cannot show fewer than 0.67 per hour"
    for point in compute(spotter, [make_result()], [])["points"][1:]:
        assert "no audio without the word" in point["unknown"]
    points = compute(spotter, [make_result()], [make_recording(1.0, *[1.0] * 5)])["points"]
    assert "even at" in points[3]["unknown"]


def test_operating_points_lie_on_the_curve(spotter):
    results = [
        make_result(clip, score=score) for clip, score in enumerate(np.linspace(0.05, 0.95, 19))
    ]
    recordings = [
        make_recording(4.0, 0.9, 0.8, 0.7, 0.6),
        make_recording(6.0, 0.75, 0.65, name="other.wav"),
    ]
    word = compute(spotter, results, recordings)
    curve = {row["threshold"]: row for row in word["curve"]}
    for point in word["points"][1:]:
        row = curve[point["threshold"]]
        assert point["false_alarms_per_hour"] <= point["target_false_alarms_per_hour"]
        assert row["false_alarms"] == point["false_alarms"]
        assert row["miss_rate"] == pytest.approx(point["miss_rate"], abs=1e-4)
    assert [point["false_alarms"] for point in word["points"]] == [6, 1, 5, 6]
    assert np.all(np.diff([row["miss_rate"] for row in word["curve"]]) >= 0)
    assert np.all(np.diff([row["false_alarms"] for row in word["curve"]]) <= 0)


def test_the_worst_misses_are_the_easiest_clips_each_once():
    results = [
        make_result(0, snr_db=0.0, score=0.1),
        make_result(0, snr_db=20.0, score=0.4),
        make_result(1, snr_db=20.0, score=0.3),
        make_result(2, snr_db=None, score=0.45),
        make_result(3),
    ]
    worst = [(each.stream.clip, each.stream.snr_db) for each in find_worst_misses(results)]
    assert worst == [(2, None), (1, 20.0), (0, 20.0)]


def test_the_worst_alarms_come_before_what_only_came_near(spotter):
    recordings = [make_recording(1.0, 0.6, 0.8, 0.49, 0.24)]
    results = [make_result(0, false_alarms=(make_event(0.7),))]
    worst = find_worst_alarms(make_data(spotter, results, recordings), WORD)
    assert [(each.event.score, each.fired) for each in worst] == [
        (0.8, True),
        (0.7, True),
        (0.6, True),
        (0.49, False),
    ]


def test_the_tail_of_a_false_alarm_is_not_a_near_one(spotter):
    events = (make_event(0.8, 1.0), make_event(0.4, 1.5), make_event(0.3, 5.0))
    data = make_data(spotter, [], [ScoredRecording(60.0, events)])
    assert [each.event.score for each in find_worst_alarms(data, WORD)] == [0.8, 0.3]
