"""Memory that a process has freed stays its own while it trains."""

import ctypes
import sys

# glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def keep_freed() -> None:
    """Tells glibc not to give freed blocks back to the system, here and in processes forked from
    now on.

    A training step takes and frees some hundred megabytes in pieces of 5 to 60. By default each is
    mapped anew, and its pages are zeroed one fault at a time, which took a third of the time of a
    step on two cores. With another C library it does nothing.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, value in (
            (M_MMAP_MAX, 0),
            (M_TRIM_THRESHOLD, 2**31 - 1),
            (M_TOP_PAD, 2**28),
            (M_ARENA_MAX, 1),
        ):
            libc.mallopt(option, value)
