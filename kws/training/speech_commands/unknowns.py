"""Words that are none of the known ones, where a data set holds too few: known ones backwards or
spliced, other speech and snippets of it, other words."""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kws.audio.endpoints import find_endpoints
from kws.audio.formats import to_float32
from kws.audio.recordings import SAMPLE_RATE
from kws.training.data.dataset import ClipDataset
from kws.training.speech_commands.dataset import CLIP_SAMPLES, LabeledClips

CROSSFADE_SAMPLES = SAMPLE_RATE // 50
_NO_CLIPS = np.zeros((0, CLIP_SAMPLES), np.int16)
SPLICE_RANGE = (0.25, 0.65)  # of a word
MARGIN_SAMPLES = SAMPLE_RATE // 20  # before a word begins, as far as that is known
ROOM_TONE_SAMPLES = SAMPLE_RATE // 10
SEGMENT_SECONDS = (0.08, 0.35)
SNIPPET_SECONDS = (0.25, 0.8)


class SyntheticUnknowns:
    """Draws clips int16 [16000]. `words`: rows of `part` that hold known words; `speech`: other
    people's, without them."""

    def __init__(self, part: LabeledClips, words: np.ndarray, speech: "SpeechClips"):
        self.part, self.words, self.speech = part, words, speech
        self._endpoint_cache: dict[int, np.ndarray] = {}

    def _word_endpoints(self, row: int) -> np.ndarray:
        """Samples [2] at which the sound of a known word begins and ends."""
        if row not in self._endpoint_cache:
            seconds = find_endpoints(to_float32(self.part.samples[self.words[row]]))
            self._endpoint_cache[row] = np.round(np.array(seconds) * SAMPLE_RATE).astype(int)
        return self._endpoint_cache[row]

    @cached_property
    def _rows(self) -> dict[int, np.ndarray]:
        """Of `words` those of each label."""
        labels = self.part.labels[self.words]
        return {label: np.flatnonzero(labels == label) for label in np.unique(labels).tolist()}

    def reverse_word(self, rng: np.random.Generator) -> np.ndarray:
        """A known word played backwards."""
        return self.part.samples[rng.choice(self.words), ::-1]

    def splice_two_words(self, rng: np.random.Generator) -> np.ndarray:
        """The beginning of one known word and the end of another: neither the one nor the other."""
        first, second = self._draw_two_words(rng)
        return self._splice(first, second, [rng.uniform(*SPLICE_RANGE), rng.uniform(*SPLICE_RANGE)])

    def shuffle_segments(self, rng: np.random.Generator) -> np.ndarray:
        """Two or three pieces of known words, each as long as a sound or a syllable, one after the
        other: what nobody says."""
        rows = rng.integers(len(self.words), size=rng.integers(2, 4))
        level = _rms(
            self.part.samples[self.words[rows[0]]].astype(np.float32), self._word_endpoints(rows[0])
        )
        pieces = [self._draw_segment(row, level, rng) for row in rows]
        length = sum(map(len, pieces)) - CROSSFADE_SAMPLES * (len(pieces) - 1)
        shuffled_clip, at = (
            np.zeros(CLIP_SAMPLES, np.float32),
            int(rng.integers(max(CLIP_SAMPLES - length, 0) + 1)),
        )
        for piece in pieces:
            part = piece[: CLIP_SAMPLES - at]
            shuffled_clip[at : at + len(part)] += part
            at += len(piece) - CROSSFADE_SAMPLES
        return np.clip(shuffled_clip, -32768, 32767).astype(np.int16)

    def _draw_segment(self, row: int, level: float, rng: np.random.Generator) -> np.ndarray:
        """A piece of a known word, at this level, faded at both ends."""
        first, last = self._word_endpoints(row)
        length = min(
            round(rng.uniform(*SEGMENT_SECONDS) * SAMPLE_RATE),
            max(last - first, 4 * CROSSFADE_SAMPLES),
        )
        start = int(rng.integers(first, max(last - length, first) + 1))
        wave = self.part.samples[self.words[row]].astype(np.float32)
        edge = np.minimum(np.arange(length), np.arange(length)[::-1])
        cut = wave[start : start + length]
        return (
            cut
            * (
                level
                / _rms(wave, self._word_endpoints(row))
                * np.clip(edge / CROSSFADE_SAMPLES, 0, 1)
            )[: len(cut)]
        )

    def splice_same_word(self, label: int, rng: np.random.Generator) -> np.ndarray:
        """The beginning and the end of one known word as two people said it, so that no word is
        unknown for being spliced."""
        first, second = rng.choice(self._rows[label], 2)
        return self._splice(first, second, [rng.uniform(*SPLICE_RANGE)] * 2)

    def _splice(self, first: int, second: int, shares: Sequence[float]) -> np.ndarray:
        """Two clips, each cut at this share of its word: what is before the cut of the first, then
        what is after that of the second."""
        cuts = [
            int(np.interp(share, (0, 1), self._word_endpoints(i)))
            for i, share in zip((first, second), shares, strict=True)
        ]
        first_wave, second_wave = (
            self.part.samples[self.words[i]].astype(np.float32) for i in (first, second)
        )
        level = _rms(first_wave, self._word_endpoints(first)) / _rms(
            second_wave, self._word_endpoints(second)
        )
        second_wave = np.roll(second_wave, cuts[0] - cuts[1]) * level
        share = np.clip((np.arange(CLIP_SAMPLES) - cuts[0]) / CROSSFADE_SAMPLES + 0.5, 0, 1)
        return np.clip(first_wave * (1 - share) + second_wave * share, -32768, 32767).astype(
            np.int16
        )

    def other_speech(self, rng: np.random.Generator) -> np.ndarray:
        """A piece of other speech."""
        return self.speech.continuous[rng.integers(len(self.speech.continuous))]

    def isolated(self, rng: np.random.Generator) -> np.ndarray:
        """A short recording as it is: a single word, or a sound."""
        return self.speech.isolated[rng.integers(len(self.speech.isolated))]

    def cut_snippet(self, rng: np.random.Generator) -> np.ndarray:
        """As much of other speech as a word is long, standing alone as a word does."""
        length = round(rng.uniform(*SNIPPET_SECONDS) * SAMPLE_RATE)
        start = int(rng.integers(CLIP_SAMPLES - length + 1))
        edge = np.minimum(np.arange(CLIP_SAMPLES) - start, start + length - np.arange(CLIP_SAMPLES))
        return (self.other_speech(rng) * np.clip(edge / CROSSFADE_SAMPLES, 0, 1)).astype(np.int16)

    def match_room_tone(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A clip of another data set as if it had been recorded where a known word was: at its
        level, over what is heard before it."""
        rows = rng.integers(len(self.words), size=8).tolist()
        row = next(
            (
                row
                for row in rows
                if self._word_endpoints(row)[0] > MARGIN_SAMPLES + ROOM_TONE_SAMPLES
            ),
            rows[0],
        )
        first, last = self._word_endpoints(row)
        reference = self.part.samples[self.words[row]].astype(np.float32)
        tone = reference[: max(first - MARGIN_SAMPLES, 0)]
        # Mirrored: no clicks where it is repeated.
        room_tone = np.resize(np.concatenate([tone, tone[::-1]]), CLIP_SAMPLES)
        loudness = np.abs(clip.astype(np.float32))
        loud = np.flatnonzero(loudness >= loudness.max() / 10)
        gain = _rms(reference, (first, last)) / _rms(
            loudness, (loud[0], max(loud[-1], loud[0] + 1))
        )
        return np.clip(clip * gain + room_tone, -32768, 32767).astype(np.int16)

    def _draw_two_words(self, rng: np.random.Generator) -> tuple[int, int]:
        first = int(rng.integers(len(self.words)))
        others = np.flatnonzero(self.part.labels[self.words] != self.part.labels[self.words[first]])
        return first, int(rng.choice(others)) if len(others) else first


class SpeechClips(NamedTuple):
    """Seconds of other recordings, int16 [n, 16000]: cut from `continuous` speech, and those that are
    no longer, each `isolated` in silence. `out_of_corpus` [k, 16000]: words that the data set has too, said
    elsewhere; `words` [k]: which."""

    continuous: np.ndarray
    isolated: np.ndarray
    out_of_corpus: np.ndarray = _NO_CLIPS
    words: tuple[str, ...] = ()


def cut_speech_clips(datasets: Sequence[ClipDataset], words: Collection[str] = ()) -> SpeechClips:
    """Every second of longer recordings, half overlapping, that is not mostly pause: louder than a
    tenth of its recording.

    What is no longer than a second stands in the middle of silence; clips in folders named after
    one of the words are clips of it.
    """
    continuous, isolated, out_of_corpus, spoken_labels = [_NO_CLIPS], [_NO_CLIPS], [_NO_CLIPS], []
    for dataset in datasets:
        for clip, first, last in zip(
            dataset.clips, dataset.starts, dataset.starts[1:], strict=False
        ):
            wave = dataset.samples[first:last]
            if clip.label in words:
                out_of_corpus.append(_center(wave[:CLIP_SAMPLES])[None])
                spoken_labels.append(clip.label)
            elif len(wave) > CLIP_SAMPLES:
                continuous.append(
                    _drop_pauses(
                        np.lib.stride_tricks.sliding_window_view(wave, CLIP_SAMPLES)[
                            :: CLIP_SAMPLES // 2
                        ]
                    )
                )
            elif len(wave):
                isolated.append(_center(wave)[None])
    return SpeechClips(
        np.concatenate(continuous),
        np.concatenate(isolated),
        np.concatenate(out_of_corpus),
        tuple(spoken_labels),
    )


def _drop_pauses(pieces: np.ndarray) -> np.ndarray:
    level = (pieces.astype(np.float32) ** 2).mean(axis=1)
    return pieces[level > 0.1 * level.max()]


def _center(wave: np.ndarray) -> np.ndarray:
    room = CLIP_SAMPLES - len(wave)
    return np.pad(wave, (room // 2, room - room // 2))


def _rms(wave: np.ndarray, span: Sequence[int] | np.ndarray) -> float:
    return float(np.sqrt(np.mean(wave[span[0] : span[1]] ** 2) + 1.0))
