"""Score tracks without a network, and their events."""

import numpy as np

from kws.runtime.postprocess import Detection, DetectionPostprocessor, EventSettings, Scores

MACHINE = EventSettings((0.5,))
FRAME_SECONDS = 0.02


def make_track(pooled: np.ndarray) -> Scores:
    """One word whose score takes these values, one in each frame."""
    pooled = np.asarray(pooled, np.float32)[:, None]
    times = np.arange(1, len(pooled) + 1) * FRAME_SECONDS
    return Scores(times, pooled, pooled, np.full((*pooled.shape, 2), 0.1))


def detect(track: Scores, threshold: float) -> list[Detection]:
    postprocessor = DetectionPostprocessor(("word",), MACHINE.at([threshold]), FRAME_SECONDS)
    return postprocessor.feed(track.pooled, track.boundaries)


def wandering(frames: int, seed: int) -> np.ndarray:
    """A score that rises and falls as those of models do, with long stretches near nothing."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(frames + 10) * 9
    logits = np.convolve(noise, np.hanning(11) / 3, "valid")[:frames] - 2
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def bursts(frames: int, count: int, seed: int) -> np.ndarray:
    """A score near nothing, with peaks of all heights now and then."""
    rng = np.random.default_rng(seed)
    pooled = np.full(frames, 0.01)
    for at in rng.integers(0, frames - 20, count):
        burst = rng.uniform(0.1, 1.0) * np.hanning(20)
        pooled[at : at + 20] = np.maximum(pooled[at : at + 20], burst)
    return pooled
