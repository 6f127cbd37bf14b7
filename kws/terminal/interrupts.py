"""Ctrl-C that is never lost.

Python drops an exception that is raised inside a destructor or a callback. A KeyboardInterrupt may
be raised there, for example while a file is closed. So Ctrl-C is remembered as well, and `check`
raises it again where nothing drops it.
"""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType


class Interrupts:
    """Around work that Ctrl-C may stop: `with Interrupts() as interrupts: ...`, with
    `interrupts.check()` inside from time to time.

    Ctrl-C raises KeyboardInterrupt at once. While `graceful`, the first one waits for the next
    check, and `on_deferred` is called. Nothing changes outside the main thread, or where the
    program was started to ignore Ctrl-C.
    """

    def __init__(self, on_deferred: Callable[[], None] = lambda: None):
        self.graceful = False
        self._on_deferred = on_deferred
        self._interrupted = False

    @property
    def requested(self) -> bool:
        """Whether Ctrl-C came."""
        return self._interrupted

    def check(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C came."""
        if self._interrupted:
            raise KeyboardInterrupt

    def __enter__(self) -> "Interrupts":
        self._handler, self._hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
        # A shell starts `kws train ... &` so that it ignores Ctrl-C, which is meant for the
        # foreground.
        self._is_installed = (
            threading.current_thread() is threading.main_thread()
            and self._handler not in (signal.SIG_IGN, None)
        )
        if self._is_installed:
            sys.unraisablehook = self._report_unraisable
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._is_installed:
            signal.signal(signal.SIGINT, self._handler)
            sys.unraisablehook = self._hook
        if error is None:
            self.check()

    def _interrupt(self, _: int, __: FrameType | None) -> None:
        is_repeated, self._interrupted = self._interrupted, True
        if is_repeated or not self.graceful:
            raise KeyboardInterrupt
        self._on_deferred()

    def _report_unraisable(self, dropped: "sys.UnraisableHookArgs") -> None:
        if dropped.exc_type is not KeyboardInterrupt:  # this one is remembered
            self._hook(dropped)
