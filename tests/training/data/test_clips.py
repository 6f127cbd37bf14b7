"""Clips from folders: their split, their extent, and what happens to those that cannot be used."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from sounds import RATE, make_dataset, quiet, tone

from kws.audio.endpoints import find_endpoints
from kws.errors import AudioError, DataError
from kws.training.data.clips import (
    Clip,
    contains_phrase,
    describe_speakers,
    exclude_words,
    find_clips,
)
from kws.training.data.dataset import concatenate_datasets, load_clips, pack_clips
from kws.training.data.splits import assign_split, parse_speaker

NFC, NFD = "gr\u00fcezi", "gru\u0308ezi"


def write_folder(folder: Path, names: list[str], seconds: float = 0.1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        soundfile.write(folder / name, tone(seconds, 300 + 10 * i), RATE)
    return folder


class TestSplit:
    @staticmethod
    def which_set(filename: str) -> str:
        """The rule as published with the Speech Commands dataset, with a tenth each for validation
        and test."""
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
        assert assign_split(parse_speaker(Path("yes") / name)) == self.which_set(name)

    def test_parts_have_their_shares(self):
        parts = [assign_split(f"{i:08x}") for i in range(10_000)]
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
            ("19-198-0001.ogg", "19"),
            ("1034-121119-0005.flac", "1034"),
            ("100-121669-0000.wav", "100"),
            ("2007-149877-0012.flac", "2007"),  # a reader, though it could be a year
            ("2022-01-15_nohash_0.wav", "2022-01-15"),
            ("gru\u0308ezi_nohash_0.wav", "gr\u00fcezi"),
            ("_nohash_0.wav", "_nohash_0"),
        ],
    )
    def test_speaker(self, name, speaker):
        assert parse_speaker(Path("word") / name) == speaker

    @pytest.mark.parametrize(
        "stem",
        [
            *(
                "2022-01-15",
                "15-01-2022",
                "15-10-2022",
                "1-1-2022",
                "10-15-2022",
                "2026-11-01_12-30-00",
                "2026-11-01T12-30-00",
                "12-30-00",
            ),
            *(
                "20240115-120301-001",
                "20240115-120301-0001",
                "240115-120301-0001",
                "2022-0115-0001",
                "2022-1130-0001",
                "01-02-0003",
            ),
            *(
                "REC-20240115-0001",
                "REC_2022-01-15",
                "2022-01-15-0001",
                "12-30-0015",
                "84-121123-123",
                "84-121123-00031",
                "84-121123-1003",
            ),
            "0084-121123-0003",
        ],
    )
    def test_dates_and_times_are_no_speakers(self, stem):
        assert parse_speaker(Path("word") / f"{stem}.wav") == stem

    def test_no_speaker_stands_in_two_parts(self, tmp_path):
        names = [f"speaker{s}_nohash_{n}.wav" for s in range(40) for n in range(3)]
        clips = [
            clip
            for word in ("yes", "no")
            for clip in find_clips(write_folder(tmp_path / word, names, 0.01))
        ]
        parts = {
            clip.speaker: {other.split for other in clips if other.speaker == clip.speaker}
            for clip in clips
        }
        assert len(parts) == 40
        assert all(len(found) == 1 for found in parts.values())
        assert set().union(*parts.values()) == {"train", "validation", "test"}

    def test_adding_files_moves_none(self, tmp_path):
        folder = write_folder(tmp_path / "yes", [f"a{i}_nohash_0.wav" for i in range(30)], 0.01)
        before = {clip.path: clip.split for clip in find_clips(tmp_path)}
        write_folder(
            folder,
            [f"b{i}_nohash_0.wav" for i in range(30)] + [f"a{i}_nohash_1.wav" for i in range(30)],
            0.01,
        )
        after = {clip.path: clip.split for clip in find_clips(tmp_path)}
        assert len(after) == 90
        assert before.items() <= after.items()

    def test_label_is_the_folder(self, tmp_path):
        write_folder(tmp_path / "yes", ["a.wav"])
        write_folder(tmp_path / "deep" / "no", ["b.flac"])
        assert {clip.label for clip in find_clips(tmp_path)} == {"yes", "no"}

    def test_who_speaks_is_told_with_the_form_of_the_names(self):
        def clips(*stems):
            return [
                Clip(Path(f"{stem}.wav"), "yes", parse_speaker(Path(f"{stem}.wav")))
                for stem in stems
            ]

        assert describe_speakers([]) == ""
        assert describe_speakers(clips("19-198-0001", "19-198-0002")) == (
            " All 2 are of speaker '19', as their names say (READER-CHAPTER-UTTERANCE: "
            "19-198-0001.wav)."
        )
        assert (
            "'anna', as their names say (SPEAKER_nohash_N: anna_nohash_0.wav)"
            in describe_speakers(clips("anna_nohash_0"))
        )
        many = describe_speakers(clips("a", "b", "c", "d"))
        assert many == (
            " Their names give 4 speakers: 'a', 'b', 'c', ... (each file its own speaker: a.wav)."
        )


class TestLinks:
    """Folders of words, and of what is none, may be links, and hold links."""

    def test_a_linked_folder_is_labelled_by_the_link(self, tmp_path):
        write_folder(tmp_path / "elsewhere" / "v2", ["a.wav"])
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "yes").symlink_to("../elsewhere/v2")
        assert [(clip.label, clip.speaker) for clip in find_clips(tmp_path / "data")] == [
            ("yes", "a")
        ]

    def test_what_is_reached_twice_is_of_the_word(self, tmp_path):
        write_folder(tmp_path / "yes_v2", ["a.wav"])
        write_folder(tmp_path / "pool", ["b.wav", "c.wav"])
        (tmp_path / "yes").symlink_to("yes_v2")
        (tmp_path / "no").mkdir()
        (tmp_path / "no" / "b.wav").symlink_to("../pool/b.wav")
        labels = {clip.path.name: clip.label for clip in find_clips(tmp_path, ["yes", "no"])}
        assert labels == {"a.wav": "yes", "b.wav": "no", "c.wav": "pool"}

    @pytest.mark.parametrize(
        ("link", "target"),
        [
            ("radio/other", "../data/yes"),
            ("radio/deep/all", "../../data"),
            ("radio/x.wav", "../data/yes/a.wav"),
            ("radio/yes", "../v2"),
        ],
        ids=["folder", "folder above", "file", "named so"],
    )
    def test_links_to_the_word_are_no_other_speech(self, tmp_path, link, target):
        write_folder(tmp_path / "data" / "yes", ["a.wav"])
        write_folder(tmp_path / "v2", ["v.wav"])
        write_folder(tmp_path / "radio", ["r.wav"])
        (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / link).symlink_to(target)
        clips, named = exclude_words([tmp_path / "radio"], ["yes"])
        assert ([clip.path.name for clip in clips], named) == (["r.wav"], 1)

    @pytest.mark.parametrize("given", ["links/yes", "links/other"])
    def test_a_folder_that_is_given_as_other_speech_is_of_the_word(self, tmp_path, given):
        write_folder(tmp_path / "data" / "yes", ["a.wav"])
        write_folder(tmp_path / "data" / "v2", ["b.wav"])
        (tmp_path / "links").mkdir()
        (tmp_path / "links" / "yes").symlink_to("../data/v2")
        (tmp_path / "links" / "other").symlink_to("../data/yes")
        assert exclude_words([tmp_path / given], ["yes"]) == ([], 1)


@pytest.mark.parametrize(("folder", "word"), [(NFD, NFC), (NFC, NFD), (NFD, NFD)])
class TestUnicode:
    """ "ü" may be one character or two; a folder, a word and a speaker are the same in either
    form."""

    def test_folder_and_word(self, tmp_path, folder, word):
        write_folder(tmp_path / folder, ["a.wav"])
        assert [clip.label for clip in find_clips(tmp_path)] == [NFC]
        assert contains_phrase(folder, word) and contains_phrase(f"hoi_{folder}", word)

    @pytest.mark.parametrize("given", ["", "FOLDER"], ids=["above", "itself"])
    def test_a_folder_of_the_word_is_no_other_speech(self, tmp_path, folder, word, given):
        write_folder(tmp_path / folder, ["a.wav"])
        assert exclude_words([tmp_path / given.replace("FOLDER", folder)], [word]) == ([], 1)


class TestExtent:
    @pytest.mark.parametrize(
        ("samples", "expected"),
        [
            (np.concatenate([quiet(0.3), tone(0.4), quiet(0.3)]), (0.3, 0.7)),
            (np.concatenate([tone(0.2), quiet(0.8)]), (0.0, 0.2)),
            (np.concatenate([quiet(0.5), tone(0.5)]), (0.5, 1.0)),
            (np.concatenate(
                [quiet(0.2), tone(0.2), quiet(0.1), tone(0.2), quiet(0.3)]
            ), (0.2, 0.7)),
            (np.concatenate(
                [quiet(0.2), tone(0.2), quiet(0.1), tone(0.2, amplitude=0.05), quiet(0.3)]
            ), (0.2, 0.7)),
            (np.concatenate(
                [quiet(0.2), tone(0.2), quiet(0.1), tone(0.2, amplitude=0.005), quiet(0.3)]
            ), (0.2, 0.4)),
            (np.concatenate([tone(0.02), quiet(0.28), tone(0.4), quiet(0.3)]), (0.3, 0.7)),
            (np.concatenate([tone(0.04), quiet(0.26), tone(0.4), quiet(0.3)]), (0.0, 0.7)),
            (np.concatenate(
                [quiet(0.3), tone(0.4), quiet(0.08), tone(0.02), quiet(0.2)]
            ), (0.3, 0.8)),
            (quiet(1.0), (0.0, 1.0)),
            (tone(0.01), (0.0, 0.01)),
            (quiet(0), (0.0, 0.0)),
        ],
        ids=[
            "in the middle", "at the beginning", "at the end", "with a pause",
            "20 dB weaker second part", "40 dB weaker second part",
            "far short blip", "far longer sound", "near short blip", "silence",
            "shorter than two frames", "nothing",
        ],
    )  # fmt: skip
    def test_of_bursts(self, samples, expected):
        assert find_endpoints(samples) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("noise", [1e-4, 3e-3, 0.02])
    @pytest.mark.parametrize("gain", [1.0, 0.01])
    def test_is_found_in_noise_and_at_any_level(self, noise, gain):
        rng = np.random.default_rng(0)
        samples = np.concatenate([quiet(0.4), tone(0.3), quiet(0.5)])
        samples = gain * (samples + noise * rng.standard_normal(len(samples)))
        assert find_endpoints(samples) == pytest.approx((0.4, 0.7), abs=0.011)


class TestBank:
    def test_packed_clips_come_back(self):
        rng = np.random.default_rng(0)
        waves = [rng.integers(-32768, 32768, length).astype(np.int16) for length in (5, 0, 1, 1000)]
        dataset = pack_clips([Clip(Path(f"{i}.wav"), "a", str(i)) for i in range(4)], waves)
        assert len(dataset) == 4
        assert dataset.seconds == 1006 / RATE
        for i, wave in enumerate(waves):
            assert dataset[i].dtype == np.float32
            assert np.array_equal(dataset[i] * 32768, wave)

    def test_empty_bank(self):
        dataset = pack_clips([], [])
        assert (len(dataset), dataset.seconds, dataset.samples.dtype) == (0, 0.0, np.int16)
        assert len(dataset.select(lambda clip: True)) == 0

    def test_select_keeps_clips_with_their_samples(self):
        dataset = make_dataset(tone(0.1), tone(0.2, 500), tone(0.3, 700))
        chosen = dataset.select(lambda clip: clip.speaker != "s1")
        assert [clip.speaker for clip in chosen.clips] == ["s0", "s2"]
        assert np.array_equal(chosen[1], dataset[2])
        assert dataset.select(lambda clip: True).fingerprint() == dataset.fingerprint()

    def test_merged_banks_hold_the_clips_of_each(self):
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

    def test_what_lies_in_a_folder_named_after_a_word_however_deep_is_not_without_it(
        self, tmp_path
    ):
        names = ["yes/a.wav", "yes/anna/b.wav", "anna/c.wav", "anna/yesterday/d.wav"]
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / name, np.zeros(1600, np.int16), 16_000)
        clips, named = exclude_words(
            [tmp_path, tmp_path / "anna", tmp_path / "yes" / "anna"], ["yes"]
        )
        assert (sorted(clip.path.name for clip in clips), named) == (["c.wav", "d.wav"], 2)

    @pytest.mark.parametrize(
        ("folder", "phrase", "expected"),
        [
            ("mirror", "mirror", True),
            ("smart_mirror", "mirror", True),
            ("Smart Mirror", "mirror", True),
            ("smart-mirror", "smart_mirror", True),
            ("my_smart_mirror", "smart mirror", True),
            ("mirror_smart", "smart mirror", False),
            ("smart", "smart mirror", False),
            ("mirrors", "mirror", False),
            ("yesterday", "yes", False),
            ("_background_noise_", "noise", False),
            ("_background_noise_", "_background_noise_", True),
            ("...", "?", False),
        ],
    )
    def test_a_folder_says_a_phrase_alone_or_in_a_longer_one(self, folder, phrase, expected):
        assert contains_phrase(folder, phrase) is expected

    def test_folder_without_recordings(self, tmp_path):
        with pytest.raises(AudioError, match="no recordings"):
            find_clips(tmp_path)
