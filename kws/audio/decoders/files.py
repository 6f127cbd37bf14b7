"""Files for decoding libraries: a file in which a seek never raises, and a part of a file as a
file."""

import io


class SafeFile(io.FileIO):
    """A file whose `seek` returns -1 for an impossible offset, as from a damaged header. An
    exception in the callback of a library would be lost."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, OverflowError):
            return -1


class FileSlice(io.RawIOBase):
    """The bytes of a file from `start` to `end`, of which `head` replaces the first. Several slices
    of a file may be read in turns."""

    def __init__(self, file: io.FileIO, start: int, end: int, head: bytes = b""):
        self._file, self._start, self._size, self._position = file, start, end - start, 0
        self._head = head

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        data = self._head[self._position : self._position + len(buffer)] or self._read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _read(self, count: int) -> bytes:
        self._file.seek(self._start + self._position)
        return self._file.read(min(count, max(self._size - self._position, 0)))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        position = origins[whence] + offset
        if position < 0:
            return -1
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
