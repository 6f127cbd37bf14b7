"""What a network learns from: clips and their split, mixed examples, and what the world does to them."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kws.errors import AudioError, DataError
from kws.training import augment
from kws.training.clips import Bank, Clip, extent, find_clips, pack, part_of, read_bank, speaker_of
from kws.training.mixing import Batch, Mixer, Source, Word, coloured_noise, placed_word, unplaced_word

RATE = 16_000


def tone(seconds: float, pitch: float = 1000.0, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def make_bank(*waves: np.ndarray, label: str = "word") -> Bank:
    clips = [Clip(Path(label) / f"s{i}_nohash_0.wav", label, f"s{i}") for i in range(len(waves))]
    return pack(clips, [np.round(wave * 32767).astype(np.int16) for wave in waves])


def make_batch(audio: Tensor, noise: Tensor) -> Batch:
    return Batch(audio, torch.full((len(audio),), -1), torch.full((len(audio), 2), torch.nan), noise)


def write_folder(folder: Path, names: list[str], seconds: float = 0.1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        soundfile.write(folder / name, tone(seconds, 300 + 10 * i), RATE)
    return folder


class TestSplit:
    @staticmethod
    def which_set(filename: str) -> str:
        """The rule as published with the Speech Commands dataset, with a tenth each for validation and test."""
        most_wavs_per_class = 2**27 - 1
        hash_name = re.sub(r"_nohash_.*$", "", filename)
        hashed = int(hashlib.sha1(hash_name.encode()).hexdigest(), 16)
        percentage = (hashed % (most_wavs_per_class + 1)) * (100.0 / most_wavs_per_class)
        if percentage < 10:
            return "validation"
        return "test" if percentage < 20 else "train"

    @given(st.text("0123456789abcdef", min_size=8, max_size=8), st.integers(0, 9))
    def test_follows_the_published_rule(self, speaker, number):
        name = f"{speaker}_nohash_{number}.wav"
        assert part_of(speaker_of(Path("yes") / name)) == self.which_set(name)

    def test_parts_have_their_shares(self):
        parts = [part_of(f"{i:08x}") for i in range(10_000)]
        assert parts.count("validation") / 10_000 == pytest.approx(0.1, abs=0.015)
        assert parts.count("test") / 10_000 == pytest.approx(0.1, abs=0.015)

    @pytest.mark.parametrize(
        ("name", "speaker"),
        [
            ("0a7c2a8d_nohash_0.wav", "0a7c2a8d"),
            ("0a7c2a8d_nohash_12.flac", "0a7c2a8d"),
            ("anna-maria_nohash_1_loud.wav", "anna-maria"),
            ("84-121123-0003.flac", "84"),
            ("84-121123.flac", "84-121123"),
            ("hello there.wav", "hello there"),
            ("_nohash_0.wav", "_nohash_0"),
        ],
    )
    def test_speaker(self, name, speaker):
        assert speaker_of(Path("word") / name) == speaker

    def test_no_speaker_stands_in_two_parts(self, tmp_path):
        names = [f"speaker{s}_nohash_{n}.wav" for s in range(40) for n in range(3)]
        clips = [clip for word in ("yes", "no") for clip in find_clips(write_folder(tmp_path / word, names, 0.01))]
        parts = {clip.speaker: {other.part for other in clips if other.speaker == clip.speaker} for clip in clips}
        assert len(parts) == 40
        assert all(len(found) == 1 for found in parts.values())
        assert set().union(*parts.values()) == {"train", "validation", "test"}

    def test_adding_files_moves_none(self, tmp_path):
        folder = write_folder(tmp_path / "yes", [f"a{i}_nohash_0.wav" for i in range(30)], 0.01)
        before = {clip.path: clip.part for clip in find_clips(tmp_path)}
        write_folder(folder, [f"b{i}_nohash_0.wav" for i in range(30)] + [f"a{i}_nohash_1.wav" for i in range(30)], 0.01)
        after = {clip.path: clip.part for clip in find_clips(tmp_path)}
        assert len(after) == 90
        assert before.items() <= after.items()

    def test_label_is_the_folder(self, tmp_path):
        write_folder(tmp_path / "yes", ["a.wav"])
        write_folder(tmp_path / "deep" / "no", ["b.flac"])
        assert {clip.label for clip in find_clips(tmp_path)} == {"yes", "no"}


class TestExtent:
    @pytest.mark.parametrize(
        ("samples", "expected"),
        [
            (np.concatenate([quiet(0.3), tone(0.4), quiet(0.3)]), (0.3, 0.7)),
            (np.concatenate([tone(0.2), quiet(0.8)]), (0.0, 0.2)),
            (np.concatenate([quiet(0.5), tone(0.5)]), (0.5, 1.0)),
            (np.concatenate([quiet(0.2), tone(0.2), quiet(0.1), tone(0.2), quiet(0.3)]), (0.2, 0.7)),
            (np.concatenate([quiet(0.2), tone(0.2), quiet(0.1), tone(0.2, amplitude=0.05), quiet(0.3)]), (0.2, 0.7)),
            (np.concatenate([quiet(0.2), tone(0.2), quiet(0.1), tone(0.2, amplitude=0.005), quiet(0.3)]), (0.2, 0.4)),
            (np.concatenate([tone(0.02), quiet(0.28), tone(0.4), quiet(0.3)]), (0.3, 0.7)),
            (np.concatenate([tone(0.04), quiet(0.26), tone(0.4), quiet(0.3)]), (0.0, 0.7)),
            (np.concatenate([quiet(0.3), tone(0.4), quiet(0.08), tone(0.02), quiet(0.2)]), (0.3, 0.8)),
            (quiet(1.0), (0.0, 1.0)),
            (tone(0.01), (0.0, 0.01)),
            (quiet(0), (0.0, 0.0)),
        ],
        ids=[
            "in the middle", "at the beginning", "at the end", "with a pause", "20 dB weaker second part", "40 dB weaker second part",
            "far short blip", "far longer sound", "near short blip", "silence", "shorter than two frames", "nothing",
        ],
    )  # fmt: skip
    def test_of_bursts(self, samples, expected):
        assert extent(samples) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("noise", [1e-4, 3e-3, 0.02])
    @pytest.mark.parametrize("gain", [1.0, 0.01])
    def test_is_found_in_noise_and_at_any_level(self, noise, gain):
        rng = np.random.default_rng(0)
        samples = np.concatenate([quiet(0.4), tone(0.3), quiet(0.5)])
        samples = gain * (samples + noise * rng.standard_normal(len(samples)))
        assert extent(samples) == pytest.approx((0.4, 0.7), abs=0.011)


class TestBank:
    def test_packed_clips_come_back(self):
        rng = np.random.default_rng(0)
        waves = [rng.integers(-32768, 32768, length).astype(np.int16) for length in (5, 0, 1, 1000)]
        bank = pack([Clip(Path(f"{i}.wav"), "a", str(i)) for i in range(4)], waves)
        assert len(bank) == 4
        assert bank.seconds == 1006 / RATE
        for i, wave in enumerate(waves):
            assert bank[i].dtype == np.float32
            assert np.array_equal(bank[i] * 32768, wave)

    def test_empty_bank(self):
        bank = pack([], [])
        assert (len(bank), bank.seconds, bank.samples.dtype) == (0, 0.0, np.int16)
        assert len(bank.select(lambda clip: True)) == 0

    def test_select_keeps_clips_with_their_samples(self):
        bank = make_bank(tone(0.1), tone(0.2, 500), tone(0.3, 700))
        chosen = bank.select(lambda clip: clip.speaker != "s1")
        assert [clip.speaker for clip in chosen.clips] == ["s0", "s2"]
        assert np.array_equal(chosen[1], bank[2])
        assert bank.select(lambda clip: True).fingerprint() == bank.fingerprint()

    @pytest.mark.parametrize(
        "other",
        [
            make_bank(tone(0.1), tone(0.2, 501)),
            make_bank(tone(0.2, 500), tone(0.1)),
            make_bank(tone(0.1)),
            make_bank(tone(0.1), tone(0.2, 500), quiet(0)),
            make_bank(tone(0.1), tone(0.2, 500), label="other"),
            make_bank(np.concatenate([tone(0.1), tone(0.2, 500)[:1]]), tone(0.2, 500)[1:]),
        ],
        ids=["other samples", "other order", "a clip less", "an empty clip more", "other label", "cut elsewhere"],
    )
    def test_fingerprint_changes(self, other):
        bank = make_bank(tone(0.1), tone(0.2, 500))
        assert bank.fingerprint() == make_bank(tone(0.1), tone(0.2, 500)).fingerprint() != other.fingerprint()


class TestReading:
    def test_samples_of_16_bit_recordings_are_kept_exactly(self, tmp_path):
        samples = np.array([-32768, -32767, -20_000, -1, 0, 1, 20_000, 32766, 32767] * 100, np.int16)
        soundfile.write(tmp_path / "a.wav", samples, RATE)
        bank = read_bank(find_clips(tmp_path), warn=pytest.fail)
        assert np.array_equal(bank.samples, samples)

    def test_samples_over_full_scale_are_clipped(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.full(1000, 1.5, np.float32), RATE, subtype="FLOAT")
        assert read_bank(find_clips(tmp_path), warn=pytest.fail).samples.tolist() == [32767] * 1000

    def test_clips_that_cannot_be_read_are_named_and_left_out(self, tmp_path):
        write_folder(tmp_path, [f"good{i:02d}.wav" for i in range(18)])
        (tmp_path / "bad.wav").write_text("no sound")
        (tmp_path / "empty.wav").touch()
        warnings = []
        bank = read_bank(find_clips(tmp_path), warn=warnings.append)
        assert [clip.path.stem for clip in bank.clips] == [f"good{i:02d}" for i in range(18)]
        np.testing.assert_allclose(bank[3], tone(0.1, 330), atol=1e-4)
        assert len(warnings) == 2
        assert all(
            warning.startswith(f"left out: {tmp_path / name}") for warning, name in zip(warnings, ("bad.wav", "empty.wav"), strict=True)
        )

    def test_too_many_unreadable_clips_are_an_error(self, tmp_path):
        write_folder(tmp_path, [f"good{i}.wav" for i in range(7)])
        (tmp_path / "bad.wav").write_text("no sound")
        warnings = []
        with pytest.raises(DataError, match=r"1 of 8 clips cannot be used, the first: .*bad\.wav.*Repair or remove them\."):
            read_bank(find_clips(tmp_path), warn=warnings.append)
        assert len(warnings) == 1

    def test_clip_too_long_for_a_word_is_left_out(self, tmp_path):
        write_folder(tmp_path, [f"good{i:02d}.wav" for i in range(10)])
        soundfile.write(tmp_path / "long.wav", np.zeros(61 * 1000, np.int16), 1000)
        warnings = []
        bank = read_bank(find_clips(tmp_path), longest_seconds=60, warn=warnings.append)
        assert len(bank) == 10
        assert warnings == [f"left out: {tmp_path / 'long.wav'}: 61 s is too long for one word. Cut it, or put it among the negatives."]
        assert len(read_bank(find_clips(tmp_path), warn=pytest.fail)) == 11

    def test_progress_sees_every_clip(self, tmp_path):
        write_folder(tmp_path, [f"{i}.wav" for i in range(5)])
        seen = []
        read_bank(find_clips(tmp_path), warn=pytest.fail, progress=lambda waves: (seen.append(1) or wave for wave in waves))
        assert len(seen) == 5

    def test_folder_without_recordings(self, tmp_path):
        with pytest.raises(AudioError, match="no recordings"):
            find_clips(tmp_path)


CLIP_SECONDS, EARLIEST_SECONDS = 2.0, 0.9
TONE_PLACE = (0.1, 0.4)  # of the tone in the word's clip


def make_mixer(words: list[Word] | None = None, **options: object) -> Mixer:
    """Words are loud tones, everything else is at least 40 dB weaker."""
    words = words or [placed_word("word", make_bank(np.concatenate([quiet(0.1), tone(0.3), quiet(0.2)])))]
    murmur = [0.005 * coloured_noise(RATE * 2 // 3, 0.0, np.random.default_rng(i)).clip(-1, 1) for i in range(3)]
    defaults = {"clip_seconds": CLIP_SECONDS, "earliest_end_seconds": EARLIEST_SECONDS, "batch": 40}
    noises = make_bank(coloured_noise(RATE, 1.0, np.random.default_rng(9)) / 500)
    names = list(dict.fromkeys(word.name for word in words))
    return Mixer(names, words, [Source(make_bank(*murmur), 1.0)], noises, **{**defaults, **options})


@pytest.fixture(scope="module")
def mixer() -> Mixer:
    return make_mixer()


@pytest.fixture(scope="module")
def positives() -> Batch:
    return make_mixer(positive_fraction=1.0)[0]


def loud(audio: Tensor) -> tuple[float, float]:
    """First and last time at which the audio is louder than anything but the word."""
    indices = (audio.abs() > 0.1).nonzero()
    return indices[0].item() / RATE, indices[-1].item() / RATE


class TestMixer:
    def test_shapes_and_types(self, mixer):
        batch = mixer[0]
        assert batch.audio.shape == batch.noise.shape == (40, 32_000)
        assert (batch.word.shape, batch.place.shape) == ((40,), (40, 2))
        assert batch.audio.dtype == batch.noise.dtype == torch.float32
        assert batch.audio.isfinite().all()
        assert batch.noise.isfinite().all()

    def test_same_seed_and_step_give_the_same_batch(self, mixer):
        for again in (mixer[3], make_mixer()[3]):
            assert all(torch.equal(a.nan_to_num(-9), b.nan_to_num(-9)) for a, b in zip(mixer[3], again, strict=True))

    @pytest.mark.parametrize(("seed", "step"), [(0, 4), (1, 3)], ids=["other step", "other seed"])
    def test_other_seed_or_step_gives_another_batch(self, mixer, seed, step):
        other = make_mixer(seed=seed)[step]
        assert not torch.equal(mixer[3].audio, other.audio)
        assert not torch.equal(mixer[3].noise, other.noise)

    def test_drawing_leaves_the_clips_as_they_were(self, mixer):
        banks = [mixer.words[0].bank, mixer.negatives[0].bank, mixer.noises]
        before = [bank.fingerprint() for bank in banks]
        mixer[5]
        assert [bank.fingerprint() for bank in banks] == before

    @pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
    def test_positive_fraction(self, fraction):
        mixer = make_mixer(positive_fraction=fraction, batch=400, clip_seconds=1.2, earliest_end_seconds=0.5)
        batch = mixer[0]
        assert (batch.word >= 0).float().mean().item() == pytest.approx(fraction, abs=0.08 if fraction == 0.4 else 0)
        assert torch.equal(batch.word < 0, batch.place.isnan().all(1))

    def test_place_points_at_the_samples_of_the_word(self, positives):
        for audio, place in zip(positives.audio, positives.place.tolist(), strict=True):
            assert loud(audio) == pytest.approx(place, abs=0.002)

    def test_word_lies_within_the_clip_and_leaves_room_after_it(self, positives):
        start, end = positives.place.unbind(1)
        assert (start >= 0).all()
        assert (end >= EARLIEST_SECONDS - 1e-6).all()
        assert (end <= CLIP_SECONDS - 0.2).all()
        assert end.max() - end.min() > 0.6  # anywhere between

    def test_half_of_the_words_change_their_speed(self, positives):
        lengths = (positives.place[:, 1] - positives.place[:, 0]) / (TONE_PLACE[1] - TONE_PLACE[0])
        assert 0.3 < (lengths.sub(1).abs() < 0.005).float().mean() < 0.7
        assert 0.7 < lengths.min() < 0.97 < 1.03 < lengths.max() < 1.4

    @pytest.mark.parametrize("make", [placed_word, unplaced_word])
    @pytest.mark.parametrize("seconds", [0.8, 1.2, 1.5])
    def test_clip_that_fits_is_never_cut(self, make, seconds):
        """Both ends of it are heard, though it may be longer than the earliest end."""
        wave = np.concatenate([tone(0.1), quiet(seconds - 0.2), tone(0.1)])
        audio = make_mixer([make("word", make_bank(wave))], positive_fraction=1.0)[0].audio
        for each in audio:
            first, last = loud(each)
            assert last - first == pytest.approx(seconds, rel=0.3)  # its speed varies; without its first tone next to nothing would be left

    def test_unplaced_word_has_no_place(self):
        batch = make_mixer([unplaced_word("word", make_bank(tone(0.5)))], positive_fraction=1.0)[0]
        assert (batch.word == 0).all()
        assert batch.place.isnan().all()

    def test_several_words_keep_their_names(self):
        words = [placed_word(name, make_bank(tone(0.3, pitch))) for name, pitch in (("low", 400), ("high", 3000), ("low", 450))]
        batch = make_mixer(words, positive_fraction=1.0)[0]
        spectrum = np.abs(np.fft.rfft(batch.audio.numpy()))
        pitch = spectrum.argmax(axis=1) * RATE / batch.audio.shape[1]
        assert np.array_equal(batch.word.numpy() == 1, pitch > 1000)
        assert set(batch.word.tolist()) == {0, 1}

    def test_noise_has_unit_level(self, mixer):
        level = mixer[0].noise.square().mean(1).sqrt()
        torch.testing.assert_close(level, torch.ones_like(level), rtol=1e-3, atol=0)

    def test_mixer_without_recorded_noise(self):
        mixer = make_mixer()
        assert (
            Mixer(mixer.names, mixer.words, mixer.negatives, None, clip_seconds=1.0, earliest_end_seconds=0.5, batch=8)[0]
            .noise.isfinite()
            .all()
        )

    @pytest.mark.parametrize("slope", [0.0, 1.0, 2.0], ids=["white", "pink", "brown"])
    def test_colour_of_noise(self, slope):
        power = np.abs(np.fft.rfft(coloured_noise(2**17, slope, np.random.default_rng(0)))) ** 2
        octaves = [power[2**k : 2 ** (k + 1)].mean() for k in range(6, 16)]
        assert np.polyfit(np.arange(6, 16), np.log2(octaves), 1)[0] == pytest.approx(-slope, abs=0.1)


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
    rooms = torch.from_numpy(augment.simulated_rooms(20, np.random.default_rng(0)))

    @pytest.mark.parametrize("snr_db", [0.0, 7.0, 30.0])
    def test_signal_to_noise_ratio_is_achieved(self, snr_db, monkeypatch):
        monkeypatch.setattr(augment, "SNR_DB", (snr_db, snr_db))
        audio = bursts()
        added = augment.with_noise(audio, unit_noise(), generator(), fraction=1.0) - audio
        tone_level = audio[:, RATE : 2 * RATE].square().mean(1).sqrt()
        achieved = decibels(tone_level / added.square().mean(1).sqrt())
        torch.testing.assert_close(achieved, torch.full((64,), snr_db), rtol=0, atol=0.1)

    def test_signal_to_noise_ratios_fill_their_range(self):
        audio = bursts(400)
        added = augment.with_noise(audio, unit_noise(400), generator()) - audio
        achieved = decibels(audio[:, RATE : 2 * RATE].square().mean(1).sqrt() / added.square().mean(1).sqrt())
        noisy = achieved[achieved < 50]
        assert len(noisy) / 400 == pytest.approx(0.85, abs=0.06)
        assert -0.1 < noisy.min() < 1
        assert 29 < noisy.max() < 30.1
        assert noisy.mean().item() == pytest.approx(15, abs=1.5)

    def test_silence_gets_noise_too(self):
        added = augment.with_noise(torch.zeros(64, 3 * RATE), unit_noise(), generator(), fraction=1.0)
        level = decibels(added.square().mean(1).sqrt())
        assert (level.min() > -50.1) & (level.max() < -19.9)

    @pytest.mark.parametrize("seed", range(3))
    def test_result_is_audio(self, seed):
        audio = torch.cat([bursts(30), torch.zeros(2, 3 * RATE)])
        result = augment.augment(make_batch(audio, unit_noise(32)), self.rooms, (0, seed))
        assert result.shape == audio.shape
        assert result.dtype == torch.float32
        assert result.isfinite().all()
        assert result.abs().max() <= 1

    def test_depends_on_seed_and_step_alone(self):
        batch = make_batch(bursts(8), unit_noise(8))
        first = augment.augment(batch, self.rooms, (0, 5))
        torch.manual_seed(123)
        assert torch.equal(augment.augment(batch, self.rooms, (0, 5)), first)
        assert not torch.equal(augment.augment(batch, self.rooms, (0, 6)), first)
        assert not torch.equal(augment.augment(batch, self.rooms, (1, 5)), first)

    def test_leaves_its_arguments_as_they_were(self):
        batch = make_batch(bursts(8), unit_noise(8))
        before = [part.clone() for part in (*batch, self.rooms)]
        augment.augment(batch, self.rooms, (0, 0))
        assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip((*batch, self.rooms), before, strict=True))

    def test_peaks_lie_in_their_range(self):
        result = augment.with_gain(bursts(400), generator())
        peak = decibels(result.abs().amax(1))
        clipped = (result.abs() >= 1).float().mean(1) > 0.01
        assert 0.01 < clipped.float().mean() < 0.12
        assert (peak >= -35.01).all()
        assert (peak <= 0).all()
        assert peak.min() < -33
        assert peak[~clipped].max() > -2

    def test_gain_of_silence_is_silence(self):
        assert torch.equal(augment.with_gain(torch.zeros(4, 100), generator()), torch.zeros(4, 100))


class TestRooms:
    @staticmethod
    def recorded() -> np.ndarray:
        rng = np.random.default_rng(1)
        late = [np.concatenate([np.zeros(700), [1.0], 0.1 * rng.standard_normal(n) * np.exp(-np.arange(n) / 2000)]) for n in (3000, 20_000)]
        return augment.recorded_rooms([wave.astype(np.float32) for wave in late])

    @pytest.mark.parametrize("kind", ["simulated", "recorded"])
    def test_onset_stays_where_it_was(self, kind):
        rooms = torch.from_numpy(augment.simulated_rooms(40, np.random.default_rng(3)) if kind == "simulated" else self.recorded())
        audio = torch.zeros(64, 2 * RATE)
        audio[:, RATE : RATE + 1600] = torch.randn(64, 1600, generator=generator(2))
        wet = augment.reverberated(audio, rooms, generator(), fraction=1.0)
        before = wet[:, :RATE].abs().amax(1)
        first = wet[:, RATE : RATE + 160].square().mean(1).sqrt()  # 10 ms
        loudest = wet.unflatten(1, (-1, 160)).square().mean(-1).sqrt().amax(1)
        assert (before < 1e-4 * loudest).all()
        assert (first > 0.2 * loudest).all()

    def test_level_is_kept(self):
        audio = bursts(16)
        wet = augment.reverberated(audio, torch.from_numpy(self.recorded()), generator(), fraction=1.0)
        torch.testing.assert_close(wet.square().mean(1), audio.square().mean(1), rtol=1e-3, atol=0)

    @pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
    def test_fraction_of_the_batch(self, fraction):
        audio = bursts(100)
        wet = augment.reverberated(audio, torch.from_numpy(self.recorded()), generator(), fraction=fraction)
        changed = (wet != audio).any(1).float().mean().item()
        assert changed == pytest.approx(fraction, abs=0.15 if fraction == 0.5 else 0)

    def test_room_without_echoes_changes_nothing(self):
        room = torch.zeros(1, 8000)
        room[0, 0] = 0.3
        audio = bursts(4)
        torch.testing.assert_close(augment.reverberated(audio, room, generator(), fraction=1.0), audio, rtol=0, atol=1e-5)

    def test_simulated_rooms_differ_and_die_away(self):
        rooms = augment.simulated_rooms(10, np.random.default_rng(0))
        assert rooms.shape == (10, augment.RIR_SAMPLES)
        assert rooms.dtype == np.float32
        assert np.isfinite(rooms).all()
        energy = (rooms**2).reshape(10, 2, -1).sum(2)
        assert (energy[:, 1] < 0.1 * energy[:, 0]).all()
        assert len({room.tobytes() for room in rooms}) == 10

    def test_recorded_rooms_begin_at_their_direct_sound(self):
        rooms = self.recorded()
        assert rooms.shape == (2, augment.RIR_SAMPLES)
        assert (np.abs(rooms).argmax(axis=1) == 0).all()
