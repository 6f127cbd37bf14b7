"""libsndfile, through the package soundfile: whatever stores samples as they are, and FLAC and Ogg
where PyAV is not installed.

It seeks to the sample where the format allows it. A recording is incomplete where its header
promises more samples than come, or where more come than its header knows and libsndfile cannot be
made to read them.
"""

import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from typing import cast

import numpy as np
import soundfile

from kws.audio.decoders.base import TOLERANCE_SECONDS, Chunk, Decoded, RefusedError, Source
from kws.audio.decoders.files import Window
from kws.audio.decoders.headers import Part, find_parts
from kws.audio.decoders.ogg import lacks_end
from kws.audio.decoders.signatures import begins_again, is_mpeg, is_mpeg_in_wav, is_packed

_BYTES_OF = {
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
_BLOCK_FRAMES = 4096  # the longest that libsndfile knows (ALAC)
_BIG_ENDIAN = (b"RIFX", b"FORM", b"caff", b".snd")
# libsndfile's number of frames of a FLAC that was written to a pipe is above this.
_FRAMES_UNKNOWN = 2**62


@dataclass(frozen=True)
class _Sound:
    """One recording of a file. `expected_frames`: how many there should be, None where nobody
    knows; `reason`: why there may be fewer."""

    file: soundfile.SoundFile
    expected_frames: int | None
    reason: str = "the file ends early"

    @property
    def seconds(self) -> float | None:
        return None if self.expected_frames is None else self.expected_frames / self.file.samplerate


class SndFile:
    """Reads with libsndfile: files of samples, or (`packed`) FLAC and Ogg."""

    name = "libsndfile"

    def __init__(self, *, packed: bool):
        self._packed = packed

    def suits(self, head: bytes) -> bool:
        # libsndfile hands MPEG audio to a library that prints complaints of its own.
        return is_packed(head) == self._packed and not is_mpeg(head) and not is_mpeg_in_wav(head)

    @contextmanager
    def open(self, source: Source) -> Iterator[Decoded]:
        with ExitStack() as stack:
            sounds = [
                stack.enter_context(_closing(sound)) for sound in _open_all(_nameless(source))
            ]
            source.check_track(1)
            lengths = [sound.seconds for sound in sounds]
            known = [length for length in lengths if length is not None]
            yield Decoded(
                sum(known) if len(known) == len(lengths) else None,
                _chunks(source, sounds),
                seeks=True,
            )


@contextmanager
def _closing(sound: _Sound) -> Iterator[_Sound]:
    with sound.file:
        yield sound


def _nameless(source: Source) -> FileIO:
    """The file, without its name where soundfile would believe that more than what is in it."""
    if source.path.suffix.lower() != ".raw":
        return source.file
    return cast(FileIO, Window(source.file, 0, source.file.seek(0, 2)))


def _open_all(file: FileIO) -> list[_Sound]:
    """The recordings in a file, one after the other. Raises RefusedError."""
    parts = find_parts(file)
    if not parts:
        return [_whole(file)]
    return [_open_part(file, part, alone=len(parts) == 1) for part in parts]


def _whole(file: FileIO) -> _Sound:
    promised = _nist_frames(file)
    sound = _open(file)
    if sound.frames >= _FRAMES_UNKNOWN:
        # soundfile seeks after each read, which such a file does not allow.
        sound.seekable = lambda: False
        return _Sound(sound, None)
    return _Sound(sound, max(promised, sound.frames))


def _nist_frames(file: FileIO) -> int:
    """Frames that the header of a NIST file promises; 0 for other files. libsndfile tells of those
    that are there."""
    file.seek(0)
    count = re.match(rb"NIST_1A.*?\nsample_count -i (\d{1,12})\n", file.read(1024), re.DOTALL)
    return int(count[1]) if count else 0


def _open_part(file: FileIO, part: Part, *, alone: bool) -> _Sound:
    head = _mended_caf(file, part)
    sound = _open(file if alone and not head else Window(file, part.start, part.end, head))
    promised_bytes = part.data_bytes if part.promised_bytes is None else part.promised_bytes
    # Packed in blocks: the bytes tell the frames by proportion only.
    if sound.subtype not in _BYTES_OF:
        readable_bytes, expected_bytes = sorted((part.data_bytes, promised_bytes))
        expected_frames = sound.frames * expected_bytes // max(readable_bytes, 1)
        if part.data_bytes > promised_bytes:
            return _Sound(sound, expected_frames, "its header knows of no more")
        return _Sound(sound, expected_frames)
    frame_bytes = _BYTES_OF[sound.subtype] * sound.channels
    if sound.frames < part.data_bytes // frame_bytes:
        sound = _open_samples(file, part, sound)
    return _Sound(sound, max(part.data_bytes, promised_bytes) // frame_bytes)


def _open_samples(file: FileIO, part: Part, header: soundfile.SoundFile) -> soundfile.SoundFile:
    """The samples of a recording whose header does not know of all of them, as raw audio of
    its kind."""
    with header:
        layout = {
            "samplerate": header.samplerate,
            "channels": header.channels,
            "subtype": header.subtype,
        }
        usual = "BIG" if _kind(file, part) in _BIG_ENDIAN else "LITTLE"
        endian = usual if header.endian == "FILE" else header.endian
    return _open(
        Window(file, part.data_start, part.data_end), format="RAW", endian=endian, **layout
    )


def _mended_caf(file: FileIO, part: Part) -> bytes:
    """The beginning of a CAF file up to its samples, with the right length: libsndfile refuses
    wrong ones. Empty for what needs it not."""
    if _kind(file, part) != b"caff" or part.data_bytes == part.promised_bytes:
        return b""
    file.seek(part.start)
    head = file.read(part.data_start - part.start)
    return head[:-12] + (part.data_bytes + 4).to_bytes(8, "big") + head[-4:]


def _kind(file: FileIO, part: Part) -> bytes:
    file.seek(part.start)
    return file.read(4)


def _open(file: FileIO | Window, **layout: object) -> soundfile.SoundFile:
    file.seek(0)
    try:
        sound = soundfile.SoundFile(file, **layout)
    except soundfile.LibsndfileError as error:
        raise RefusedError(error.error_string.rstrip(" .").lower() or "unknown format") from error
    if sound.subtype.startswith("MPEG"):
        sound.close()
        raise RefusedError("MP3 in another container")
    return sound


def _chunks(source: Source, sounds: list[_Sound]) -> Iterator[Chunk]:
    start, heard, expected, reason = source.start_seconds, 0.0, 0.0, ""
    for sound in sounds:
        frames, stopped = yield from _chunks_of(source, sound, start)
        heard += frames / sound.file.samplerate
        expected += frames / sound.file.samplerate if sound.seconds is None else sound.seconds
        start = max(start - frames / sound.file.samplerate, 0.0)
        if stopped or (sound.seconds or 0.0) - frames / sound.file.samplerate >= _tolerance_seconds(
            sound.file
        ):
            reason = reason or stopped or sound.reason
    if is_packed(source.head) and begins_again(source.file):
        raise source.continued(heard)
    if reason and (None in (sound.seconds for sound in sounds) or expected > heard):
        raise source.ended_early(heard, max(expected, heard), reason)
    if lacks_end(source.file):
        raise source.lost_end(heard)


def _tolerance_seconds(file: soundfile.SoundFile) -> float:
    """What may be missing and is no fault: where sound is packed, the last block is seldom full."""
    return TOLERANCE_SECONDS + (0 if file.subtype in _BYTES_OF else _BLOCK_FRAMES / file.samplerate)


def _chunks_of(
    source: Source, sound: _Sound, start_seconds: float
) -> Generator[Chunk, None, tuple[int, str]]:
    """The chunks of one recording; returns how many frames it has been read to, and why it stopped
    there if it broke off."""
    file = sound.file
    frames = source.chunk_frames(file.samplerate, file.channels)
    start = min(round(start_seconds * file.samplerate), file.frames)
    at, stopped = 0, None
    with suppress(soundfile.LibsndfileError):  # not all formats can be sought (GSM, G.721)
        at = file.seek(start) if start else 0
    while stopped is None:
        # Where seeking failed, what comes before the start is decoded and dropped.
        samples, stopped = _read(file, frames if at >= start else min(frames, start - at), at)
        at += len(samples)
        if at > start and len(samples):
            yield Chunk(samples, file.samplerate)
    return at, stopped


def _read(file: soundfile.SoundFile, frames: int, at: int) -> tuple[np.ndarray, str | None]:
    """The next samples, which begin with frame number `at`; then None, "" at the end, or why they
    break off."""
    samples = np.empty((frames, file.channels) if file.channels > 1 else frames, np.float32)
    try:
        filled = len(file.read(out=samples))
        return samples[:filled], None if filled else ""
    except soundfile.LibsndfileError as error:
        # -1 where the format cannot tell.
        filled = max(file.tell() - at, 0) if file.seekable() else 0
        return samples[:filled], error.error_string.removeprefix("Error : ").rstrip(
            " ."
        ) or "damaged"
