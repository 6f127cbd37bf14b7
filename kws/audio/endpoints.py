"""Where the sound in a clip begins and ends."""

import numpy as np

from kws.audio.recordings import SAMPLE_RATE

FRAME_SAMPLES = SAMPLE_RATE // 100  # 10 ms
MAX_GAP_FRAMES = 15  # a longer pause separates two sounds
MIN_SOUND_FRAMES = 3  # a shorter sound that stands apart is a click


def find_endpoints(samples: np.ndarray, drop_db: float = 30.0) -> tuple[float, float]:
    """Start and end of the sound in a clip, in seconds. samples [N]: float of any scale, 16 kHz.

    A 10 ms frame is sound when its level is within `drop_db` of the loudest frame and 6 dB above
    the noise. Clicks shorter than 30 ms that stand more than 150 ms apart do not count.
    """
    if len(samples) < 2 * FRAME_SAMPLES:
        return 0.0, len(samples) / SAMPLE_RATE
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    power = (frames.astype(np.float64) ** 2).mean(axis=1)
    noise_power = np.percentile(power, 10) if power.min() > 0 else 0.0
    power_floor = max(power.max() * 10 ** (-drop_db / 10), 4 * noise_power)
    loud_frames = np.flatnonzero(power >= min(power_floor, power.max() / 10))
    sounds = np.split(loud_frames, np.flatnonzero(np.diff(loud_frames) > MAX_GAP_FRAMES) + 1)
    long_sounds = [sound for sound in sounds if sound[-1] - sound[0] + 1 >= MIN_SOUND_FRAMES]
    first, last = (long_sounds or [loud_frames])[0][0], (long_sounds or [loud_frames])[-1][-1]
    return float(first) / 100, float(last + 1) / 100
