"""Sample formats: 16-bit integers, as in files and pipes, and float32 in ±1, as in computations.

The integer -32768 is the float -1, so integers survive the conversion to floats and back.
"""

import numpy as np

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
