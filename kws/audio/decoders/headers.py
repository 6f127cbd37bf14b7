"""The position of the samples in uncompressed formats: WAV (also RIFX, RF64 and W64), AIFF, AU and
CAF.

Headers are often wrong. A recorder that crashes leaves a length of zero, a 32-bit field holds at
most 4 GiB, a program that writes to a pipe does not know the length, and concatenated files have
several headers. These formats are chains of chunks (name, size, body). A walk along the chain finds
the real end of the samples: what follows them is a chunk, a tag, another recording, the end of the
file, or else more samples.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

_HEAD_BYTES = 40
_W64_RIFF_GUID = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
# The end of each 16-byte chunk name but the first.
_W64_GUID_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_TRAILING_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")  # of music programs
_MAX_PADDING_BYTES = 2**16
# An unknown length is written as a number this close to the largest 31-bit or 32-bit number.
_UNKNOWN_LENGTH_MARGIN = 2**16


@dataclass(frozen=True)
class RecordingBounds:
    """One recording in a file, as byte offsets: its start, the start and end of its samples, and
    its end. declared_bytes: the size of the samples in the header, None if unknown there."""

    start: int
    data_start: int
    data_end: int
    end: int
    declared_bytes: int | None

    @property
    def data_bytes(self) -> int:
        return self.data_end - self.data_start


@dataclass(frozen=True)
class _Chunk:
    """body: offset of the body. size: of the body, None if unknown. next: offset of the next
    chunk."""

    name: bytes
    body: int
    size: int | None
    next: int


@dataclass(frozen=True)
class _ContainerFormat:
    """A chain of chunks. first: offset of the first chunk. data: name of the chunk with the
    samples, which start `lead_bytes` after the beginning of its body."""

    first: int
    data: bytes
    lead_bytes: int
    read_chunk: Callable[[BinaryIO, int], _Chunk | None]


def find_recording_bounds(file: BinaryIO) -> list[RecordingBounds]:
    """The recordings in a file, in order; none for other formats, and where no samples are
    found."""
    file_bytes = file.seek(0, 2)
    recordings: list[RecordingBounds] = []
    offset = 0
    while offset < file_bytes and (bounds := _locate_recording(file, offset, file_bytes)):
        recordings.append(bounds)
        offset = bounds.end
    return recordings


def _locate_recording(file: BinaryIO, start: int, file_bytes: int) -> RecordingBounds | None:
    container = _detect_format(_read_at(file, start, _HEAD_BYTES))
    data = container and _find_data_chunk(file, start, container)
    if not container or not data:
        return None
    first = data.body + container.lead_bytes
    rest_of_file = max(file_bytes, first)
    if data.size is None:
        return RecordingBounds(start, first, rest_of_file, rest_of_file, None)
    declared_bytes = max(data.size - container.lead_bytes, 0)
    data_end = data.body + data.size
    for offset in (data_end, data.next):  # without and with padding
        end = _find_recording_end(file, offset, container, file_bytes)
        if end is not None:
            return RecordingBounds(
                start, first, max(data_end, first), max(end, first), declared_bytes
            )
    return RecordingBounds(start, first, rest_of_file, rest_of_file, declared_bytes)


def _find_data_chunk(file: BinaryIO, start: int, container: _ContainerFormat) -> _Chunk | None:
    size_64 = None
    chunk = container.read_chunk(file, start + container.first)
    while chunk and chunk.name != container.data:
        # RF64 has its 64-bit sizes here; the second is that of the samples.
        if chunk.name == b"ds64":
            size_64 = int.from_bytes(_read_at(file, chunk.body + 8, 8), "little")
        chunk = container.read_chunk(file, chunk.next)
    if chunk and chunk.size is None and size_64:
        return _Chunk(chunk.name, chunk.body, size_64, chunk.body + size_64 + size_64 % 2)
    return chunk


def _find_recording_end(
    file: BinaryIO, offset: int, container: _ContainerFormat, file_bytes: int
) -> int | None:
    """The end of a recording whose samples end at `offset`; None if that is beyond the file, or
    more samples follow."""
    if offset > file_bytes:
        return None
    while file_bytes - offset >= 8:
        head = _read_at(file, offset, _HEAD_BYTES)
        if _detect_format(head):
            return offset
        if head.startswith(_TRAILING_TAGS) or (
            file_bytes - offset <= _MAX_PADDING_BYTES
            and not any(_read_at(file, offset, _MAX_PADDING_BYTES))
        ):
            return file_bytes
        chunk = container.read_chunk(file, offset)
        if not chunk or chunk.size is None or chunk.body + chunk.size > file_bytes:
            return None
        offset = chunk.next
    return file_bytes


def _detect_format(head: bytes) -> _ContainerFormat | None:
    kind, form_type = head[:4], head[8:12]
    if form_type == b"WAVE" and kind in (b"RIFF", b"RF64", b"RIFX"):
        return _ContainerFormat(
            12, b"data", 0, partial(_riff_chunk, ">" if kind == b"RIFX" else "<")
        )
    if form_type in (b"AIFF", b"AIFC") and kind == b"FORM":
        return _ContainerFormat(12, b"SSND", 8, partial(_riff_chunk, ">"))
    if kind == b"caff":
        return _ContainerFormat(8, b"data", 4, _caf_chunk)
    if head.startswith(_W64_RIFF_GUID):
        return _ContainerFormat(40, b"data", 0, _w64_chunk)
    if kind == b".snd":
        return _ContainerFormat(0, b".snd", 0, _au_chunk)
    return None


def _riff_chunk(order: str, file: BinaryIO, offset: int) -> _Chunk | None:
    head = _read_at(file, offset, 8)
    if len(head) < 8 or not _is_chunk_name(head[:4]):
        return None
    size = struct.unpack(f"{order}I", head[4:])[0]
    unknown = abs(size - 2**31) <= _UNKNOWN_LENGTH_MARGIN or size >= 2**32 - _UNKNOWN_LENGTH_MARGIN
    return _Chunk(head[:4], offset + 8, None if unknown else size, offset + 8 + size + size % 2)


def _caf_chunk(file: BinaryIO, offset: int) -> _Chunk | None:
    head = _read_at(file, offset, 12)
    if len(head) < 12 or not _is_chunk_name(head[:4]):
        return None
    size = struct.unpack(">q", head[4:])[0]
    return _Chunk(head[:4], offset + 12, size if size >= 0 else None, offset + 12 + max(size, 0))


def _w64_chunk(file: BinaryIO, offset: int) -> _Chunk | None:
    head = _read_at(file, offset, 24)
    if len(head) < 24 or head[4:16] != _W64_GUID_TAIL:
        return None
    # The size counts these 24 bytes, but not the padding to a multiple of 8.
    size = struct.unpack("<Q", head[16:])[0]
    known = 24 <= size < 2**62
    return _Chunk(
        head[:4], offset + 24, size - 24 if known else None, offset + max(size, 24) + -size % 8
    )


def _au_chunk(file: BinaryIO, offset: int) -> _Chunk | None:
    """The whole recording as one chunk, for an AU file is a header and samples."""
    head = _read_at(file, offset, 12)
    if len(head) < 12 or not head.startswith(b".snd"):
        return None
    body, size = struct.unpack(">II", head[4:])
    if body < 24:
        return None
    unknown = size >= 2**32 - _UNKNOWN_LENGTH_MARGIN
    return _Chunk(b".snd", offset + body, None if unknown else size, offset + body + size)


def _is_chunk_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)


def _read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    return file.read(count) if file.seek(offset) == offset else b""
