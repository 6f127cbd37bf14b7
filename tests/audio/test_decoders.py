"""Wrong headers, concatenated files, timestamps, tracks and channels: all audio is decoded at its
time, and missing audio is reported."""

import logging
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.audio import recordings
from kws.audio.decoders.headers import find_recording_bounds
from kws.errors import AudioError

RATE = recordings.SAMPLE_RATE
ROOT = Path(__file__).parents[2]
Log = pytest.LogCaptureFixture


def noise(seconds: float, rate: int = RATE, *, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(
        np.float32
    )


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


def encode(source: Path, target: Path, *options: str) -> Path:
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-i", source, *options, target],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return target


def concatenate_files(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def decode(
    path: Path, selection: recordings.Selection = recordings.DEFAULT_SELECTION
) -> tuple[np.ndarray, str]:
    """All samples, and the error at the end."""
    blocks, fault = [np.zeros(0, np.float32)], ""
    try:
        blocks += recordings.blocks(path, selection=selection)
    except AudioError as error:
        fault = str(error)
    return np.concatenate(blocks), fault


# Headers


SIZE_FIELDS: dict[str, tuple[str, Callable[[bytes], int]]] = {
    "WAV": ("<I", lambda content: content.index(b"data") + 4),
    "RF64": ("<Q", lambda content: content.index(b"ds64") + 16),
    "W64": ("<Q", lambda content: content.index(b"data\xf3") + 16),
    "AIFF": (">I", lambda content: content.index(b"SSND") + 4),
    "AU": (">I", lambda content: 8),
    "CAF": (">q", lambda content: content.index(b"data") + 4),
}
KINDS = [(form, "PCM_16") for form in SIZE_FIELDS] + [
    ("WAV", subtype) for subtype in ("PCM_U8", "PCM_24", "FLOAT", "ULAW")
]


def patch_size_field(path: Path, form: str, change: Callable[[int], int]) -> Path:
    """The file with another length of the samples in its header."""
    content = bytearray(path.read_bytes())
    layout, place = SIZE_FIELDS[form]
    at = place(content)
    struct.pack_into(layout, content, at, change(struct.unpack_from(layout, content, at)[0]))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("form", "subtype"), KINDS, ids="-".join)
@pytest.mark.parametrize(
    "change",
    [lambda size: size * 3 // 7 // 8 * 8, lambda size: 0, lambda size: size + 44],
    ids=["less", "zero", "44 more"],
)
def test_all_samples_are_read_despite_a_wrong_header(
    tmp_path: Path, form: str, subtype: str, change: Callable[[int], int]
) -> None:
    path = write(tmp_path / "a", noise(3.0), format=form, subtype=subtype)
    expected, _ = decode(path)
    samples, fault = decode(patch_size_field(path, form, change))
    assert not fault
    np.testing.assert_array_equal(samples, expected)
    np.testing.assert_array_equal(
        recordings.read_excerpt(path, 1.0, 2.5), expected[RATE : RATE * 5 // 2]
    )


@pytest.mark.parametrize(("form", "subtype"), KINDS, ids="-".join)
def test_missing_samples_are_reported(tmp_path: Path, form: str, subtype: str) -> None:
    path = patch_size_field(
        write(tmp_path / "a", noise(3.0), format=form, subtype=subtype), form, lambda size: 2 * size
    )
    samples, fault = decode(path)
    assert len(samples) == 3 * RATE
    assert "only the first 3.00 of 6.0" in fault and "the file ends early" in fault


def test_compressed_samples_beyond_the_header_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(3.0), subtype="IMA_ADPCM")
    samples, fault = decode(patch_size_field(path, "WAV", lambda size: size // 2 // 256 * 256))
    assert 1.3 < len(samples) / RATE < 1.6
    assert "can be read (its header declares no more)" in fault


@pytest.mark.slow
def test_a_wav_of_more_than_four_gibibytes(tmp_path: Path) -> None:
    """Its 32-bit size field has overflowed. The middle is a hole in the file, which needs no space
    on the disk."""
    path = write(tmp_path / "long.wav", noise(1.0))
    size = 2**32 + 3 * 2 * RATE
    with path.open("r+b") as file:
        file.truncate(44 + size)
        file.seek(44 + size - 2 * RATE)
        file.write((noise(1.0, seed=1) * 32768).astype("<i2").tobytes())
    patch_size_field(path, "WAV", lambda _: size % 2**32)
    seconds = size / 2 / RATE
    assert recordings.duration_seconds(path) == seconds
    end = recordings.read_excerpt(path, seconds - 1, seconds)
    np.testing.assert_allclose(end, noise(1.0, seed=1), atol=2**-14)


@pytest.mark.parametrize("pad", [b"", b"\0"], ids=["even", "odd"])
@pytest.mark.parametrize(
    "tail",
    [
        b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf59.27.100\0",
        b"ID3\x03" + bytes(5000),
        b"TAG" + bytes(125),
        bytes(3000),
        b"\n",
    ],
    ids=["chunk", "id3", "tag", "zeros", "stray byte"],
)
def test_chunks_and_tags_after_the_samples_are_no_audio(
    tmp_path: Path, tail: bytes, pad: bytes
) -> None:
    samples = noise(1.0)[: RATE - len(pad)]
    path = write(tmp_path / "a.wav", samples, subtype="PCM_U8" if pad else "PCM_16")
    path.write_bytes(path.read_bytes() + tail)
    found, fault = decode(path)
    assert (len(found), fault) == (len(samples), "")


@pytest.mark.parametrize("form", SIZE_FIELDS)
def test_concatenated_recordings_are_all_read(tmp_path: Path, form: str) -> None:
    parts = [
        write(tmp_path / f"{i}", noise(1.0 + i, seed=i), format=form, subtype="PCM_16")
        for i in range(3)
    ]
    path = concatenate_files(tmp_path / "all", *parts)
    samples, fault = decode(path)
    assert not fault
    np.testing.assert_array_equal(
        samples, np.concatenate([recordings.read(part) for part in parts])
    )
    assert recordings.duration_seconds(path) == 6.0
    np.testing.assert_array_equal(
        recordings.read_excerpt(path, 2.5, 4.5), samples[RATE * 5 // 2 : RATE * 9 // 2]
    )


def test_parts_of_other_rates_and_channels(tmp_path: Path) -> None:
    stereo = np.stack([tone(1.0, 44_100)] * 2, axis=1)
    path = concatenate_files(
        tmp_path / "all.wav",
        write(tmp_path / "a.wav", stereo, 44_100),
        write(tmp_path / "b.wav", tone(1.0, 8_000), 8_000),
    )
    samples, fault = decode(path)
    assert (len(samples), fault) == (2 * RATE, "")
    for middle in (samples[RATE // 4 : RATE * 3 // 4], samples[RATE * 5 // 4 : RATE * 7 // 4]):
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


@pytest.mark.parametrize(
    "content",
    [
        b".snd" + bytes(20),
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0WAVEdata\0\0\0\0" * 9,
        b"caff" + bytes(60),
    ],
)
def test_headers_without_samples_end_the_search(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as file:
        assert sum(part.data_bytes for part in find_recording_bounds(file)) == 0


# Compressed


CHAINED = {
    "mp3": [],
    "ogg": [],
    "opus": ["-c:a", "libopus"],
    "flac": [],
    "webm": ["-c:a", "libopus"],
    "mka": [],
    "aac": [],
    "m4a": [],
}


@pytest.mark.ffmpeg
@pytest.mark.parametrize("ending", CHAINED)
def test_concatenated_compressed_files_are_all_read(tmp_path: Path, ending: str) -> None:
    sources = [
        write(tmp_path / f"{i}.wav", np.concatenate([noise(1.0), tone(1.0)])) for i in range(3)
    ]
    parts = [
        encode(source, source.with_suffix(f".{ending}"), *CHAINED[ending]) for source in sources
    ]
    samples, fault = decode(concatenate_files(tmp_path / f"all.{ending}", *parts))
    assert not fault
    assert len(samples) / RATE == pytest.approx(6.0, abs=0.4)  # encoders add some silence
    for second in (1.5, 3.6, 5.6):
        assert (
            np.sqrt(
                np.mean(samples[round((second - 0.1) * RATE) : round((second + 0.1) * RATE)] ** 2)
            )
            > 0.2
        )


@pytest.mark.parametrize("ending", ["mp3", "ogg", "flac"])
def test_without_pyav_a_second_recording_is_reported(
    tmp_path: Path, without_pyav: None, ending: str
) -> None:
    part = write(tmp_path / f"a.{ending}", noise(2.0))
    samples, fault = decode(part)
    assert (len(samples), fault) == (2 * RATE, "")
    samples, fault = decode(concatenate_files(tmp_path / f"two.{ending}", part, part))
    assert len(samples) == 2 * RATE
    assert (
        "only the first 2.00 s are read; another recording follows in the same file. "
        "pip install av brings"
    ) in fault


@pytest.mark.parametrize("pyav", ["with", "without"])
def test_a_truncated_ogg_file_is_reported(
    tmp_path: Path, request: pytest.FixtureRequest, pyav: str
) -> None:
    if pyav == "without":
        request.getfixturevalue("without_pyav")
    path = write(tmp_path / "a.ogg", noise(20.0))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    samples, fault = decode(path)
    assert 8 < len(samples) / RATE < 13
    assert f"the end is missing after {len(samples) / RATE:.2f} s" in fault


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [ImportError("libavcodec.so.62: cannot open shared object file"), OSError("bad image")],
    ids=type,
)
def test_a_broken_pyav_is_reported_and_other_decoders_work(
    tmp_path: Path, error: Exception
) -> None:
    """In a process of its own: a package that raises on import."""
    (tmp_path / "av").mkdir()
    (tmp_path / "av" / "__init__.py").write_text(f"raise {type(error).__name__}({str(error)!r})\n")
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    write(tmp_path / "b.mp3", noise(1.0))
    line = [
        sys.executable,
        ROOT / "cli.py",
        "detect",
        "a.m4a",
        "b.mp3",
        ROOT / "recordings" / "late.wav",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "welcome" in done.stdout
    assert done.stderr.count("\n") == 1
    assert (
        f"a.m4a: not a recording that can be read (PyAV is installed but does not load: {error})"
        in done.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfb\x90\x64", b"ID3\x03\0\0\0\0\0\x0a" + bytes(10)],
    ids=["bytes", "sync", "id3"],
)
@pytest.mark.parametrize("ending", ["mp3", "wav", "ogg", "m4a"])
def test_no_library_writes_to_stderr(tmp_path: Path, ending: str, content: bytes) -> None:
    (tmp_path / f"n.{ending}").write_bytes(content + np.random.default_rng(0).bytes(4096))
    line = [sys.executable, ROOT / "cli.py", "detect", f"n.{ending}"]
    done = subprocess.run(
        line,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"Error: n.{ending}: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {0}\n",
    ],
)
def test_a_playlist_loads_nothing(tmp_path: Path, text: str) -> None:
    write(tmp_path / "secret.flac", noise(1.0))
    (tmp_path / "list.m4a").write_text(text.format("secret.flac"))
    samples, fault = decode(tmp_path / "list.m4a")
    assert not len(samples) and "not a recording that can be read" in fault


# Timestamps and tracks


@pytest.mark.ffmpeg
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.ts", "a.mov"])
def test_sound_that_starts_after_the_picture(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / "a.wav", np.concatenate([np.zeros(RATE, np.float32), tone(1.0)]))
    picture = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=5:d=6", "-itsoffset", "2"]
    subprocess.run(
        ["ffmpeg", "-v", "error", *picture, "-i", source, tmp_path / name],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    samples, fault = decode(tmp_path / name)
    start = np.flatnonzero(np.abs(samples) > 0.1)[0] / RATE
    assert not fault and start == pytest.approx(3.0, abs=0.05)
    part = recordings.read_excerpt(tmp_path / name, 2.5, 3.5)
    assert np.flatnonzero(np.abs(part) > 0.1)[0] / RATE == pytest.approx(0.5, abs=0.05)


@pytest.mark.ffmpeg
def test_a_pause_of_the_recorder_is_silence_with_a_warning(tmp_path: Path, caplog: Log) -> None:
    source = write(tmp_path / "a.wav", tone(4.0))
    path = tmp_path / "a.mka"
    encode(source, path, "-af", "aselect='not(between(t,1,3))',asetpts=PTS", "-c:a", "pcm_s16le")
    samples, fault = decode(path)
    assert not fault and len(samples) / RATE == pytest.approx(4.0, abs=0.1)
    assert not np.abs(samples[RATE * 5 // 4 : RATE * 11 // 4]).any()
    assert "no audio is stored from 1.0" in caplog.text


@pytest.mark.ffmpeg
def test_the_first_of_two_tracks_is_used_with_a_warning(tmp_path: Path, caplog: Log) -> None:
    low, high = write(tmp_path / "low.wav", tone(1.0)), write(tmp_path / "high.wav", tone(2.0) / 2)
    path = encode(low, tmp_path / "two.mkv", "-i", high, "-map", "0", "-map", "1", "-c:a", "flac")
    with caplog.at_level(logging.WARNING, "kws"):
        first, _ = decode(path)
    assert f"{path}: 2 audio tracks; the first is used. Choose with --track." in caplog.text
    caplog.clear()
    second, fault = decode(path, recordings.Selection(track=2))
    assert not caplog.text and not fault
    assert (len(first) / RATE, len(second) / RATE) == pytest.approx((1.0, 2.0), abs=0.05)
    assert (
        "no audio track 3 in it; it has 2 audio tracks. Change --track."
        in decode(path, recordings.Selection(track=3))[1]
    )
    assert (
        "no audio track 2 in it; it has 1 audio track. Change --track."
        in decode(low, recordings.Selection(track=2))[1]
    )


# Channels


def test_channels_that_cancel_are_not_averaged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.stack([noise(2.0), -noise(2.0)], axis=1), subtype="FLOAT")
    np.testing.assert_array_equal(decode(path)[0], noise(2.0))


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [(1.0, -0.8, 0), (0.95, -1.0, 0), (0.7, -1.0, 1)],
    ids=["louder", "as loud", "weaker"],
)
def test_the_first_of_nearly_cancelling_channels_is_used_unless_it_is_weaker(
    tmp_path: Path, first: float, second: float, chosen: int
) -> None:
    both = noise(2.0)[:, None] * np.array([first, second], np.float32)
    path = write(tmp_path / "a.wav", both, subtype="FLOAT")
    np.testing.assert_array_equal(decode(path)[0], both[:, chosen])


def test_channels_that_cancel_in_parts_are_not_averaged_there(tmp_path: Path) -> None:
    turned = np.where(np.arange(2 * RATE) // (RATE // 10) % 2, np.float32(-1), np.float32(1))
    both = np.stack([noise(2.0), turned * noise(2.0)], axis=1)
    path = write(tmp_path / "a.wav", both, subtype="FLOAT")
    np.testing.assert_array_equal(decode(path)[0], noise(2.0))


@pytest.mark.parametrize(
    "second", [noise(2.0), noise(2.0, seed=1), np.zeros(2 * RATE, np.float32), -0.3 * noise(2.0)]
)
def test_other_channels_are_averaged(tmp_path: Path, second: np.ndarray) -> None:
    path = write(tmp_path / "a.wav", np.stack([noise(2.0), second], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(decode(path)[0], (noise(2.0) + second) / 2, atol=1e-6)


@pytest.mark.parametrize("block_seconds", [0.0137, 0.08, 1.0])
def test_the_downmix_does_not_depend_on_the_blocks(tmp_path: Path, block_seconds: float) -> None:
    expected = noise(3.0) * (np.arange(3 * RATE) // 4000 % 2)
    path = write(tmp_path / "a.wav", np.stack([noise(3.0), -expected], axis=1), subtype="FLOAT")
    np.testing.assert_array_equal(
        np.concatenate(list(recordings.blocks(path, block_seconds))), recordings.read(path)
    )


def test_one_channel_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.stack([noise(1.0), tone(1.0)], axis=1), subtype="FLOAT")
    np.testing.assert_array_equal(decode(path, recordings.Selection(channel=2))[0], tone(1.0))
    assert (
        "no channel 3 in it; it has 2 channels. Change --channel."
        in decode(path, recordings.Selection(channel=3))[1]
    )


@pytest.mark.ffmpeg
def test_channels_of_a_compressed_file(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", np.stack([tone(2.0), -tone(2.0)], axis=1))
    samples, _ = decode(encode(source, tmp_path / "a.m4a", "-b:a", "192k"))
    assert np.sqrt(np.mean(samples[RATE // 2 : RATE] ** 2)) == pytest.approx(
        0.5 / np.sqrt(2), rel=0.05
    )


# Unusual files and environments


def run_detect(folder: Path, *names: str, path: Path | None = None) -> subprocess.CompletedProcess:
    """`kws detect` in a process of its own. path: a folder of packages that are imported first."""
    places = os.pathsep.join(map(str, [*([path] if path else []), ROOT]))
    line = [sys.executable, ROOT / "cli.py", "detect", *names]
    environment = {**os.environ, "PYTHONPATH": places}
    return subprocess.run(
        line, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


BOX = b"\0\0\0\x10ftypM4A \0\0\0\0"


@pytest.mark.parametrize(
    "content",
    [
        BOX + b"\0\0\0\x01free" + b"\xff" * 8 + bytes(99),
        BOX + b"\0\0\0\x01free" + b"\x7f" + b"\xff" * 7 + bytes(99),
        b"\0\0\0\x20ftypM4A ",
        b"OggS",
        b"\x1aE\xdf\xa3",
        b"fLaC\0\0\0\x22",
    ],
    ids=["far box", "farther box", "short mp4", "short ogg", "short matroska", "short flac"],
)
def test_beginnings_of_files_are_refused_at_once(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    samples, fault = decode(tmp_path / "a")
    assert not len(samples) and fault


def test_a_wav_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(1.0)).rename(tmp_path / "a.raw")
    assert (len(decode(path)[0]), decode(path)[1]) == (RATE, "")


@pytest.mark.ffmpeg
@pytest.mark.parametrize("duration", ["245", "03:25", "00:00:09.000000000"])
def test_a_copied_duration_tag_is_ignored(tmp_path: Path, duration: str) -> None:
    """Programs that extract audio from WebM copy its DURATION."""
    source = write(tmp_path / "a.wav", noise(2.0))
    path = encode(source, tmp_path / "a.ogg", "-metadata", f"DURATION={duration}")
    assert decode(path)[1] == ""


@pytest.mark.ffmpeg
@pytest.mark.parametrize("ending", ["flac", "ogg", "opus", "aac"])
@pytest.mark.parametrize("other", [["-ar", "16000"], ["-ar", "44100", "-ac", "2"]], ids=str)
def test_concatenated_files_may_change_rate_and_channels(
    tmp_path: Path, ending: str, other: list[str]
) -> None:
    source = write(tmp_path / "a.wav", np.concatenate([noise(1.0), tone(1.0)]))
    codec = CHAINED[ending]
    other = other[2:] if ending == "opus" else other  # Opus has one rate
    parts = [
        encode(source, tmp_path / f"1.{ending}", "-ar", "48000", *codec),
        encode(
            source, tmp_path / f"2.{ending}", *(other if ending != "opus" else other[2:]), *codec
        ),
    ]
    samples, fault = decode(concatenate_files(tmp_path / f"all.{ending}", *parts))
    assert not fault
    assert len(samples) / RATE == pytest.approx(4.0, abs=0.3)


@pytest.mark.sox
def test_a_truncated_nist_file_is_reported(tmp_path: Path) -> None:
    source, path = write(tmp_path / "a.wav", noise(2.0)), tmp_path / "a.sph"
    subprocess.run(["sox", source, path], check=True)
    assert decode(path)[1] == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "of 2.00 s can be read (the file ends early)" in decode(path)[1]


@pytest.mark.parametrize(
    "tail", [bytes(5000), b"LYRICSBEGIN" + bytes(80) + b"LYRICS200", b"a note\n"]
)
@pytest.mark.parametrize("pyav", ["with", "without"])
@pytest.mark.parametrize("ending", ["mp3", "flac"])
def test_bytes_after_the_last_frame_are_no_fault(
    tmp_path: Path, request: pytest.FixtureRequest, ending: str, pyav: str, tail: bytes
) -> None:
    if pyav == "without":
        request.getfixturevalue("without_pyav")
    path = write(tmp_path / f"a.{ending}", noise(2.0))
    path.write_bytes(path.read_bytes() + tail)
    samples, fault = decode(path)
    assert not fault and len(samples) / RATE == pytest.approx(2.0, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("text", ['__version__ = "12.3.0"', ""], ids=["old", "a stub"])
def test_an_old_pyav_is_reported_and_other_decoders_work(tmp_path: Path, text: str) -> None:
    (tmp_path / "av").mkdir()
    (tmp_path / "av" / "__init__.py").write_text(text)
    (tmp_path / "av" / "logging.py").write_text("")
    (tmp_path / "a.m4a").write_bytes(BOX + bytes(100))
    write(tmp_path / "b.mp3", noise(1.0))
    done = run_detect(tmp_path, "a.m4a", "b.mp3", path=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "is too old; pip install -U av brings 16" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_decoding_works_when_stderr_is_full(tmp_path: Path) -> None:
    recording = ROOT / "recordings" / "twice.wav"
    line = [sys.executable, ROOT / "cli.py", "detect", "missing.wav", recording]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=full, text=True)
    assert done.stdout.count("welcome") == 2 and done.returncode == 1


def test_a_picture_is_not_the_word_of_its_recording(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(1.0))
    before = path.read_bytes()
    done = run_detect(tmp_path, "a.wav", "--plot", "a.wav")
    assert done.returncode == 1 and "is the recording itself" in done.stderr
    assert path.read_bytes() == before


def test_an_empty_name_is_no_folder(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", noise(1.0))
    done = run_detect(tmp_path, "")
    assert done.returncode == 1 and "an empty name is no recording" in done.stderr


@pytest.mark.parametrize("number", [0, -1, "2"])
@pytest.mark.parametrize("name", ["channel", "track"])
def test_channels_and_tracks_are_counted_from_one(name: str, number: object) -> None:
    with pytest.raises(AudioError, match=f"{name} {number!r}: give a whole number"):
        recordings.Selection(**{name: number})
