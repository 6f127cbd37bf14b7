"""Clips from folders: their split, their endpoints, and those that cannot be used."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from sounds import RATE, tone

from kws.errors import AudioError
from kws.training.data.clips import (
    Clip,
    contains_phrase,
    describe_speakers,
    exclude_words,
    find_clips,
)
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

    def test_splits_have_their_sizes(self):
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

    def test_no_speaker_is_in_two_splits(self, tmp_path):
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

    def test_adding_files_moves_no_others(self, tmp_path):
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

    def test_describe_speakers(self):
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
    """Folders of words and of negatives may be links, and hold links."""

    def test_a_linked_folder_is_labelled_by_the_link(self, tmp_path):
        write_folder(tmp_path / "elsewhere" / "v2", ["a.wav"])
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "yes").symlink_to("../elsewhere/v2")
        assert [(clip.label, clip.speaker) for clip in find_clips(tmp_path / "data")] == [
            ("yes", "a")
        ]

    def test_a_file_that_links_reach_twice_is_of_the_word(self, tmp_path):
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
    def test_links_to_the_word_are_no_negatives(self, tmp_path, link, target):
        write_folder(tmp_path / "data" / "yes", ["a.wav"])
        write_folder(tmp_path / "v2", ["v.wav"])
        write_folder(tmp_path / "radio", ["r.wav"])
        (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / link).symlink_to(target)
        clips, named = exclude_words([tmp_path / "radio"], ["yes"])
        assert ([clip.path.name for clip in clips], named) == (["r.wav"], 1)

    @pytest.mark.parametrize("given", ["links/yes", "links/other"])
    def test_a_folder_of_negatives_may_itself_be_of_the_word(self, tmp_path, given):
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
    def test_a_folder_of_the_word_is_no_negative(self, tmp_path, folder, word, given):
        write_folder(tmp_path / folder, ["a.wav"])
        assert exclude_words([tmp_path / given.replace("FOLDER", folder)], [word]) == ([], 1)


class TestWords:
    def test_subfolders_of_a_word_are_excluded_too(self, tmp_path):
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
    def test_a_folder_name_contains_a_phrase(self, folder, phrase, expected):
        assert contains_phrase(folder, phrase) is expected

    def test_folder_without_recordings(self, tmp_path):
        with pytest.raises(AudioError, match="no recordings"):
            find_clips(tmp_path)
