"""A second opinion: what a network that reads has to say before a word is reported.

The scanning network gives a high score to whatever resembles its word, and so, now and then, to
what does not. A reader (`kws.training.phones.objective`) knows the sounds of speech and no word. It is asked
only where the score is not low, which is seldom, and only for the last seconds: how well can the
sounds of the word be read there, compared with what reads best?

    log odds of the score  -  weight · (enough - likeness)
        where the likeness is less than `ceiling`, and `floor` at the least

The likeness is the logarithm, per sound, of the ratio of two paths of connectionist temporal
classification (Graves et al., ICML 2006): the best one through the sounds of the word, and the
best of all. It is 0 where just these sounds are what is read; of people who say the word some
cannot be read at all. So the reader never raises a score, and the most it takes is weight ·
(enough - least). What it says depends on the last `CONTEXT_FRAMES` frames alone, and is the same for every
way to cut the audio.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kws.audio.recordings import SAMPLE_RATE
from kws.runtime.session import open_session

if TYPE_CHECKING:
    import onnxruntime

GATE_SCORE = 0.1  # of the score: what is lower stays as it is, and costs nothing
# Frames for which a score is held: the last sounds may be read so much later than the word
# is recognised.
HOLD_FRAMES = 8
CONTEXT_FRAMES = 100  # frames, 2 s: in which the sounds are looked for
END_TOLERANCE_FRAMES = 25  # the last of these, in one of which the last sound must be read

Pronunciation = Sequence[int]  # the letters of its sounds, by their numbers


@dataclass(frozen=True)
class Fusion:
    """What a likeness counts (see above). These are the numbers of model files that do not tell
    their own."""

    scale: float
    ceiling: float
    floor: float


@dataclass(frozen=True)
class VerifierConfig:
    """graph: an ONNX model (see `Verifier`); pronunciations: of each word, as phone indices."""

    graph: bytes
    pronunciations: Sequence[Sequence[Pronunciation]]
    receptive_field_samples: int
    fusion: Fusion


@dataclass(frozen=True)
class RecognizerState:
    """Of a stream that was read up to its latest frame: the network's state there [1, S], and log p
    of the last letters [WINDOW - 1, L]."""

    network_state: np.ndarray
    log_probs: np.ndarray


@dataclass(frozen=True)
class VerifierState:
    """What a reader needs of the past: `audio`, blocks [B, n], the last of which ends where the
    latest frame does, with so many `num_samples` in all; of the latest HELD - 1 frames `pooled`
    [B, HELD - 1, W] and `boundaries` [B, HELD - 1, W, 2]; and, of streams that were being read, what
    was `recognizer_states`."""

    audio: tuple[np.ndarray, ...]
    num_samples: int
    pooled: np.ndarray
    boundaries: np.ndarray
    recognizer_states: tuple[RecognizerState | None, ...]


class Verifier:
    """Weighs the scores of a model's words.

    open_graph: gives a session of ONNX Runtime, (`audio` [1, N], `state` [1, S]) → (log p `log_probs`
    [1, F, L], `new_state`), of which a frame depends on `receptive_field_samples`. sounds: for each word the
    ways to pronounce it; none where nobody knows, and then its scores stay as they are. weighing:
    how much this reader is to be believed.
    """

    def __init__(self, config: VerifierConfig, frame_samples: int):
        self._graph, self._fusion = config.graph, config.fusion
        self._pronunciations = phones = config.pronunciations
        self._frame_samples, receptive_field_samples = frame_samples, config.receptive_field_samples
        self._has_pronunciation = np.array([bool(each) for each in phones])
        self._receptive_field_frames = -(-receptive_field_samples // frame_samples)  # frames
        # Before the first frame that is new.
        self._history_samples = (self._receptive_field_frames + CONTEXT_FRAMES - 2) * frame_samples

    @cached_property
    def _session(self) -> "onnxruntime.InferenceSession":
        """Made when something is first read: most recordings hold nothing to be read."""
        return open_session(self._graph)

    def initial_state(self, batch: int) -> VerifierState:
        """The past of `batch` streams before their first sample."""
        padding = np.zeros((batch, HOLD_FRAMES - 1, len(self._pronunciations), 2), np.float32)
        return VerifierState(
            (np.zeros((batch, self._history_samples), np.float32),),
            self._history_samples,
            padding[..., 0],
            padding,
            (None,) * batch,
        )

    def rescore(
        self,
        pooled: np.ndarray,
        boundaries: np.ndarray,
        audio: np.ndarray,
        verifier_state: VerifierState,
    ) -> tuple[np.ndarray, np.ndarray, VerifierState]:
        """Scores [B, F, W] and extents [B, F, W, 2] of new frames, weighed, and the past of the
        next ones.

        audio [B, F · frame_samples]: all that is new in them. Where a score is held its extents
        are, from where it stands now.
        """
        recent_scores, recent_boundaries = (
            np.concatenate([verifier_state.pooled, pooled], axis=1),
            np.concatenate([verifier_state.boundaries, boundaries], axis=1),
        )
        recognizer_states: list[RecognizerState | None] = [None] * len(pooled)
        rescored, new_boundaries = pooled, boundaries
        if recent_scores.max() >= GATE_SCORE:
            # [B, F, W, HELD]
            windows = np.lib.stride_tricks.sliding_window_view(recent_scores, HOLD_FRAMES, axis=1)
            held_scores, offset = windows.max(axis=-1), windows.argmax(axis=-1)
            gated = (held_scores >= GATE_SCORE) & self._has_pronunciation
            held_boundaries = np.take_along_axis(
                recent_boundaries, (np.arange(offset.shape[1])[:, None] + offset)[..., None], axis=1
            )
            hold_seconds = (HOLD_FRAMES - 1 - offset) * np.float32(
                self._frame_samples / SAMPLE_RATE
            )
            new_boundaries = np.where(
                gated[..., None], held_boundaries + hold_seconds[..., None], boundaries
            )
            rescored = pooled.copy()
            for stream in np.flatnonzero(gated.any(axis=(1, 2))):
                stream_audio = np.concatenate(
                    [*(block[stream] for block in verifier_state.audio), audio[stream]]
                )
                llr, recognizer_states[stream] = self._compute_word_llr(
                    stream_audio, gated[stream], verifier_state.recognizer_states[stream]
                )
                rescored[stream] = np.where(
                    gated[stream], fuse(held_scores[stream], llr, self._fusion), pooled[stream]
                )
        latest_pooled, latest_boundaries = (
            each[:, each.shape[1] - HOLD_FRAMES + 1 :]
            for each in (recent_scores, recent_boundaries)
        )
        blocks, num_samples = self._trim_history(
            verifier_state, audio[:, -self._history_samples :].copy()
        )
        return (
            rescored,
            new_boundaries,
            VerifierState(
                blocks, num_samples, latest_pooled, latest_boundaries, tuple(recognizer_states)
            ),
        )

    def _compute_word_llr(
        self, stream_audio: np.ndarray, gated: np.ndarray, previous: RecognizerState | None
    ) -> tuple[np.ndarray, RecognizerState | None]:
        """Of the words at the frames where they are asked for [F, W], the last of which ends with
        the sound; elsewhere anything."""
        llr, last = np.zeros(gated.shape), None
        frames = np.flatnonzero(gated.any(axis=1))
        for segment in np.split(frames, np.flatnonzero(np.diff(frames) > CONTEXT_FRAMES) + 1):
            log_probs, last = self._recognize_phones(
                stream_audio,
                segment[0],
                segment[-1] + 1,
                len(gated),
                previous if segment[0] <= CONTEXT_FRAMES else None,
            )
            for word in np.flatnonzero(gated[segment].any(axis=0)).tolist():
                llr[segment[0] : segment[-1] + 1, word] = np.max(
                    [compute_ctc_llr(log_probs, each) for each in self._pronunciations[word]],
                    axis=0,
                )
        return llr, last

    def _recognize_phones(
        self,
        stream_audio: np.ndarray,
        first: int,
        end: int,
        count: int,
        previous: RecognizerState | None,
    ) -> tuple[np.ndarray, RecognizerState | None]:
        """Letters of the frames from WINDOW - 1 before `first` to `end`, and how to go on if that
        is the last of the `count` new ones."""
        offset = len(stream_audio) - count * self._frame_samples
        if previous:
            start, network_state = 0, previous.network_state
        else:
            start, network_state = (
                first - CONTEXT_FRAMES + 2 - self._receptive_field_frames,
                np.zeros((1, self._session.get_inputs()[1].shape[1]), np.float32),
            )
        audio = stream_audio[
            None, offset + start * self._frame_samples : offset + end * self._frame_samples
        ]
        log_probs, network_state = self._session.run(
            ["phones", "new_state"], {"audio": audio, "state": network_state}
        )
        log_probs = (
            np.concatenate([previous.log_probs, log_probs[0]])[first:]
            if previous
            else log_probs[0, self._receptive_field_frames - 1 :]
        )
        return log_probs, RecognizerState(
            network_state, log_probs[len(log_probs) - CONTEXT_FRAMES + 1 :]
        ) if end == count else None

    def _trim_history(
        self, verifier_state: VerifierState, block: np.ndarray
    ) -> tuple[tuple[np.ndarray, ...], int]:
        """The last blocks, as many as together hold what is needed, and how many samples
        that is."""
        blocks, num_samples, first = (
            (*verifier_state.audio, block),
            verifier_state.num_samples + block.shape[1],
            0,
        )
        while num_samples - blocks[first].shape[1] >= self._history_samples:
            num_samples -= blocks[first].shape[1]
            first += 1
        return blocks[first:], num_samples


def fuse(score: np.ndarray, llr: np.ndarray, fusion: Fusion) -> np.ndarray:
    """Scores, weighed with the likeness."""
    deficit = fusion.ceiling - np.clip(llr, fusion.floor, fusion.ceiling)
    score, penalty = score.astype(np.float64), np.exp(fusion.scale * deficit)
    return score / (score + (1 - score) * penalty)


def compute_ctc_llr(log_probs: np.ndarray, phones: Pronunciation) -> np.ndarray:
    """For each window of `CONTEXT_FRAMES` frames the logarithm of the ratio, per sound; log p `log_probs`
    [K, L], letter 0 is the blank.

    [K - WINDOW + 1]. A path goes through the sounds in their order, each for a frame or more, with
    or without blanks between two; it begins anywhere in the window.
    """
    path = np.zeros(2 * len(phones) - 1, int)
    path[::2] = phones
    relative_log_probs = (log_probs - log_probs.max(axis=1, keepdims=True))[:, path].astype(
        np.float64
    )
    # Of the frames before each.
    cumulative_sums = np.concatenate([np.zeros((1, len(path))), relative_log_probs.cumsum(axis=0)])
    # [n, S, WINDOW]
    previous, until = (
        np.lib.stride_tricks.sliding_window_view(each, CONTEXT_FRAMES, axis=0)
        for each in (cumulative_sums[:-1], cumulative_sums[1:])
    )
    padding = np.full((len(previous), 1), -np.inf)
    # By each part of the path the best sum [n, WINDOW] of those that end with it at each frame.
    best_sums: list[np.ndarray] = []
    for part in range(len(path)):
        entry_sums = (
            np.zeros(previous.shape[::2])
            if part == 0
            else np.hstack([padding, best_sums[-1][:, :-1]])
        )
        # No blank need be between two sounds that differ.
        if part > 1 and part % 2 == 0 and path[part] != path[part - 2]:
            entry_sums = np.maximum(entry_sums, np.hstack([padding, best_sums[-2][:, :-1]]))
        best_sums.append(
            until[:, part] + np.maximum.accumulate(entry_sums - previous[:, part], axis=1)
        )
    return best_sums[-1][:, CONTEXT_FRAMES - END_TOLERANCE_FRAMES :].max(axis=1) / len(phones)
