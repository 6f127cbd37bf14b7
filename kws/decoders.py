"""Opens a recording of any format and gives its samples as they are, chunk by chunk; `kws.audio` makes model audio of them.

Three decoders share the work. libsndfile reads most formats. MP3 goes through miniaudio, whatever its name, because libsndfile stops
at the length it guesses for files without a length tag (a third of a variable-rate file was lost) and prints complaints of its own.
Whatever libsndfile does not know goes to the `ffmpeg` program, where it is installed.
"""

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from kws.errors import AudioError

if TYPE_CHECKING:
    import miniaudio

_FFMPEG_RATE = 16_000  # ffmpeg resamples by itself, to the rate that the model wants
_CHUNK_VALUES = 2**20  # samples × channels in memory at once, at most
_LENGTH = re.compile(r"(?:data|Data Size|SSND)\s*:\s*(\d+) \(should be (\d+)\)")  # libsndfile's log of a header that promises too much
_LENGTH_UNKNOWN = 2**31 - 2**16  # programs that write to a pipe put a number above this where the length belongs
_FRAMES_UNKNOWN = 2**62  # libsndfile's number of frames of a FLAC that was written to a pipe is above this
_EMPTY_BYTES = 4096  # a file without samples is smaller


@dataclass(frozen=True)
class Decoded:
    """An open recording. `chunks` holds float32 arrays [n] or [n, channels], and raises AudioError after the last sound chunk
    when the recording is damaged. `seconds` is what the header promises, None if it promises nothing. `seeks`: whether to open it at a
    later time takes no longer."""

    rate: int
    seconds: float | None
    chunks: Iterator[np.ndarray]
    seeks: bool = True


def open_recording(path: Path, block_seconds: float, start_seconds: float = 0.0) -> Decoded:
    """Opens `path` at `start_seconds`; chunks are `block_seconds` long, or shorter where that would take too much memory.

    Raises AudioError: no such file, not a regular file, empty, not permitted, or no decoder reads it.
    """
    _check(path)
    place = path, block_seconds, start_seconds
    mp3 = _open_mp3(*place) if path.suffix.lower() == ".mp3" else None
    if mp3:
        return mp3
    try:
        sound = soundfile.SoundFile(path if os.name == "nt" else os.fsencode(path))  # soundfile itself refuses names that are not UTF-8
    except soundfile.LibsndfileError as error:
        return _open_ffmpeg(*place, error.error_string.rstrip(" ."))
    if sound.subtype == "MPEG_LAYER_III":
        sound.close()
        return _open_mp3(*place) or _open_ffmpeg(*place, "an MP3 file")
    if not sound.frames and path.stat().st_size > _EMPTY_BYTES:  # a recorder that crashed never wrote the length
        sound.close()
        return _open_ffmpeg(*place, "its header says that there are no samples")
    if sound.frames >= _FRAMES_UNKNOWN:
        sound.seekable = lambda: False  # soundfile seeks after each read, which such a file does not allow
        return Decoded(sound.samplerate, None, _sound_chunks(path, sound, block_seconds, start_seconds))
    return Decoded(sound.samplerate, sound.frames / sound.samplerate, _sound_chunks(path, sound, block_seconds, start_seconds))


def _check(path: Path) -> None:
    try:
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # asked before it is opened: a named pipe would wait for a writer
            raise AudioError(f"{path}: not a regular file. Save the recording first, or give it on standard input as '-'.")
        with path.open("rb") as file:
            if not file.read(1):
                raise AudioError(f"{path}: the file is empty (0 bytes). Record or copy it again.")
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file or directory. Check the path.") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror}). Check the path and its permissions.") from None


def _chunk_frames(block_seconds: float, rate: int, channels: int) -> int:
    return max(1, min(round(block_seconds * rate), _CHUNK_VALUES // channels))


def _sound_chunks(path: Path, sound: soundfile.SoundFile, block_seconds: float, start_seconds: float) -> Iterator[np.ndarray]:
    frames = _chunk_frames(block_seconds, sound.samplerate, sound.channels)
    start = min(round(start_seconds * sound.samplerate), sound.frames)
    at, stopped = 0, ""
    with sound:
        with suppress(soundfile.LibsndfileError):  # not all formats can be sought (GSM, G.721)
            at = sound.seek(start) if start else 0
        while not stopped:
            # Where seeking failed, what comes before the start is decoded and dropped.
            chunk, stopped = _read(sound, frames if at >= start else min(frames, start - at), at)
            at += len(chunk)
            if at > start:
                yield chunk
        if at < _promised_frames(sound):
            raise _ends_early(path, at / sound.samplerate, _promised_frames(sound) / sound.samplerate, stopped)


def _read(sound: soundfile.SoundFile, frames: int, at: int) -> tuple[np.ndarray, str]:
    """The next chunk, which begins with frame number `at`, and why it is the last one if it is."""
    chunk = np.empty((frames, sound.channels) if sound.channels > 1 else frames, np.float32)
    try:
        filled = len(sound.read(out=chunk))
        return chunk[:filled], "" if filled else "the file ends early"
    except soundfile.LibsndfileError as error:
        filled = max(sound.tell() - at, 0) if sound.seekable() else 0  # -1 where the format cannot tell
        return chunk[:filled], error.error_string.removeprefix("Error : ").rstrip(" .")


def _promised_frames(sound: soundfile.SoundFile) -> int:
    """Frames that the header promises; `sound.frames` alone is what was there when the file was opened."""
    if sound.frames >= _FRAMES_UNKNOWN:
        return 0
    match = _LENGTH.search(sound.extra_info)
    if not match or int(match[1]) >= _LENGTH_UNKNOWN:
        return sound.frames
    return max(sound.frames, sound.frames * int(match[1]) // max(int(match[2]), 1))


def _ends_early(path: Path, seconds: float, promised_seconds: float, reason: str) -> AudioError:
    return AudioError(f"{path}: only the first {seconds:.2f} of {promised_seconds:.2f} s can be read ({reason}). Copy or record it again.")


def _open_mp3(path: Path, block_seconds: float, start_seconds: float) -> Decoded | None:
    """None for what is no MP3, and for a name that is not UTF-8, which miniaudio cannot open."""
    import miniaudio

    try:
        info = miniaudio.mp3_get_file_info(str(path.absolute()))  # at the beginning of a name, miniaudio takes "~" for the home folder
    except (miniaudio.DecodeError, UnicodeEncodeError):
        return None
    return Decoded(info.sample_rate, info.num_frames / info.sample_rate, _mp3_chunks(path, info, block_seconds, start_seconds), seeks=False)


def _mp3_chunks(path: Path, info: "miniaudio.SoundFileInfo", block_seconds: float, start_seconds: float) -> Iterator[np.ndarray]:
    import miniaudio

    frames = _chunk_frames(block_seconds, info.sample_rate, info.nchannels)
    position = min(round(start_seconds * info.sample_rate), info.num_frames)
    try:
        for samples in miniaudio.mp3_stream_file(str(path.absolute()), frames, position):
            chunk = np.asarray(samples, dtype=np.float32).reshape(-1, info.nchannels) / 32768
            position += len(chunk)
            yield chunk
    except (miniaudio.DecodeError, FileNotFoundError) as error:
        reason = "it is gone" if isinstance(error, FileNotFoundError) else error
        raise AudioError(f"{path}: cannot be decoded ({reason}). Copy or record it again.") from error
    if position < info.num_frames:
        raise _ends_early(path, position / info.sample_rate, info.num_frames / info.sample_rate, "the file ends early")


def _open_ffmpeg(path: Path, block_seconds: float, start_seconds: float, complaint: str) -> Decoded:
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(
            f"{path}: libsndfile does not read it ({complaint or 'unknown format'}). "
            "Install ffmpeg, which reads more formats, or convert the recording to WAV."
        )
    # The prefix keeps names with a colon from being taken for addresses, the list keeps playlists from fetching any.
    read = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-ss", str(start_seconds), "-i", f"file:{path}"]
    write = ["-vn", "-ac", "1", "-ar", str(_FFMPEG_RATE), "-f", "f32le", "-"]
    return Decoded(_FFMPEG_RATE, None, _ffmpeg_chunks(path, read + write, 4 * _chunk_frames(block_seconds, _FFMPEG_RATE, 1)))


def _ffmpeg_chunks(path: Path, command: list[str], chunk_bytes: int) -> Iterator[np.ndarray]:
    with tempfile.TemporaryFile() as complaints:  # a pipe that nobody empties would block ffmpeg
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints) as process:
            assert process.stdout is not None
            while data := process.stdout.read(chunk_bytes):
                yield np.frombuffer(data[: len(data) // 4 * 4], dtype="<f4")
        complaints.seek(0)
        lines = complaints.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
        if any(line.endswith("partial file") for line in lines):
            raise AudioError(f"{path}: the end is missing (partial file). Copy or record it again.")
        if process.returncode:
            reason = lines[-1].split(": ")[-1]
            raise AudioError(f"{path}: not a recording that can be read ({reason}). Check the file, or convert it to WAV.")
