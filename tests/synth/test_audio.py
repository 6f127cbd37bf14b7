"""What every clip passes through."""

import numpy as np
import pytest
from sounds import quiet, tone

from kws.audio.recordings import SAMPLE_RATE
from kws.synth.audio import MARGIN_SECONDS, PEAK_LEVEL, from_pcm, postprocess


class TestPostprocess:
    @pytest.mark.parametrize("rate", [8_000, 16_000, 24_000])
    @pytest.mark.parametrize("size", [0.85, 1.0, 1.2])
    def test_pauses_are_trimmed_and_size_changes_pitch_and_length(self, rate, size):
        time = np.arange(round(0.4 * rate)) / rate
        clip = postprocess(
            np.concatenate([np.zeros(rate), 0.1 * np.sin(2 * np.pi * 500 * time), np.zeros(rate)]),
            rate,
            size,
        )
        assert len(clip) / SAMPLE_RATE == pytest.approx(0.4 / size + 2 * MARGIN_SECONDS, abs=0.03)
        assert np.abs(clip).max() == pytest.approx(PEAK_LEVEL, abs=1e-4)
        spectrum = np.abs(np.fft.rfft(clip))
        assert spectrum.argmax() * SAMPLE_RATE / len(clip) == pytest.approx(500 * size, abs=5)

    def test_a_click_far_off_is_dropped_and_one_close_by_is_kept(self):
        word, click = tone(0.3), tone(0.01)
        far = postprocess(np.concatenate([click, quiet(0.4), word]), SAMPLE_RATE)
        close = postprocess(np.concatenate([click, quiet(0.1), word]), SAMPLE_RATE)
        assert len(far) / SAMPLE_RATE == pytest.approx(0.3 + MARGIN_SECONDS, abs=0.03)
        assert len(close) / SAMPLE_RATE == pytest.approx(0.41, abs=0.03)

    def test_silence_stays_silence(self):
        assert not postprocess(quiet(0.5), SAMPLE_RATE).any()

    def test_half_a_sample_is_dropped(self):
        assert len(from_pcm(b"\x00\x01\x02")) == 1
