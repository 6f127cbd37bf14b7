"""The container of a file from its first bytes, and other recordings that follow in the same
file."""

import mmap
import re
from collections.abc import Iterator
from typing import BinaryIO

_HEAD_BYTES = 256
_ID3 = b"ID3"
_EBML = b"\x1aE\xdf\xa3"
# Compiled at their first use: most recordings need none of them.
_MATROSKA_START = rb"\x1aE\xdf\xa3(?=.{0,48}(?:webm|matroska))"
_FLAC_START = rb"fLaC\x00\x00\x00\x22"
_OGG_PAGE = rb"OggS\x00(.)"
_FIRST_PAGE_FLAG = 2  # a flag of Ogg pages
_MP3_LENGTH_TAG = rb"\xff[\xe2-\xff].{11,34}(?:Xing|Info)"


def read_head(file: BinaryIO) -> bytes:
    """The first bytes of a file. Keeps its position."""
    return _read_head_at(file, 0)


def read_after_tags(file: BinaryIO) -> bytes:
    """The first bytes after the ID3 tags at the beginning of MP3 and sometimes FLAC. Keeps the
    position of the file."""
    head, offset = _read_head_at(file, 0), 0
    while head.startswith(_ID3) and len(head) >= 10:
        offset += 10 + sum(
            (byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
        )
        head = _read_head_at(file, offset)
    return head


def is_mpeg(head: bytes) -> bool:
    """Whether a file is MPEG audio (MP3, MP2, ...): an ID3 tag, or the 11 sync bits of a frame."""
    return head.startswith(_ID3) or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def is_mpeg_in_wav(head: bytes) -> bool:
    """Whether a WAV file holds MPEG audio, by its codec number."""
    return head[:4] == b"RIFF" and head[12:16] == b"fmt " and head[20:22] in (b"\x50\0", b"\x55\0")


def is_compressed(head: bytes) -> bool:
    """FLAC, Ogg and MPEG audio: formats that libsndfile reads, but only if the file is complete and
    holds a single recording."""
    return is_mpeg(head) or head.startswith((b"fLaC", b"OggS"))


def has_second_recording(file: BinaryIO) -> bool:
    """Whether a second recording follows in a FLAC, Ogg or MP3 file."""
    if not is_mpeg(_read_head_at(file, 0)):
        return len(find_recording_starts(file)) > 1
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return sum(1 for _ in re.finditer(_MP3_LENGTH_TAG, data, re.DOTALL)) > 1


def find_recording_starts(file: BinaryIO) -> list[int]:
    """Offsets of the recordings that are concatenated in a file. They are found in MP4, Matroska
    (WebM), Ogg and FLAC; in other formats the only offset is 0."""
    head = _read_head_at(file, 0)
    if head[4:8] == b"ftyp":
        return [offset for offset, name in _mp4_boxes(file) if name == b"ftyp"] or [0]
    if not head.startswith((_EBML, b"OggS", b"fLaC")):
        return [0]
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if head.startswith(b"OggS"):
        return _find_ogg_starts(data)
    pattern = _MATROSKA_START if head.startswith(_EBML) else _FLAC_START
    return [header.start() for header in re.finditer(pattern, data, re.DOTALL)] or [0]


def _find_ogg_starts(data: mmap.mmap) -> list[int]:
    """Simultaneous streams have their first pages together; a later one starts a new recording."""
    starts, is_after_first = [0], True
    for page in re.finditer(_OGG_PAGE, data, re.DOTALL):
        is_first = bool(page[1][0] & _FIRST_PAGE_FLAG)
        if is_first and not is_after_first:
            starts.append(page.start())
        is_after_first = is_first
    return starts


def _mp4_boxes(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Offsets and names of the outermost boxes of an MP4 file (ISO 14496-12, section 4.2)."""
    offset = 0
    while len(head := _read_head_at(file, offset)) >= 16:
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        yield offset, head[4:8]
        if size < 8:  # 0: to the end of the file
            return
        offset += size


def _read_head_at(file: BinaryIO, offset: int) -> bytes:
    saved_position = file.tell()
    seek_succeeded = file.seek(offset) == offset  # a damaged header may hold any offset
    data = file.read(_HEAD_BYTES) if seek_succeeded else b""
    file.seek(saved_position)
    return data
