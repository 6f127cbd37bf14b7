"""The demo recordings as a workload."""

import wave

import numpy as np

from benchmarks.report import ROOT

SAMPLE_RATE = 16_000


def demo_audio(seconds: float) -> np.ndarray:
    """int16 samples [n] at 16 kHz: the recordings of `recordings/`, repeated."""
    parts = []
    for path in sorted((ROOT / "recordings").glob("*.wav")):
        with wave.open(str(path)) as file:
            parts.append(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
    return np.resize(np.concatenate(parts), round(seconds * SAMPLE_RATE))
