"""Standard input, output and error where they are not as usual: closed by the caller
(`kws detect a.wav >&-`), or full; and what to say of errors of the system that a user can do
something about."""

import errno
import io
import os
import re
import sys
from contextlib import suppress

# The disk, one's share of it, the longest file allowed.
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE_ERRNOS = (*DISK_FULL_ERRNOS, errno.EBADF)  # the last of them: output is closed

# Control characters, and what turns the direction of writing: a name with one breaks lines, colours
# a terminal, or reads as another name.
_CONTROL_CHARS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def reopen_closed_streams() -> None:
    """Puts something in the place of streams that are closed: no file opened later gets their
    number, and Python finds them there.

    Input and output are opened the wrong way round, so that using them stays the error it is; what
    is said on stderr is lost.
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
    """What standard output cannot encode (names of files are bytes) is written as an escape, as on
    standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def to_printable(name: str) -> str:
    """A name as standard output can take it, before it is measured or quoted there."""
    encoding = sys.stdout.encoding or "utf-8"
    return name.encode(encoding, "backslashreplace").decode(encoding)


def escape_control_chars(text: str) -> str:
    """A text for people to read on one line, with control characters written out, as in "a\\nb".
    JSON stays the same JSON."""
    return _CONTROL_CHARS.sub(
        lambda match: (
            match[0].encode("unicode_escape").decode()
            if match[0] < " "
            else f"\\u{ord(match[0]):04x}"
        ),
        text,
    )


def describe_os_error(error: OSError) -> str | None:
    """What a user should know and do, where the system's error is none of ours: no room, or a name
    that no file can have."""
    if error.errno in UNWRITABLE_ERRNOS:
        return f"cannot write ({error.strerror}). Make room, or write elsewhere."
    if error.errno == errno.ENAMETOOLONG:
        return f"{error.filename}: {error.strerror}. Check the path."
    return None


def discard_unwritten_output() -> None:
    """Forgets what standard output does not take: when Python ends it would try once more, and
    complain in its own way."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):  # an output of a test has no number
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
