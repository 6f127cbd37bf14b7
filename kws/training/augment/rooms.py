"""Impulse responses of rooms and microphones: simulated, or recorded ones brought into shape.

A response begins at its direct sound, so reverberation does not move the word.
"""

from dataclasses import dataclass

import numpy as np

from kws.audio.recordings import SAMPLE_RATE

RESPONSE_SAMPLES = SAMPLE_RATE // 2
SIMULATED_ROOMS = 400


@dataclass(frozen=True)
class RoomConfig:
    """How simulated rooms and microphones differ."""

    reverberation_seconds: tuple[float, float] = (0.1, 0.9)  # until 60 dB below
    # Of the direct sound: from across a room to close to the mouth, where echoes are still audible
    # after each sound. Synthetic speech ends abruptly; without reverberation a network would wait
    # for such an end, which recordings of people do not have.
    direct_to_reverberant_db: tuple[float, float] = (-3.0, 30.0)
    microphone_deviation_db: float = 4.0  # standard deviation of the gain of each band
    low_cut_hz: tuple[float, float] = (20.0, 300.0)
    high_cut_hz: tuple[float, float] = (3400.0, 12000.0)


def make_rooms(recorded: np.ndarray | None = None) -> np.ndarray:
    """Impulse responses [n, K]: simulated ones, the same every time, and recorded ones if any."""
    simulated = simulate_room_responses(SIMULATED_ROOMS, np.random.default_rng(0))
    return simulated if recorded is None else np.concatenate([simulated, recorded])


def simulate_room_responses(
    count: int, rng: np.random.Generator, config: RoomConfig = RoomConfig()
) -> np.ndarray:
    """Impulse responses [count, K], float32: a direct sound, then noise that dies away
    exponentially, through a random microphone."""
    responses = [_apply_microphone(_simulate_room(rng, config), rng, config) for _ in range(count)]
    return np.stack(responses).astype(np.float32)


def trim_room_responses(waves: list[np.ndarray]) -> np.ndarray:
    """Recorded impulse responses as [n, K], float32: each begins at its loudest sample and has unit
    energy."""
    trimmed = [wave[np.abs(wave).argmax() :][:RESPONSE_SAMPLES] for wave in waves]
    padded = [
        np.pad(wave / np.linalg.norm(wave), (0, RESPONSE_SAMPLES - len(wave))) for wave in trimmed
    ]
    return np.stack(padded).astype(np.float32)


def _simulate_room(rng: np.random.Generator, config: RoomConfig) -> np.ndarray:
    time = np.arange(RESPONSE_SAMPLES) / SAMPLE_RATE
    reverberation_seconds = np.exp(rng.uniform(*np.log(config.reverberation_seconds)))
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / reverberation_seconds)
    tail[: int(rng.uniform(0.001, 0.01) * SAMPLE_RATE)] = 0
    level_db = -rng.uniform(*config.direct_to_reverberant_db)
    response = tail / np.linalg.norm(tail) * 10 ** (level_db / 20)
    response[0] = 1.0
    return response


def _apply_microphone(
    response: np.ndarray, rng: np.random.Generator, config: RoomConfig
) -> np.ndarray:
    """A smooth random equaliser and a random pass band: telephones, laptops, far corners."""
    frequency = np.fft.rfftfreq(2 * RESPONSE_SAMPLES, 1 / SAMPLE_RATE)
    bands = np.array([0, 200, 500, 1000, 2000, 4000, 8000])
    deviations_db = rng.normal(0, config.microphone_deviation_db, len(bands))
    gain_db = np.interp(frequency, bands, deviations_db)
    low, high = rng.uniform(*config.low_cut_hz), rng.uniform(*config.high_cut_hz)
    high_pass = 1 / (1 + (low / np.maximum(frequency, 1)) ** 4)
    low_pass = 1 / (1 + (frequency / high) ** 8)
    magnitude = 10 ** (gain_db / 20) * np.sqrt(high_pass * low_pass)
    spectrum = np.fft.rfft(response, 2 * RESPONSE_SAMPLES) * _minimum_phase(magnitude)
    return np.fft.irfft(spectrum)[:RESPONSE_SAMPLES]


def _minimum_phase(magnitude: np.ndarray) -> np.ndarray:
    """The spectrum of this magnitude whose impulse response begins at its direct sound."""
    cepstrum = np.fft.irfft(np.log(np.maximum(magnitude, 1e-4)))
    cepstrum[1:RESPONSE_SAMPLES] *= 2
    cepstrum[RESPONSE_SAMPLES + 1 :] = 0
    return np.exp(np.fft.rfft(cepstrum))
