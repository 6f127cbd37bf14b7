"""What kind of file begins with which bytes, and whether another one begins in the middle."""

import mmap
import re
from collections.abc import Iterator
from itertools import dropwhile
from typing import BinaryIO

_HEAD_BYTES = 64
_ID3 = b"ID3"
_FLAC_START = re.compile(rb"fLaC\x00\x00\x00\x22")
_OGG_PAGE = re.compile(rb"OggS\x00(.)", re.DOTALL)
_IS_FIRST_PAGE = 2  # a flag of Ogg pages
_MP3_LENGTH_TAG = re.compile(rb"\xff[\xe2-\xff].{11,34}(?:Xing|Info)", re.DOTALL)


def read_head(file: BinaryIO) -> bytes:
    """The first bytes of a file. Leaves it where it was."""
    return _read(file, 0)


def read_behind_tags(file: BinaryIO) -> bytes:
    """The first bytes behind the ID3 tags with which MP3, and sometimes FLAC, begins. Leaves the file where it was."""
    head, at = _read(file, 0), 0
    while head.startswith(_ID3) and len(head) >= 10:
        at += 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        head = _read(file, at)
    return head


def is_mpeg(head: bytes) -> bool:
    """MP3 and its relatives: a tag, or the eleven bits with which each frame begins."""
    return head.startswith(_ID3) or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def is_packed(head: bytes) -> bool:
    """FLAC, Ogg and MPEG audio: formats that libsndfile knows, too, but reads only where they are whole and alone."""
    return is_mpeg(head) or head.startswith((b"fLaC", b"OggS"))


def has_length_tag(head: bytes) -> bool:
    """Whether the first frame of an MP3 tells how many there are."""
    return b"VBRI" in head or bool(_MP3_LENGTH_TAG.match(head))


def begins_again(file: BinaryIO) -> bool:
    """Whether behind a FLAC, Ogg, MP3 or MP4 file in the same file another one begins."""
    head = read_behind_tags(file)
    if head[4:8] == b"ftyp":
        return sum(1 for name in _mp4_boxes(file) if name == b"ftyp") > 1
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if head.startswith(b"OggS"):
            are_first = (bool(page[1][0] & _IS_FIRST_PAGE) for page in _OGG_PAGE.finditer(data))
            return any(dropwhile(bool, are_first))  # streams that sound together begin together
        pattern = _FLAC_START if head.startswith(b"fLaC") else _MP3_LENGTH_TAG
        return sum(1 for _ in pattern.finditer(data)) > 1


def _mp4_boxes(file: BinaryIO) -> Iterator[bytes]:
    """The names of the outermost boxes of an MP4 file (ISO 14496-12, section 4.2)."""
    at = 0
    while len(head := _read(file, at)) >= 16:
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        yield head[4:8]
        if size < 8:  # 0: to the end of the file
            return
        at += size


def _read(file: BinaryIO, at: int) -> bytes:
    before = file.tell()
    file.seek(at)
    data = file.read(_HEAD_BYTES)
    file.seek(before)
    return data
