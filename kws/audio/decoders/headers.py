"""Where the samples of uncompressed recordings lie: WAV (also RIFX, RF64 and W64), AIFF, AU
and CAF.

Headers are wrong in the wild. A recorder that crashes leaves a length of zero, a field of 32 bits
holds no more than 4 GiB, a program that writes to a pipe does not know the length, and two files
put one after the other have two headers. These formats are chains of chunks (name, size, body). So
one walk along the chain tells where the samples really end: what follows them is a chunk, a tag,
another recording, the end of the file, or else more samples.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

_HEAD_BYTES = 40
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
# Of each 16-byte name but the first.
_W64_NAME_END = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")  # what music programs put behind everything
_MOST_PADDING_BYTES = 2**16
# Who does not know a length writes a number this close to the largest one of 31 or 32 bits.
_UNKNOWN_SLACK = 2**16


@dataclass(frozen=True)
class Part:
    """One recording in a file: its first byte, its first byte of samples, and the bytes after its
    last sample and after its end. `promised_bytes` of samples stand in its header, None where the
    writer did not know."""

    start: int
    data_start: int
    data_end: int
    end: int
    promised_bytes: int | None

    @property
    def data_bytes(self) -> int:
        return self.data_end - self.data_start


@dataclass(frozen=True)
class _Chunk:
    """`size` of the body that starts at byte `body`, None where it is not known; `next`: where the
    next chunk starts."""

    name: bytes
    body: int
    size: int | None
    next: int


@dataclass(frozen=True)
class _Family:
    """Formats built alike. The first chunk starts `first` bytes after the beginning; `data` is the
    name of the one with the samples, whose body starts with `lead` bytes that are none."""

    first: int
    data: bytes
    lead: int
    read_chunk: Callable[[BinaryIO, int], _Chunk | None]


def find_parts(file: BinaryIO) -> list[Part]:
    """The recordings in a file, one after the other; none where it is of no such format, or its
    samples are not found."""
    file_bytes, found, at = file.seek(0, 2), [], 0
    while at < file_bytes and (part := _part(file, at, file_bytes)):
        found.append(part)
        at = part.end
    return found


def _part(file: BinaryIO, start: int, file_bytes: int) -> Part | None:
    family = _family(_read(file, start, _HEAD_BYTES))
    data = family and _data_chunk(file, start, family)
    if not family or not data:
        return None
    first, promised = (
        data.body + family.lead,
        None if data.size is None else max(data.size - family.lead, 0),
    )
    # Without and with padding
    ends = [] if data.size is None else [data.body + data.size, data.next]
    for after in (end for end in ends if end <= file_bytes):
        end = _end_of_chunks(file, after, family, file_bytes)
        if end is not None:
            return Part(start, first, max(ends[0], first), max(end, first), promised)
    return Part(start, first, max(file_bytes, first), max(file_bytes, first), promised)


def _data_chunk(file: BinaryIO, start: int, family: _Family) -> _Chunk | None:
    long_size = None
    chunk = family.read_chunk(file, start + family.first)
    while chunk and chunk.name != family.data:
        # Of RF64: sizes that need more than 32 bits, the second is that of the samples.
        if chunk.name == b"ds64":
            long_size = int.from_bytes(_read(file, chunk.body + 8, 8), "little")
        chunk = family.read_chunk(file, chunk.next)
    if chunk and chunk.size is None and long_size:
        return _Chunk(chunk.name, chunk.body, long_size, chunk.body + long_size + long_size % 2)
    return chunk


def _end_of_chunks(file: BinaryIO, at: int, family: _Family, file_bytes: int) -> int | None:
    """Where the recording ends whose samples end at byte `at`; None where what is there can only be
    more samples."""
    while file_bytes - at >= 8:
        head = _read(file, at, _HEAD_BYTES)
        if _family(head):
            return at
        if head.startswith(_TAGS) or (
            file_bytes - at <= _MOST_PADDING_BYTES and not any(_read(file, at, _MOST_PADDING_BYTES))
        ):
            return file_bytes
        chunk = family.read_chunk(file, at)
        if not chunk or chunk.size is None or chunk.body + chunk.size > file_bytes:
            return None
        at = chunk.next
    return file_bytes


def _family(head: bytes) -> _Family | None:
    kind, form = head[:4], head[8:12]
    if form == b"WAVE" and kind in (b"RIFF", b"RF64", b"RIFX"):
        return _Family(12, b"data", 0, partial(_riff_chunk, ">" if kind == b"RIFX" else "<"))
    if form in (b"AIFF", b"AIFC") and kind == b"FORM":
        return _Family(12, b"SSND", 8, partial(_riff_chunk, ">"))
    if kind == b"caff":
        return _Family(8, b"data", 4, _caf_chunk)
    if head.startswith(_W64_RIFF):
        return _Family(40, b"data", 0, _w64_chunk)
    if kind == b".snd":
        return _Family(0, b".snd", 0, _au_chunk)
    return None


def _riff_chunk(order: str, file: BinaryIO, at: int) -> _Chunk | None:
    head = _read(file, at, 8)
    if len(head) < 8 or not _is_name(head[:4]):
        return None
    size = struct.unpack(f"{order}I", head[4:])[0]
    unknown = abs(size - 2**31) <= _UNKNOWN_SLACK or size >= 2**32 - _UNKNOWN_SLACK
    return _Chunk(head[:4], at + 8, None if unknown else size, at + 8 + size + size % 2)


def _caf_chunk(file: BinaryIO, at: int) -> _Chunk | None:
    head = _read(file, at, 12)
    if len(head) < 12 or not _is_name(head[:4]):
        return None
    size = struct.unpack(">q", head[4:])[0]
    return _Chunk(head[:4], at + 12, size if size >= 0 else None, at + 12 + max(size, 0))


def _w64_chunk(file: BinaryIO, at: int) -> _Chunk | None:
    head = _read(file, at, 24)
    if len(head) < 24 or head[4:16] != _W64_NAME_END:
        return None
    # With these 24 bytes, without the padding to a multiple of 8.
    size = struct.unpack("<Q", head[16:])[0]
    known = 24 <= size < 2**62
    return _Chunk(head[:4], at + 24, size - 24 if known else None, at + max(size, 24) + -size % 8)


def _au_chunk(file: BinaryIO, at: int) -> _Chunk | None:
    """The whole recording as one chunk: an AU file is a header and samples."""
    head = _read(file, at, 12)
    if len(head) < 12 or not head.startswith(b".snd"):
        return None
    body, size = struct.unpack(">II", head[4:])
    if body < 24:
        return None
    unknown = size >= 2**32 - _UNKNOWN_SLACK
    return _Chunk(b".snd", at + body, None if unknown else size, at + body + size)


def _is_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    return file.read(count) if file.seek(at) == at else b""
