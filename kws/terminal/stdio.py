"""Standard streams that are closed (`kws detect a.wav >&-`) or full, names that a terminal cannot
show, and messages for errors of the system that a user can mend."""

import errno
import io
import os
import re
import sys
from contextlib import suppress

# The disk is full, or the quota, or the file is as long as allowed.
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE_ERRNOS = (*DISK_FULL_ERRNOS, errno.EBADF)  # EBADF: the output is closed

# Control characters, and characters that change the direction of text. In a name they break
# lines, colour the terminal, or make it look like another name.
_CONTROL_CHARS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def reopen_closed_streams() -> None:
    """Opens streams that are closed, so that no other file gets their number.

    Input is opened for writing and output for reading, so that using them remains an error.
    Messages on stderr are lost.
    """
    for name, mode, flags in (
        ("stdin", "r", os.O_WRONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            # The lowest free number is its own.
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, closefd=False))


def escape_unencodable() -> None:
    """Makes standard output escape characters that it cannot encode, as standard error does. Names
    of files may hold any bytes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def to_printable(name: str) -> str:
    """A name with the characters escaped that standard output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    return name.encode(encoding, "backslashreplace").decode(encoding)


def escape_control_chars(text: str) -> str:
    """A text on one line, with control characters escaped, as in "a\\nb". JSON stays the same."""
    return _CONTROL_CHARS.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character < " ":
        return character.encode("unicode_escape").decode()
    return f"\\u{ord(character):04x}"


def describe_os_error(error: OSError) -> str | None:
    """A message for errors that a user can mend: no room, or a name that is too long. None for all
    others."""
    if error.errno in UNWRITABLE_ERRNOS:
        return f"cannot write ({error.strerror}). Make room, or write elsewhere."
    if error.errno == errno.ENAMETOOLONG:
        return f"{error.filename}: {error.strerror}. Check the path."
    return None


def discard_unwritten_output() -> None:
    """Discards output that cannot be written. Python would try again when it ends, and report the
    error in its own way."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):  # in tests stdout has no file number
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
