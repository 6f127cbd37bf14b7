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
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kws.audio.recordings import SAMPLE_RATE
from kws.runtime.ctc import compute_ctc_llr
from kws.runtime.session import open_session

if TYPE_CHECKING:
    import onnxruntime

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
class VerifierConfig:
    """The verifier in a model file.

    graph: the phone recognizer, an ONNX model from `audio` [1, N] and `state` [1, S] to log
    probabilities `phones` [1, F, P] and `new_state`. pronunciations: those of each word; a word
    without any is not verified. receptive_field_samples: the audio on which a frame of the
    recognizer depends.
    """

    graph: bytes
    pronunciations: Sequence[Sequence[Pronunciation]]
    receptive_field_samples: int
    fusion: Fusion


@dataclass(frozen=True)
class AudioHistory:
    """The latest samples of B streams as consecutive blocks [B, n]. They are joined only where
    something is verified."""

    blocks: tuple[np.ndarray, ...]

    def append(self, block: np.ndarray, min_samples: int) -> "AudioHistory":
        """The history with another block, and without those before the last `min_samples`."""
        blocks = [*self.blocks, block[:, -min_samples:].copy()]
        samples = sum(each.shape[1] for each in blocks)
        while samples - blocks[0].shape[1] >= min_samples:
            samples -= blocks.pop(0).shape[1]
        return AudioHistory(tuple(blocks))

    def of_stream(self, stream: int) -> np.ndarray:
        return np.concatenate([block[stream] for block in self.blocks])


@dataclass(frozen=True)
class PhoneCache:
    """The recognizer at the latest frame of a stream: its state [1, S], and the log probabilities
    [C - 1, P] of the latest frames."""

    recognizer_state: np.ndarray
    log_probs: np.ndarray


@dataclass(frozen=True)
class VerifierState:
    """The past of B streams: their audio, `scores` [B, H - 1, W] and `boundaries` [B, H - 1, W, 2]
    of the latest frames as the network gave them, and, for each stream whose latest frame was
    verified, what the recognizer needs to go on."""

    audio: AudioHistory
    scores: np.ndarray
    boundaries: np.ndarray
    phone_caches: tuple[PhoneCache | None, ...]


class _Held(NamedTuple):
    """Scores [B, F, W] and boundaries [B, F, W, 2] held from earlier frames."""

    scores: np.ndarray
    boundaries: np.ndarray


class Verifier:
    """Verifies the scores of the words of a model."""

    def __init__(self, config: VerifierConfig, frame_samples: int):
        self.config = config
        self.recognizer = PhoneRecognizer(config.graph)
        self._frame_samples = frame_samples
        self._receptive_field_frames = -(-config.receptive_field_samples // frame_samples)
        history_frames = (CONTEXT_FRAMES - 1) + (self._receptive_field_frames - 1)
        self._history_samples = history_frames * frame_samples

    def initial_state(self, batch: int) -> VerifierState:
        """State of `batch` streams before their first sample: silence and no scores."""
        words = len(self.config.pronunciations)
        return VerifierState(
            audio=AudioHistory((np.zeros((batch, self._history_samples), np.float32),)),
            scores=np.zeros((batch, HOLD_FRAMES - 1, words), np.float32),
            boundaries=np.zeros((batch, HOLD_FRAMES - 1, words, 2), np.float32),
            phone_caches=(None,) * batch,
        )

    def rescore(
        self, scores: np.ndarray, boundaries: np.ndarray, audio: np.ndarray, state: VerifierState
    ) -> tuple[np.ndarray, np.ndarray, VerifierState]:
        """Verified scores [B, F, W] and boundaries [B, F, W, 2] of new frames, and the new state.

        audio [B, F · frame_samples]: the samples of these frames. A frame with a held score has the
        boundaries that belong to this score, counted back from its own end.
        """
        recent_scores = np.concatenate([state.scores, scores], axis=1)
        recent_boundaries = np.concatenate([state.boundaries, boundaries], axis=1)
        phone_caches: tuple[PhoneCache | None, ...] = (None,) * len(scores)
        if recent_scores.max() >= GATE_SCORE:
            held = self._hold(recent_scores, recent_boundaries)
            gated = self._gate(held.scores)
            llr, phone_caches = self._compare_phones(gated, audio, state)
            fused = fuse(held.scores, llr, self.config.fusion)
            scores = np.where(gated, fused, scores).astype(scores.dtype)
            boundaries = np.where(gated[..., None], held.boundaries, boundaries)
        new_state = VerifierState(
            audio=state.audio.append(audio, self._history_samples),
            scores=recent_scores[:, -(HOLD_FRAMES - 1) :],
            boundaries=recent_boundaries[:, -(HOLD_FRAMES - 1) :],
            phone_caches=phone_caches,
        )
        return scores, boundaries, new_state

    def _hold(self, recent_scores: np.ndarray, recent_boundaries: np.ndarray) -> _Held:
        """The highest score of the last H frames, with its boundaries."""
        windows = sliding_window_view(recent_scores, HOLD_FRAMES, axis=1)  # [B, F, W, H]
        offsets = windows.argmax(axis=-1)
        frames = np.arange(windows.shape[1])[:, None] + offsets
        boundaries = np.take_along_axis(recent_boundaries, frames[..., None], axis=1)
        age_frames = HOLD_FRAMES - 1 - offsets
        age_seconds = age_frames * np.float32(self._frame_samples / SAMPLE_RATE)
        return _Held(windows.max(axis=-1), boundaries + age_seconds[..., None])

    def _gate(self, held_scores: np.ndarray) -> np.ndarray:
        """Which scores [B, F, W] are verified: high ones of words with known pronunciations."""
        has_pronunciation = np.array([bool(each) for each in self.config.pronunciations])
        gated: np.ndarray = (held_scores >= GATE_SCORE) & has_pronunciation
        return gated

    def _compare_phones(
        self, gated: np.ndarray, audio: np.ndarray, state: VerifierState
    ) -> tuple[np.ndarray, tuple[PhoneCache | None, ...]]:
        """Log-likelihood ratios [B, F, W], 0 where nothing is verified, and the new caches."""
        llr = np.zeros(gated.shape)
        caches: list[PhoneCache | None] = [None] * len(gated)
        for stream in np.flatnonzero(gated.any(axis=(1, 2))).tolist():
            samples = np.concatenate([state.audio.of_stream(stream), audio[stream]])
            llr[stream], caches[stream] = self._compare_phones_of_stream(
                gated[stream], samples, state.phone_caches[stream]
            )
        return llr, tuple(caches)

    def _compare_phones_of_stream(
        self, gated: np.ndarray, samples: np.ndarray, cache: PhoneCache | None
    ) -> tuple[np.ndarray, PhoneCache | None]:
        """The same for one stream: [F, W]. samples: its history and its new audio."""
        llr = np.zeros(gated.shape)
        for first, end in _find_segments(gated):
            if first > CONTEXT_FRAMES:
                cache = None  # to begin anew takes less audio
            log_probs, cache = self._recognize_phones(samples, first, end, len(gated), cache)
            for word in np.flatnonzero(gated[first:end].any(axis=0)).tolist():
                llr[first:end, word] = self._compute_word_llr(log_probs, word)
        return llr, cache

    def _recognize_phones(
        self, samples: np.ndarray, first: int, end: int, frames: int, cache: PhoneCache | None
    ) -> tuple[np.ndarray, PhoneCache | None]:
        """Log probabilities of the frames from `first` - (C-1) to `end` - 1, and the cache if `end`
        is the end of the step, which has so many `frames`."""
        if cache:
            start, state = 0, cache.recognizer_state
        else:
            start = first - (CONTEXT_FRAMES - 1) - (self._receptive_field_frames - 1)
            state = self.recognizer.initial_state()
        frame_zero = len(samples) - frames * self._frame_samples
        audio = samples[
            frame_zero + start * self._frame_samples : frame_zero + end * self._frame_samples
        ]
        log_probs, state = self.recognizer.run(audio, state)
        if cache:  # whose log_probs begin C - 1 frames before frame 0
            log_probs = np.concatenate([cache.log_probs, log_probs])[first:]
        else:
            log_probs = log_probs[self._receptive_field_frames - 1 :]
        if end < frames:
            return log_probs, None
        return log_probs, PhoneCache(state, log_probs[-(CONTEXT_FRAMES - 1) :])

    def _compute_word_llr(self, log_probs: np.ndarray, word: int) -> np.ndarray:
        """That of the pronunciation that fits best, for each window of C frames."""
        ratios = [
            compute_ctc_llr(log_probs, phones, CONTEXT_FRAMES, END_TOLERANCE_FRAMES)
            for phones in self.config.pronunciations[word]
        ]
        best: np.ndarray = np.max(ratios, axis=0)
        return best


class PhoneRecognizer:
    """Runs the graph of a verifier. The session is opened at its first use: most recordings need
    none."""

    def __init__(self, graph: bytes):
        self._graph = graph

    @cached_property
    def session(self) -> "onnxruntime.InferenceSession":
        return open_session(self._graph)

    def initial_state(self) -> np.ndarray:
        """State [1, S] that knows no audio."""
        return np.zeros((1, self.session.get_inputs()[1].shape[1]), np.float32)

    def run(self, audio: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log probabilities [F, P] for audio [F · frame_samples], and the new state."""
        log_probs, new_state = self.session.run(
            ["phones", "new_state"], {"audio": audio[None], "state": state}
        )
        return log_probs[0], new_state


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
    return [(int(run[0]), int(run[-1]) + 1) for run in runs]
