"""Synthetic background noise."""

import numpy as np

from kws.audio.recordings import SAMPLE_RATE

COLOURED_NOISE_SECONDS = 10


def make_coloured_noise(samples: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Noise [samples], float32, whose power falls as 1 / f^slope: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-slope / 2)
    spectrum[0] = 0
    return np.fft.irfft(spectrum, samples).astype(np.float32)


def make_coloured_noises(count: int, seed: int) -> list[np.ndarray]:
    """`count` noises of 10 s, from white to brown: to cut examples from, as making one for each
    example would take longer than all other mixing."""
    return [
        make_coloured_noise(
            COLOURED_NOISE_SECONDS * SAMPLE_RATE, slope, np.random.default_rng(seed)
        )
        for slope in np.linspace(0, 2, count)
    ]
