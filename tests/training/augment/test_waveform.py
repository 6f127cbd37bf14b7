"""Augmentation of batches: rooms, microphones, noise and gain."""

import numpy as np
import pytest
import torch
from sounds import RATE, quiet, tone
from torch import Tensor

from kws.training.augment import waveform
from kws.training.augment.config import AugmentConfig
from kws.training.augment.rooms import (
    RESPONSE_SAMPLES,
    simulate_room_responses,
    trim_room_responses,
)

ALL_IN_ROOMS = AugmentConfig(room_fraction=1.0)
ALL_BAND_LIMITED = AugmentConfig(band_limited_fraction=1.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bursts(batch: int = 64) -> Tensor:
    """A second of tone between two of silence; levels differ."""
    one = np.concatenate([quiet(1), tone(1, amplitude=1.0), quiet(1)])
    return torch.from_numpy(one) * torch.logspace(-2, 0, batch)[:, None]


def unit_noise(batch: int = 64, samples: int = 3 * RATE) -> Tensor:
    noise = torch.randn(batch, samples, generator=generator(1))
    return noise / noise.square().mean(1, keepdim=True).sqrt()


def decibels(ratio: Tensor) -> Tensor:
    return 20 * ratio.log10()


class TestAugment:
    rooms = torch.from_numpy(simulate_room_responses(20, np.random.default_rng(0)))

    @pytest.mark.parametrize("snr_db", [0.0, 7.0, 30.0])
    def test_signal_to_noise_ratio_is_achieved(self, snr_db):
        audio = bursts()
        added = (
            waveform.add_noise(
                audio,
                unit_noise(),
                AugmentConfig(snr_db=(snr_db, snr_db), noisy_fraction=1.0),
                generator(),
            )
            - audio
        )
        tone_level = audio[:, RATE : 2 * RATE].square().mean(1).sqrt()
        achieved = decibels(tone_level / added.square().mean(1).sqrt())
        torch.testing.assert_close(achieved, torch.full((64,), snr_db), rtol=0, atol=0.1)

    def test_signal_to_noise_ratios_fill_their_range(self):
        audio = bursts(400)
        added = (
            waveform.add_noise(
                audio, unit_noise(400), AugmentConfig(snr_db=(0.0, 30.0)), generator()
            )
            - audio
        )
        achieved = decibels(
            audio[:, RATE : 2 * RATE].square().mean(1).sqrt() / added.square().mean(1).sqrt()
        )
        noisy = achieved[achieved < 50]
        assert len(noisy) / 400 == pytest.approx(0.85, abs=0.06)
        assert -0.1 < noisy.min() < 1
        assert 29 < noisy.max() < 30.1
        assert noisy.mean().item() == pytest.approx(15, abs=1.5)

    def test_silence_gets_noise_too(self):
        added = waveform.add_noise(
            torch.zeros(64, 3 * RATE),
            unit_noise(),
            AugmentConfig(snr_db=(0.0, 30.0), noisy_fraction=1.0),
            generator(),
        )
        level = decibels(added.square().mean(1).sqrt())
        assert (level.min() > -50.1) & (level.max() < -19.9)

    @pytest.mark.parametrize("seed", range(3))
    def test_result_is_audio(self, seed):
        audio = torch.cat([bursts(30), torch.zeros(2, 3 * RATE)])
        result = waveform.augment(
            audio,
            unit_noise(32),
            self.rooms,
            AugmentConfig(),
            waveform.seeded_generator(0, seed),
        )
        assert result.shape == audio.shape
        assert result.dtype == torch.float32
        assert result.isfinite().all()
        assert result.abs().max() <= 1

    def augmented(self, seed: int, step: int) -> Tensor:
        return waveform.augment(
            bursts(8),
            unit_noise(8),
            self.rooms,
            AugmentConfig(),
            waveform.seeded_generator(seed, step),
        )

    def test_depends_on_seed_and_step_alone(self):
        first = self.augmented(0, 5)
        torch.manual_seed(123)
        assert torch.equal(self.augmented(0, 5), first)
        assert not torch.equal(self.augmented(0, 6), first)
        assert not torch.equal(self.augmented(1, 5), first)

    def test_does_not_change_its_arguments(self):
        arguments = bursts(8), unit_noise(8), self.rooms
        before = [tensor.clone() for tensor in arguments]
        waveform.augment(*arguments, AugmentConfig(), generator())
        assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))

    @pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
    def test_fraction_of_the_gains(self, fraction):
        audio = bursts(100)
        changed = waveform.apply_gain(audio, AugmentConfig(gain_fraction=fraction), generator())
        share = (changed != audio).any(1).float().mean().item()
        assert share == pytest.approx(fraction, abs=0.15 if fraction == 0.5 else 0)

    def test_peaks_lie_in_their_range(self):
        result = waveform.apply_gain(bursts(400), AugmentConfig(), generator())
        peak = decibels(result.abs().amax(1))
        clipped = (result.abs() >= 1).float().mean(1) > 0.01
        assert 0.01 < clipped.float().mean() < 0.12
        assert (peak >= -35.01).all()
        assert (peak <= 0).all()
        assert peak.min() < -33
        assert peak[~clipped].max() > -2

    def test_gain_of_silence_is_silence(self):
        assert torch.equal(
            waveform.apply_gain(torch.zeros(4, 100), AugmentConfig(), generator()),
            torch.zeros(4, 100),
        )


class TestBandLimits:
    noise = torch.randn(64, RATE, generator=torch.Generator().manual_seed(4))

    def spectrum(self, audio: Tensor) -> Tensor:
        """Power in eight bands of 1 kHz."""
        return torch.fft.rfft(audio).abs().square()[:, :8000].unflatten(1, (8, 1000)).mean(2)

    def test_low_bands_stay_and_the_highest_goes(self):
        before, after = (
            self.spectrum(self.noise),
            self.spectrum(waveform.limit_bandwidth(self.noise, ALL_BAND_LIMITED, generator())),
        )
        torch.testing.assert_close(after[:, :2], before[:, :2], rtol=0.02, atol=0)
        assert (after[:, 7] < 0.2 * before[:, 7]).all()

    def test_speech_does_not_move(self):
        audio = torch.zeros(8, RATE)
        audio[:, 8000] = 1
        assert (
            waveform.limit_bandwidth(audio, ALL_BAND_LIMITED, generator()).argmax(1) == 8000
        ).all()

    @pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
    def test_fraction_of_the_batch(self, fraction):
        config = AugmentConfig(band_limited_fraction=fraction)
        changed = (
            (waveform.limit_bandwidth(self.noise, config, generator()) != self.noise)
            .any(1)
            .float()
            .mean()
            .item()
        )
        assert changed == pytest.approx(fraction, abs=0.2 if fraction == 0.5 else 0)


class TestEqualizer:
    noise = torch.randn(64, RATE, generator=torch.Generator().manual_seed(4))

    def test_bands_differ_and_the_level_stays(self):
        augmented = waveform.equalize(
            self.noise, AugmentConfig(equalized_fraction=1.0), generator()
        )
        octaves = [
            torch.fft.rfft(audio).abs().square()[:, [500, 1000, 2000, 4000]]
            for audio in (self.noise, augmented)
        ]
        gain_db = 10 * (octaves[1] / octaves[0]).log10()
        assert 5 < gain_db.diff(dim=1).std() < 9
        torch.testing.assert_close(
            augmented.square().mean(1), self.noise.square().mean(1), rtol=1e-3, atol=0
        )

    @pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
    def test_fraction_of_the_batch(self, fraction):
        config = AugmentConfig(equalized_fraction=fraction)
        changed = (
            (waveform.equalize(self.noise, config, generator()) != self.noise)
            .any(1)
            .float()
            .mean()
            .item()
        )
        assert changed == pytest.approx(fraction, abs=0.2 if fraction == 0.5 else 0)


class TestRooms:
    @staticmethod
    def recorded() -> np.ndarray:
        rng = np.random.default_rng(1)
        late = [
            np.concatenate(
                [np.zeros(700), [1.0], 0.1 * rng.standard_normal(n) * np.exp(-np.arange(n) / 2000)]
            )
            for n in (3000, 20_000)
        ]
        return trim_room_responses([wave.astype(np.float32) for wave in late])

    @pytest.mark.parametrize("kind", ["simulated", "recorded"])
    def test_onset_stays_where_it_was(self, kind):
        rooms = torch.from_numpy(
            simulate_room_responses(40, np.random.default_rng(3))
            if kind == "simulated"
            else self.recorded()
        )
        audio = torch.zeros(64, 2 * RATE)
        audio[:, RATE : RATE + 1600] = torch.randn(64, 1600, generator=generator(2))
        wet = waveform.add_reverberation(audio, rooms, ALL_IN_ROOMS, generator())
        before = wet[:, :RATE].abs().amax(1)
        first = wet[:, RATE : RATE + 160].square().mean(1).sqrt()  # 10 ms
        loudest = wet.unflatten(1, (-1, 160)).square().mean(-1).sqrt().amax(1)
        assert (before < 1e-4 * loudest).all()
        assert (first > 0.2 * loudest).all()

    def test_level_is_kept(self):
        audio = bursts(16)
        wet = waveform.add_reverberation(
            audio, torch.from_numpy(self.recorded()), ALL_IN_ROOMS, generator()
        )
        torch.testing.assert_close(wet.square().mean(1), audio.square().mean(1), rtol=1e-3, atol=0)

    @pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
    def test_fraction_of_the_batch(self, fraction):
        audio = bursts(100)
        wet = waveform.add_reverberation(
            audio,
            torch.from_numpy(self.recorded()),
            AugmentConfig(room_fraction=fraction),
            generator(),
        )
        changed = (wet != audio).any(1).float().mean().item()
        assert changed == pytest.approx(fraction, abs=0.15 if fraction == 0.5 else 0)

    def test_room_without_echoes_changes_nothing(self):
        room = torch.zeros(1, 8000)
        room[0, 0] = 0.3
        audio = bursts(4)
        torch.testing.assert_close(
            waveform.add_reverberation(audio, room, ALL_IN_ROOMS, generator()),
            audio,
            rtol=0,
            atol=1e-5,
        )

    def test_simulated_rooms_differ_and_die_away(self):
        rooms = simulate_room_responses(10, np.random.default_rng(0))
        assert rooms.shape == (10, RESPONSE_SAMPLES)
        assert rooms.dtype == np.float32
        assert np.isfinite(rooms).all()
        energy = (rooms**2).reshape(10, 2, -1).sum(2)
        assert (energy[:, 1] < 0.1 * energy[:, 0]).all()
        assert len({room.tobytes() for room in rooms}) == 10

    def test_recorded_rooms_begin_at_their_direct_sound(self):
        rooms = self.recorded()
        assert rooms.shape == (2, RESPONSE_SAMPLES)
        assert (np.abs(rooms).argmax(axis=1) == 0).all()


@pytest.fixture(scope="module")
def rooms() -> np.ndarray:
    return simulate_room_responses(100, np.random.default_rng(0))


def response_db(rooms: np.ndarray, low_hz: int, high_hz: int) -> np.ndarray:
    """Of each room, its microphone included, in a band [R]."""
    power = np.abs(np.fft.rfft(rooms, axis=1)) ** 2
    hertz = np.fft.rfftfreq(rooms.shape[1], 1 / RATE)
    return 10 * np.log10(power[:, (hertz >= low_hz) & (hertz < high_hz)].mean(1))


def test_nothing_is_left_outside_of_recordings():
    recorded = torch.tensor([[0, 5], [2, 3], [1, 4]])
    muted = waveform.mute_outside(torch.ones(3, 5), recorded)
    assert muted.tolist() == [[1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 1, 1, 1, 0]]


class TestShippedStrengths:
    """The default strengths, measured in the audio."""

    def test_most_speech_is_in_rooms_near_and_far(self, rooms):
        """By what is left 50 to 150 ms after a sound has ended."""
        noise = torch.zeros(200, 3 * RATE)
        augmented = waveform.augment(
            bursts(200), noise, torch.from_numpy(rooms), AugmentConfig(), generator()
        )
        sound, rest = augmented[:, RATE : 2 * RATE], augmented[:, 2 * RATE + 800 : 2 * RATE + 2400]
        left_db = 10 * (rest.square().mean(1) / sound.square().mean(1) + 1e-12).log10()
        assert 0.7 < (left_db > -70).float().mean() < 0.97
        assert 0.05 < (left_db > -20).float().mean() < 0.3
        assert 0.2 < ((left_db > -70) & (left_db < -40)).float().mean() < 0.6

    def test_microphones_differ(self, rooms):
        octaves_db = [response_db(rooms, hz, round(hz * 1.25)) for hz in (450, 900, 1800)]
        deviation_db = np.std(np.diff(octaves_db, axis=0), axis=1)
        assert (deviation_db > 4).all()
        assert (deviation_db < 8).all()

    def test_microphones_lack_the_lowest_and_the_highest(self, rooms):
        middle_db = response_db(rooms, 900, 1120)
        lost_db = [middle_db - response_db(rooms, *band) for band in ((60, 140), (6500, 7500))]
        assert 5 < np.median(lost_db[0]) < 14
        assert 2 < np.median(lost_db[1]) < 10

    def test_some_speech_lacks_high_bands(self):
        noise = torch.randn(400, RATE // 4, generator=generator(4))
        augmented = waveform.limit_bandwidth(noise, AugmentConfig(), generator())
        highest = [
            torch.fft.rfft(audio)[:, 1850:] for audio in (noise, augmented)
        ]  # from 7.4 kHz on
        before, after = (spectrum.abs().square().sum(1) for spectrum in highest)
        assert 0.1 < (after < 0.5 * before).float().mean() < 0.4
