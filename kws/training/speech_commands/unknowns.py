"""Unknown words, where a data set holds too few: known words reversed, spliced or shuffled, and
clips of other recordings."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from kws.audio.endpoints import find_endpoints
from kws.audio.formats import to_float32
from kws.audio.recordings import SAMPLE_RATE
from kws.training.data.dataset import ClipDataset
from kws.training.speech_commands.dataset import CLIP_SAMPLES, LabeledClips

CROSSFADE_SAMPLES = SAMPLE_RATE // 50
MARGIN_SAMPLES = SAMPLE_RATE // 20  # before a word begins, as endpoints are not exact
MIN_ROOM_TONE_SAMPLES = SAMPLE_RATE // 10
SPLICE_RANGE = (0.25, 0.65)  # of a word
SEGMENT_SECONDS = (0.08, 0.35)
SNIPPET_SECONDS = (0.25, 0.8)


def _no_clips() -> np.ndarray:
    return np.zeros((0, CLIP_SAMPLES), np.int16)


@dataclass(frozen=True)
class SpeechClips:
    """Seconds of other recordings, int16 [n, 16000].

    `continuous`: cut from longer speech; `isolated`: recordings of a second at most, in the middle
    of silence; `out_of_corpus` [k, 16000]: such recordings of `words` [k], which the data set has
    too.
    """

    continuous: np.ndarray = field(default_factory=_no_clips)
    isolated: np.ndarray = field(default_factory=_no_clips)
    out_of_corpus: np.ndarray = field(default_factory=_no_clips)
    words: tuple[str, ...] = ()


class SyntheticUnknowns:
    """Draws clips int16 [16000]. `rows`: those of `clips` that hold known words; `speech`: other
    recordings."""

    def __init__(self, clips: LabeledClips, rows: np.ndarray, speech: SpeechClips):
        self.samples, self.labels = clips.samples, clips.labels
        self.rows, self.speech = rows, speech
        self._endpoint_cache: dict[int, np.ndarray] = {}

    @cached_property
    def _rows_by_label(self) -> dict[int, np.ndarray]:
        labels = self.labels[self.rows]
        return {label: self.rows[labels == label] for label in np.unique(labels).tolist()}

    @property
    def has_several_words(self) -> bool:
        """Whether two words can be spliced."""
        return len(self._rows_by_label) > 1

    def reverse_word(self, rng: np.random.Generator) -> np.ndarray:
        """A known word backwards."""
        return self.samples[rng.choice(self.rows), ::-1]

    def splice_two_words(self, rng: np.random.Generator) -> np.ndarray:
        """The beginning of one known word and the end of another."""
        first = int(rng.choice(self.rows))
        others = self.rows[self.labels[self.rows] != self.labels[first]]
        second = int(rng.choice(others))
        return self._splice(first, second, rng.uniform(*SPLICE_RANGE), rng.uniform(*SPLICE_RANGE))

    def splice_same_word(self, label: int, rng: np.random.Generator) -> np.ndarray:
        """The beginning and the end of one known word from two recordings, so that a splice does
        not make a word unknown."""
        first, second = rng.choice(self._rows_by_label[label], 2).tolist()
        cut = rng.uniform(*SPLICE_RANGE)
        return self._splice(first, second, cut, cut)

    def shuffle_segments(self, rng: np.random.Generator) -> np.ndarray:
        """Two or three segments of known words, each as long as a phone or a syllable."""
        rows = rng.choice(self.rows, size=rng.integers(2, 4)).tolist()
        level = self._word_level(rows[0])
        segments = [self._draw_segment(row, level, rng) for row in rows]
        length = sum(map(len, segments)) - CROSSFADE_SAMPLES * (len(segments) - 1)
        start = int(rng.integers(max(CLIP_SAMPLES - length, 0) + 1))
        shuffled = np.zeros(CLIP_SAMPLES, np.float32)
        for segment in segments:
            end = min(start + len(segment), CLIP_SAMPLES)
            shuffled[start:end] += segment[: end - start]
            start += len(segment) - CROSSFADE_SAMPLES
        return _clip_to_int16(shuffled)

    def other_speech(self, rng: np.random.Generator) -> np.ndarray:
        """A second of other speech."""
        return self.speech.continuous[rng.integers(len(self.speech.continuous))]

    def isolated(self, rng: np.random.Generator) -> np.ndarray:
        """Another short recording: a single word, or a sound."""
        return self.speech.isolated[rng.integers(len(self.speech.isolated))]

    def cut_snippet(self, rng: np.random.Generator) -> np.ndarray:
        """A word's length of other speech, in silence as a word is."""
        length = round(rng.uniform(*SNIPPET_SECONDS) * SAMPLE_RATE)
        start = int(rng.integers(CLIP_SAMPLES - length + 1))
        position = np.arange(CLIP_SAMPLES)
        edge_distance = np.minimum(position - start, start + length - position)
        gain = np.clip(edge_distance / CROSSFADE_SAMPLES, 0, 1)
        return (self.other_speech(rng) * gain).astype(np.int16)

    def match_room_tone(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A clip of another data set at the level of a known word, over the room tone that precedes
        this word."""
        candidates = rng.choice(self.rows, size=8).tolist()
        row = next((row for row in candidates if self._has_room_tone(row)), candidates[0])
        tone = self.samples[row, : max(self._endpoints(row)[0] - MARGIN_SAMPLES, 0)]
        # Mirrored, against clicks where it repeats.
        room_tone = np.resize(np.concatenate([tone, tone[::-1]]), CLIP_SAMPLES)
        magnitude = np.abs(clip.astype(np.float32))
        loud = np.flatnonzero(magnitude >= magnitude.max() / 10)
        gain = self._word_level(row) / _rms(magnitude[loud[0] : max(loud[-1], loud[0] + 1)])
        return _clip_to_int16(clip * gain + room_tone)

    def _has_room_tone(self, row: int) -> bool:
        return self._endpoints(row)[0] > MARGIN_SAMPLES + MIN_ROOM_TONE_SAMPLES

    def _splice(self, first: int, second: int, first_cut: float, second_cut: float) -> np.ndarray:
        """The first clip up to a cut, then the second from its cut on. Cuts are fractions of the
        word."""
        first_at = int(np.interp(first_cut, (0, 1), self._endpoints(first)))
        second_at = int(np.interp(second_cut, (0, 1), self._endpoints(second)))
        gain = self._word_level(first) / self._word_level(second)
        beginning = self.samples[first].astype(np.float32)
        end = np.roll(self.samples[second].astype(np.float32), first_at - second_at) * gain
        fade = np.clip((np.arange(CLIP_SAMPLES) - first_at) / CROSSFADE_SAMPLES + 0.5, 0, 1)
        return _clip_to_int16(beginning * (1 - fade) + end * fade)

    def _draw_segment(self, row: int, level: float, rng: np.random.Generator) -> np.ndarray:
        """A segment of a known word at a level, faded at both ends."""
        first, last = self._endpoints(row)
        max_length = max(last - first, 4 * CROSSFADE_SAMPLES)
        length = min(round(rng.uniform(*SEGMENT_SECONDS) * SAMPLE_RATE), max_length)
        start = int(rng.integers(first, max(last - length, first) + 1))
        segment = self.samples[row, start : start + length].astype(np.float32)
        position = np.arange(len(segment))
        edge_distance = np.minimum(position, length - 1 - position)
        fade = np.clip(edge_distance / CROSSFADE_SAMPLES, 0, 1)
        return segment * (level / self._word_level(row)) * fade

    def _endpoints(self, row: int) -> np.ndarray:
        """Samples [2] at which the word of a clip begins and ends."""
        if row not in self._endpoint_cache:
            seconds = find_endpoints(to_float32(self.samples[row]))
            self._endpoint_cache[row] = np.round(np.array(seconds) * SAMPLE_RATE).astype(int)
        return self._endpoint_cache[row]

    def _word_level(self, row: int) -> float:
        first, last = self._endpoints(row)
        return _rms(self.samples[row, first:last].astype(np.float32))


def cut_speech_clips(datasets: Sequence[ClipDataset], words: Collection[str] = ()) -> SpeechClips:
    """Clips of one second from other recordings.

    Longer recordings are cut every half second, without the parts that are mostly pause. Clips in
    folders named after one of the `words` are clips of it.
    """
    continuous, isolated, out_of_corpus, out_of_corpus_words = [_no_clips()], [], [], []
    for dataset in datasets:
        for i, clip in enumerate(dataset.clips):
            wave = dataset.int16_clip(i)
            if clip.label in words:
                out_of_corpus.append(_center(wave[:CLIP_SAMPLES]))
                out_of_corpus_words.append(clip.label)
            elif len(wave) > CLIP_SAMPLES:
                windows = np.lib.stride_tricks.sliding_window_view(wave, CLIP_SAMPLES)
                continuous.append(_drop_pauses(windows[:: CLIP_SAMPLES // 2]))
            elif len(wave):
                isolated.append(_center(wave))
    return SpeechClips(
        np.concatenate(continuous),
        np.stack(isolated) if isolated else _no_clips(),
        np.stack(out_of_corpus) if out_of_corpus else _no_clips(),
        tuple(out_of_corpus_words),
    )


def _drop_pauses(windows: np.ndarray) -> np.ndarray:
    """The windows of one recording whose power is more than a tenth of the loudest one's."""
    power = (windows.astype(np.float32) ** 2).mean(axis=1)
    return windows[power > 0.1 * power.max()]


def _center(wave: np.ndarray) -> np.ndarray:
    silence = CLIP_SAMPLES - len(wave)
    return np.pad(wave, (silence // 2, silence - silence // 2))


def _clip_to_int16(wave: np.ndarray) -> np.ndarray:
    return np.clip(wave, -32768, 32767).astype(np.int16)


def _rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(wave**2) + 1.0))
