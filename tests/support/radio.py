"""Long recordings without the word "rise", in which something like it is said."""

from pathlib import Path

import numpy as np
import soundfile
import soxr
from sounds import RATE

from kws.training.data.splits import assign_split

# Seconds at which something like the word begins, in the recordings of the training split.
ALARM_STARTS = ([3.0, 15.0, 24.0], [8.0, 19.5], [])
SUFFIXES, RATES = (".wav", ".flac", ".ogg"), (RATE, 44_100, RATE)


def stem(split: str, number: int = 0) -> str:
    """A file name of this split, without its suffix."""
    names = [name for name in map("radio{}".format, range(200)) if assign_split(name) == split]
    return names[number]


def similar_to_the_word(rng: np.random.Generator) -> np.ndarray:
    """A low tone and then one a fifth above, where the word has an octave; 0.3 s."""
    time = np.arange(int(0.15 * RATE)) / RATE
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.01)
    tones = [
        0.4 * np.sin(2 * np.pi * 600 * rng.uniform(0.97, 1.03) * ratio * time) * fade
        for ratio in (1, 1.5)
    ]
    return np.concatenate(tones)


def write_radio(path: Path, starts: list[float], seconds: float = 30.0, rate: int = RATE) -> Path:
    rng = np.random.default_rng(len(starts))
    wave = 0.005 * rng.standard_normal(int(seconds * RATE))
    for start in starts:
        similar = similar_to_the_word(rng)
        wave[int(start * RATE) :][: len(similar)] += similar
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave if rate == RATE else soxr.resample(wave, RATE, rate), rate)
    return path


def write_radio_folder(folder: Path) -> Path:
    """Recordings to mine, one of them at another rate, and one that is held out."""
    for number, starts in enumerate(ALARM_STARTS):
        name = stem("train", number) + SUFFIXES[number]
        write_radio(folder / name, starts, rate=RATES[number])
    write_radio(folder / f"{stem('validation')}.wav", [5.0], 90.0)
    return folder
