"""The recordings of a folder: every one once, whatever its suffix, also through links. Skipped
files are reported."""

import errno
import logging
import os
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from kws.audio.file_signatures import HEAD_BYTES, has_audio_signature
from kws.audio.folders import (
    AUDIO_SUFFIXES,
    append_suffix,
    find_on_disk,
    find_recordings,
    normalize_name,
    sibling_path,
    truncate_with_digest,
)
from kws.errors import AudioError

RATE = 16_000
TONE = 0.3 * np.sin(np.arange(RATE) * 0.2).astype(np.float32)
NFC, NFD = (unicodedata.normalize(form, "grüezi") for form in ("NFC", "NFD"))


def touch_files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def make_link(link: Path, target: Path | str) -> Path:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    return link


# Recordings


def test_a_folder_is_searched(tmp_path: Path) -> None:
    found = touch_files(tmp_path, "b.wav", "sub/a.FLAC", "sub/deep/c.m4a")
    touch_files(tmp_path, "notes.txt", ".hidden.wav", ".trash/d.wav")
    assert find_recordings(tmp_path) == found


def test_a_file_is_found_whatever_its_name(tmp_path: Path) -> None:
    assert find_recordings(tmp_path / "x.bin") == [tmp_path / "x.bin"]
    assert find_recordings(tmp_path / f"{'x' * 300}.wav") == [tmp_path / f"{'x' * 300}.wav"]


def test_a_folder_that_cannot_be_listed_is_reported_and_the_rest_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("closed", ".closed", "open"):
        (tmp_path / name).mkdir()
    (tmp_path / "open" / "a.wav").touch()
    scandir = os.scandir

    def deny_listing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny_listing)
    warnings: list[AudioError] = []
    assert find_recordings(tmp_path, warnings.append) == [tmp_path / "open" / "a.wav"]
    assert [str(each) for each in warnings] == [
        (
            f"{tmp_path / 'closed'}: this directory cannot be listed (Permission denied). "
            "Check its permissions."
        )
    ]
    with pytest.raises(AudioError, match="cannot be listed"):
        find_recordings(tmp_path)
    with pytest.raises(AudioError, match="cannot be listed"):
        find_recordings(tmp_path / "closed", warnings.append)


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no recordings in this directory"):
        find_recordings(tmp_path)


# Links


@pytest.mark.parametrize("target", ["../real", "{}/real"], ids=["relative", "absolute"])
def test_a_linked_folder_is_entered(tmp_path: Path, target: str) -> None:
    touch_files(tmp_path, "real/a.wav", "real/deep/b.wav")
    make_link(tmp_path / "sl" / "l", target.format(tmp_path))
    assert find_recordings(tmp_path / "sl") == [
        tmp_path / "sl/l/a.wav",
        tmp_path / "sl/l/deep/b.wav",
    ]
    assert find_recordings(tmp_path / "sl" / "l") == [
        tmp_path / "sl/l/a.wav",
        tmp_path / "sl/l/deep/b.wav",
    ]


def test_links_to_links_are_followed(tmp_path: Path) -> None:
    touch_files(tmp_path, "real/a.wav")
    make_link(tmp_path / "second", "real")
    make_link(tmp_path / "top" / "first", "../second")
    make_link(tmp_path / "real" / "more", "../other")
    touch_files(tmp_path, "other/b.wav")
    assert find_recordings(tmp_path / "top") == [
        tmp_path / "top/first/a.wav",
        tmp_path / "top/first/more/b.wav",
    ]


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ({"top/loop": "."}, ["top/a.wav", "top/sub/b.wav"]),
        ({"top/sub/up": ".."}, ["top/a.wav", "top/sub/b.wav"]),
        # A sibling folder is not below it.
        ({"top/parent": ".."}, ["top/a.wav", "top/sub/b.wav"]),
        ({"top/x": "../out", "out/y": "../top"}, ["top/a.wav", "top/sub/b.wav", "top/x/c.wav"]),
        ({"top/x": "../out", "out/y": ".."}, ["top/a.wav", "top/sub/b.wav", "top/x/c.wav"]),
        ({"top/x": "sub"}, ["top/a.wav", "top/sub/b.wav"]),
        ({"top/zz": "../out", "top/aa": "../out"}, ["top/a.wav", "top/aa/c.wav", "top/sub/b.wav"]),
    ],
    ids=["itself", "above", "beyond", "in a ring", "out and beyond", "beside", "two of one"],
)
def test_each_real_folder_is_entered_once(
    tmp_path: Path, links: dict[str, str], found: list[str]
) -> None:
    touch_files(tmp_path, "top/a.wav", "top/sub/b.wav", "out/c.wav", "d.wav")
    for link, target in links.items():
        make_link(tmp_path / link, target)
    assert find_recordings(tmp_path / "top", lambda warnings: None) == [
        tmp_path / name for name in found
    ]


def test_each_real_file_is_given_once(tmp_path: Path) -> None:
    touch_files(tmp_path, "far.wav", "top/real.wav")
    make_link(tmp_path / "top" / "far.wav", "../far.wav")
    make_link(tmp_path / "top" / "latest.wav", "real.wav")
    make_link(tmp_path / "top" / "again.wav", "far.wav")
    assert find_recordings(tmp_path / "top") == [
        tmp_path / "top/again.wav",
        tmp_path / "top/real.wav",
    ]


def test_hard_links_are_files_of_their_own(tmp_path: Path) -> None:
    touch_files(tmp_path, "a.wav")
    (tmp_path / "b.wav").hardlink_to(tmp_path / "a.wav")
    assert find_recordings(tmp_path) == [tmp_path / "a.wav", tmp_path / "b.wav"]


def test_folders_entered_first_give_the_names(tmp_path: Path) -> None:
    """As in training: DATA/WORD may be a link to a folder, or hold links to files, that are in DATA
    under another name."""
    touch_files(tmp_path, "pool/a.wav", "pool/b.wav", "version_2/c.wav")
    make_link(tmp_path / "word", "version_2")
    make_link(tmp_path / "other" / "b.wav", "../pool/b.wav")
    assert find_recordings(tmp_path) == [
        tmp_path / name for name in ("pool/a.wav", "pool/b.wav", "version_2/c.wav")
    ]
    assert find_recordings(tmp_path, first=["word", "other", "..", "none"]) == [
        tmp_path / name for name in ("other/b.wav", "pool/a.wav", "word/c.wav")
    ]


def test_broken_links_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = touch_files(tmp_path, "a.wav")
    make_link(tmp_path / "gone.wav", "../gone.wav")
    warnings: list[AudioError] = []
    assert find_recordings(tmp_path, warnings.append) == found
    assert list(map(str, warnings)) == [
        f"{tmp_path}: a broken link (gone.wav to ../gone.wav). Repair or remove it."
    ]
    make_link(tmp_path / "sub" / "folder", "/nowhere")
    make_link(tmp_path / "sub" / "itself", "itself")
    make_link(tmp_path / "notes.txt", "nowhere")
    assert not caplog.messages
    assert find_recordings(tmp_path) == found  # without on_error, as in training
    assert [message.split(" (")[0] for message in caplog.messages] == [
        f"{tmp_path}: 3 broken links"
    ]


# Names


def test_one_name_in_two_forms() -> None:
    assert NFC != NFD and normalize_name(NFC) == normalize_name(NFD) == NFC


@pytest.mark.parametrize(("there", "given"), [(NFC, NFD), (NFD, NFC), (NFD, NFD)])
def test_a_path_in_another_form_of_unicode(tmp_path: Path, there: str, given: str) -> None:
    touch_files(tmp_path, f"{there}/{there}.wav")
    assert find_on_disk(tmp_path / given / f"{given}.wav") == tmp_path / there / f"{there}.wav"
    assert find_on_disk(tmp_path / given / "new.wav") == tmp_path / there / "new.wav"
    assert find_on_disk(tmp_path / "gone" / given) == tmp_path / "gone" / given


@given(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=300),
    st.integers(8, 255),
)
def test_a_shortened_name_fits_in_whole_characters(name: str, max_bytes: int) -> None:
    short = truncate_with_digest(name, max_bytes)
    assert len(short.encode()) <= max_bytes
    assert (short == name) == (len(name.encode()) <= max_bytes)
    if short != name:
        assert name.startswith(short[:-7])


def test_shortened_names_stay_distinct() -> None:
    assert len({truncate_with_digest("ü" * 200 + end, 255) for end in ("a", "b", "c")}) == 3


@pytest.mark.parametrize("letter", ["n", "ü", "語"])
def test_sibling_files_can_be_written(tmp_path: Path, letter: str) -> None:
    path = tmp_path / f"{letter * (250 // len(letter.encode()))}.kws"
    for ending in (".first.kws", ".pt"):
        sibling_path(path, ending).touch()
    assert len(list(tmp_path.iterdir())) == 2
    assert sibling_path(tmp_path / "short.kws", ".first.kws") == tmp_path / "short.first.kws"
    assert append_suffix("short", ".wav") == "short.wav"


# Kinds


SOUND_FORMATS = {
    **{
        "wav": "WAV",
        "aiff": "AIFF",
        "au": "AU",
        "caf": "CAF",
        "w64": "W64",
        "flac": "FLAC",
        "ogg": "OGG",
        "voc": "VOC",
        "nist": "NIST",
    },
    **{"svx": "SVX", "ircam": "IRCAM", "pvf": "PVF", "avr": "AVR", "rf64": "RF64", "mp3": "MP3"},
}
FFMPEG_FORMATS = (
    *(
        "mp2",
        "mp3",
        "3gp",
        "3g2",
        "m4a",
        "m4v",
        "mov",
        "avi",
        "mkv",
        "mka",
        "webm",
        "ts",
        "mts",
        "m2ts",
        "wv",
        "tta",
        "ac3",
        "eac3",
    ),
    *(
        "aac",
        "asf",
        "wma",
        "wmv",
        "flv",
        "mpg",
        "vob",
        "rm",
        "ra",
        "dts",
        "spx",
        "oga",
        "ogv",
        "latm",
        "aifc",
        "thd",
        "gxf",
    ),
)
FFMPEG_OPTIONS = {
    **{
        "3gp": ["-c:a", "aac"],
        "3g2": ["-c:a", "aac"],
        "dts": ["-ac", "2"],
        "spx": ["-c:a", "libspeex", "-ar", "16000"],
    },
    **{
        "rm": ["-c:a", "ac3"],
        "ra": ["-c:a", "ac3"],
        "thd": ["-f", "truehd"],
        "flv": ["-ar", "44100"],
    },
}


@pytest.mark.parametrize("ending", SOUND_FORMATS)
def test_signatures_of_the_formats_of_libsndfile(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "x"
    subtype = {"NIST": "PCM_16", "VOC": "PCM_16"}.get(SOUND_FORMATS[ending])
    soundfile.write(path, TONE, RATE, format=SOUND_FORMATS[ending], subtype=subtype)
    assert find_recordings(tmp_path) == [path]
    assert f".{ending}" in AUDIO_SUFFIXES


@pytest.mark.ffmpeg
@pytest.mark.parametrize("ending", FFMPEG_FORMATS)
def test_signatures_of_the_formats_of_ffmpeg(tmp_path: Path, ending: str) -> None:
    path, source = tmp_path / f"x.{ending}", tmp_path / ".source.wav"
    soundfile.write(source, TONE, RATE)
    options = ["-strict", "-2", "-ar", "48000", *FFMPEG_OPTIONS.get(ending, [])]
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, *options, path], check=True)
    assert find_recordings(tmp_path) == [path]
    path.rename(tmp_path / "without_ending")
    assert find_recordings(tmp_path) == [tmp_path / "without_ending"]


@pytest.mark.parametrize(
    "head",
    [
        b"#!AMR\n",
        b"#!AMR-WB\n",
        b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02",
        b"DSD \x1c",
        b"ID3\x04",
        b"MPCKSH",
    ],
)
def test_signatures_of_other_recordings(head: bytes) -> None:
    assert has_audio_signature(head + bytes(100))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 400,
        b"hello, world\n" * 40,
        "UTF-16, as Windows writes it, begins with a mark".encode("utf-16"),
        b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 4,
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4,
        b"RIFF\x00\x10\x00\x00WEBPVP8 " + bytes(400),
        b"\x00\x00\x00\x18ftypheic" + bytes(400),
        b"%PDF-1.7\n" + bytes(400),
        b"PK\x03\x04" + bytes(400),
        b"GIF89a" + bytes(400),
        b"\x7fELF" + bytes(400),
        b"MThd\x00\x00\x00\x06" + bytes(400),
        b"G" * 20,
        b"\xff\xfb\x90\x00" + bytes(2000),  # a frame of MP3 without a second one
        *(np.random.default_rng(seed).bytes(HEAD_BYTES) for seed in range(20)),
    ],
)
def test_other_files_have_no_audio_signature(content: bytes) -> None:
    assert not has_audio_signature(content)


@given(st.binary(max_size=200))
def test_any_bytes_can_be_checked(head: bytes) -> None:
    assert has_audio_signature(head) in (True, False)


def test_raw_samples_are_hardly_ever_taken_for_a_file() -> None:
    rng = np.random.default_rng(0)
    loud, faint = (rng.standard_normal((2000, 4000)) * level for level in (8000, 3))
    heads = [samples.astype("<i2").tobytes() for samples in (*loud, *faint)]
    assert sum(map(has_audio_signature, heads)) == 0


@pytest.mark.parametrize(
    ("names", "warnings"),
    [
        (
            ["a.xyz", "b.XYZ", "sub/c.abc"],
            "3 files of unknown kind are skipped (.xyz, .abc). Name them to read them.",
        ),
        (["noending"], "1 file of unknown kind is skipped (noending). Name it to read it."),
        (
            ["d.r2", "a.q", "b.w", "c.e"],
            ("4 files of unknown kind are skipped (.q, .w, .e, ...). Name them to read them."),
        ),
        (["program.ts"], "1 file of unknown kind is skipped (.ts). Name it to read it."),
    ],
)
def test_files_of_unknown_kind_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str], warnings: str
) -> None:
    found = touch_files(tmp_path, "a.wav")
    touch_files(tmp_path, *names)
    assert find_recordings(tmp_path) == found
    assert caplog.record_tuples == [("kws", logging.WARNING, f"{tmp_path}: {warnings}")]


def test_known_other_files_are_not_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = touch_files(tmp_path, "a.wav")
    touch_files(
        tmp_path,
        "a.txt",
        "a.CSV",
        "a.TextGrid",
        "a.lab",
        "cover.JPG",
        "LICENSE",
        "README",
        "README.md",
        ".DS_Store",
        "x.json",
        "m.kws",
    )
    assert find_recordings(tmp_path) == found and not caplog.messages


def test_special_files_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = touch_files(tmp_path, "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    assert find_recordings(tmp_path) == found and not caplog.messages


def test_many_files_are_found_at_once(tmp_path: Path) -> None:
    found = touch_files(
        tmp_path,
        *(f"{folder:02d}/{number:03d}.wav" for folder in range(20) for number in range(50)),
    )
    assert find_recordings(tmp_path) == found
