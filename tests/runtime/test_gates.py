"""Scores below the gates of event settings change no event, so a stream that is asked for events
alone leaves them unverified."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from factories import make_audio, make_model, make_network, make_verifier

from kws import Detection, Spotter
from kws.audio.recordings import read
from kws.runtime.postprocess import (
    SAME_WORD_RATIO,
    UNREACHABLE_THRESHOLD,
    DetectionPostprocessor,
    EventSettings,
)

ROOT = Path(__file__).parents[2]
RECORDINGS = sorted((ROOT / "recordings").glob("*.wav"))


def find_events(
    scores: Sequence[float], options: EventSettings, boundaries: np.ndarray
) -> list[Detection]:
    pooled = np.array(scores, np.float32).reshape(-1, 1)
    return DetectionPostprocessor(("a",), options, 0.02).feed(pooled, boundaries)


def random_settings(rng: np.random.Generator) -> EventSettings:
    return EventSettings(
        (float(rng.choice([0.25, 0.5, 0.7311])),),
        release_ratio=float(rng.choice([0.3, 0.5, 0.8, 1.0])),
        confirm_frames=int(rng.integers(1, 4)),
        refractory_frames=int(rng.integers(0, 21)),
    )


def random_track(rng: np.random.Generator, options: EventSettings) -> np.ndarray:
    """Words that begin anew after a dip, by way of a lower peak: at, or close to, the limits that
    matter."""
    (threshold,), ratio = options.threshold, options.release_ratio
    high, dip = [1, 1 / SAME_WORD_RATIO, SAME_WORD_RATIO], [SAME_WORD_RATIO * ratio, ratio]
    phrase = (high, [*dip, 0.2 * ratio], high[::2], high, [0.1 * ratio, dip[0]])
    heights = np.array([rng.choice(levels) for _ in range(12) for levels in phrase])
    scores = heights * threshold + rng.choice([-0.02, -0.0002, 0, 0.0002, 0.02], len(heights))
    return np.clip(scores.repeat(rng.choice([2, 3, 4, 8, 25], len(scores))), 0, 1)


def count_changes(gate_factor: float) -> int:
    """How many of 300 tracks have other events where scores below this multiple of the gate are
    others, and their boundaries, too."""
    changes = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        options = random_settings(rng)
        track, gate = random_track(rng, options), options.gates[0] * gate_factor
        boundaries = rng.uniform(0, 1, (len(track), 1, 2))
        others = np.where(
            rng.random(len(track)) < 0.3, gate - 1e-6, rng.uniform(0, gate, len(track))
        )
        is_low = track < gate
        other_boundaries = np.where(is_low[:, None, None], rng.uniform(-9, 9), boundaries)
        changes += find_events(track, options, boundaries) != find_events(
            np.where(is_low, others, track), options, other_boundaries
        )
    return changes


def test_scores_below_the_gate_change_no_event() -> None:
    assert count_changes(1.0) == 0


def test_a_higher_gate_would_change_events() -> None:
    assert count_changes(1.03) > 0


@pytest.mark.parametrize(("dip", "events"), [(0.39, 1), (0.41, 2)])
def test_the_gate_is_no_lower_than_it_must_be(dip: float, events: int) -> None:
    """A peak of 0.8 of the threshold counts as the beginning of the word where the score has fallen
    below half of it; then the event that follows repeats it."""
    track = [1.0] * 3 + [dip] * 30 + [0.8] * 8 + [1.0] * 3 + [0.0] * 10
    options = EventSettings((1.0,))
    assert len(find_events(track, options, np.zeros((len(track), 1, 2)))) == events
    assert options.gates == pytest.approx((0.4,), abs=2e-4)


def test_a_class_that_is_no_word_is_never_verified() -> None:
    options = EventSettings((UNREACHABLE_THRESHOLD, 0.5))
    assert options.gates == pytest.approx((np.inf, 0.2), abs=2e-4)


def run(spotter: Spotter, samples: np.ndarray, *, events_only: bool) -> list[Detection]:
    stream, events = spotter.stream(events_only=events_only), []
    for at in range(0, len(samples), 4000):
        events += stream.feed(samples[at : at + 4000])
    return events + stream.finish()


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_stream_of_events_alone_has_the_events_of_the_recordings(
    path: Path, threshold: float
) -> None:
    spotter, samples = Spotter.load("welcome", threshold=threshold), read(path)
    assert run(spotter, samples, events_only=True) == run(spotter, samples, events_only=False)


@pytest.mark.parametrize("seed", range(6))
def test_a_stream_of_events_alone_has_the_events_of_random_models(
    tmp_path: Path, seed: int
) -> None:
    verifier = make_verifier({"word0": ("ban",), "word1": ("nab", "a")})
    path = make_model(tmp_path, make_network(2, seed=seed), verifier=verifier)
    samples, unverified, events = make_audio(6.0, seed=seed)[0], 0, 0
    for threshold in (0.2, 0.5, 0.8):
        spotter = Spotter.load(path, threshold=threshold)
        expected = run(spotter, samples, events_only=False)
        assert run(spotter, samples, events_only=True) == expected
        events += len(expected)
        streams = [spotter.stream(events_only=each) for each in (True, False)]
        for stream in streams:
            stream.feed(samples)
        low, all_scores = (stream.scores.pooled for stream in streams)
        unverified += (low != all_scores).sum()
        # Where they differ, neither reaches the gate.
        both = np.maximum(low, all_scores)
        gates = np.maximum(spotter.events.gates, 0.1)
        assert (both < gates)[low != all_scores].all()
    assert events >= 5 and unverified > 0
