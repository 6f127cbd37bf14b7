"""The CTC log-likelihood ratio, against a search through all paths."""

import itertools

import numpy as np
import pytest

from kws.runtime.ctc import compute_ctc_llr


def random_log_probs(frames: int, phones: int) -> np.ndarray:
    logits = np.random.default_rng(1).standard_normal((frames, phones))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def search_all_paths(log_probs: np.ndarray, phones: list[int], end_frames: int) -> float:
    """The ratio of one window: every first and last frame, every labelling in between."""
    losses, best = log_probs - log_probs.max(1, keepdims=True), -np.inf
    for last in range(len(losses) - end_frames, len(losses)):
        for first in range(last + 1):
            for path in itertools.product(range(3), repeat=last - first + 1):
                collapsed = [phone for phone, _ in itertools.groupby(path) if phone]
                if collapsed == phones and path[0] and path[-1]:
                    best = max(best, losses[np.arange(first, last + 1), path].sum())
    return best / len(phones)


@pytest.mark.parametrize("phones", [[1], [1, 2], [1, 1], [2, 1, 2]], ids=str)
def test_ratio_is_that_of_the_best_path(phones):
    log_probs = random_log_probs(8, 3)
    expected = [search_all_paths(log_probs[at : at + 6], phones, end_frames=3) for at in range(3)]
    actual = compute_ctc_llr(log_probs, phones, window_frames=6, end_frames=3)
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_phones_that_are_recognized_have_ratio_zero():
    log_probs = np.full((104, 3), -9.0)
    log_probs[:, 0] = -0.1
    log_probs[80:83, 1] = log_probs[86:90, 2] = 0.0
    ratios = compute_ctc_llr(log_probs, [1, 2], window_frames=100, end_frames=25)
    np.testing.assert_allclose(ratios[:4], 0, atol=1e-12)
    assert (compute_ctc_llr(log_probs, [2, 1], window_frames=100, end_frames=25) < -1).all()
