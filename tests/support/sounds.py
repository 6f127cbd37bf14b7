"""Sounds that tests of training data are made of."""

from pathlib import Path

import numpy as np

from kws.training.data.clips import Clip
from kws.training.data.dataset import ClipDataset, pack_clips

RATE = 16_000


def tone(seconds: float, pitch: float = 1000.0, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)).astype(
        np.float32
    )


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def make_dataset(*waves: np.ndarray, label: str = "word") -> ClipDataset:
    clips = [Clip(Path(label) / f"s{i}_nohash_0.wav", label, f"s{i}") for i in range(len(waves))]
    return pack_clips(clips, [np.round(wave * 32767).astype(np.int16) for wave in waves])
