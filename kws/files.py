"""Files are written whole or not at all."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from kws.audio.folders import append_suffix, check_name_length
from kws.errors import KwsError

_STREAMS = (Path("/dev/stdout"), Path("/dev/stderr"))


def check_writable(path: Path) -> None:
    """Tries whether a file, or files in a folder, can be written there, and leaves nothing behind:
    hours of work should not end at it.

    Raises KwsError.
    """
    try:
        check_name_length(path)
        if _is_pipe_or_device(path):
            return
        folder = (
            path
            if path.is_dir()
            else next(each for each in path.absolute().parents if each.exists())
        )
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise KwsError(
            f"{path}: cannot be written ({error.strerror}). Make room, or write elsewhere."
        ) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, with the folders above it; a link to one stays a link.
    Pipes and devices get the bytes.

    Raises KwsError when the disk does not take it.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(append_suffix(f".{target.name}", ".part"))
    try:
        if _is_pipe_or_device(path):
            with path.open("ab") as out:
                out.write(content)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise KwsError(
            f"{path}: cannot be written ({error.strerror}). Make room, or write elsewhere."
        ) from error


def _is_pipe_or_device(path: Path) -> bool:
    """Whether this is a pipe or a device, which must not be put aside for a file; /dev/stdout is
    one, wherever it leads."""
    is_stream = path in _STREAMS or path.is_relative_to("/dev/fd")
    return is_stream or (path.exists() and not path.is_file() and not path.is_dir())
