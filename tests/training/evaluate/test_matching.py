"""Events at many thresholds are those of a machine at each; one word is counted once."""

from dataclasses import replace

import numpy as np
import pytest

from kws.runtime.postprocess import Detection, EventSettings, Scores
from kws.training.evaluate import matching, scored_words
from kws.training.evaluate.calibration import THRESHOLDS
from kws.training.evaluate.matching import Match, match_events

MACHINE = EventSettings((0.5,))


def make_scores(pooled) -> Scores:
    pooled = np.asarray(pooled, np.float32)[:, None]
    return Scores(
        np.arange(1, len(pooled) + 1) * 0.02, pooled, pooled, np.full((*pooled.shape, 2), 0.1)
    )


def wandering(frames: int, seed: int) -> np.ndarray:
    """A score that rises and falls as those of models do, with long stretches near nothing."""
    rng = np.random.default_rng(seed)
    logits = (
        np.convolve(rng.standard_normal(frames + 10) * 9, np.hanning(11) / 3, "valid")[:frames] - 2
    )
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_alarms_at_every_threshold_are_those_of_the_machine(seed):
    scores = make_scores(wandering(4000, seed))
    counts = matching.alarm_counts(scores, 0, THRESHOLDS, MACHINE)
    made = [scored_words.events(scores, ("word",), MACHINE.at([each])) for each in THRESHOLDS]
    assert counts.tolist() == [len(events) for events in made]
    assert counts[0] > 50


def test_each_word_has_its_own_alarms():
    tracks = [make_scores(wandering(1000, seed)) for seed in (1, 2)]
    pooled = np.hstack([each.pooled for each in tracks])
    both = Scores(tracks[0].times, pooled, pooled, np.full((*pooled.shape, 2), 0.1))
    two = replace(MACHINE, threshold=(0.5, 0.5))
    for word, track in enumerate(tracks):
        expected = matching.alarm_counts(track, 0, THRESHOLDS, MACHINE)
        assert matching.alarm_counts(both, word, THRESHOLDS, two).tolist() == expected.tolist()


def test_hits_are_those_of_the_machine():
    for seed in range(20):
        trial = scored_words.Trial(make_scores(wandering(300, seed)), 2.0, 2.6)
        expected = [
            bool(scored_words.found(trial, 0, ("word",), MACHINE.at([t]))) for t in THRESHOLDS
        ]
        assert matching.hits(trial, 0, THRESHOLDS, MACHINE).tolist() == expected
        assert [
            scored_words.find_decision(trial, 0, ("word",), MACHINE.at([t])) is not None
            for t in THRESHOLDS
        ] == expected


def test_decisions_are_the_events_in_their_order():
    scores = make_scores(wandering(1000, 3))
    made = scored_words.detect_with_times(scores, ("word",), MACHINE)
    assert [event for event, _ in made] == scored_words.events(scores, ("word",), MACHINE) != []
    for event, known in made:  # the wait, and two frames at most from the highest score to the last
        assert 0.12 - 1e-9 <= known - event.peak <= 0.16 + 1e-9


@pytest.mark.parametrize("shift", [1, 50, 1000])
def test_a_later_word_is_found_as_much_later(shift):
    pooled = wandering(500, 1)
    shifted = np.concatenate([np.zeros(shift), pooled])
    early = scored_words.events(make_scores(pooled), ("word",), MACHINE)
    late = scored_words.events(make_scores(shifted), ("word",), MACHINE)
    moved = [event.peak + shift * 0.02 for event in early]
    assert moved == pytest.approx([event.peak for event in late])


def test_nothing_to_hear():
    for frames, alarms in ((0, 0), (8, 0), (9, 1)):  # an event needs three frames and a wait of six
        counts = matching.alarm_counts(make_scores(np.ones(frames)), 0, [0.1, 0.5], MACHINE)
        assert counts.tolist() == [alarms] * 2


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
    made = match_events(events, 5.0)
    assert made == expected
    assert (made.hit is not None) + len(made.duplicates) + len(made.false_alarms) == len(peaks)


@pytest.mark.parametrize(("audio_seconds", "expected"), [(float("inf"), False), (4.0, True)])
def test_a_late_event_belongs_to_the_end_of_the_audio(audio_seconds, expected):
    """What is only known after the end is told at the end, by a stream and so here."""
    pooled = np.zeros(250)
    pooled[208:215] = 0.9  # 4.2 s, and the word ends at 3.4 s
    trial = scored_words.Trial(make_scores(pooled), 3.0, 3.4)
    best = matching.best_score(trial, 0, MACHINE, audio_seconds=audio_seconds)
    assert best == (pytest.approx(0.9) if expected else 0)
