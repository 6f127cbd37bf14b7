"""Detection post-processing: tables of score tracks, any portions, any threshold, and a slow
reference implementation."""

import pickle
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.runtime.postprocess import (
    LOOKAHEAD_FRAMES,
    SAME_WORD_RATIO,
    UNREACHABLE_THRESHOLD,
    Detection,
    DetectionPostprocessor,
    EventSettings,
)

FRAME_SECONDS = 0.02


class Track(NamedTuple):
    """Scores `pooled` [F, W] and boundaries [F, W, 2] of F frames."""

    pooled: np.ndarray
    boundaries: np.ndarray


def make_track(*scores: Sequence[float], boundaries: Sequence[tuple[float, float]] = ()) -> Track:
    """Scores of each word. `boundaries`, the same for every word, has one pair per frame; the
    default is (0.5, 0.1)."""
    pooled = np.array(scores, np.float64).T.reshape(-1, len(scores))
    pairs = np.array(boundaries or [(0.5, 0.1)] * len(pooled)).reshape(-1, 1, 2)
    return Track(pooled, np.broadcast_to(pairs, (*pooled.shape, 2)))


def make_postprocessor(
    words: int = 1, threshold: float = 0.5, **settings: float
) -> DetectionPostprocessor:
    defaults = {"release_ratio": 0.5, "confirm_frames": 3, "refractory_frames": 10}
    return DetectionPostprocessor(
        tuple("abc"[:words]),
        EventSettings((threshold,) * words, **{**defaults, **settings}),
        FRAME_SECONDS,
    )


def peak_frames(events: list[Detection]) -> list[int]:
    """Frame numbers, counted from 1, of the highest scores."""
    return [round(event.peak / FRAME_SECONDS) for event in events]


def split(track: Track, portions: list[int]) -> list[Track]:
    ends = [*accumulate(portions, initial=0), len(track.pooled)]
    return [Track(*(each[begin:end] for each in track)) for begin, end in pairwise(ends)]


LOW, HIGH = [0.1], [0.9]
PEAK, FIVE = [0.2, 0.6, 0.8, 0.7, 0.4], [0.5, 0.9, 0.6, 0.6, 0.6]
STEPS = [0.3] * 9 + [0.5] * 9 + [0.7] * 9
REST = LOW * 10  # longer than the lookahead

TRACKS = {
    "nothing": (LOW * 50, {}, []),
    "one peak is one event": (LOW * 10 + PEAK + REST, {}, [13]),
    "a long peak is one event, of its first frames": (LOW * 10 + HIGH * 100 + REST, {}, [13]),
    "shorter than the confirmation": (LOW * 10 + HIGH * 2 + REST, {}, []),
    "as long as the confirmation": (LOW * 10 + HIGH * 3 + REST, {}, [13]),
    "a gap begins the confirmation anew": (LOW * 10 + HIGH * 2 + LOW + HIGH * 2 + REST, {}, []),
    "confirmed by one frame": (LOW * 10 + HIGH + REST, {"confirm_frames": 1}, [11]),
    "confirmed by five frames": (LOW * 10 + FIVE + REST, {"confirm_frames": 5}, [12]),
    "exactly the threshold": (LOW * 5 + [0.5] * 3 + REST, {}, [8]),
    "just below the threshold": (LOW * 5 + [0.4999] * 20, {}, []),
    "compared in the digits that are reported": (LOW * 5 + [0.49996] * 3 + REST, {}, [8]),
    "at the very beginning": (HIGH * 3 + REST, {}, [3]),
    "known when the lookahead is over": (LOW * 20 + HIGH * 3 + LOW * 6, {}, [23]),
    "not known before the lookahead is over": (LOW * 20 + HIGH * 3 + LOW * 5, {}, []),
    "a higher peak within the lookahead": (LOW * 10 + [0.6] * 6 + HIGH * 3 + REST, {}, [19]),
    "a later, much higher peak": (LOW * 10 + [0.6] * 7 + HIGH * 3 + REST, {}, [13, 20]),
    "a later, little higher peak": (LOW * 10 + [0.8] * 7 + HIGH * 3 + REST, {}, [13]),
    "after the refractory time": (LOW * 10 + [0.8] * 11 + HIGH * 3 + REST, {}, [13, 24]),
    "a rise in steps": (LOW * 9 + STEPS, {"threshold": 0.3}, [12, 21, 30]),
    "two words one second apart": ((LOW * 45 + PEAK) * 2 + REST, {}, [48, 98]),
    "five words one second apart": ((LOW * 45 + PEAK) * 5 + REST, {}, [48, 98, 148, 198, 248]),
    "no release between two peaks": (HIGH * 3 + [0.41] * 40 + [0.8] * 3 + REST, {}, [3]),
    "release is below ratio times peak": (HIGH * 3 + [0.4] * 40 + [0.8] * 3 + REST, {}, [3]),
    "a single frame of release": (HIGH * 3 + [0.5] * 20 + [0.39] + [0.8] * 3 + REST, {}, [3, 27]),
    "released between equal peaks": (HIGH * 3 + [0.44] * 20 + HIGH * 3 + REST, {}, [3, 26]),
    "released since an earlier equal peak, not since the last": (
        HIGH * 3 + LOW * 20 + HIGH * 3 + [0.5] * 20 + HIGH * 3 + REST,
        {},
        [3, 26],
    ),
    "a lower peak between": (HIGH * 3 + LOW * 3 + [0.85] * 12 + [0.5] * 8 + HIGH * 9, {}, [3, 29]),
    "a higher ratio": (HIGH * 3 + [0.6] * 40 + HIGH * 3 + REST, {"release_ratio": 0.8}, [3, 46]),
    "released but within the refractory time": (HIGH * 3 + LOW * 6 + HIGH * 20, {}, [3]),
    "the last frame of the refractory time": (HIGH * 3 + LOW * 7 + HIGH * 3 + REST, {}, [3]),
    "just after the refractory time": (HIGH * 3 + LOW * 8 + HIGH * 3 + REST, {}, [3, 14]),
    "a longer refractory time": (HIGH * 3 + LOW * 8 + HIGH * 9, {"refractory_frames": 11}, [3]),
    "within the lookahead": (HIGH * 3 + LOW * 3 + HIGH * 3 + REST, {"refractory_frames": 0}, [3]),
    "just after the lookahead": (HIGH * 3 + LOW * 4 + HIGH * 9, {"refractory_frames": 0}, [3, 10]),
    "hovering about the threshold": ([0.55, 0.55, 0.55, 0.45] * 100, {}, [3]),
    "hovering with dips that are none": ([0.6, 0.6, 0.6, 0.3] * 100, {}, [3]),
    "hovering too fast to be confirmed": ([0.55, 0.55, 0.45] * 100, {}, []),
}


@pytest.mark.parametrize(("track", "options", "expected"), TRACKS.values(), ids=list(TRACKS))
def test_track_gives_events(track, options, expected):
    assert peak_frames(make_postprocessor(**options).feed(*make_track(track))) == expected


@pytest.mark.parametrize(("track", "options", "expected"), TRACKS.values(), ids=list(TRACKS))
def test_track_fed_frame_by_frame_gives_the_same_events(track, options, expected):
    postprocessor = make_postprocessor(**options)
    assert (
        peak_frames(
            [
                event
                for part in split(make_track(track), [1] * len(track))
                for event in postprocessor.feed(*part)
            ]
        )
        == expected
    )


SHIPPED = {
    "confirmed by three frames": (HIGH * 3 + REST, 1),
    "two frames are not enough": (HIGH * 2 + LOW + HIGH * 2 + REST, 0),
    "six frames of lookahead": (HIGH * 3 + LOW * 6, 1),
    "five frames of lookahead": (HIGH * 3 + LOW * 5, 0),
    "released below one half": (HIGH * 3 + [0.449] * 30 + HIGH * 3 + REST, 2),
    "not released at one half": (HIGH * 3 + [0.45] * 30 + HIGH * 3 + REST, 1),
    "21 frames apart": (HIGH * 3 + LOW * 18 + HIGH * 3 + REST, 2),
    "20 frames apart": (HIGH * 3 + LOW * 17 + HIGH * 3 + REST, 1),
    "one word from 0.8 on": ([0.721] * 9 + HIGH * 3 + REST, 1),
    "two words below 0.8": ([0.71] * 9 + HIGH * 3 + REST, 2),
}


@pytest.mark.parametrize(("track", "count"), SHIPPED.values(), ids=list(SHIPPED))
def test_the_default_settings(track, count):
    postprocessor = DetectionPostprocessor(("a",), EventSettings((0.5,)), FRAME_SECONDS)
    assert len(postprocessor.feed(*make_track(LOW * 10 + track))) == count


def test_the_latency_at_a_constant_score_is_below_a_fifth_of_a_second():
    assert (EventSettings((0.5,)).confirm_frames + LOOKAHEAD_FRAMES) * FRAME_SECONDS < 0.2


def test_an_event_is_reported_after_the_lookahead():
    postprocessor = make_postprocessor()
    reports = [
        len(postprocessor.feed(*part)) for part in split(make_track(LOW * 3 + HIGH * 13), [1] * 15)
    ]
    assert reports == [0] * 11 + [1] + [0] * 4


def test_score_is_the_level_at_the_peak_and_time_that_of_the_highest_score():
    (event,) = make_postprocessor().feed(
        *make_track([0.1, 0.6, 0.7, 0.76541, 0.9, 0.8, 0.3, *REST])
    )
    assert event.word == "a"
    assert (event.peak, event.score) == (0.1, 0.7654)


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.5, 0.7654])
def test_the_threshold_changes_nothing_of_an_event(threshold):
    rise = [0.06, 0.1, 0.2, 0.4, 0.6, 0.7, 0.76541, 0.9, 0.8, 0.3]
    boundaries = [(0.5 + 0.01 * at, 0.1) for at in range(len(rise + REST))]
    scores = make_track(rise + REST, boundaries=boundaries)
    expected = make_postprocessor(threshold=0.3).feed(*scores)
    assert make_postprocessor(threshold=threshold).feed(*scores) == expected != []


@pytest.mark.parametrize(
    ("boundaries", "start", "end"),
    [
        ([(0.3, 0.02), (0.32, 0.04), (0.34, 0.06)], 0.72, 1.0),
        ([(0.3, 0.02)] * 3, 0.74, 1.02),
        ([(5.0, 4.0)] * 3, 0.0, 0.0),
        ([(0.3, -0.5)] * 3, 0.74, 1.04),
        ([(-0.3, -0.5)] * 3, 1.04, 1.04),
        ([(0.1, 0.3)] * 3, 0.74, 0.74),
    ],
    ids=[
        "frames agree on the place",
        "frames disagree: their mean",
        "never before the beginning",
        "the end is still to come",
        "the start is still to come",
        "never an end before the start",
    ],
)
def test_boundaries_give_start_and_end(boundaries, start, end):
    track, other = [0.1] * 50 + [0.8] * 3 + REST, [(9.0, 9.0)] * 50
    (event,) = make_postprocessor().feed(
        *make_track(track, boundaries=other + boundaries + other[: len(REST)])
    )
    assert (event.start, event.end) == (
        pytest.approx(start, abs=1e-3),
        pytest.approx(end, abs=1e-3),
    )


@pytest.mark.parametrize("after", [0, 5], ids=["at the peak", "in the rise that leads there"])
def test_start_is_the_weighted_mean_over_the_first_frames_of_the_rise(after):
    track = [0.1] * 97 + [0.6, 0.6, 0.8] + [0.9] * after + REST
    later = [(7.0, 5.0)] * (after + len(REST))
    boundaries = [(9.0, 9.0)] * 97 + [(0.5, 0.1)] * 2 + [(0.9, 0.3)] + later
    (event,) = make_postprocessor().feed(*make_track(track, boundaries=boundaries))
    starts = [98 * 0.02 - 0.5, 99 * 0.02 - 0.5, 100 * 0.02 - 0.9]
    assert event.start == pytest.approx(np.dot(starts, [0.6, 0.6, 0.8]) / 2.0, abs=1e-3)


def test_words_are_independent():
    first, second, third = LOW * 10 + HIGH * 5 + LOW * 25, HIGH * 40, LOW * 40
    events = make_postprocessor(3).feed(*make_track(first, second, third))
    assert [
        (event.word, frame) for event, frame in zip(events, peak_frames(events), strict=True)
    ] == [
        ("b", 3),
        ("a", 13),
    ]


def test_each_word_has_the_events_that_it_has_alone():
    rng = np.random.default_rng(2)
    pooled = np.repeat(rng.random((300, 3)), 4, axis=0)
    boundaries = rng.uniform(0, 1, (1200, 3, 2))
    events = make_postprocessor(3).feed(pooled, boundaries)
    for number, word in enumerate("abc"):
        column = slice(number, number + 1)
        alone = make_postprocessor(1).feed(pooled[:, column], boundaries[:, column])
        assert [each for each in events if each.word == word] == [
            replace(each, word=word) for each in alone
        ]
        assert len(alone) > 5


def test_each_word_has_its_threshold():
    postprocessor = DetectionPostprocessor(("a", "b"), EventSettings((0.5, 0.95)), FRAME_SECONDS)
    track = LOW + HIGH * 5 + REST
    assert [event.word for event in postprocessor.feed(*make_track(track, track))] == ["a"]


def test_a_class_that_is_no_word_is_never_an_event():
    track = LOW + [1.0] * 50
    postprocessor = DetectionPostprocessor(
        ("a", "b"), EventSettings((UNREACHABLE_THRESHOLD, 0.5)), FRAME_SECONDS
    )
    assert [event.word for event in postprocessor.feed(*make_track(track, track))] == ["b"]


@pytest.mark.parametrize("portions", [[], [1] * 15, [10]], ids=["whole", "single", "cut between"])
def test_events_come_in_the_order_of_their_last_frames(portions):
    late, early = [0.1] * 3 + [0.6] * 3 + [0.1] * 9, [0.1] * 2 + [0.6] * 3 + [0.1] * 10
    postprocessor = make_postprocessor(2)
    parts = split(make_track(late, early), portions)
    assert [event.word for part in parts for event in postprocessor.feed(*part)] == ["b", "a"]


def test_threshold_zero_finds_events_in_scores_of_zero():
    assert len(make_postprocessor(threshold=0.0).feed(*make_track([0.0] * 10))) == 1


def test_one_threshold_per_word_is_needed():
    with pytest.raises(ValueError, match="argument 2"):
        DetectionPostprocessor(("a", "b"), EventSettings((0.5,)), FRAME_SECONDS)


# Few values, so that tracks often meet the threshold and the release exactly.
LEVELS = (0.0, 0.1, 0.24, 0.25, 0.26, 0.4, 0.49, 0.5, 0.51, 0.625, 0.7, 0.8, 0.9, 1.0)
levels = st.sampled_from(LEVELS)
tracks = st.lists(st.tuples(levels, st.integers(1, 8)), max_size=40).map(
    lambda runs: [level for level, length in runs for _ in range(length)]
)
event_settings = st.builds(
    EventSettings,
    st.just((0.5,)),
    release_ratio=st.sampled_from([0.1, 0.5, 0.8, 1.0]),
    confirm_frames=st.integers(1, 4),
    refractory_frames=st.integers(0, 12),
)


def reference(track: Sequence[float], options: EventSettings) -> dict[int, float]:
    """Frame and level of each event, from looking at the whole track."""
    (threshold,) = options.threshold
    apart, confirm = max(options.refractory_frames, LOOKAHEAD_FRAMES), options.confirm_frames
    heights = {t: min(track[t + 1 - confirm : t + 1]) for t in range(confirm - 1, len(track))}
    found: list[int] = []
    for frame, height in heights.items():
        at_least_as_high = [t for t, other in heights.items() if t < frame and other >= height]
        if at_least_as_high and frame - at_least_as_high[-1] <= apart:
            continue
        if (
            at_least_as_high
            and min(track[at_least_as_high[-1] + 1 : frame]) >= options.release_ratio * height
        ):
            continue
        after = [
            heights[t] for t in range(frame + 1, frame + 1 + LOOKAHEAD_FRAMES) if t < len(track)
        ]
        if len(after) == LOOKAHEAD_FRAMES and max(after) <= height:
            found.append(frame)

    def is_news(frame: int) -> bool:
        near = [heights[t] for t in found if frame - apart <= t < frame]
        return all(height < SAME_WORD_RATIO * heights[frame] for height in near)

    return {t: heights[t] for t in found if heights[t] >= threshold and is_news(t)}


@pytest.mark.slow
@given(track=tracks, options=event_settings, threshold=levels)
@settings(deadline=None, max_examples=500)
def test_events_equal_those_of_the_reference(track, options, threshold):
    options = options.at([threshold])
    expected = reference(track, options)
    postprocessor, reports = DetectionPostprocessor(("a",), options, FRAME_SECONDS), []
    for at, part in enumerate(split(make_track(track), [1] * len(track))):
        reports += [(at - LOOKAHEAD_FRAMES, event) for event in postprocessor.feed(*part)]
    assert {frame: event.score for frame, event in reports} == expected
    for frame, event in reports:
        run = range(frame + 1 - options.confirm_frames, frame + 1)
        assert round(event.peak / FRAME_SECONDS) - 1 == max(run, key=lambda at: (track[at], at))


@given(track=tracks, options=event_settings, threshold=levels, floor=levels)
@settings(deadline=None, max_examples=300)
def test_a_threshold_is_a_filter(track, options, threshold, floor):
    """The events at a threshold are exactly those at a lower threshold that reach it."""
    floor, threshold = sorted((threshold, floor))
    boundaries = [(0.01 * (i * 7 % 50), 0.01 * (i * 3 % 20)) for i in range(len(track))]
    scores = make_track(track, boundaries=boundaries)
    low = DetectionPostprocessor(("a",), options.at([floor]), FRAME_SECONDS).feed(*scores)
    high = DetectionPostprocessor(("a",), options.at([threshold]), FRAME_SECONDS).feed(*scores)
    assert high == [event for event in low if event.score >= threshold]


@given(st.integers(0, 1000), st.sampled_from([0.3, 0.5, 0.731, 0.73106, 0.9, 0.99, 0.99991]))
@settings(deadline=None, max_examples=100)
def test_a_threshold_is_a_filter_of_scores_like_those_of_models(seed, threshold):
    rng = np.random.default_rng(seed)
    logits = np.convolve(rng.standard_normal(600) * 9, np.hanning(11) / 3, "valid")
    scores = make_track(1 / (1 + np.exp(-logits)))
    scores = scores._replace(pooled=scores.pooled.astype(np.float32))
    low = DetectionPostprocessor(("a",), EventSettings((0.01,)), FRAME_SECONDS).feed(*scores)
    high = DetectionPostprocessor(("a",), EventSettings((threshold,)), FRAME_SECONDS).feed(*scores)
    assert high == [event for event in low if event.score >= threshold]
    assert len(low) > 5


@given(
    both=st.lists(st.tuples(levels, levels), max_size=80),
    options=event_settings,
    portions=st.lists(st.integers(0, 20), max_size=20),
)
@settings(deadline=None, max_examples=200)
def test_any_portions_give_equal_events(both, options, portions):
    scores = make_track([a for a, _ in both], [b for _, b in both])
    options = replace(options, threshold=(0.5, 0.4))
    at_once = DetectionPostprocessor(("a", "b"), options, FRAME_SECONDS).feed(*scores)
    postprocessor = DetectionPostprocessor(("a", "b"), options, FRAME_SECONDS)
    assert [
        event for part in split(scores, portions) for event in postprocessor.feed(*part)
    ] == at_once


def test_memory_is_bounded_and_low_scores_are_skipped_fast():
    rng = np.random.default_rng(0)
    loud, quiet = make_track(rng.random(20_000)), make_track(0.2 * rng.random(500))
    postprocessor = make_postprocessor()
    for lasting in (loud, make_track(HIGH * 20_000), make_track(np.linspace(1, 0, 50_000))):
        postprocessor.feed(*lasting)
        assert len(pickle.dumps(postprocessor)) < 500_000

    def seconds(track: Track, times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            postprocessor.feed(*track)
        return time.perf_counter() - began

    postprocessor.feed(*quiet)
    assert seconds(quiet, 400) < seconds(loud, 1)  # ten times as many frames
