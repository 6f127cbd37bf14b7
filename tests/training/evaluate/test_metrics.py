"""What is counted: of a real (tiny) model against the event machine, and of made-up evidence
against hand-made figures."""

import os
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone_word

from kws import Spotter
from kws.runtime.postprocess import Detection, EventSettings
from kws.training.data.clips import Clip, find_clips
from kws.training.data.dataset import load_clips
from kws.training.evaluate.intervals import poisson, wilson
from kws.training.evaluate.metrics import (
    CURVE_THRESHOLDS,
    EvaluationData,
    compute_alarm_rate,
    compute_metrics,
    compute_miss_rate,
    find_worst_alarms,
    find_worst_misses,
)
from kws.training.evaluate.scoring import (
    RecordingResult,
    StreamResult,
    run_in_parallel,
    run_spotter,
    score_recording,
    score_recordings,
    score_streams,
)
from kws.training.evaluate.test_streams import EvaluationStream, EvaluationStreams
from kws.training.report.det_plot import Axes

SECONDS = 4.0


def no_progress(items, total):
    return items


@pytest.fixture(scope="module")
def spotter(tiny_model) -> Spotter:
    return Spotter.load(tiny_model.path)


@pytest.fixture(scope="module")
def streams(tiny_model) -> EvaluationStreams:
    dataset = load_clips(find_clips(tiny_model.data / "rise")[:20], warn=print)
    hiss = 0.1 * np.random.default_rng(0).standard_normal(10 * RATE).astype(np.float32)
    return EvaluationStreams(dataset, [hiss], snrs_db=(None, 0.0), seconds=SECONDS, seed=0)


@pytest.fixture(scope="module")
def heard(spotter, streams) -> list[StreamResult]:
    return score_streams(spotter, 0, streams, no_progress)


class TestHearing:
    def test_streams_are_heard_as_files_are(self, spotter, streams, heard, tmp_path):
        for each in heard[:6]:
            path = tmp_path / "stream.wav"
            soundfile.write(path, streams.audio(each.stream), RATE, subtype="FLOAT")
            events = list(spotter.detect(path))
            assert events == [event for event in (each.event, *each.alarms) if event]

    def test_clean_words_are_found_where_they_are(self, heard):
        clean = [each for each in heard if each.stream.snr_db is None]
        assert sum(each.event is not None for each in clean) >= 18
        for each in clean:
            if each.event:
                assert each.event.start == pytest.approx(each.stream.start, abs=0.15)
                assert 0.12 - 1e-6 <= each.decision_seconds - each.event.peak <= 0.16 + 1e-6
                assert each.best_threshold >= each.event.score

    def test_hits_on_the_curve_are_those_of_a_model_with_that_threshold(
        self, spotter, streams, heard
    ):
        for at in range(0, len(CURVE_THRESHOLDS), 20):
            other = Spotter(
                spotter.engine, replace(spotter.events, threshold=(CURVE_THRESHOLDS[at],))
            )
            again = score_streams(other, 0, streams, no_progress)
            found = [each.event is not None for each in again]
            assert [each.best_threshold >= CURVE_THRESHOLDS[at] for each in heard] == found

    def test_the_best_score_tells_hit_from_miss(self, spotter, heard):
        for each in heard:
            if not each.alarms:
                assert (each.event is not None) == (
                    each.best_threshold >= spotter.events.threshold[0]
                )

    def test_recordings_are_counted_as_detect_counts(self, spotter, tiny_model, tmp_path):
        rng = np.random.default_rng(3)
        quiet = np.zeros(RATE // 2, np.float32)
        wave = np.concatenate(
            [
                np.concatenate([tone_word(word, rng), quiet])
                for word in ("rise", "fall", "rise", "flat")
            ]
        )
        soundfile.write(tmp_path / "a.wav", np.tile(wave, 8), RATE)  # longer than a block
        recording_results = score_recording(spotter, tmp_path / "a.wav", CURVE_THRESHOLDS)
        assert recording_results.seconds == pytest.approx(8 * len(wave) / RATE)
        assert recording_results.alarms == tuple(spotter.detect(tmp_path / "a.wav"))
        assert len(recording_results.alarms) >= 8
        for at in range(0, len(CURVE_THRESHOLDS), 15):
            assert recording_results.counts[0, at] == len(
                list(
                    Spotter.load(tiny_model.path, threshold=CURVE_THRESHOLDS[at]).detect(
                        tmp_path / "a.wav"
                    )
                )
            )

    def test_what_came_near_is_kept_apart(self, spotter, streams):
        scores, _ = run_spotter(spotter, [streams.audio(streams.all[0])])
        top = float(scores.pooled.max())
        strict = Spotter(spotter.engine, EventSettings((min(1.5 * top, 0.99999),)))
        path = streams.dataset.clips[0].path
        assert score_recording(spotter, path, CURVE_THRESHOLDS).near_alarms == ()
        recording_results = score_recording(
            Spotter(strict.engine, replace(strict.events, threshold=(1.0,))), path, CURVE_THRESHOLDS
        )
        assert recording_results.alarms == ()
        assert [0.5 <= event.score <= 1 for event in recording_results.near_alarms] == [True]

    def test_damaged_recordings_are_named_and_left_out(self, spotter, tiny_model, tmp_path):
        good = find_clips(tiny_model.data / "fall")[0]
        soundfile.write(
            tmp_path / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT"
        )
        soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
        (tmp_path / "garbage.wav").write_bytes(b"RIFF of another kind")
        warnings: list[str] = []
        recording_results = score_recordings(
            spotter, [*find_clips(tmp_path), good], CURVE_THRESHOLDS, warnings.append, no_progress
        )
        assert [each.path for each in recording_results] == [good.path]
        assert sorted(
            Path(text.removeprefix("left out: ").split(":")[0]).name for text in warnings
        ) == [
            "empty.wav",
            "garbage.wav",
            "nan.wav",
        ]

    def test_a_muted_microphone_is_no_evidence(self, spotter, tmp_path):
        soundfile.write(tmp_path / "muted.wav", np.zeros(40 * RATE), RATE)
        soundfile.write(tmp_path / "quiet.wav", np.full(40 * RATE, 0.001), RATE)
        warnings: list[str] = []
        recording_results = score_recordings(
            spotter, find_clips(tmp_path), CURVE_THRESHOLDS, warnings.append, no_progress
        )
        assert [each.path.name for each in recording_results] == ["quiet.wav"]
        assert warnings == [
            f"left out: {tmp_path / 'muted.wav'}: there is no sound in it. Record it again."
        ]

    def test_who_stops_does_not_wait_for_a_long_recording(self, spotter, tmp_path):
        soundfile.write(tmp_path / "long.wav", np.full(40 * 60 * RATE, 0.001, np.float32), RATE)
        began = time.perf_counter()
        score_recording(spotter, tmp_path / "long.wav", CURVE_THRESHOLDS)
        whole = time.perf_counter() - began

        def interrupted(items: Iterable, total: int) -> Iterable:
            threading.Timer(0.1 * whole, os.kill, [os.getpid(), signal.SIGINT]).start()
            return items

        began = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            score_recordings(spotter, find_clips(tmp_path), CURVE_THRESHOLDS, print, interrupted)
        assert time.perf_counter() - began < 0.7 * whole

    def test_order_is_kept_and_a_fault_comes_out(self):
        assert list(run_in_parallel(lambda x: x * x, range(100))) == [x * x for x in range(100)]
        with pytest.raises(ZeroDivisionError):
            list(run_in_parallel(lambda x: 1 // x, [1, 2, 0, 3]))


def make_heard(
    clip: int = 0,
    *,
    snr_db=None,
    start: float = 1.0,
    speaker: str = "",
    found: bool = True,
    best_threshold: float | None = None,
    alarms=(),
    duplicates: int = 0,
) -> StreamResult:
    best_threshold = best_threshold if best_threshold is not None else 0.9 if found else 0.1
    event = (
        Detection("rise", start + 0.01, start + 0.48, start + 0.6, best_threshold)
        if found
        else None
    )
    stream = EvaluationStream(clip, snr_db, start - 0.1, start, start + 0.5, (0, clip, 0))
    decision_seconds = start + 0.62 if found else None
    return StreamResult(
        Clip(Path(f"{clip}.wav"), "rise", speaker or f"s{clip}"),
        stream,
        event,
        decision_seconds,
        duplicates,
        tuple(alarms),
        best_threshold,
    )


def make_listened(
    hours: float, scores=(), word: str = "rise", *, words: int = 1, name: str = "long.wav"
) -> RecordingResult:
    counts = np.zeros((words, len(CURVE_THRESHOLDS)), int)
    counts[0] = [sum(score >= threshold for score in scores) for threshold in CURVE_THRESHOLDS]
    alarms = tuple(
        Detection(word, at, at + 0.5, at + 0.6, score)
        for at, score in enumerate(scores)
        if score >= 0.5
    )
    return RecordingResult(Path(name), hours * 3600, counts, alarms, ())


def made(spotter: Spotter, heard, recording_results) -> dict:
    """The result at a threshold of one half."""
    return compute_metrics(
        EvaluationData(
            Spotter(spotter.engine, EventSettings((0.5,))), (heard,), recording_results, SECONDS
        )
    )[0]


class TestCounting:
    def test_a_share_rests_on_clips_not_on_streams(self):
        heard = [make_heard(clip, snr_db=snr) for clip in range(10) for snr in (None, 10.0, 0.0)]
        row = compute_miss_rate(heard, [each.stream.snr_db == 0.0 for each in heard])
        assert (row["streams"], row["clips"], row["missed"]) == (30, 10, 10)
        assert row["miss_rate"] == pytest.approx(1 / 3, abs=1e-5)
        assert row["miss_interval"] == pytest.approx(wilson(10 / 3, 10), abs=1e-4)

    def test_no_hours_no_rate(self):
        assert compute_alarm_rate(0, 0.0) == {
            "false_alarms": 0,
            "false_alarms_per_hour": None,
            "false_alarms_interval": None,
        }
        assert compute_alarm_rate(3, 6.0)["false_alarms_interval"] == pytest.approx(
            poisson(3, 6.0), abs=1e-4
        )

    def test_misses_by_noise_position_and_speaker(self, spotter):
        heard = [
            make_heard(0, snr_db=0.0, start=0.1, speaker="ann", found=False),
            make_heard(0, snr_db=None, start=3.3, speaker="ann"),
            make_heard(1, snr_db=0.0, start=1.0, speaker="ann"),
            make_heard(1, snr_db=None, start=0.2, speaker="ann"),
            make_heard(2, snr_db=0.0, start=3.9, speaker="bob"),
            make_heard(2, snr_db=None, start=2.0, speaker="bob"),
        ]
        word = made(spotter, heard, [])
        assert (word["clips"], word["speakers"], word["streams"]) == (3, 2, 6)
        assert [
            (row["snr_db"], row["missed"], row["streams"]) for row in word["points"][0]["by_snr"]
        ] == [(None, 0, 3), (0.0, 1, 3)]
        assert [
            (row["from_seconds"], row["missed"], row["streams"]) for row in word["by_position"]
        ] == [*((0.0, 1, 2), (0.8, 0, 1), (1.6, 0, 1), (3.2, 0, 2))]
        assert [(row["speaker"], row["missed"], row["streams"]) for row in word["by_speaker"]] == [
            ("ann", 1, 4),
            ("bob", 0, 2),
        ]
        assert word["points"][0]["missed"] == sum(row["missed"] for row in word["by_position"]) == 1

    def test_times(self, spotter):
        word = made(
            spotter, [make_heard(clip) for clip in range(4)] + [make_heard(9, found=False)], []
        )
        assert word["latency_seconds"]["median"] == pytest.approx(0.12)
        assert word["start_error_seconds"]["median"] == pytest.approx(0.01)
        assert word["end_error_seconds"] == pytest.approx(
            {"median": -0.02, "median_abs": 0.02, "p95_abs": 0.02}
        )
        assert made(spotter, [make_heard(found=False)], [])["start_error_seconds"] is None

    def test_alarms_beside_words_are_counted_apart_from_the_hours(self, spotter):
        beside = Detection("rise", 0.0, 0.4, 0.5, 0.8)
        word = made(
            spotter,
            [make_heard(0, alarms=[beside], duplicates=1), make_heard(1)],
            [make_listened(2.0)],
        )
        assert word["false_alarms_in_streams"] == {
            "count": 1,
            "on_other_words": 0,
            "hours": round(2 * SECONDS / 3600, 4),
        }
        assert (
            word["points"][0]["false_alarms"],
            word["duplicates"],
            word["points"][0]["missed"],
        ) == (0, 1, 0)
        assert word["points"][0]["false_alarms_interval"] == pytest.approx([0, 3.0 / 2.0], abs=0.01)

    def test_rates_the_hours_cannot_show_are_unknown(self, spotter):
        points = made(spotter, [make_heard()], [make_listened(1.5)])["points"]
        assert [
            (point["target_false_alarms_per_hour"], "unknown" in point) for point in points
        ] == [
            (None, False),
            (0.1, True),
            (0.5, True),
            (1.0, False),
        ]
        assert points[1]["unknown"] == "1.50 h cannot show it; it takes 10 h"
        assert all(
            "without the word" in point["unknown"]
            for point in made(spotter, [make_heard()], [])["points"][1:]
        )
        assert (
            "even at"
            in made(spotter, [make_heard()], [make_listened(1.0, [1.0] * 5)])["points"][3][
                "unknown"
            ]
        )

    def test_points_lie_on_the_curve(self, spotter):
        heard = [
            make_heard(clip, best_threshold=score)
            for clip, score in enumerate(np.linspace(0.05, 0.95, 19))
        ]
        word = made(
            spotter,
            heard,
            [
                make_listened(4.0, [0.9, 0.8, 0.7, 0.6]),
                make_listened(6.0, [0.75, 0.65], name="other.wav"),
            ],
        )
        curve = {row["threshold"]: row for row in word["curve"]}
        for point in word["points"][1:]:
            assert point["false_alarms_per_hour"] <= point["target_false_alarms_per_hour"]
            assert curve[point["threshold"]]["false_alarms"] == point["false_alarms"]
            assert curve[point["threshold"]]["miss_rate"] == pytest.approx(
                point["miss_rate"], abs=1e-4
            )
        assert [point["false_alarms"] for point in word["points"]] == [6, 1, 5, 6]
        assert np.all(np.diff([row["miss_rate"] for row in word["curve"]]) >= 0)
        assert np.all(np.diff([row["false_alarms"] for row in word["curve"]]) <= 0)

    def test_worst_misses_are_the_easiest_each_clip_once(self):
        heard = [
            make_heard(0, snr_db=0.0, found=False, best_threshold=0.1),
            make_heard(0, snr_db=20.0, found=False, best_threshold=0.4),
            make_heard(1, snr_db=20.0, found=False, best_threshold=0.3),
            make_heard(2, snr_db=None, found=False, best_threshold=0.45),
            make_heard(3),
        ]
        assert [(each.stream.clip, each.stream.snr_db) for each in find_worst_misses(heard)] == [
            (2, None),
            (1, 20.0),
            (0, 20.0),
        ]

    def test_worst_alarms_come_before_what_was_none(self, spotter):
        near_alarms = Detection("rise", 5.0, 5.5, 5.6, 0.99)
        recording_results = [replace(make_listened(1.0, [0.6, 0.8]), near_alarms=(near_alarms,))]
        heard = [make_heard(0, alarms=[Detection("rise", 0.0, 0.4, 0.5, 0.7)])]
        worst = find_worst_alarms(
            EvaluationData(spotter, (heard,), recording_results, SECONDS), "rise"
        )
        assert [(event.score, fired) for _, event, fired in worst] == [
            (0.8, True),
            (0.7, True),
            (0.6, True),
            (0.99, False),
        ]


@pytest.mark.parametrize("hours", [0.005, 0.02, 0.05, 0.1, 0.5, 2.0, 100.0])
@pytest.mark.parametrize("most_alarms", [0.0, 1.0, 40.0])
def test_rates_lie_in_their_order_in_the_picture_however_few_the_hours(hours, most_alarms):
    axes = Axes(hours, clips=10, most_alarms=most_alarms, most_missed=0.5)
    places = [axes.x(alarms) for alarms in (0.0, *axes.decades)]
    assert np.isfinite(places).all()
    assert (np.diff(places) > 0).all()
    assert axes.decades[0] <= 1 / hours
