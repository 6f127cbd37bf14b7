"""Speech at the pitch of a melody: pitch-synchronous overlap-add (TD-PSOLA, Moulines and
Charpentier, Speech Communication 1990), which keeps the formants."""

from collections.abc import Callable

import numpy as np

RATE = 16_000
_HOP, _WINDOW = 160, 640  # samples
_LOWEST_HZ, _HIGHEST_HZ = 65.0, 400.0
_VOICED_CORRELATION = 0.5
_UNVOICED_PERIOD = 80  # samples between the grains of noise


def sing(speech: np.ndarray, pitch_at: Callable[[float], float], stretch: float) -> np.ndarray:
    """Samples [stretch * n] of speech [n] (16 kHz) at another pitch.

    pitch_at: Hz at a time of the result in seconds. stretch: how many times longer the result is.
    """
    marks, periods, voiced = _mark_periods(speech)
    padded = np.pad(speech, RATE // 20)
    result = np.zeros(round(stretch * len(speech)) + RATE // 10, np.float32)
    time = 0.0
    while time < stretch * len(speech):
        nearest = min(int(np.searchsorted(marks, time / stretch)), len(marks) - 1)
        period = periods[nearest]
        centre = marks[nearest] + RATE // 20
        grain = padded[centre - period : centre + period] * np.hanning(2 * period)
        first = round(time) - period + RATE // 20
        result[first : first + len(grain)] += grain
        time += RATE / pitch_at(time / RATE) if voiced[nearest] else period
    return result[RATE // 20 : -(RATE // 20)]


def median_pitch(speech: np.ndarray) -> float:
    """Of the voiced parts of speech, in Hz."""
    _, periods, voiced = _mark_periods(speech)
    return RATE / float(np.median(periods[voiced])) if voiced.any() else 150.0


def _mark_periods(speech: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples that each period is centred on, its length, and whether it is voiced."""
    frame_periods = _track_periods(speech)
    marks: list[int] = []
    periods: list[int] = []
    voiced: list[bool] = []
    mark = 0
    while mark < len(speech):
        tracked = frame_periods[min(mark // _HOP, len(frame_periods) - 1)]
        period = int(tracked) or _UNVOICED_PERIOD
        if tracked:  # onto the highest sample of the period
            first = max(mark - period // 4, 0)
            mark = first + int(np.argmax(speech[first : mark + period // 4 + 1]))
        if not marks or mark > marks[-1]:
            marks.append(mark)
            periods.append(period)
            voiced.append(bool(tracked))
        mark = max(mark, marks[-1]) + period
    return np.array(marks), np.array(periods), np.array(voiced)


def _track_periods(speech: np.ndarray) -> np.ndarray:
    """Samples of a period at each _HOP samples; 0 where nothing repeats."""
    shortest, longest = round(RATE / _HIGHEST_HZ), round(RATE / _LOWEST_HZ)
    padded = np.pad(speech, (_WINDOW // 2, _WINDOW // 2 + _HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    spectrum = np.fft.rfft(frames, 2 * _WINDOW)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:, : longest + 1]
    correlation /= np.maximum(correlation[:, :1], 1e-6)
    # Fewer products are summed at longer lags.
    correlation /= 1 - np.arange(longest + 1) / _WINDOW
    lags = shortest + correlation[:, shortest:].argmax(axis=1)
    strength = correlation[np.arange(len(lags)), lags]
    return np.where(strength > _VOICED_CORRELATION, lags, 0)
