"""Events found fast are those of the event machine; one word is counted once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.events import Detection, EventMachine, EventSettings, Scores
from kws.training import matching, trials
from kws.training.calibrate import THRESHOLDS
from kws.training.matching import Match, match, report_frames

LEVELS = (0.0, 0.05, 0.2, 0.4, 0.45, 0.5, 0.55, 0.8, 0.9, 1.0)
MACHINE = EventSettings((0.5,))


def make_scores(pooled) -> Scores:
    pooled = np.asarray(pooled, np.float32)[:, None]
    return Scores(np.arange(1, len(pooled) + 1) * 0.02, pooled, pooled, np.full((*pooled.shape, 2), 0.1))


def by_machine(scores: Scores, threshold: float, machine: EventSettings) -> list[tuple[int, Detection]]:
    """(frame, event) of each report, from the event machine itself, one frame after the other."""
    runner = EventMachine(("word",), machine.at([threshold]))
    steps = ((at, runner.feed(trials.portion(scores, slice(at, at + 1)))) for at in range(len(scores.times)))
    return [(at, event) for at, found in steps for event in found]


def wandering(frames: int, seed: int) -> np.ndarray:
    """A score that rises and falls as those of models do, with long stretches near nothing."""
    rng = np.random.default_rng(seed)
    logits = np.convolve(rng.standard_normal(frames + 10) * 9, np.hanning(11) / 3, "valid")[:frames] - 2
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


runs = st.lists(st.tuples(st.sampled_from(LEVELS), st.integers(1, 12)), max_size=25)
machines = st.builds(
    EventSettings,
    st.just((0.5,)),
    release_ratio=st.sampled_from([0.1, 0.5, 0.9, 1.0, 1.2]),
    confirm_frames=st.integers(1, 5),
    refractory_frames=st.integers(0, 25),
)


@settings(deadline=None, max_examples=300)
@given(runs, machines, st.sampled_from([*LEVELS[1:], 0.3, 0.500001]))
def test_fast_equals_the_machine(runs, machine, threshold):
    scores = make_scores([level for level, length in runs for _ in range(length)])
    expected = by_machine(scores, threshold, machine)
    (frames,) = report_frames(scores.pooled[:, 0], [threshold], machine)
    assert frames.tolist() == [frame for frame, _ in expected]
    assert matching.peak_seconds(scores.times, scores.pooled[:, 0], frames, machine).tolist() == [event.peak for _, event in expected]


@pytest.mark.parametrize("seed", range(3))
def test_fast_equals_the_machine_on_a_long_track_at_every_threshold(seed):
    scores = make_scores(wandering(4000, seed))
    found = report_frames(scores.pooled[:, 0], THRESHOLDS, MACHINE)
    assert sum(map(len, found)) > 100
    for threshold, frames in zip(THRESHOLDS, found, strict=True):
        assert frames.tolist() == [frame for frame, _ in by_machine(scores, threshold, MACHINE)]
        assert len(frames) == len(trials.events(scores, ("word",), MACHINE.at([threshold])))


def test_hits_are_those_of_the_machine():
    for seed in range(20):
        trial = trials.Trial(make_scores(wandering(300, seed)), 2.0, 2.6)
        expected = [bool(trials.found(trial, 0, ("word",), MACHINE.at([t]))) for t in THRESHOLDS]
        assert matching.hits(trial, 0, THRESHOLDS, MACHINE).tolist() == expected
        assert [trials.decision(trial, 0, ("word",), MACHINE.at([t])) is not None for t in THRESHOLDS] == expected


@pytest.mark.parametrize("shift", [1, 50, 1000])
def test_a_later_word_is_found_as_much_later(shift):
    pooled = wandering(500, 1)
    early, late = (report_frames(track, [0.5], MACHINE)[0] for track in (pooled, np.concatenate([np.zeros(shift), pooled])))
    assert (early + shift).tolist() == late.tolist()


def test_nothing_to_hear():
    assert [len(frames) for frames in report_frames(np.zeros(0), [0.1, 0.5], MACHINE)] == [0, 0]
    assert [len(frames) for frames in report_frames(np.ones(2), [0.1, 0.5], MACHINE)] == [0, 0]  # shorter than a report needs


@pytest.mark.parametrize(
    ("peaks", "expected"),
    [
        ([], Match(None, (), ())),
        ([5.1], Match(0, (), ())),
        ([4.65, 5.75], Match(0, (1,), ())),  # both limits belong to the word
        ([4.64, 5.76], Match(None, (), (0, 1))),
        ([5.1, 5.2, 5.3], Match(0, (1, 2), ())),
        ([1.0, 5.1, 5.6, 9.0], Match(1, (2,), (0, 3))),
    ],
    ids=["none", "one", "limits", "beside", "one word is one hit", "all kinds"],
)
def test_each_event_is_one_thing(peaks, expected):
    events = [Detection("word", peak - 0.5, peak, peak, 0.9) for peak in peaks]
    made = match(events, 5.0)
    assert made == expected
    assert (made.hit is not None) + len(made.doubles) + len(made.outside) == len(peaks)


@pytest.mark.parametrize(("audio_seconds", "expected"), [(float("inf"), False), (4.0, True)])
def test_a_late_event_belongs_to_the_end_of_the_audio(audio_seconds, expected):
    """What is only known after the end is told at the end, by a stream and so here."""
    pooled = np.zeros(250)
    pooled[208:215] = 0.9  # 4.2 s, and the word ends at 3.4 s
    trial = trials.Trial(make_scores(pooled), 3.0, 3.4)
    assert matching.hits(trial, 0, [0.5], MACHINE, audio_seconds=audio_seconds).tolist() == [expected]
