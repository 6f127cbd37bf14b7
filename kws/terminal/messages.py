"""Messages on stderr, from the logger "kws"."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kws.terminal.progress import above_bars
from kws.terminal.stdio import escape_control_chars

logger = logging.getLogger("kws")

_PREFIXES = {logging.WARNING: "Warning: ", logging.ERROR: "Error: "}


def print_message(text: str) -> None:
    """Prints a line on stderr, above the progress bars; control characters are escaped."""
    with above_bars(), suppress(OSError):  # where stderr is full or gone, the work goes on
        print(escape_control_chars(text), file=sys.stderr, flush=True)


class _MessageHandler(logging.Handler):
    """Prints messages of the library on stderr, each warning once."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._shown_warnings: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno == logging.WARNING:
            if message in self._shown_warnings:
                return
            self._shown_warnings.add(message)
        print_message(_PREFIXES.get(record.levelno, "") + message)


@contextmanager
def show_messages() -> Iterator[None]:
    """Around a command: prints what the logger "kws" receives, from level INFO on."""
    handler, level_before = _MessageHandler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level_before)
