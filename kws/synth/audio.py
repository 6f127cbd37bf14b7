"""What every synthetic clip passes through: resampling to 16 kHz, trimming, a common level."""

import io
import wave
from pathlib import Path

import numpy as np
import soxr

from kws.audio.formats import to_float32, to_int16
from kws.audio.recordings import SAMPLE_RATE
from kws.files import write_atomically

MARGIN_SECONDS = 0.06  # kept before and after the sound
PEAK_LEVEL = 0.7
_FRAME_SAMPLES = SAMPLE_RATE // 100
_SILENCE_RATIO = 0.02  # of the level of the loudest frame
_MAX_GAP_FRAMES, _MIN_SOUND_FRAMES = 15, 4


def postprocess(samples: np.ndarray, rate: int, size: float = 1.0) -> np.ndarray:
    """Resamples samples [n] to a clip, float32 at 16 kHz, trims the pauses around the sound, and
    scales it to a common peak. Silence stays silence.

    size: above 1, formants and pitch rise together, as with a shorter vocal tract, and the clip
    becomes shorter by the same factor.
    """
    clip = soxr.resample(np.asarray(samples, np.float32).ravel(), rate * size, SAMPLE_RATE)
    first, last = _find_sound_bounds(clip)
    margin = round(MARGIN_SECONDS * SAMPLE_RATE)
    clip = clip[max(0, first - margin) : last + margin]
    return clip * np.float32(PEAK_LEVEL / max(np.abs(clip).max(initial=0.0), 1e-9))


def _find_sound_bounds(clip: np.ndarray) -> tuple[int, int]:
    """First and last sample of the sound; clicks that are more than 0.15 s apart from it do not
    count."""
    frame_levels = np.abs(
        clip[: len(clip) // _FRAME_SAMPLES * _FRAME_SAMPLES].reshape(-1, _FRAME_SAMPLES)
    ).max(axis=1, initial=0.0)
    loud_frames = np.flatnonzero(frame_levels > _SILENCE_RATIO * frame_levels.max(initial=0.0))
    if not len(loud_frames):
        return 0, len(clip)
    runs = np.split(loud_frames, np.flatnonzero(np.diff(loud_frames) > _MAX_GAP_FRAMES) + 1)
    runs = [run for run in runs if run[-1] - run[0] + 1 >= _MIN_SOUND_FRAMES] or runs
    return int(runs[0][0]) * _FRAME_SAMPLES, int(runs[-1][-1] + 1) * _FRAME_SAMPLES


def from_pcm(data: bytes) -> np.ndarray:
    """16-bit little-endian mono as float32 in ±1; half a sample at the end is dropped."""
    return to_float32(np.frombuffer(data[: len(data) // 2 * 2], "<i2"))


def from_wav(data: bytes) -> tuple[np.ndarray, int]:
    """Samples and rate of a 16-bit mono WAV file."""
    with wave.open(io.BytesIO(data)) as file:
        return from_pcm(file.readframes(file.getnframes())), file.getframerate()


def write(path: Path, clip: np.ndarray) -> None:
    """Writes a clip atomically as 16-bit WAV."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(to_int16(clip).astype("<i2").tobytes())
    write_atomically(path, buffer.getvalue())
