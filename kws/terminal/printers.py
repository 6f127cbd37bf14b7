"""Output of events: lines of text, JSON, CSV or Audacity labels, flushed one by one, and clips of
the audio around them."""

import errno
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import astuple
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from kws.audio.folders import append_suffix, normalize_name, truncate_with_digest
from kws.errors import KwsError
from kws.files import write_atomically
from kws.runtime.postprocess import Detection
from kws.terminal.stdio import escape_control_chars

if TYPE_CHECKING:
    from kws.audio.recordings import ExcerptReader, Selection

_CLIP_MARGIN_SECONDS = 0.25  # kept before and after the word
_LONGEST_WORD_BYTES = 100  # in the name of a clip

# The names are an interface: scripts rely on them.
FIELDS = ("file", "word", "start", "end", "peak", "score")


class EventWriter:
    """Writes events as lines in one of FORMATS. Text columns fit the longest of `files` and of
    `words`."""

    def __init__(self, out: TextIO, output_format: str, files: Sequence[str], words: Sequence[str]):
        self._out = out
        self._line = FORMATS[output_format]
        self._widths = (_width(files), _width(words))
        if output_format == "csv":
            write_line(out, csv_row(FIELDS))

    def write(self, file: str, event: Detection) -> None:
        """Raises KwsError when the line cannot be written, BrokenPipeError when the reader of a
        pipe is gone."""
        write_line(self._out, self._line(file, event, self._widths))


def _width(names: Sequence[str]) -> int:
    return max((len(escape_control_chars(name)) for name in names), default=0)


def write_line(out: TextIO, line: str, what: str = "events") -> None:
    """Writes and flushes a line. Raises KwsError when it cannot be written, BrokenPipeError when
    the reader of a pipe is gone."""
    try:
        out.write(line + "\n")
        out.flush()
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise KwsError(
            f"standard output: {what} cannot be written ({error.strerror}). "
            "Make room, or write elsewhere."
        ) from error


def _text(file: str, event: Detection, widths: tuple[int, int]) -> str:
    name = f"{escape_control_chars(file):<{widths[0]}}"
    word = f"{escape_control_chars(event.word):<{widths[1]}}"
    return f"{name}  {word}  {event.start:8.2f}  {event.end:8.2f}  {event.score:.2f}"


def _json(file: str, event: Detection, _: tuple[int, int]) -> str:
    return escape_control_chars(
        json.dumps(dict(zip(FIELDS, (file, *astuple(event)), strict=True)), ensure_ascii=False)
    )


def _csv(file: str, event: Detection, _: tuple[int, int]) -> str:
    return csv_row((file, *astuple(event)))


def csv_row(values: Sequence[object]) -> str:
    """A line of CSV, without the line end."""
    import csv

    row = io.StringIO()
    # The writer quotes fields that hold a character of its line end.
    csv.writer(row, lineterminator="\r\n").writerow(values)
    return row.getvalue().removesuffix("\r\n")


def _label(_: str, event: Detection, __: tuple[int, int]) -> str:
    return f"{event.start:.6f}\t{event.end:.6f}\t{escape_control_chars(event.word)}"


FORMATS: dict[str, Callable[[str, Detection, tuple[int, int]], str]] = {
    "text": _text,
    "json": _json,
    "csv": _csv,
    "labels": _label,
}


class ClipFolder:
    """Saves the audio around events as `DIR/<stem>_<start>_<word>.wav`, 16 kHz mono. A stem that is
    too long is shortened."""

    def __init__(self, folder: Path, selection: "Selection"):
        self._folder, self._selection = folder, selection
        self._names: set[str] = set()  # recordings in different folders may share a stem
        self._excerpts: ExcerptReader | None = None

    def save(self, path: Path, event: Detection) -> Path:
        """Writes the clip of one event of the recording at `path`. Raises KwsError when it cannot
        be written."""
        import soundfile

        from kws.audio.recordings import SAMPLE_RATE, ExcerptReader

        if self._excerpts is None or path != self._excerpts.path:
            self._excerpts = ExcerptReader(path, self._selection)
        clip = self._excerpts.cut(
            max(event.start - _CLIP_MARGIN_SECONDS, 0.0), event.end + _CLIP_MARGIN_SECONDS
        )
        wav = io.BytesIO()
        soundfile.write(wav, clip, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        target = self._folder / self._unique_name(path.stem, event)
        write_atomically(target, wav.getvalue())
        return target

    def _unique_name(self, stem: str, event: Detection) -> str:
        word = truncate_with_digest(
            re.sub(r"[^\w-]+", "-", normalize_name(event.word)), _LONGEST_WORD_BYTES
        )
        suffixes = chain([""], (f"_{number}" for number in count(2)))
        names = (
            append_suffix(normalize_name(stem), f"_{event.start:.2f}_{word}{each}.wav")
            for each in suffixes
        )
        name = next(name for name in names if name not in self._names)
        self._names.add(name)
        return name
