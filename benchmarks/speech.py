"""People who talk, as a workload: ordinary speech, and the same with the word every few seconds."""

from itertools import cycle
from pathlib import Path

import numpy as np

from benchmarks.report import ROOT
from kws import Spotter
from kws.audio import recordings
from kws.audio.folders import find_recordings

SAMPLE_RATE = recordings.SAMPLE_RATE
SPEECH_SECONDS = 1800.0
SPEECH_HELP = (
    "a folder of recordings of people who talk, such as LibriSpeech's dev-clean (openslr.org/12); "
    "half an hour of it is used"
)
# Recordings of the repository in which people say "welcome".
WORD_RECORDINGS = ("early.wav", "late.wav", "noise.wav", "twice.wav")
WORD_MARGIN_SECONDS = 0.15


def read_speech(folder: Path, seconds: float) -> np.ndarray:
    """The recordings of a folder one after the other, int16 [n] at 16 kHz; from the beginning again
    where they are shorter than `seconds`. Raises AudioError for a folder without recordings."""
    samples, parts = round(seconds * SAMPLE_RATE), []
    for path in find_recordings(folder):
        parts.append(_to_int16(recordings.read(path)))
        if sum(map(len, parts)) >= samples:
            break
    return np.resize(np.concatenate(parts), samples)


def say_word(speech: np.ndarray, spotter: Spotter, every_seconds: float) -> np.ndarray:
    """Speech int16 [n] in which people say the word every so many seconds, in place of what was
    said there."""
    words, result = cycle(_cut_words(spotter)), speech.copy()
    step = round(every_seconds * SAMPLE_RATE)
    for end in range(step, len(speech) + 1, step):
        word = next(words)
        result[end - len(word) : end] = word
    return result


def _cut_words(spotter: Spotter) -> list[np.ndarray]:
    """The words of `WORD_RECORDINGS`, int16 [n]."""
    words = []
    for name in WORD_RECORDINGS:
        samples = recordings.read(ROOT / "recordings" / name)
        for event in spotter.detect(samples):
            start, end = event.start - WORD_MARGIN_SECONDS, event.end + WORD_MARGIN_SECONDS
            first, last = (max(round(time * SAMPLE_RATE), 0) for time in (start, end))
            words.append(_to_int16(samples[first:last]))
    return words


def _to_int16(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
