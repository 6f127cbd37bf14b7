"""What a step of a stream gives, whichever engine runs it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class StepOutput(NamedTuple):
    """Of F new frames, W words and P phones.

    pooled, frames [F, W]: probabilities, float32. boundaries [F, W, 2]: seconds from the end of
    each frame back to the word's start and end (see `kws.runtime.postprocess.Scores`). phones
    [F, P]: log probabilities; P is 0 for a model without phone outputs. invalid_samples: how many
    of the new samples were not finite or beyond MAX_ABS_SAMPLE, and were replaced by silence.
    """

    pooled: np.ndarray
    frames: np.ndarray
    boundaries: np.ndarray
    phones: np.ndarray
    invalid_samples: int = 0


def concatenate_outputs(outputs: Sequence[StepOutput]) -> StepOutput:
    """The output of consecutive steps as one."""
    pooled, frames, boundaries, phones = (
        np.concatenate(parts) for parts in zip(*(each[:4] for each in outputs), strict=True)
    )
    invalid_samples = sum(output.invalid_samples for output in outputs)
    return StepOutput(pooled, frames, boundaries, phones, invalid_samples)
