"""Where a word lies in recordings of longer speech: a table beside them.

    FOLDER/places.csv    file, start, end

Times are in seconds; they are empty for a recording in which the word was not found.
"""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from kws.errors import DataError
from kws.files import write_atomically

FILE_NAME = "places.csv"
_COLUMNS = ("file", "start", "end")


class Place(NamedTuple):
    """Where a word is said, in seconds."""

    start: float
    end: float


UNKNOWN_PLACE = Place(math.nan, math.nan)


def read_places(folder: Path) -> dict[str, Place | None]:
    """The table of a folder, by file as it stands there; empty where there is none. Raises
    DataError for a table of another program, and for a place that is none."""
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return {row["file"]: _parse(row) for row in rows}
    except (OSError, UnicodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: is no table of {', '.join(_COLUMNS)} in seconds ({error}). Delete it."
        ) from error


def write_places(folder: Path, places: Mapping[str, Place | None]) -> None:
    """Writes the table, sorted by file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for file in sorted(places):
        place = places[file]
        times = (f"{place.start:.3f}", f"{place.end:.3f}") if place else ("", "")
        writer.writerow((file, *times))
    write_atomically(folder / FILE_NAME, text.getvalue().encode())


def _parse(row: dict[str, str]) -> Place | None:
    if not row["start"] and not row["end"]:
        return None
    place = Place(float(row["start"]), float(row["end"]))
    if not 0 <= place.start < place.end:
        raise ValueError(f"{row['file']} from {row['start']} to {row['end']}")
    return place
