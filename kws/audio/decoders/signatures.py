"""What kind of file begins with which bytes, and whether another one begins in the middle."""

import mmap
import re
from collections.abc import Iterator
from typing import BinaryIO

_HEAD_BYTES = 256
_ID3 = b"ID3"
_EBML = b"\x1aE\xdf\xa3"
# Compiled when they are needed: most recordings need none of them.
_MATROSKA_START = rb"\x1aE\xdf\xa3(?=.{0,48}(?:webm|matroska))"
_FLAC_START = rb"fLaC\x00\x00\x00\x22"
_OGG_PAGE = rb"OggS\x00(.)"
_FIRST_PAGE_FLAG = 2  # a flag of Ogg pages
_MP3_LENGTH_TAG = rb"\xff[\xe2-\xff].{11,34}(?:Xing|Info)"


def read_head(file: BinaryIO) -> bytes:
    """The first bytes of a file. Leaves it where it was."""
    return _read_head_at(file, 0)


def read_after_tags(file: BinaryIO) -> bytes:
    """The first bytes behind the ID3 tags with which MP3, and sometimes FLAC, begins. Leaves the
    file where it was."""
    head, offset = _read_head_at(file, 0), 0
    while head.startswith(_ID3) and len(head) >= 10:
        offset += 10 + sum(
            (byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
        )
        head = _read_head_at(file, offset)
    return head


def is_mpeg(head: bytes) -> bool:
    """MP3 and its relatives: a tag, or the eleven bits with which each frame begins."""
    return head.startswith(_ID3) or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def is_mpeg_in_wav(head: bytes) -> bool:
    """MP3 and its relatives in a WAV file, by the number of their codec."""
    return head[:4] == b"RIFF" and head[12:16] == b"fmt " and head[20:22] in (b"\x50\0", b"\x55\0")


def is_compressed(head: bytes) -> bool:
    """FLAC, Ogg and MPEG audio: formats that libsndfile knows, too, but reads only where they are
    whole and alone."""
    return is_mpeg(head) or head.startswith((b"fLaC", b"OggS"))


def has_second_recording(file: BinaryIO) -> bool:
    """Whether behind a FLAC, Ogg or MP3 file in the same file another one begins."""
    if not is_mpeg(_read_head_at(file, 0)):
        return len(find_recording_starts(file)) > 1
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return sum(1 for _ in re.finditer(_MP3_LENGTH_TAG, data, re.DOTALL)) > 1


def find_recording_starts(file: BinaryIO) -> list[int]:
    """Where in a file the recordings begin that lie in it one after the other, as far as that is
    seen: in MP4, Matroska (WebM), Ogg and FLAC."""
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
    """Of streams that sound together the first pages come together; later ones begin anew."""
    starts, is_after_first = [0], True
    for page in re.finditer(_OGG_PAGE, data, re.DOTALL):
        is_first = bool(page[1][0] & _FIRST_PAGE_FLAG)
        if is_first and not is_after_first:
            starts.append(page.start())
        is_after_first = is_first
    return starts


def _mp4_boxes(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Places and names of the outermost boxes of an MP4 file (ISO 14496-12, section 4.2)."""
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
    seek_succeeded = file.seek(offset) == offset  # a damaged header may tell of any place
    data = file.read(_HEAD_BYTES) if seek_succeeded else b""
    file.seek(saved_position)
    return data
