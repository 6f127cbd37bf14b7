"""How far two ways to run a network are apart, on noise whose level changes as that of speech."""

import numpy as np

from kws.runtime.engine import open_runner
from kws.runtime.model_file import ModelFile
from kws.runtime.output import StepOutput

_STREAMS, _FRAMES, _LEVELS = 2, 150, 30


def make_noise(frame_samples: int) -> np.ndarray:
    """Noise [B, n] of whole frames, always the same."""
    rng = np.random.default_rng(0)
    samples = frame_samples * _FRAMES
    level = 10 ** rng.uniform(-3, 0, (_STREAMS, _LEVELS)).repeat(samples // _LEVELS, axis=1)
    return (rng.standard_normal((_STREAMS, samples)) * level).astype(np.float32)


def scores_of_file(model_file: ModelFile, audio: np.ndarray) -> StepOutput:
    """Scores [B, F, ...] that a model file gives for audio [B, n], before its verifier. Raises
    ModelError for a file that cannot be run."""
    runner = open_runner(model_file, verifier=False)
    steps = [runner.open_stream().step(stream)[:4] for stream in audio]
    pooled, frames, boundaries, phones = map(np.stack, zip(*steps, strict=True))
    return StepOutput(pooled, frames, boundaries, phones)


def largest_difference(one: StepOutput, other: StepOutput) -> float:
    """That of probabilities and of boundaries in seconds; not a number if any of them is."""
    pairs = [
        (one.pooled, other.pooled),
        (one.frames, other.frames),
        (one.boundaries, other.boundaries),
        (np.exp(one.phones), np.exp(other.phones)),
    ]
    return float(np.max([np.abs(a - b).max(initial=0.0) for a, b in pairs]))
