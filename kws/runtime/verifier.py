"""The verifier: the second stage, which compares a high score with the phones in the audio.

The scanning network gives a high score to everything that resembles its word. The verifier runs a
phone recognizer (`kws.training.phones`) over the last two seconds, but only where the score is
high, which is rare. There it measures how well the phones of the word fit the audio: the CTC
log-likelihood ratio per phone, `llr` (`kws.runtime.ctc`). It lowers the log odds of the score:

    log odds  -  scale · (ceiling - clip(llr, floor, ceiling))

An `llr` of `ceiling` or more leaves the score as it is. The verifier never raises a score.

The time axis, in frames. A step brings the frames 0 to F - 1. H is HOLD_FRAMES, C is
CONTEXT_FRAMES, and R is the receptive field of the recognizer:

     -(C-1)-(R-1)         -(C-1)             -(H-1)       0              F-1
          |                  |                  |         |               |
          |<---------- audio history ------------------->|<-- new audio ->|
                                                |<----- scores ---------->|   held from
                             |<------------ phones ---------------------->|   compared with

Frame t holds the highest score of the frames t - (H-1) to t, and is compared with the phones of the
frames t - (C-1) to t. The first of these phones needs R frames of audio. So a score depends on a
fixed length of audio, however the audio is divided into steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kws.audio.recordings import SAMPLE_RATE
from kws.runtime.ctc import compute_ctc_llr
from kws.runtime.numpy_network import NumpyNetwork

GATE_SCORE = 0.1  # lower scores are not verified
HOLD_FRAMES = 8  # the recognizer may notice the last phones that much later than the network
CONTEXT_FRAMES = 100  # 2 s, in which the phones of the word must lie
END_TOLERANCE_FRAMES = 25  # in one of the last so many frames the last phone must be

Pronunciation = Sequence[int]  # phone indices


@dataclass(frozen=True)
class Fusion:
    """How the log-likelihood ratio lowers a score (see above)."""

    scale: float
    ceiling: float
    floor: float


@dataclass(frozen=True)
class AudioHistory:
    """The latest samples of a stream as consecutive blocks [n]. They are joined only where
    something is verified."""

    blocks: tuple[np.ndarray, ...]

    def append(self, block: np.ndarray, min_samples: int) -> "AudioHistory":
        """The history with another block, and without those before the last `min_samples`."""
        blocks = [*self.blocks, block[-min_samples:].copy()]
        samples = sum(map(len, blocks))
        while samples - len(blocks[0]) >= min_samples:
            samples -= len(blocks.pop(0))
        return AudioHistory(tuple(blocks))


@dataclass(frozen=True)
class PhoneCache:
    """The recognizer at the latest frame of a stream: its state, and the log probabilities
    [C - 1, P] of the latest frames."""

    recognizer_state: list[np.ndarray]
    log_probs: np.ndarray


@dataclass(frozen=True)
class VerifierState:
    """The past of a stream: its audio, `scores` [H - 1, W] and `boundaries` [H - 1, W, 2] of the
    latest frames as the network gave them, and, where the latest frame was verified, what the
    recognizer needs to go on. gates [W]: from these scores on each word is verified."""

    gates: np.ndarray
    audio: AudioHistory
    scores: np.ndarray
    boundaries: np.ndarray
    phone_cache: PhoneCache | None


class _Held(NamedTuple):
    """Scores [F, W] and boundaries [F, W, 2] held from earlier frames."""

    scores: np.ndarray
    boundaries: np.ndarray


class Verifier:
    """Verifies the scores of the words of a model.

    pronunciations: those of each word; a word without any is not verified.
    """

    def __init__(
        self,
        recognizer: NumpyNetwork,
        pronunciations: Sequence[Sequence[Pronunciation]],
        fusion: Fusion,
    ):
        self.recognizer, self.pronunciations, self.fusion = recognizer, pronunciations, fusion
        self._frame_samples = recognizer.frame_samples
        history_frames = (CONTEXT_FRAMES - 1) + (recognizer.receptive_field_frames - 1)
        self._history_samples = history_frames * self._frame_samples

    def initial_state(self, gates: Sequence[float] | None = None) -> VerifierState:
        """State of a stream before its first sample: silence and no scores. gates: for each word
        the score from which it is verified; GATE_SCORE by default."""
        words = len(self.pronunciations)
        lowest = [GATE_SCORE] * words if gates is None else gates
        pairs = zip(lowest, self.pronunciations, strict=True)
        return VerifierState(
            gates=np.array([gate if known else np.inf for gate, known in pairs], np.float32),
            audio=AudioHistory((np.zeros(self._history_samples, np.float32),)),
            scores=np.zeros((HOLD_FRAMES - 1, words), np.float32),
            boundaries=np.zeros((HOLD_FRAMES - 1, words, 2), np.float32),
            phone_cache=None,
        )

    def rescore(
        self, scores: np.ndarray, boundaries: np.ndarray, audio: np.ndarray, state: VerifierState
    ) -> tuple[np.ndarray, np.ndarray, VerifierState]:
        """Verified scores [F, W] and boundaries [F, W, 2] of new frames, and the new state.

        audio [F · frame_samples]: the samples of these frames. A frame with a held score has the
        boundaries that belong to this score, counted back from its own end.
        """
        recent_scores = np.concatenate([state.scores, scores])
        recent_boundaries = np.concatenate([state.boundaries, boundaries])
        phone_cache = None
        if (recent_scores >= state.gates).any():
            held = self._hold(recent_scores, recent_boundaries)
            gated = held.scores >= state.gates
            llr, phone_cache = self._compare_phones(gated, audio, state)
            fused = fuse(held.scores, llr, self.fusion)
            scores = np.where(gated, fused, scores).astype(scores.dtype)
            boundaries = np.where(gated[..., None], held.boundaries, boundaries)
        new_state = VerifierState(
            gates=state.gates,
            audio=state.audio.append(audio, self._history_samples),
            scores=recent_scores[-(HOLD_FRAMES - 1) :],
            boundaries=recent_boundaries[-(HOLD_FRAMES - 1) :],
            phone_cache=phone_cache,
        )
        return scores, boundaries, new_state

    def _hold(self, recent_scores: np.ndarray, recent_boundaries: np.ndarray) -> _Held:
        """The highest score of the last H frames, with its boundaries."""
        windows = sliding_window_view(recent_scores, HOLD_FRAMES, axis=0)  # [F, W, H]
        offsets = windows.argmax(axis=-1)
        frames = np.arange(len(windows))[:, None] + offsets
        boundaries = np.take_along_axis(recent_boundaries, frames[..., None], axis=0)
        age_frames = (HOLD_FRAMES - 1 - offsets).astype(np.float32)
        age_seconds = age_frames * (self._frame_samples / SAMPLE_RATE)
        return _Held(windows.max(axis=-1), boundaries + age_seconds[..., None])

    def _compare_phones(
        self, gated: np.ndarray, audio: np.ndarray, state: VerifierState
    ) -> tuple[np.ndarray, PhoneCache | None]:
        """Log-likelihood ratios [F, W], 0 where nothing is verified, and the new cache."""
        llr = np.zeros(gated.shape)
        cache = state.phone_cache
        segments = _find_segments(gated)
        samples = np.concatenate([*state.audio.blocks, audio]) if segments else audio
        for first, end in segments:
            if first > CONTEXT_FRAMES:
                cache = None  # to begin anew takes less audio
            log_probs, cache = self._recognize_phones(samples, first, end, len(gated), cache)
            for word in np.flatnonzero(gated[first:end].any(axis=0)).tolist():
                llr[first:end, word] = self._compute_word_llr(log_probs, word)
        return llr, cache if segments else None

    def _recognize_phones(
        self, samples: np.ndarray, first: int, end: int, frames: int, cache: PhoneCache | None
    ) -> tuple[np.ndarray, PhoneCache | None]:
        """Log probabilities of the frames from `first` - (C-1) to `end` - 1, and the cache if `end`
        is the end of the step, which has so many `frames`."""
        receptive_field_frames = self.recognizer.receptive_field_frames
        if cache:
            start, state = 0, cache.recognizer_state
        else:
            start = first - (CONTEXT_FRAMES - 1) - (receptive_field_frames - 1)
            state = self.recognizer.empty_state(1)
        frame_zero = len(samples) - frames * self._frame_samples
        audio = samples[
            frame_zero + start * self._frame_samples : frame_zero + end * self._frame_samples
        ]
        outputs, state = self.recognizer.run(audio[None], state)
        log_probs = outputs["phones"][0]
        if cache:  # whose log_probs begin C - 1 frames before frame 0
            log_probs = np.concatenate([cache.log_probs, log_probs])[first:]
        else:
            log_probs = log_probs[receptive_field_frames - 1 :]
        if end < frames:
            return log_probs, None
        return log_probs, PhoneCache(state, log_probs[-(CONTEXT_FRAMES - 1) :])

    def _compute_word_llr(self, log_probs: np.ndarray, word: int) -> np.ndarray:
        """That of the pronunciation that fits best, for each window of C frames."""
        ratios = [
            compute_ctc_llr(log_probs, phones, CONTEXT_FRAMES, END_TOLERANCE_FRAMES)
            for phones in self.pronunciations[word]
        ]
        best: np.ndarray = np.max(ratios, axis=0)
        return best


def fuse(scores: np.ndarray, llr: np.ndarray, fusion: Fusion) -> np.ndarray:
    """Scores whose log odds are lowered by `scale · (ceiling - clip(llr, floor, ceiling))`."""
    deficit = fusion.ceiling - np.clip(llr, fusion.floor, fusion.ceiling)
    odds_divisor = np.exp(fusion.scale * deficit)
    scores = scores.astype(np.float64)
    fused: np.ndarray = scores / (scores + (1 - scores) * odds_divisor)
    return fused


def _find_segments(gated: np.ndarray) -> list[tuple[int, int]]:
    """First frame and end of each run of gated frames [F, W], with gaps of up to C frames in it: to
    go on through a short gap takes less audio than to begin anew."""
    frames = np.flatnonzero(gated.any(axis=1))
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > CONTEXT_FRAMES) + 1)
    return [(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]
