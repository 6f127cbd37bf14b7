"""libsndfile, through the package soundfile: uncompressed formats, and FLAC and Ogg without PyAV.

It seeks to the exact sample where the format allows it. A recording is incomplete if its header
declares more samples than it has, or if it has samples after the declared ones that libsndfile
cannot be made to read.
"""

import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from typing import cast

import numpy as np
import soundfile

from kws.audio.decoders.base import (
    TOLERANCE_SECONDS,
    Chunk,
    DecodedRecording,
    DecodeRequest,
    UnsupportedFormatError,
)
from kws.audio.decoders.files import FileSlice
from kws.audio.decoders.headers import RecordingBounds, find_recording_bounds
from kws.audio.decoders.ogg import is_ogg_truncated
from kws.audio.decoders.signatures import (
    has_second_recording,
    is_compressed,
    is_mpeg,
    is_mpeg_in_wav,
)
from kws.audio.formats import SAMPLE_RATE

_SAMPLE_BYTES = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
    "ULAW": 1,
    "ALAW": 1,
}
_MAX_BLOCK_FRAMES = 4096  # of the formats of libsndfile (ALAC)
_BIG_ENDIAN = (b"RIFX", b"FORM", b"caff", b".snd")
# For a FLAC file that was written to a pipe libsndfile gives a number of frames above this.
_UNKNOWN_FRAME_COUNT = 2**62


@dataclass(frozen=True)
class _SndfileRecording:
    """One recording of a file. expected_frames: None if unknown. reason: why there may be
    fewer."""

    file: soundfile.SoundFile
    expected_frames: int | None
    reason: str = "the file ends early"

    @property
    def seconds(self) -> float | None:
        return None if self.expected_frames is None else self.expected_frames / self.file.samplerate


class SndfileDecoder:
    """Reads uncompressed formats or, with `compressed`, FLAC and Ogg."""

    name = "libsndfile"

    def __init__(self, *, compressed: bool):
        self._compressed = compressed

    def accepts(self, head: bytes) -> bool:
        # libsndfile passes MPEG audio to a library that prints its own messages.
        return (
            is_compressed(head) == self._compressed
            and not is_mpeg(head)
            and not is_mpeg_in_wav(head)
        )

    @contextmanager
    def open(self, request: DecodeRequest) -> Iterator[DecodedRecording]:
        with ExitStack() as stack:
            recordings = [
                stack.enter_context(_closing(sound))
                for sound in _open_recordings(_hide_raw_suffix(request))
            ]
            request.check_track(1)
            yield DecodedRecording(
                _total_seconds(recordings), _read_all(request, recordings), can_seek=True
            )


@contextmanager
def _closing(sound: _SndfileRecording) -> Iterator[_SndfileRecording]:
    with sound.file:
        yield sound


def _total_seconds(recordings: list[_SndfileRecording]) -> float | None:
    """Duration of all recordings; None if one of them is unknown."""
    total_seconds = 0.0
    for sound in recordings:
        if sound.seconds is None:
            return None
        total_seconds += sound.seconds
    return total_seconds


def _hide_raw_suffix(request: DecodeRequest) -> FileIO:
    """The file, without its name if soundfile would take it for raw samples because of that."""
    if request.path.suffix.lower() != ".raw":
        return request.file
    return cast(FileIO, FileSlice(request.file, 0, request.file.seek(0, 2)))


def _open_recordings(file: FileIO) -> list[_SndfileRecording]:
    """The recordings in a file, in order. Raises UnsupportedFormatError."""
    all_bounds = find_recording_bounds(file)
    if not all_bounds:
        return [_open_whole(file)]
    return [
        _open_part(file, bounds, is_only_recording=len(all_bounds) == 1) for bounds in all_bounds
    ]


def _open_whole(file: FileIO) -> _SndfileRecording:
    declared = _nist_frames(file)
    sound = _open(file)
    if sound.frames >= _UNKNOWN_FRAME_COUNT:
        # soundfile would seek after each read, which fails in such a file.
        sound.seekable = lambda: False
        return _SndfileRecording(sound, None)
    return _SndfileRecording(sound, max(declared, sound.frames))


def _nist_frames(file: FileIO) -> int:
    """Frames in the header of a NIST file; 0 for other files. libsndfile gives those that are in
    the file."""
    file.seek(0)
    sample_count = re.match(
        rb"NIST_1A.*?\nsample_count -i (\d{1,12})\n", file.read(1024), re.DOTALL
    )
    return int(sample_count[1]) if sample_count else 0


def _open_part(
    file: FileIO, bounds: RecordingBounds, *, is_only_recording: bool
) -> _SndfileRecording:
    head = _repair_caf_header(file, bounds)
    sound = _open(
        file if is_only_recording and not head else FileSlice(file, bounds.start, bounds.end, head)
    )
    declared_bytes = bounds.data_bytes if bounds.declared_bytes is None else bounds.declared_bytes
    # Compressed in blocks: the number of frames is only proportional to the bytes.
    if sound.subtype not in _SAMPLE_BYTES:
        readable_bytes, expected_bytes = sorted((bounds.data_bytes, declared_bytes))
        expected_frames = sound.frames * expected_bytes // max(readable_bytes, 1)
        if bounds.data_bytes > declared_bytes:
            return _SndfileRecording(sound, expected_frames, "its header declares no more")
        return _SndfileRecording(sound, expected_frames)
    frame_bytes = _SAMPLE_BYTES[sound.subtype] * sound.channels
    if sound.frames < bounds.data_bytes // frame_bytes:
        sound = _open_samples(file, bounds, sound)
    return _SndfileRecording(sound, max(bounds.data_bytes, declared_bytes) // frame_bytes)


def _open_samples(
    file: FileIO, bounds: RecordingBounds, header: soundfile.SoundFile
) -> soundfile.SoundFile:
    """All samples of a recording as raw audio, where its header declares fewer."""
    with header:
        layout = {
            "samplerate": header.samplerate,
            "channels": header.channels,
            "subtype": header.subtype,
        }
        default_endian = "BIG" if _read_magic(file, bounds) in _BIG_ENDIAN else "LITTLE"
        endian = default_endian if header.endian == "FILE" else header.endian
    return _open(
        FileSlice(file, bounds.data_start, bounds.data_end), format="RAW", endian=endian, **layout
    )


def _repair_caf_header(file: FileIO, bounds: RecordingBounds) -> bytes:
    """The header of a CAF file with the right length, for libsndfile refuses a wrong one. Empty for
    other formats, and where the length is right."""
    if _read_magic(file, bounds) != b"caff" or bounds.data_bytes == bounds.declared_bytes:
        return b""
    file.seek(bounds.start)
    head = file.read(bounds.data_start - bounds.start)
    return head[:-12] + (bounds.data_bytes + 4).to_bytes(8, "big") + head[-4:]


def _read_magic(file: FileIO, bounds: RecordingBounds) -> bytes:
    file.seek(bounds.start)
    return file.read(4)


def _open(file: FileIO | FileSlice, **layout: object) -> soundfile.SoundFile:
    file.seek(0)
    try:
        sound = soundfile.SoundFile(file, **layout)
    except soundfile.LibsndfileError as error:
        raise UnsupportedFormatError(
            error.error_string.rstrip(" .").lower() or "unknown format"
        ) from error
    if sound.subtype.startswith("MPEG"):
        sound.close()
        raise UnsupportedFormatError("MP3 in another container")
    return sound


def _read_all(request: DecodeRequest, recordings: list[_SndfileRecording]) -> Iterator[Chunk]:
    """The chunks of all recordings. Raises AudioError at the end if something is missing."""
    start, decoded_seconds, expected_seconds, reason = request.start_seconds, 0.0, 0.0, ""
    for sound in recordings:
        frames, stop_reason = yield from _read_recording(request, sound, start)
        seconds = frames / sound.file.samplerate
        decoded_seconds += seconds
        expected_seconds += seconds if sound.seconds is None else sound.seconds
        start = max(start - seconds, 0.0)
        missing_seconds = (sound.seconds or 0.0) - seconds
        if stop_reason or missing_seconds >= _tolerance_seconds(sound.file):
            reason = reason or stop_reason or sound.reason
    if is_compressed(request.head) and has_second_recording(request.file):
        raise request.trailing_recording_error(decoded_seconds)
    if reason and (
        None in (sound.seconds for sound in recordings) or expected_seconds > decoded_seconds
    ):
        raise request.truncation_error(
            decoded_seconds, max(expected_seconds, decoded_seconds), reason
        )
    if is_ogg_truncated(request.file):
        raise request.missing_end_error(decoded_seconds)


def _tolerance_seconds(file: soundfile.SoundFile) -> float:
    """How much may be missing without being a fault: the last block of a compressed format is
    seldom full."""
    if file.subtype in _SAMPLE_BYTES:
        return TOLERANCE_SECONDS
    return TOLERANCE_SECONDS + _MAX_BLOCK_FRAMES / int(file.samplerate)


def _read_recording(
    request: DecodeRequest, sound: _SndfileRecording, start_seconds: float
) -> Generator[Chunk, None, tuple[int, str]]:
    """The chunks of one recording. Returns the number of frames up to its end, and the reason if it
    is damaged there."""
    file = sound.file
    frames = request.chunk_frames(file.samplerate, file.channels)
    start = min(round(start_seconds * file.samplerate), file.frames)
    position, stop_reason = 0, None
    with suppress(soundfile.LibsndfileError):  # GSM and G.721 cannot seek
        position = file.seek(start) if start else 0
    while stop_reason is None:
        # If seeking failed, the audio before the start is decoded and dropped.
        count = frames if position >= start else min(frames, start - position)
        samples, stop_reason = _read(file, count, position)
        position += len(samples)
        if position > start and len(samples):
            yield Chunk(samples, file.samplerate)
    return position, stop_reason


def _read(file: soundfile.SoundFile, frames: int, position: int) -> tuple[np.ndarray, str | None]:
    """The next samples, from frame number `position` on. With them None, or "" at the end, or the
    reason if the file is damaged there."""
    samples = np.empty((frames, file.channels) if file.channels > 1 else frames, _dtype(file))
    try:
        frame_count = len(file.read(out=samples))
        return samples[:frame_count], None if frame_count else ""
    except soundfile.LibsndfileError as error:
        # -1 where the format cannot tell.
        frame_count = max(file.tell() - position, 0) if file.seekable() else 0
        reason = error.error_string.removeprefix("Error : ").rstrip(" .")
        return samples[:frame_count], reason or "damaged"


def _dtype(file: soundfile.SoundFile) -> type[np.generic]:
    """int16 where no conversion follows, as that takes a tenth of the time of `kws detect`."""
    is_model_audio = (file.subtype, file.samplerate, file.channels) == ("PCM_16", SAMPLE_RATE, 1)
    return np.int16 if is_model_audio else np.float32
