"""Connectionist temporal classification (Graves et al., ICML 2006): how well a phone sequence fits
the output of a phone recognizer."""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

BLANK = 0


def compute_ctc_llr(
    log_probs: np.ndarray, phones: Sequence[int], window_frames: int, end_frames: int
) -> np.ndarray:
    """Log-likelihood ratio per phone in every window of `window_frames` frames.

    The ratio compares, over the same frames, the best path through the phones with the best path of
    all. It is 0 where the phones are exactly what the recognizer reads, and negative elsewhere. The
    path through the phones keeps their order and stays at each for a frame or more, with or without
    blanks in between. It begins anywhere in the window and ends in its last `end_frames` frames.

    log_probs [F, P]: log probabilities of the phones and, at index 0, of the blank. Returns
    [F - window_frames + 1].
    """
    path = _interleave_blanks(phones)
    losses = (log_probs - log_probs.max(axis=1, keepdims=True))[:, path].astype(np.float64)
    sums = np.concatenate([np.zeros((1, len(path))), losses.cumsum(axis=0)])
    # [windows, len(path), window_frames]: of the frames before each frame, and with it.
    sums_before = sliding_window_view(sums[:-1], window_frames, axis=0)
    sums_through = sliding_window_view(sums[1:], window_frames, axis=0)
    # For each position on the path the best loss [windows, window_frames] of the paths that are
    # there at each frame.
    best: list[np.ndarray] = []
    for position in range(len(path)):
        entry = _one_frame_later(best[-1]) if best else np.zeros_like(sums_before[:, 0])
        if _may_skip_blank(path, position):
            entry = np.maximum(entry, _one_frame_later(best[-2]))
        best_entry = np.maximum.accumulate(entry - sums_before[:, position], axis=1)
        best.append(sums_through[:, position] + best_entry)
    ratios: np.ndarray = best[-1][:, window_frames - end_frames :].max(axis=1) / len(phones)
    return ratios


def _interleave_blanks(phones: Sequence[int]) -> np.ndarray:
    path = np.full(2 * len(phones) - 1, BLANK)
    path[::2] = phones
    return path


def _may_skip_blank(path: np.ndarray, position: int) -> bool:
    """Whether a path may step to a phone from the phone before, which must differ."""
    is_phone = position % 2 == 0
    return position >= 2 and is_phone and bool(path[position] != path[position - 2])


def _one_frame_later(losses: np.ndarray) -> np.ndarray:
    nothing_before = np.full((len(losses), 1), -np.inf)
    return np.hstack([nothing_before, losses[:, :-1]])
