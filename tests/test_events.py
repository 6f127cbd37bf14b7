"""The event machine: tables of score tracks, any portions, and a reference that finds events in another way."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.events import Detection, EventMachine, EventSettings, Scores

FRAME_SECONDS = 0.02


def make_scores(*tracks: Sequence[float], extents: Sequence[tuple[float, float]] = ()) -> Scores:
    """Scores of one track per word; `extents` (of every word alike) has one pair per frame, or is taken as (0.5, 0.1)."""
    pooled = np.array(tracks, np.float64).T.reshape(-1, len(tracks))
    places = np.broadcast_to(np.array(extents or [(0.5, 0.1)] * len(pooled)).reshape(-1, 1, 2), (*pooled.shape, 2))
    return Scores((np.arange(len(pooled)) + 1) * FRAME_SECONDS, pooled, pooled, places)


def make_machine(words: int = 1, threshold: float = 0.5, **settings: float) -> EventMachine:
    defaults = {"release_ratio": 0.5, "confirm_frames": 3, "refractory_frames": 10}
    return EventMachine(tuple("abc"[:words]), EventSettings((threshold,) * words, **{**defaults, **settings}))


def peaks(events: list[Detection]) -> list[int]:
    """Frame numbers, counted from 1, of the highest scores."""
    return [round(event.peak / FRAME_SECONDS) for event in events]


def cut(scores: Scores, portions: list[int]) -> list[Scores]:
    parts, at = [], 0
    for length in [*portions, len(scores.times)]:
        part = slice(at, at + length)
        parts.append(Scores(scores.times[part], scores.pooled[part], scores.frames[part], scores.extents[part]))
        at += length
    return parts


LOW, HIGH = [0.1], [0.9]
PEAK = [0.2, 0.6, 0.8, 0.7, 0.4]

TRACKS = {
    "nothing": (LOW * 50, {}, []),
    "one peak is one event": (LOW * 10 + PEAK + LOW * 10, {}, [13]),
    "a long peak is one event": (LOW * 10 + HIGH * 100 + LOW * 10, {}, [13]),
    "shorter than the confirmation": (LOW * 10 + HIGH * 2 + LOW * 10, {}, []),
    "as long as the confirmation": (LOW * 10 + HIGH * 3 + LOW * 10, {}, [13]),
    "a gap begins the confirmation anew": (LOW * 10 + HIGH * 2 + LOW + HIGH * 2 + LOW * 10, {}, []),
    "confirmed by one frame": (LOW * 10 + HIGH + LOW * 10, {"confirm_frames": 1}, [11]),
    "confirmed by five frames": (LOW * 10 + [0.5, 0.9, 0.6, 0.6, 0.6] + LOW, {"confirm_frames": 5}, [12]),
    "exactly the threshold": (LOW * 5 + [0.5] * 3, {}, [8]),
    "just below the threshold": (LOW * 5 + [0.4999] * 20, {}, []),
    "at the very beginning": (HIGH * 3 + LOW * 20, {}, [3]),
    "at the very end": (LOW * 20 + HIGH * 3, {}, [23]),
    "too late to be confirmed": (LOW * 20 + HIGH * 2, {}, []),
    "two words one second apart": ((LOW * 45 + PEAK) * 2 + LOW * 5, {}, [48, 98]),
    "five words one second apart": ((LOW * 45 + PEAK) * 5, {}, [48, 98, 148, 198, 248]),
    "no release between two peaks": (HIGH * 3 + [0.3] * 40 + HIGH * 3, {}, [3]),
    "release is below threshold times ratio": (HIGH * 3 + [0.25] * 40 + HIGH * 3, {}, [3]),
    "a single frame of release": (HIGH * 3 + [0.3] * 20 + [0.2] + HIGH * 3, {}, [3, 27]),
    "a higher ratio releases sooner": (HIGH * 3 + [0.3] * 40 + HIGH * 3, {"release_ratio": 0.8}, [3, 46]),
    "released but within the refractory time": (HIGH * 3 + LOW * 6 + HIGH * 20, {}, [3]),
    "the last frame of the refractory time": (HIGH * 3 + LOW * 9 + HIGH * 3, {}, [3]),
    "just after the refractory time": (HIGH * 3 + LOW * 10 + HIGH * 3, {}, [3, 16]),
    "a longer refractory time": (HIGH * 3 + LOW * 10 + HIGH * 3, {"refractory_frames": 11}, [3]),
    "hovering about the threshold": ([0.55, 0.55, 0.55, 0.45] * 100, {}, [3]),
    "hovering with dips to the release": ([0.6, 0.6, 0.6, 0.3] * 100, {}, [3]),
    "hovering too fast to be confirmed": ([0.55, 0.55, 0.45] * 100, {}, []),
}


@pytest.mark.parametrize(("track", "options", "expected"), TRACKS.values(), ids=list(TRACKS))
def test_track_gives_events(track, options, expected):
    assert peaks(make_machine(**options).feed(make_scores(track))) == expected


@pytest.mark.parametrize(("track", "options", "expected"), TRACKS.values(), ids=list(TRACKS))
def test_track_fed_frame_by_frame_gives_the_same_events(track, options, expected):
    machine = make_machine(**options)
    assert peaks([event for part in cut(make_scores(track), [1] * len(track)) for event in machine.feed(part)]) == expected


def test_event_is_told_with_the_frame_that_confirms_it():
    machine = make_machine()
    told = [len(machine.feed(part)) for part in cut(make_scores(LOW * 3 + HIGH * 5), [1] * 8)]
    assert told == [0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_score_and_peak_are_those_of_the_highest_frame_up_to_the_report():
    (event,) = make_machine().feed(make_scores([0.1, 0.6, 0.87654, 0.7, 0.99]))
    assert event.word == "a"
    assert (event.peak, event.score) == (0.06, 0.8765)


@pytest.mark.parametrize(
    ("extents", "start", "end"),
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
        "end not heard yet",
        "start not heard yet",
        "never an end before the start",
    ],
)
def test_extents_give_start_and_end(extents, start, end):
    track, before = [0.1] * 50 + [0.8] * 3, [(9.0, 9.0)] * 50
    (event,) = make_machine().feed(make_scores(track, extents=before + extents))
    assert (event.start, event.end) == (pytest.approx(start, abs=1e-3), pytest.approx(end, abs=1e-3))


def test_higher_scores_weigh_more_in_start_and_end():
    extents = [(9.0, 9.0)] * 97 + [(0.5, 0.1)] * 2 + [(0.9, 0.3)]
    (event,) = make_machine().feed(make_scores([0.1] * 97 + [0.6, 0.6, 0.8], extents=extents))
    starts = [98 * 0.02 - 0.5, 99 * 0.02 - 0.5, 100 * 0.02 - 0.9]
    assert event.start == pytest.approx(np.dot(starts, [0.6, 0.6, 0.8]) / 2.0, abs=1e-3)


def test_words_do_not_disturb_each_other():
    first, second, third = LOW * 10 + HIGH * 5 + LOW * 25, HIGH * 40, LOW * 40
    events = make_machine(3).feed(make_scores(first, second, third))
    assert [(event.word, frame) for event, frame in zip(events, peaks(events), strict=True)] == [("b", 3), ("a", 13)]


def test_each_word_has_its_threshold():
    machine = EventMachine(("a", "b"), EventSettings((0.5, 0.95)))
    assert [event.word for event in machine.feed(make_scores(LOW + HIGH * 5, LOW + HIGH * 5))] == ["a"]


@pytest.mark.parametrize("portions", [[], [1] * 10, [4, 1]], ids=["at once", "frame by frame", "cut between the reports"])
def test_order_is_that_of_the_reports_for_any_portions(portions):
    early, late = [0.1, 0.6, 0.7, 0.8, 0.1, 0.1], [0.1, 0.1, 0.9, 0.6, 0.6, 0.1]  # "b" is reported later, but peaks before "a"
    machine = make_machine(2)
    events = [event for part in cut(make_scores(early, late), portions) for event in machine.feed(part)]
    assert [event.word for event in events] == ["a", "b"]


def test_threshold_zero_hears_events_even_in_scores_of_nothing():
    assert len(make_machine(threshold=0.0).feed(make_scores([0.0] * 10))) == 1


def test_one_threshold_per_word_is_needed():
    with pytest.raises(ValueError, match="argument 2"):
        EventMachine(("a", "b"), EventSettings((0.5,)))


# Few values, so that tracks often meet the threshold and the release exactly.
levels = st.sampled_from([0.0, 0.1, 0.24, 0.25, 0.26, 0.4, 0.49, 0.5, 0.51, 0.7, 0.9, 1.0])
tracks = st.lists(st.tuples(levels, st.integers(1, 6)), max_size=40).map(
    lambda runs: [level for level, length in runs for _ in range(length)]
)
event_settings = st.builds(
    EventSettings,
    st.just((0.5,)),
    release_ratio=st.sampled_from([0.5, 0.8, 1.0]),
    confirm_frames=st.integers(1, 4),
    refractory_frames=st.integers(0, 12),
)


def reference(track: list[float], options: EventSettings) -> list[int]:
    """Indices of the reporting frames, from looking at the whole track."""
    (threshold,) = options.threshold
    reports: list[int] = []
    opened = 0
    for frame in range(len(track)):
        if frame < opened or frame + 1 - options.confirm_frames < opened:
            continue
        if min(track[frame + 1 - options.confirm_frames : frame + 1]) < threshold:
            continue
        reports.append(frame)
        rested = range(frame + max(options.refractory_frames, 1), len(track))
        opened = next((later for later in rested if track[later] < threshold * options.release_ratio), len(track) + 99)
    return reports


@given(track=tracks, options=event_settings)
@settings(deadline=None, max_examples=300)
def test_machine_agrees_with_the_reference(track, options):
    events = EventMachine(("a",), options).feed(make_scores(track))
    runs = [track[frame + 1 - options.confirm_frames : frame + 1] for frame in reference(track, options)]
    assert [event.score for event in events] == [max(run) for run in runs]
    for event, frame, run in zip(events, reference(track, options), runs, strict=True):
        assert round(event.peak / FRAME_SECONDS) - 1 == max(i for i in range(frame + 1) if track[i] == max(run))
        ends = [(frame - options.confirm_frames + 2 + i) * FRAME_SECONDS - 0.1 for i in range(len(run))]
        assert event.end == pytest.approx(max(sum(a * b for a, b in zip(ends, run, strict=True)) / sum(run), 0), abs=1e-3)


@given(both=st.lists(st.tuples(levels, levels), max_size=80), options=event_settings, portions=st.lists(st.integers(0, 20), max_size=20))
@settings(deadline=None, max_examples=200)
def test_any_portions_give_equal_events(both, options, portions):
    scores = make_scores([a for a, _ in both], [b for _, b in both])
    options = EventSettings((0.5, 0.4), options.release_ratio, options.confirm_frames, options.refractory_frames)
    at_once = EventMachine(("a", "b"), options).feed(scores)
    machine = EventMachine(("a", "b"), options)
    assert [event for part in cut(scores, portions) for event in machine.feed(part)] == at_once


@given(track=tracks, options=event_settings)
@settings(deadline=None, max_examples=100)
def test_events_are_at_least_the_refractory_time_apart(track, options):
    machine = EventMachine(("a",), options)
    told = [i for i, part in enumerate(cut(make_scores(track), [1] * len(track))) if machine.feed(part)]
    assert all(later - earlier >= options.refractory_frames for earlier, later in pairwise(told))
