"""Tones that stand for words: "rise" is a low tone and then a high one, "fall" the reverse, "flat"
either of them alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def tone_word(word: str, rng: np.random.Generator) -> np.ndarray:
    """One utterance of about 0.3 s: pitch, speed and level vary as voices do."""
    low = 600 * rng.uniform(0.9, 1.1)
    pitches = {"rise": (low, 2 * low), "fall": (2 * low, low), "flat": (low * rng.integers(1, 3),)}[
        word
    ]
    time = np.arange(int(0.15 * rng.uniform(0.85, 1.15) * RATE)) / RATE
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.01)
    tones = [np.sin(2 * np.pi * pitch * time) * fade for pitch in pitches]
    return (rng.uniform(0.2, 0.6) * np.concatenate(tones)).astype(np.float32)


def write_tone_folder(folder: Path, clips: int = 60) -> Path:
    """A folder in Speech Commands layout; every clip has a speaker of its own."""
    rng = np.random.default_rng(7)
    for word in ("rise", "fall", "flat"):
        (folder / word).mkdir(parents=True)
        for number in range(clips):
            quiet = np.zeros(800, np.float32)
            soundfile.write(
                folder / word / f"s{number:03d}_nohash_0.wav",
                np.concatenate([quiet, tone_word(word, rng), quiet]),
                RATE,
            )
    (folder / "_background_noise_").mkdir()
    soundfile.write(
        folder / "_background_noise_" / "hiss.wav", 0.1 * rng.standard_normal(5 * RATE), RATE
    )
    return folder


@dataclass(frozen=True)
class TinyModel:
    """A model of "rise" trained in seconds, its document, and the metrics of its epochs."""

    path: Path
    data: Path
    document: dict
    epochs: list[dict]
