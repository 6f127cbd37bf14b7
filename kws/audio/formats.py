"""Sample formats: 16-bit integers, as in files and pipes, and float32 in ±1, as in computations.

The integer -32768 is the float -1, so integers survive the conversion to floats and back.
"""

import numpy as np

from kws.errors import AudioError

SAMPLE_RATE = 16_000  # of all audio that a model hears

# Of raw PCM in a pipe.
RAW_FORMATS: dict[str, np.dtype] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Float samples in ±1 as int16; louder samples are clipped."""
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


def to_float32(samples: np.ndarray) -> np.ndarray:
    """Samples as float32. Integers are divided by their full scale; 8-bit samples are unsigned."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples.astype(np.float32, copy=False)


def as_samples(samples: np.ndarray) -> np.ndarray:
    """Samples as float32 in ±1 or as int16. Raises AudioError for other types."""
    try:
        samples = np.asarray(samples)
    except (TypeError, ValueError) as error:
        raise AudioError(
            "samples must be float32 (in ±1) or int16 in one array. "
            f"This {type_name(samples)} makes none."
        ) from error
    if samples.dtype == np.float32 or samples.dtype == np.int16:
        return samples
    if samples.dtype.kind != "f":
        hint = " Divide integers by their full scale." if samples.dtype.kind in "iu" else ""
        raise AudioError(f"samples must be float32 (in ±1) or int16, not {samples.dtype}.{hint}")
    with np.errstate(over="ignore"):  # too large for float32: infinite, and so invalid
        return to_float32(samples)


def type_name(value: object) -> str:
    """The name of a value's type, as errors give it."""
    return "None" if value is None else type(value).__name__
