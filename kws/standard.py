"""Standard input, output and error where they are not as usual: closed by the caller (`kws detect a.wav >&-`), or full."""

import errno
import os
import sys
from contextlib import suppress

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, one's share of it, the longest file allowed
UNWRITABLE = (*FULL, errno.EBADF)  # the last where output is closed


def open_closed() -> None:
    """Puts something in the place of streams that are closed: no file opened later gets their number, and Python finds them there.

    Input and output are opened the wrong way round, so that using them stays the error it is; what is said on stderr is lost.
    """
    for name, mode, way in (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, way), mode, closefd=False))  # the lowest free number is its own


def drop_output() -> None:
    """Forgets what standard output does not take: when Python ends it would try once more, and complain in its own way."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):  # an output of a test has no number
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
