"""Whether an Ogg file is complete: the last page of an Ogg stream has a flag (RFC 3533, section
6)."""

from io import RawIOBase

_LARGEST_PAGE_BYTES = 65_307
_HEADER_BYTES = 27
_LAST_PAGE_FLAG = 4


def is_ogg_truncated(file: RawIOBase) -> bool:
    """Whether a file starts as Ogg, but does not end with the last page of a stream. Leaves the
    file at its end."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return False
    size = file.seek(0, 2)
    file.seek(max(size - 2 * _LARGEST_PAGE_BYTES, 0))
    tail = file.read()
    page_offset = tail.rfind(b"OggS")
    page = tail[page_offset:]
    if len(page) < _HEADER_BYTES or not page[5] & _LAST_PAGE_FLAG:
        return True
    segments = page[_HEADER_BYTES : _HEADER_BYTES + page[26]]
    return len(page) < _HEADER_BYTES + page[26] + sum(segments)
