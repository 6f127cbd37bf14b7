"""A second opinion: what a network that reads has to say before a word is reported.

The scanning network gives a high score to whatever resembles its word, and so, now and then, to
what does not. A reader (`kws.training.phones.objective`) knows the sounds of speech and no word. It is asked
only where the score is not low, which is seldom, and only for the last seconds: how well can the
sounds of the word be read there, compared with what reads best?

    log odds of the score  -  weight · (enough - likeness)
        where the likeness is less than `enough`, and `least` at the least

The likeness is the logarithm, per sound, of the ratio of two paths of connectionist temporal
classification (Graves et al., ICML 2006): the best one through the sounds of the word, and the
best of all. It is 0 where just these sounds are what is read; of people who say the word some
cannot be read at all. So the reader never raises a score, and the most it takes is weight ·
(enough - least). What it says depends on the last `WINDOW` frames alone, and is the same for every
way to cut the audio.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kws.audio.recordings import SAMPLE_RATE

if TYPE_CHECKING:
    import onnxruntime

FLOOR = 0.1  # of the score: what is lower stays as it is, and costs nothing
# Frames for which a score is held: the last sounds may be read so much later than the word
# is recognised.
HELD = 8
WINDOW = 100  # frames, 2 s: in which the sounds are looked for
ENDED = 25  # the last of these, in one of which the last sound must be read

Pronunciation = Sequence[int]  # the letters of its sounds, by their numbers


@dataclass(frozen=True)
class Weighing:
    """What a likeness counts (see above). These are the numbers of model files that do not tell
    their own."""

    weight: float = 2.0
    enough: float = -1.5
    least: float = -3.0


@dataclass(frozen=True)
class Read:
    """Of a stream that was read up to its latest frame: the network's state there [1, S], and log p
    of the last letters [WINDOW - 1, L]."""

    memory: np.ndarray
    letters: np.ndarray


@dataclass(frozen=True)
class Heard:
    """What a reader needs of the past: `audio`, blocks [B, n], the last of which ends where the
    latest frame does, with so many `samples` in all; of the latest HELD - 1 frames `pooled`
    [B, HELD - 1, W] and `extents` [B, HELD - 1, W, 2]; and, of streams that were being read, what
    was `read`."""

    audio: tuple[np.ndarray, ...]
    samples: int
    pooled: np.ndarray
    extents: np.ndarray
    read: tuple[Read | None, ...]


class Reader:
    """Weighs the scores of a model's words.

    open_graph: gives a session of ONNX Runtime, (`audio` [1, N], `state` [1, S]) → (log p `letters`
    [1, F, L], `new_state`), of which a frame depends on `field_samples`. sounds: for each word the
    ways to pronounce it; none where nobody knows, and then its scores stay as they are. weighing:
    how much this reader is to be believed.
    """

    def __init__(
        self,
        open_graph: "Callable[[], onnxruntime.InferenceSession]",
        sounds: Sequence[Sequence[Pronunciation]],
        field_samples: int,
        frame_samples: int,
        weighing: Weighing,
    ):
        self._open, self._sounds, self._frame, self._weighing = (
            open_graph,
            sounds,
            frame_samples,
            weighing,
        )
        self._readable = np.array([bool(each) for each in sounds])
        self._field = -(-field_samples // frame_samples)  # frames
        # Before the first frame that is new.
        self._needed = (self._field + WINDOW - 2) * frame_samples

    @cached_property
    def _session(self) -> "onnxruntime.InferenceSession":
        """Made when something is first read: most recordings hold nothing to be read."""
        return self._open()

    def silence(self, batch: int) -> Heard:
        """The past of `batch` streams before their first sample."""
        nothing = np.zeros((batch, HELD - 1, len(self._sounds), 2), np.float32)
        return Heard(
            (np.zeros((batch, self._needed), np.float32),),
            self._needed,
            nothing[..., 0],
            nothing,
            (None,) * batch,
        )

    def weigh(
        self, pooled: np.ndarray, extents: np.ndarray, audio: np.ndarray, heard: Heard
    ) -> tuple[np.ndarray, np.ndarray, Heard]:
        """Scores [B, F, W] and extents [B, F, W, 2] of new frames, weighed, and the past of the
        next ones.

        audio [B, F · frame_samples]: all that is new in them. Where a score is held its extents
        are, from where it stands now.
        """
        known, places = (
            np.concatenate([heard.pooled, pooled], axis=1),
            np.concatenate([heard.extents, extents], axis=1),
        )
        read: list[Read | None] = [None] * len(pooled)
        weighed, placed = pooled, extents
        if known.max() >= FLOOR:
            # [B, F, W, HELD]
            windows = np.lib.stride_tricks.sliding_window_view(known, HELD, axis=1)
            held, at = windows.max(axis=-1), windows.argmax(axis=-1)
            asked = (held >= FLOOR) & self._readable
            then = np.take_along_axis(
                places, (np.arange(at.shape[1])[:, None] + at)[..., None], axis=1
            )
            since = (HELD - 1 - at) * np.float32(self._frame / SAMPLE_RATE)
            placed = np.where(asked[..., None], then + since[..., None], extents)
            weighed = pooled.copy()
            for stream in np.flatnonzero(asked.any(axis=(1, 2))):
                sound = np.concatenate([*(block[stream] for block in heard.audio), audio[stream]])
                likeness, read[stream] = self._likeness(sound, asked[stream], heard.read[stream])
                weighed[stream] = np.where(
                    asked[stream], combined(held[stream], likeness, self._weighing), pooled[stream]
                )
        latest_pooled, latest_extents = (
            each[:, each.shape[1] - HELD + 1 :] for each in (known, places)
        )
        blocks, samples = self._kept(heard, audio[:, -self._needed :].copy())
        return weighed, placed, Heard(blocks, samples, latest_pooled, latest_extents, tuple(read))

    def _likeness(
        self, sound: np.ndarray, asked: np.ndarray, before: Read | None
    ) -> tuple[np.ndarray, Read | None]:
        """Of the words at the frames where they are asked for [F, W], the last of which ends with
        the sound; elsewhere anything."""
        likeness, last = np.zeros(asked.shape), None
        frames = np.flatnonzero(asked.any(axis=1))
        for some in np.split(frames, np.flatnonzero(np.diff(frames) > WINDOW) + 1):
            letters, last = self._read(
                sound, some[0], some[-1] + 1, len(asked), before if some[0] <= WINDOW else None
            )
            for word in np.flatnonzero(asked[some].any(axis=0)).tolist():
                likeness[some[0] : some[-1] + 1, word] = np.max(
                    [likenesses(letters, each) for each in self._sounds[word]], axis=0
                )
        return likeness, last

    def _read(
        self, sound: np.ndarray, first: int, end: int, count: int, before: Read | None
    ) -> tuple[np.ndarray, Read | None]:
        """Letters of the frames from WINDOW - 1 before `first` to `end`, and how to go on if that
        is the last of the `count` new ones."""
        at = len(sound) - count * self._frame
        if before:
            start, memory = 0, before.memory
        else:
            start, memory = (
                first - WINDOW + 2 - self._field,
                np.zeros((1, self._session.get_inputs()[1].shape[1]), np.float32),
            )
        audio = sound[None, at + start * self._frame : at + end * self._frame]
        letters, memory = self._session.run(
            ["letters", "new_state"], {"audio": audio, "state": memory}
        )
        letters = (
            np.concatenate([before.letters, letters[0]])[first:]
            if before
            else letters[0, self._field - 1 :]
        )
        return letters, Read(memory, letters[len(letters) - WINDOW + 1 :]) if end == count else None

    def _kept(self, heard: Heard, block: np.ndarray) -> tuple[tuple[np.ndarray, ...], int]:
        """The last blocks, as many as together hold what is needed, and how many samples
        that is."""
        blocks, samples, first = (*heard.audio, block), heard.samples + block.shape[1], 0
        while samples - blocks[first].shape[1] >= self._needed:
            samples -= blocks[first].shape[1]
            first += 1
        return blocks[first:], samples


def combined(score: np.ndarray, likeness: np.ndarray, weighing: Weighing) -> np.ndarray:
    """Scores, weighed with the likeness."""
    lacking = weighing.enough - np.clip(likeness, weighing.least, weighing.enough)
    score, against = score.astype(np.float64), np.exp(weighing.weight * lacking)
    return score / (score + (1 - score) * against)


def likenesses(letters: np.ndarray, sounds: Pronunciation) -> np.ndarray:
    """For each window of `WINDOW` frames the logarithm of the ratio, per sound; log p `letters`
    [K, L], letter 0 is the blank.

    [K - WINDOW + 1]. A path goes through the sounds in their order, each for a frame or more, with
    or without blanks between two; it begins anywhere in the window.
    """
    path = np.zeros(2 * len(sounds) - 1, int)
    path[::2] = sounds
    loss = (letters - letters.max(axis=1, keepdims=True))[:, path].astype(np.float64)
    # Of the frames before each.
    sums = np.concatenate([np.zeros((1, len(path))), loss.cumsum(axis=0)])
    # [n, S, WINDOW]
    before, until = (
        np.lib.stride_tricks.sliding_window_view(each, WINDOW, axis=0)
        for each in (sums[:-1], sums[1:])
    )
    nothing = np.full((len(before), 1), -np.inf)
    # By each part of the path the best sum [n, WINDOW] of those that end with it at each frame.
    reached: list[np.ndarray] = []
    for part in range(len(path)):
        from_here = (
            np.zeros(before.shape[::2]) if part == 0 else np.hstack([nothing, reached[-1][:, :-1]])
        )
        # No blank need be between two sounds that differ.
        if part > 1 and part % 2 == 0 and path[part] != path[part - 2]:
            from_here = np.maximum(from_here, np.hstack([nothing, reached[-2][:, :-1]]))
        reached.append(until[:, part] + np.maximum.accumulate(from_here - before[:, part], axis=1))
    return reached[-1][:, WINDOW - ENDED :].max(axis=1) / len(sounds)
