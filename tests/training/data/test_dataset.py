"""Clips in memory, and those that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import RATE, make_dataset, quiet, tone

from kws.errors import DataError
from kws.training.data.clips import Clip, find_clips
from kws.training.data.dataset import concatenate_datasets, load_clips, pack_clips


def write_folder(folder: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        soundfile.write(folder / name, tone(0.1, 300 + 10 * i), RATE)


class TestClipDataset:
    def test_packed_clips_come_back(self):
        rng = np.random.default_rng(0)
        waves = [rng.integers(-32768, 32768, length).astype(np.int16) for length in (5, 0, 1, 1000)]
        dataset = pack_clips([Clip(Path(f"{i}.wav"), "a", str(i)) for i in range(4)], waves)
        assert len(dataset) == 4
        assert dataset.seconds == 1006 / RATE
        for i, wave in enumerate(waves):
            assert dataset[i].dtype == np.float32
            assert np.array_equal(dataset[i] * 32768, wave)

    def test_empty_dataset(self):
        dataset = pack_clips([], [])
        assert (len(dataset), dataset.seconds, dataset.samples.dtype) == (0, 0.0, np.int16)
        assert len(dataset.select(lambda clip: True)) == 0

    def test_select_keeps_clips_with_their_samples(self):
        dataset = make_dataset(tone(0.1), tone(0.2, 500), tone(0.3, 700))
        chosen = dataset.select(lambda clip: clip.speaker != "s1")
        assert [clip.speaker for clip in chosen.clips] == ["s0", "s2"]
        assert np.array_equal(chosen[1], dataset[2])
        assert dataset.select(lambda clip: True).fingerprint() == dataset.fingerprint()

    def test_concatenated_datasets_hold_the_clips_of_each(self):
        datasets = [
            make_dataset(tone(0.1)),
            make_dataset(tone(0.2, 500), quiet(0)),
            pack_clips([], []),
            make_dataset(tone(0.3, 700)),
        ]
        both = concatenate_datasets(datasets)
        assert [clip.speaker for clip in both.clips] == ["s0", "s0", "s1", "s0"]
        for mine, theirs in zip(
            range(4), (datasets[0][0], datasets[1][0], datasets[1][1], datasets[3][0]), strict=True
        ):
            assert np.array_equal(both[mine], theirs)
        assert concatenate_datasets(datasets[:1]).fingerprint() == datasets[0].fingerprint()
        assert len(concatenate_datasets([])) == 0

    @pytest.mark.parametrize(
        "other",
        [
            make_dataset(tone(0.1), tone(0.2, 501)),
            make_dataset(tone(0.2, 500), tone(0.1)),
            make_dataset(tone(0.1)),
            make_dataset(tone(0.1), tone(0.2, 500), quiet(0)),
            make_dataset(tone(0.1), tone(0.2, 500), label="other"),
            make_dataset(np.concatenate([tone(0.1), tone(0.2, 500)[:1]]), tone(0.2, 500)[1:]),
        ],
        ids=[
            "other samples",
            "other order",
            "a clip less",
            "an empty clip more",
            "other label",
            "cut elsewhere",
        ],
    )
    def test_fingerprint_changes(self, other):
        dataset = make_dataset(tone(0.1), tone(0.2, 500))
        assert (
            dataset.fingerprint()
            == make_dataset(tone(0.1), tone(0.2, 500)).fingerprint()
            != other.fingerprint()
        )


class TestReading:
    def test_samples_of_16_bit_recordings_are_kept_exactly(self, tmp_path):
        samples = np.array(
            [-32768, -32767, -20_000, -1, 0, 1, 20_000, 32766, 32767] * 100, np.int16
        )
        soundfile.write(tmp_path / "a.wav", samples, RATE)
        dataset = load_clips(find_clips(tmp_path), warn=pytest.fail)
        assert np.array_equal(dataset.samples, samples)

    def test_samples_over_full_scale_are_clipped(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.full(1000, 1.5, np.float32), RATE, subtype="FLOAT")
        assert load_clips(find_clips(tmp_path), warn=pytest.fail).samples.tolist() == [32767] * 1000

    def test_clips_that_cannot_be_read_are_named_and_left_out(self, tmp_path):
        write_folder(tmp_path, [f"good{i:02d}.wav" for i in range(18)])
        (tmp_path / "bad.wav").write_text("no sound")
        (tmp_path / "empty.wav").touch()
        warnings = []
        dataset = load_clips(find_clips(tmp_path), warn=warnings.append)
        assert [clip.path.stem for clip in dataset.clips] == [f"good{i:02d}" for i in range(18)]
        np.testing.assert_allclose(dataset[3], tone(0.1, 330), atol=1e-4)
        assert len(warnings) == 2
        assert all(
            warning.startswith(f"left out: {tmp_path / name}")
            for warning, name in zip(warnings, ("bad.wav", "empty.wav"), strict=True)
        )

    def test_too_many_unreadable_clips_are_an_error(self, tmp_path):
        write_folder(tmp_path, [f"good{i}.wav" for i in range(7)])
        (tmp_path / "bad.wav").write_text("no sound")
        warnings = []
        with pytest.raises(
            DataError,
            match=r"1 of 8 clips cannot be used, the first: .*bad\.wav.*Repair or remove them\.",
        ):
            load_clips(find_clips(tmp_path), warn=warnings.append)
        assert len(warnings) == 1

    def test_clip_too_long_for_a_word_is_left_out(self, tmp_path):
        write_folder(tmp_path, [f"good{i:02d}.wav" for i in range(10)])
        soundfile.write(tmp_path / "long.wav", np.zeros(61 * 1000, np.int16), 1000)
        warnings = []
        dataset = load_clips(find_clips(tmp_path), max_seconds=60, warn=warnings.append)
        assert len(dataset) == 10
        assert warnings == [
            (
                f"left out: {tmp_path / 'long.wav'}: 61.0 s are too long for one word. "
                "Cut it, or put it among the negatives."
            )
        ]
        assert len(load_clips(find_clips(tmp_path), warn=pytest.fail)) == 11

    def test_progress_sees_every_clip(self, tmp_path):
        write_folder(tmp_path, [f"{i}.wav" for i in range(5)])
        seen = []
        load_clips(
            find_clips(tmp_path),
            warn=pytest.fail,
            progress=lambda waves: (seen.append(1) or wave for wave in waves),
        )
        assert len(seen) == 5
