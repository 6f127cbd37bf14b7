"""Corpora with transcripts: recordings of sentences, with what is said and who says it.

Two layouts are read:

    LibriSpeech   below DIR, NAME.trans.txt beside its recordings; each line "RECORDING TEXT"
    CSV           DIR/*.csv with the columns file, text and, where known, speaker, voice, language
                  and accent

A recording may have another suffix than its transcript says: many corpora travel compressed.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from kws.audio.folders import AUDIO_SUFFIXES, normalize_name
from kws.errors import DataError
from kws.training.data.clips import Clip
from kws.training.data.dataset import MAX_UNREADABLE_FRACTION, Warn
from kws.training.data.splits import assign_split, parse_speaker

TRANSCRIPT_SUFFIX = ".trans.txt"
_NEEDED_COLUMNS = {"file", "text"}
_LAYOUTS = (
    "A corpus has a CSV with the columns file, speaker and text, or a NAME.trans.txt beside its "
    "recordings, as LibriSpeech has."
)


@dataclass(frozen=True)
class Utterance:
    """A recording of a sentence.

    text: as it was written down, but in small letters where it was all in capitals, which a
    dictionary would spell. speaker: the speaker's name, else the voice's, else what the name of the
    file says (`kws.training.data.splits.parse_speaker`). language, accent: in the words of the
    corpus; "" where it has none.
    """

    path: Path
    text: str
    speaker: str
    language: str = ""
    accent: str = ""

    @property
    def split(self) -> str:
        """ "train", "validation" or "test", by the speaker alone."""
        return assign_split(self.speaker)

    @property
    def is_english(self) -> bool:
        """Whether the language is English, of any country. A corpus that names no language counts
        as English."""
        return self.language.lower().partition("-")[0] in ("", "en", "english")

    @property
    def clip(self) -> Clip:
        """The recording, labelled with the text."""
        return Clip(self.path, self.text, self.speaker)


def find_words(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text.lower().replace("’", "'"))


def read_corpus(folder: Path, warn: Warn) -> list[Utterance]:
    """The utterances of a corpus in any language, each recording once, sorted by path.

    Lines that name no recording, have no text or give a recording another text than before are left
    out, and told with `warn`. Raises DataError for a folder without transcripts, and where more
    than a tenth of the lines are left out.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such directory. Check the path of the corpus.")
    corpus = _Corpus()
    for path in _find_transcripts(folder):
        read = _read_csv if path.suffix == ".csv" else _read_librispeech
        for line in read(path):
            corpus.add(line)
    if not corpus.line_count:
        raise DataError(f"{folder}: no transcripts. {_LAYOUTS}")
    if corpus.problems:
        _report(folder, corpus, warn)
    return [corpus.utterances[path] for path in sorted(corpus.utterances)]


@dataclass(frozen=True)
class _Line:
    """A line of a transcript, and where it stands. The speaker is "" where it is unknown."""

    place: str
    path: Path
    text: str
    speaker: str = ""
    language: str = ""
    accent: str = ""


@dataclass
class _Corpus:
    """The utterances of the lines so far, and what is wrong with other lines."""

    utterances: dict[Path, Utterance] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    line_count: int = 0
    _folders: dict[Path, "_Folder"] = field(default_factory=dict)

    def add(self, line: _Line) -> None:
        self.line_count += 1
        folder = self._folders.setdefault(line.path.parent, _Folder(line.path.parent))
        path = folder.find(line.path.name)
        if path is None:
            self.problems.append(f"{line.place}: there is no recording {line.path}.")
        elif not line.text:
            self.problems.append(f"{line.place}: no text for {path}.")
        else:
            utterance = Utterance(
                path, line.text, line.speaker or parse_speaker(path), line.language, line.accent
            )
            if self.utterances.setdefault(path, utterance).text != line.text:
                self.problems.append(f"{line.place}: another text for {path} than before.")


@dataclass(frozen=True)
class _Folder:
    """A folder of recordings, which is listed once."""

    path: Path

    @cached_property
    def _recordings(self) -> dict[str, Path]:
        """By file name, and by file name without suffix."""
        try:
            files = [each for each in self.path.iterdir() if each.suffix.lower() in AUDIO_SUFFIXES]
        except OSError:
            return {}
        names = {normalize_name(each.name): each for each in files}
        return {normalize_name(each.stem): each for each in sorted(files)} | names

    def find(self, name: str) -> Path | None:
        """The recording with this name; else with this name and another suffix, or none before."""
        name = normalize_name(name)
        has_suffix = Path(name).suffix.lower() in AUDIO_SUFFIXES
        stem = Path(name).stem if has_suffix else name
        return self._recordings.get(name) or self._recordings.get(stem)


def _find_transcripts(folder: Path) -> list[Path]:
    """CSV files with the needed columns, else the transcripts of LibriSpeech below the folder.
    Raises DataError where there are only CSV files with other columns."""
    tables = sorted(folder.glob("*.csv"))
    corpora = [path for path in tables if set(_read_columns(path)) >= _NEEDED_COLUMNS]
    transcripts = corpora or sorted(folder.rglob(f"*{TRANSCRIPT_SUFFIX}"))
    if tables and not transcripts:
        columns = ", ".join(_read_columns(tables[0])) or "none"
        raise DataError(f"{tables[0]}: no columns file and text (there are: {columns}). {_LAYOUTS}")
    return transcripts


def _read_columns(path: Path) -> list[str]:
    return next(_read_rows(path), [])


def _read_rows(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV. Raises DataError for what is none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.reader(file)
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV in UTF-8 ({error}).") from error


def _read_csv(path: Path) -> Iterator[_Line]:
    rows = _read_rows(path)
    columns = next(rows)
    for number, row in enumerate(rows, 2):
        values = {name: value.strip() for name, value in zip(columns, row, strict=False)}
        if not any(values.values()):
            continue
        yield _Line(
            f"{path}, row {number}",
            path.parent / values.get("file", ""),
            _lower_capitals(values.get("text", "")),
            normalize_name(values.get("speaker") or values.get("voice", "")),
            values.get("language", ""),
            values.get("accent", ""),
        )


def _read_librispeech(path: Path) -> Iterator[_Line]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read as text in UTF-8 ({error}).") from error
    for number, line in enumerate(lines, 1):
        name, _, text = line.strip().partition(" ")
        if name:
            place = f"{path}, line {number}"
            yield _Line(place, path.parent / name, _lower_capitals(text.strip()))


def _lower_capitals(text: str) -> str:
    return text.lower() if text.isupper() else text


def _report(folder: Path, corpus: _Corpus, warn: Warn) -> None:
    """Tells how many lines are left out. Raises DataError where it is more than a tenth."""
    problems, count = corpus.problems, corpus.line_count
    if len(problems) > MAX_UNREADABLE_FRACTION * count:
        raise DataError(
            f"{folder}: {len(problems)} of {count} transcripts cannot be used, "
            f"the first: {problems[0]} Check that the recordings are all there."
        )
    warn(f"{folder}: {len(problems)} of {count} transcripts are left out, the first: {problems[0]}")
