"""Every format gives the same model audio, at any block size, in little memory; every bad file
gives one clear error."""

import io
import os
import re
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from kws.audio import recordings
from kws.audio.decoders import open_recording
from kws.audio.formats import RAW_FORMATS, to_float32
from kws.errors import AudioError

RATE = recordings.SAMPLE_RATE
NOT_SOUND = "not a recording that can be read"


def noise(seconds: float, rate: int = RATE, channels: int = 1, *, seed: int = 0) -> np.ndarray:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(
        (round(seconds * rate), channels)
    ).astype(np.float32)
    return samples[:, 0] if channels == 1 else samples


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate).astype(
        np.float32
    )


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


def read_until_error(path: Path) -> tuple[np.ndarray, str]:
    """The samples before the error, and the error."""
    decoded = [np.zeros(0, np.float32)]
    with pytest.raises(AudioError) as raised:
        for block in recordings.blocks(path):
            decoded.append(block)
    return np.concatenate(decoded), str(raised.value)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("block_seconds", [10.0, 0.08, 0.0137])
def test_blocks_equal_the_whole_file_resampled(
    tmp_path: Path, rate: int, block_seconds: float
) -> None:
    samples = noise(1.5, rate)
    path = write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    whole = samples if rate == RATE else soxr.resample(samples, rate, RATE)
    np.testing.assert_array_equal(
        np.concatenate(list(recordings.blocks(path, block_seconds))), whole
    )


@pytest.mark.parametrize("channels", [2, 8])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    samples = noise(1.0, RATE, channels)
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    np.testing.assert_allclose(recordings.read(path), samples.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.wav", {"subtype": "PCM_U8"}, 2**-7),
        ("a.wav", {"subtype": "PCM_16"}, 2**-15),
        ("a.wav", {"subtype": "PCM_24"}, 2**-23),
        ("a.wav", {"subtype": "DOUBLE"}, 1e-7),
        ("a.flac", {}, 2**-15),
        ("a.aiff", {}, 2**-15),
        ("a.au", {}, 2**-15),
        ("a.w64", {}, 2**-15),
        ("a.caf", {}, 2**-15),
        ("a.mp3", {}, 0.02),
        ("a.ogg", {}, 0.02),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, 0.05),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_formats(tmp_path: Path, name: str, options: dict[str, str], tolerance: float) -> None:
    samples = tone(2.0)
    decoded = recordings.read(write(tmp_path / name, samples, **options))
    assert decoded.dtype == np.float32
    # The last block of a Vorbis file of one page is lost.
    assert len(decoded) == pytest.approx(len(samples), abs=256)
    middle = slice(RATE // 4, -RATE // 4)  # lossy formats differ at the edges
    np.testing.assert_allclose(decoded[middle], samples[: len(decoded)][middle], atol=tolerance)


def test_samples_beyond_full_scale_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "loud.wav", 20 * tone(0.5), subtype="FLOAT")
    np.testing.assert_array_equal(recordings.read(path), 20 * tone(0.5))


@pytest.mark.ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.wma", "video.mp4", "a:b.m4a"])
def test_formats_that_pyav_reads(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / "a.wav", tone(2.0))
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", source, "-b:a", "192k", f"file:{tmp_path / name}"],
        check=True,
    )
    decoded = recordings.read(tmp_path / name)
    assert len(decoded) == pytest.approx(2 * RATE, abs=RATE // 8)
    assert np.sqrt(np.mean(decoded[RATE // 2 : RATE] ** 2)) == pytest.approx(
        0.5 / np.sqrt(2), rel=0.05
    )
    assert recordings.duration_seconds(tmp_path / name) == pytest.approx(2, abs=0.05)


def test_without_pyav_the_error_names_the_command_that_installs_it(
    tmp_path: Path, without_pyav: None
) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    assert "pip install av brings one for MP4, M4A, WebM" in read_until_error(path)[1]


@pytest.mark.ffmpeg
@pytest.mark.parametrize("name", ["vbr.mp3", "vbr.mpga", "stdin"])
def test_mp3_without_a_length_tag_is_read_to_its_end(tmp_path: Path, name: str) -> None:
    """Variable bit rate without a Xing header: the file size does not give the duration."""
    source = write(
        tmp_path / "a.wav", np.concatenate([noise(2.0), np.zeros(10 * RATE, np.float32), tone(3.0)])
    )
    path = tmp_path / name
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", source, "-write_xing", "0", "-q:a", "6", "-f", "mp3", path],
        check=True,
    )
    decoded = recordings.read(path)
    assert len(decoded) == pytest.approx(15 * RATE, abs=RATE // 4)
    assert np.abs(decoded[-RATE:]).max() > 0.3
    assert recordings.duration_seconds(path) is None


@pytest.mark.ffmpeg
def test_a_truncated_file_that_pyav_reads_is_reported(tmp_path: Path) -> None:
    source, path = write(tmp_path / "a.wav", noise(20.0)), tmp_path / "a.m4a"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", source, "-movflags", "+faststart", path], check=True
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    decoded, error = read_until_error(path)
    assert 5 * RATE < len(decoded) < 15 * RATE
    assert "of 20.00 s can be read" in error


@pytest.mark.ffmpeg
def test_a_wav_without_a_length_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1.0))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = bytes(4)
    path.write_bytes(content)
    assert len(recordings.read(path)) == RATE


def test_a_flac_without_a_length_is_read(tmp_path: Path) -> None:
    """Programs that write to a pipe leave the length out."""
    samples = noise(3.0)
    path = write(tmp_path / "piped.flac", samples)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of the number of samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert recordings.duration_seconds(path) is None
    np.testing.assert_allclose(recordings.read(path), samples, atol=2**-14)
    np.testing.assert_allclose(
        recordings.read_excerpt(path, 1.0, 2.0), samples[RATE : 2 * RATE], atol=2**-14
    )


def test_a_wav_that_is_called_mp3_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1.0)).rename(tmp_path / "a.mp3")
    assert len(recordings.read(path)) == RATE


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of Unix")
def test_a_named_pipe_is_no_recording(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in read_until_error(tmp_path / "pipe")[1]


@pytest.mark.ffmpeg
def test_the_header_of_a_piped_wav_has_no_duration(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", tone(1.0))
    piped = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", source, "-f", "wav", "-"], check=True, capture_output=True
    ).stdout
    (tmp_path / "piped.wav").write_bytes(piped)
    assert len(recordings.read(tmp_path / "piped.wav")) == RATE


def test_duration_comes_from_the_header(tmp_path: Path) -> None:
    assert recordings.duration_seconds(
        write(tmp_path / "a.flac", noise(1.25, 44_100), 44_100)
    ) == pytest.approx(1.25)
    assert recordings.duration_seconds(tmp_path / "none.wav") == 0


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
def test_an_excerpt_equals_that_part_of_the_whole(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, noise(3.0))
    whole = recordings.read(path)
    part = recordings.read_excerpt(path, 1.0, 1.5)
    np.testing.assert_allclose(part, whole[RATE : RATE + RATE // 2], atol=1e-4)
    assert len(recordings.read_excerpt(path, 2.75, 9.0)) == pytest.approx(RATE // 4, abs=1)
    assert len(recordings.read_excerpt(path, 9.0, 10.0)) == 0


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize(("name", "passes"), [("a.wav", 7), ("a.mp3", 2)])
def test_excerpts_of_an_mp3_take_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, passes: int, rate: int
) -> None:
    """One pass for excerpts that are later, overlapping, equal or beyond the end; a second pass for
    an earlier one."""
    path = write(tmp_path / name, noise(3.0, rate), rate)
    places = [
        (0.5, 0.7),
        (1.0, 1.5),
        (1.2, 1.4),
        (1.2, 1.9),
        (2.75, 9.0),
        (9.0, 10.0),
        (0.25, 0.75),
    ]
    alone = [recordings.read_excerpt(path, *place) for place in places]
    opened = []
    monkeypatch.setattr(
        recordings, "open_recording", lambda *args: opened.append(args) or open_recording(*args)
    )
    excerpts = recordings.ExcerptReader(path)
    for place, one in zip(places, alone, strict=True):
        part = excerpts.cut(*place)
        assert abs(len(part) - len(one)) <= 1
        edge = 400  # the resampler does not know the audio before an excerpt
        np.testing.assert_allclose(part[edge : len(one)], one[edge : len(part)], atol=0.02)
    assert len(opened) == passes


@pytest.mark.parametrize("seconds", [600, 1200])
def test_memory_does_not_grow_with_length(tmp_path: Path, seconds: int) -> None:
    path = write(tmp_path / "long.wav", np.zeros(seconds * 8_000, np.int16), 8_000)
    tracemalloc.start()
    try:
        count = sum(len(block) for block in recordings.blocks(path))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == seconds * RATE and peak_bytes < 8e6


@pytest.mark.parametrize(
    ("name", "subtype"),
    [("a.wav", "GSM610"), ("a.aiff", "GSM610"), ("a.au", "G721_32"), ("a.wav", "NMS_ADPCM_16")],
)
def test_formats_that_cannot_seek(tmp_path: Path, name: str, subtype: str) -> None:
    path = write(tmp_path / name, tone(2.0), subtype=subtype)
    whole = recordings.read(path)
    np.testing.assert_allclose(whole[RATE // 2 : RATE], tone(2.0)[RATE // 2 : RATE], atol=0.1)
    np.testing.assert_array_equal(np.concatenate(list(recordings.blocks(path, 0.08))), whole)
    np.testing.assert_array_equal(
        recordings.read_excerpt(path, 1.0, 1.5), whole[RATE : RATE + RATE // 2]
    )


# Bad input


def test_missing_file(tmp_path: Path) -> None:
    assert (
        read_until_error(tmp_path / "no.wav")[1]
        == f"{tmp_path / 'no.wav'}: no such file or directory. Check the path."
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.wav", b"", "the file is empty"),
        ("text.wav", b"this is not sound at all\n" * 40, NOT_SOUND),
        ("text.mp3", b"this is not sound at all\n" * 40, NOT_SOUND),
        ("header.wav", b"RIFF\x24\0\0\0WAVEfmt ", NOT_SOUND),
    ],
)
def test_files_without_audio(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    decoded, error = read_until_error(path)
    assert (
        not len(decoded)
        and re.match(f"{re.escape(str(path))}: ({message})", error)
        and "\n" not in error
    )


def test_no_samples(tmp_path: Path) -> None:
    assert (
        "no samples in it"
        in read_until_error(write(tmp_path / "none.wav", np.zeros(0, np.float32)))[1]
    )


def test_too_few_samples_for_one_at_16_khz(tmp_path: Path) -> None:
    path = write(tmp_path / "one.wav", np.ones(1, np.float32), 44_100)
    assert "no samples in it" in read_until_error(path)[1]
    with pytest.raises(AudioError, match="no samples in it"):
        recordings.read(path)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 300}.wav"
    assert "cannot be opened (File name too long)" in read_until_error(path)[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Path.unlink, "it is gone"),
        (lambda path: path.write_bytes(b"not sound" * 99), "could not open/decode file"),
    ],
    ids=["gone", "replaced"],
)
def test_an_mp3_that_changes_before_it_is_read(
    tmp_path: Path, without_pyav: None, change: Callable[[Path], object], reason: str
) -> None:
    path = write(tmp_path / "a.mp3", noise(1.0))
    with open_recording(path, 1.0) as recording:
        change(path)
        with pytest.raises(
            AudioError, match=rf"a\.mp3: cannot be decoded \({reason}\)\. Copy or record it again\."
        ):
            list(recording.chunks)


def test_an_mp3_in_a_folder_named_like_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    write(tmp_path / "~" / "a.mp3", noise(1.0))
    assert len(recordings.read("~/a.mp3")) == RATE


def test_a_format_that_the_decoder_gets_stuck_in(tmp_path: Path) -> None:
    decoded, error = read_until_error(write(tmp_path / "a.aiff", noise(1.0), subtype="DWVW_16"))
    assert not len(decoded) and "only the first 0.00 of 1.00 s can be read" in error


def test_a_directory_is_no_recording(tmp_path: Path) -> None:
    assert "Is a directory" in read_until_error(tmp_path)[1]


def test_a_device_is_no_recording() -> None:
    assert "not a regular file" in read_until_error(Path("/dev/null"))[1]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.au", "a.mp3"])
def test_a_truncated_file_is_read_as_far_as_possible(tmp_path: Path, name: str) -> None:
    samples = noise(8.0)
    path = write(tmp_path / name, samples)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    decoded, error = read_until_error(path)
    assert len(decoded) == pytest.approx(4 * RATE, rel=0.15)
    assert "of 8.00 s can be read" in error
    if name != "a.mp3":
        np.testing.assert_allclose(decoded, samples[: len(decoded)], atol=2**-14)


def test_a_slightly_short_file_is_no_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(3.0))
    whole, fiftieth_bytes, fifth_bytes = path.read_bytes(), 2 * RATE // 50, 2 * RATE // 5
    path.write_bytes(whole[:-fiftieth_bytes])
    assert len(recordings.read(path)) == 3 * RATE - RATE // 50
    path.write_bytes(whole[:-fifth_bytes])
    assert "only the first 2.80 of 3.00 s can be read" in read_until_error(path)[1]


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(60.0))
    blocks = recordings.blocks(path, 1.0)
    next(blocks)
    with path.open("r+b") as file:
        file.truncate(20 * RATE * 2)
    with pytest.raises(AudioError, match=r"only the first 20\.00 of 60\.00 s can be read"):
        list(blocks)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_invalid_samples_become_silence(tmp_path: Path, channels: int, rate: int) -> None:
    samples = noise(3.0, rate, channels)
    clean = samples.copy()
    for at, bad in ((rate, np.nan), (rate + 1, np.inf), (rate + 2, -np.inf), (rate + 3, 1e30)):
        samples[at], clean[at] = bad, 0
    decoded, error = read_until_error(write(tmp_path / "bad.wav", samples, rate, subtype="FLOAT"))
    np.testing.assert_array_equal(
        decoded, recordings.read(write(tmp_path / "clean.wav", clean, rate, subtype="FLOAT"))
    )
    assert f"{4 * channels} samples are invalid" in error and "the first at 1.00 s" in error


def test_an_impossible_rate(tmp_path: Path) -> None:
    assert "a sample rate of 7 Hz" in read_until_error(write(tmp_path / "a.wav", noise(1.0), 7))[1]


# Pipes


class SlowPipe(io.BytesIO):
    """A pipe that gives a few bytes at a time."""

    def read1(self, size: int | None = -1) -> bytes:
        return super().read1(min(size or 0, 7))


@pytest.mark.parametrize("pipe", [io.BytesIO, SlowPipe])
@pytest.mark.parametrize(("encoding", "scale"), [("s16le", 32767), ("f32le", 1.0)])
@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_raw_audio(
    pipe: Callable[[bytes], io.BytesIO], encoding: str, scale: float, rate: int
) -> None:
    samples = (noise(0.5, rate) * scale).astype(RAW_FORMATS[encoding])
    expected = samples.astype(np.float32) / (32768 if encoding == "s16le" else 1)
    expected = expected if rate == RATE else soxr.resample(expected, rate, RATE)
    decoded = np.concatenate(
        list(recordings.raw_blocks(pipe(samples.tobytes() + b"\1"), rate, encoding))
    )
    np.testing.assert_array_equal(to_float32(decoded), expected)


def test_streams_get_16_bit_samples_as_they_are(tmp_path: Path) -> None:
    samples = (noise(0.5, RATE) * 32767).astype(np.int16)
    soundfile.write(tmp_path / "mono.wav", samples, RATE)
    soundfile.write(tmp_path / "stereo.wav", np.stack([samples, samples], 1), RATE)
    mono = np.concatenate(list(recordings.stream_blocks(tmp_path / "mono.wav")))
    stereo = np.concatenate(list(recordings.stream_blocks(tmp_path / "stereo.wav")))
    np.testing.assert_array_equal(mono, samples)
    assert (mono.dtype, stereo.dtype) == (np.int16, np.float32)
    for file in ("mono.wav", "stereo.wav"):
        read = recordings.read(tmp_path / file)
        np.testing.assert_array_equal(read, samples.astype(np.float32) / 32768)


def test_raw_audio_is_given_as_soon_as_it_arrives() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        blocks = recordings.raw_blocks(cat.stdout)
        for _ in range(3):
            cat.stdin.write(bytes(200))
            cat.stdin.flush()
            assert len(next(blocks)) == 100
        cat.stdin.close()
        assert list(blocks) == []


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64"])
def test_a_file_is_no_raw_audio(form: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(0.5), RATE, format=form)
    with pytest.raises(AudioError, match="a file, not raw samples"):
        list(recordings.raw_blocks(io.BytesIO(file.getvalue())))


@pytest.mark.ffmpeg
@pytest.mark.parametrize(
    "form", ["mp3", "webm", "matroska", "ipod", "adts", "mpegts", "ac3", "asf"]
)
def test_a_file_that_arrives_in_pieces_is_no_raw_audio(tmp_path: Path, form: str) -> None:
    source, target = write(tmp_path / "a.wav", noise(1.0)), tmp_path / "a"
    plain = ["-id3v2_version", "0", "-write_xing", "0"] if form == "mp3" else []
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, *plain, "-f", form, target], check=True)
    with (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat,
        pytest.raises(AudioError, match="a file, not raw"),
    ):
        cat.stdin.write(target.read_bytes())
        cat.stdin.close()
        list(recordings.raw_blocks(cat.stdout, block_seconds=0.004))


@pytest.mark.parametrize("seed", range(20))
def test_raw_audio_is_no_file(seed: int) -> None:
    """Samples may start with any bytes, such as the sync word of MP3."""
    raw = (
        b"\xff\xfb"
        + (3000 * np.random.default_rng(seed).standard_normal(RATE)).astype("<i2").tobytes()
    )
    assert len(np.concatenate(list(recordings.raw_blocks(io.BytesIO(raw))))) == RATE + 1


def test_an_empty_pipe() -> None:
    with pytest.raises(AudioError, match="standard input: no samples"):
        list(recordings.raw_blocks(io.BytesIO(b"\0")))
