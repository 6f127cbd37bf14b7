"""Negatives in which a word is said after all: a folder of longer phrases that hold it, a podcast
that speaks of it. A detector that learns them as something else misses its word.

    NAME.said.csv    what is left out: file, seconds, word, llr; the surest first

Of long recordings only the part around the word is left out.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kws.audio.folders import sibling_path
from kws.audio.formats import to_float32
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import DataError
from kws.files import write_atomically
from kws.terminal.printers import csv_row
from kws.training import distributed
from kws.training.data.clips import Clip
from kws.training.data.dataset import ClipDataset, Progress, pack_clips
from kws.training.data.keyword_data import KeywordData
from kws.training.evaluate.scoring import map_in_parallel
from kws.training.fit.hard_negatives import SECONDS_BEFORE, FalseAlarm
from kws.training.phones.word_search import MIN_PHONES, SaidWord, WordSearch

# Left out around the end of a word.
SECONDS_LEFT_OUT_BEFORE, SECONDS_LEFT_OUT_AFTER = 3.0, 2.0
MIN_SECONDS = 1.0  # of what remains of a recording; shorter pieces are left out, too

_COLUMNS = ("file", "seconds", "word", "llr")

logger = logging.getLogger("kws")


def said_words_path(model: Path) -> Path:
    return sibling_path(model, ".said.csv")


@dataclass(frozen=True)
class LeftOut:
    """A word that is said in a recording of the negatives: see `SaidWord`."""

    file: Path
    said: SaidWord


class SaidWordFilter:
    """Leaves out the negatives in which a word is said, and lists them in `path`.

    known: a folder of synthesized clips. What is said in them is known, so nothing is looked for.
    """

    def __init__(self, search: WordSearch, path: Path, known: Path | None = None):
        self._search, self._path, self._known = search, path, known
        self._left_out: list[LeftOut] = []
        for word in search.unsought:
            logger.info(
                f"'{word}' has fewer than {MIN_PHONES} phones: too few to be looked for in the "
                "negatives"
            )

    def clean(self, data: KeywordData, progress: Progress = iter) -> KeywordData:
        """The data with what remains of its negatives, held out or not.

        Raises DataError where nothing remains to learn from, KwsError where the list cannot be
        written.
        """
        datasets = [*(source.dataset for source in data.negatives), *data.heldout_negatives]
        hours = sum(dataset.seconds for dataset in datasets) / 3600
        logger.info(f"looking for {_join(data.names)} in {hours:.2f} h of negatives")
        places = iter(self._find_in_datasets(datasets, progress))
        cleaned = [_cut_out(dataset, [next(places) for _ in dataset.clips]) for dataset in datasets]
        negatives = [
            replace(source, dataset=dataset)
            for source, dataset in zip(data.negatives, cleaned, strict=False)
            if len(dataset)
        ]
        self._report(self._left_out, "the negatives")
        if not negatives:
            raise DataError(
                f"{self._path}: lists {_join(data.names)} in all negatives. "
                "Give recordings without it."
            )
        return replace(
            data,
            negatives=tuple(negatives),
            heldout_negatives=tuple(cleaned[len(data.negatives) :]),
            said_in=frozenset(each.file for each in self._left_out),
        )

    def clean_segments(
        self, segments: ClipDataset, false_alarms: Sequence[FalseAlarm]
    ) -> ClipDataset:
        """The segments, one of each false alarm, in which no word is said."""
        places = list(map_in_parallel(self._search.find, segments))
        mined = [
            _at(false_alarm.file, max(false_alarm.seconds - SECONDS_BEFORE, 0.0), said)
            for false_alarm, said_words in zip(false_alarms, places, strict=True)
            for said in said_words
        ]
        self._left_out += mined
        self._report(mined, "the false alarms")
        kept = [index for index, said_words in enumerate(places) if not said_words]
        return pack_clips(
            [segments.clips[index] for index in kept],
            [segments.int16_clip(index) for index in kept],
        )

    def _find_in_datasets(
        self, datasets: Iterable[ClipDataset], progress: Progress
    ) -> list[list[SaidWord]]:
        """The words said in each clip of each data set."""
        numbered = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
        places = list(progress(map_in_parallel(lambda each: self._find(*each), numbered)))
        self._left_out = [
            _at(dataset.clips[index].path, _seconds_before(dataset, index), said)
            for (dataset, index), said_words in zip(numbered, places, strict=True)
            for said in said_words
        ]
        return places

    def _find(self, dataset: ClipDataset, index: int) -> list[SaidWord]:
        if self._known and dataset.clips[index].path.is_relative_to(self._known):
            return []
        return self._search.find(to_float32(dataset.int16_clip(index)))

    def _report(self, left_out: Sequence[LeftOut], where: str) -> None:
        """Writes the list, and tells how many of its places are new. No list of an earlier run
        remains."""
        with distributed.raise_on_any_rank():
            if not distributed.is_rank_zero():
                return
            if self._left_out:
                write_left_out(self._left_out, self._path)
            else:
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)
        if left_out:
            words = _join(sorted({each.said.word for each in left_out}))
            files = len({each.file for each in left_out})
            logger.warning(
                f"{words} is said among {where}, at {len(left_out)} places of {files} recordings: "
                f"left out. {self._path} lists them."
            )


def write_left_out(left_out: Iterable[LeftOut], path: Path) -> None:
    """Writes a CSV, the surest first. Raises KwsError when it cannot be written."""
    ordered = sorted(left_out, key=lambda each: (-each.said.llr, str(each.file), each.said.end))
    rows = [
        (str(each.file), f"{each.said.end:.2f}", each.said.word, f"{each.said.llr:.2f}")
        for each in ordered
    ]
    text = "".join(f"{csv_row(row)}\n" for row in (_COLUMNS, *rows))
    write_atomically(path, text.encode("utf-8", "surrogateescape"))


def _join(words: Iterable[str]) -> str:
    return " or ".join(f"'{word}'" for word in words)


def _at(file: Path, seconds: float, said: SaidWord) -> LeftOut:
    """A word in a segment of a file that begins there."""
    return LeftOut(file, replace(said, end=round(seconds + said.end, 2)))


def _seconds_before(dataset: ClipDataset, index: int) -> float:
    """Length of the segments of the same recording right before a clip."""
    first = index
    while first and dataset.clips[first - 1] == dataset.clips[index]:
        first -= 1
    return float(dataset.starts[index] - dataset.starts[first]) / SAMPLE_RATE


def _cut_out(dataset: ClipDataset, places: Sequence[Sequence[SaidWord]]) -> ClipDataset:
    """The data set without the audio around the words said in each clip."""
    if not any(places):
        return dataset
    clips: list[Clip] = []
    waves: list[np.ndarray] = []
    for index, said_words in enumerate(places):
        pieces = _split_around(dataset.int16_clip(index), [each.end for each in said_words])
        clips += [dataset.clips[index]] * len(pieces)
        waves += pieces
    return pack_clips(clips, waves)


def _split_around(wave: np.ndarray, ends: Sequence[float]) -> list[np.ndarray]:
    """What remains of the samples [n] beside words that end at these seconds."""
    if not ends:
        return [wave]
    pieces, first = [], 0
    for end in (*sorted(ends), np.inf):
        last = min(end - SECONDS_LEFT_OUT_BEFORE, len(wave) / SAMPLE_RATE)
        pieces.append(wave[first : max(round(last * SAMPLE_RATE), first)])
        if end < np.inf:
            first = max(first, round((end + SECONDS_LEFT_OUT_AFTER) * SAMPLE_RATE))
    return [piece for piece in pieces if len(piece) >= MIN_SECONDS * SAMPLE_RATE]
