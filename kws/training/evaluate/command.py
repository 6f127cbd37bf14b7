"""What `kws evaluate` does with its options: reads the folders, lets the model hear them, and
writes the figures and the page."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kws.audio.folders import normalized
from kws.errors import DataError
from kws.runtime.spotter import Spotter
from kws.terminal.printers import check_place, replace_file, write_line
from kws.terminal.stdio import escaped
from kws.training.data.clips import (
    TOO_LONG_FOR_A_WORD,
    Bank,
    Clip,
    find_clips,
    pack,
    read_bank,
    sounding,
    told_of_speakers,
    without_words,
)
from kws.training.evaluate.metrics import CURVE, Evidence, judge
from kws.training.evaluate.scored_words import EARLY_SECONDS, LATE_SECONDS
from kws.training.evaluate.scoring import Heard, hear_recordings, hear_streams
from kws.training.evaluate.test_streams import Streams, pink_noise, usable_noises
from kws.training.report.text import summary

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """The wishes of one `kws evaluate`. `part`: "all", or the part of the speakers
    (see `kws.training.data.clips.part_of`)."""

    positives: Path
    negatives: tuple[Path, ...]
    background: tuple[Path, ...]
    snrs_db: tuple[float | None, ...]
    stream_seconds: float
    positions: tuple[float, ...]
    part: str
    seed: int
    as_json: bool
    html: Path | None


def run(spotter: Spotter, options: Options, warn: Warn) -> None:
    """Evaluates as wished, prints the figures to stdout. Raises KwsError."""
    if options.html:
        check_place(options.html)
    last = max(options.positions, default=0.0)
    room = f"streams of {options.stream_seconds:g} s" + (f" from {last:g} s on" if last else "")
    too_long = f"do not fit into {room}. Cut it, or ask for longer ones (--stream-seconds)."
    words = read_words(
        spotter, options.positives, options.part, options.stream_seconds - last, warn, too_long
    )
    negatives = find_negatives(options.negatives, spotter.words, words, options.part, warn)
    report = evaluate(spotter, words, negatives, options, warn)
    write_line(
        sys.stdout,
        json.dumps(report, ensure_ascii=False) if options.as_json else summary(report),
        "the figures",
    )


def evaluate(
    spotter: Spotter, words: Sequence[Bank], negatives: Sequence[Clip], options: Options, warn: Warn
) -> dict:
    """The report (docs/evaluation.md) of clips of each word and of recordings without them; writes
    the page that is wished for.

    Raises KwsError.
    """
    noises = _noises(options, warn)
    streams = [_streams(bank, noises, options) if len(bank) else None for bank in words]
    heard = tuple(_hear(spotter, index, each) for index, each in enumerate(streams))
    listened = hear_recordings(
        spotter, negatives, CURVE, warn, progress("recordings without the word", "recording")
    )
    evidence = Evidence(spotter, heard, listened, options.stream_seconds)
    report = _report(evidence, options, len(negatives) - len(listened))
    if options.html:
        from kws.training.report.examples import specimens
        from kws.training.report.html import page

        replace_file(options.html, page(report, specimens(evidence, streams)).encode())
    return report


def read_words(
    spotter: Spotter,
    folder: Path,
    part: str,
    longest_seconds: float,
    warn: Warn,
    too_long: str = TOO_LONG_FOR_A_WORD,
) -> list[Bank]:
    """The clips of each word in `folder`/WORD; of a single word also those in `folder` itself. A
    word without any is named with `warn`; what can be no event (unknown words, silence) has none.
    `too_long`: what is said of clips that are.

    Raises DataError where no word has any, KwsError for a folder that is missing or empty.
    """
    words = [spotter.words[index] for index in spotter.events.targets]
    found = clips_in(folder, words)
    banks = {word: pack([], []) for word in spotter.words}
    for word in words:
        clips = [clip for clip in found if clip.label == normalized(word)]
        if not clips and len(words) == 1:
            clips = [clip for clip in found if clip.path.parent == folder]
        banks[word] = sounding(
            _read(_of_part(clips, part), f"clips of {word}", warn, longest_seconds, too_long), warn
        )
    if not any(map(len, banks.values())):
        labels = ", ".join(sorted({clip.label for clip in found})[:12])
        of_part = "" if part == "all" else f" of the {part} part"
        speakers = (
            told_of_speakers([clip for clip in found if clip.label in map(normalized, words)])
            if of_part
            else ""
        )
        told = (
            f"no usable clips{of_part} of {', '.join(words)} (folders there: {labels}). "
            "Expected are DIR/WORD/*.wav."
        )
        raise DataError(f"{folder}: {told}{speakers}")
    for word in (word for word in words if not len(banks[word])):
        warn(f"{folder}: no usable clips of '{word}'; how often it is missed stays unknown.")
    return list(banks.values())


def find_negatives(
    folders: Iterable[Path], words: Sequence[str], positives: Iterable[Bank], part: str, warn: Warn
) -> list[Clip]:
    """Every recording of the folders once, but for those in folders named after a word, and
    the positives.

    Raises KwsError where nothing is left.
    """
    without, named = without_words([_existing(folder) for folder in folders], words)
    spoken = {clip.path.resolve() for bank in positives for clip in bank.clips}
    others = [clip for clip in without if clip.path.resolve() not in spoken]
    for count, which in (
        (named, "in folders named after a word"),
        (len(without) - len(others), "that are among --positives, too,"),
    ):
        if count:
            warn(f"{count} recordings {which} are not counted as audio without it.")
    chosen, found = _of_part(others, part), len(without) + named
    if found and not chosen:
        told = (
            f"none of the {found} recordings of --negatives can be used: they are of the words, or "
            "of other parts."
        )
        raise DataError(f"{told}{told_of_speakers(others)}")
    return chosen


def clips_in(folder: Path, words: Iterable[str] = ()) -> list[Clip]:
    """All recordings below a folder, as `find_clips` finds them. Raises DataError for a missing
    one, AudioError for one without recordings."""
    return find_clips(_existing(folder), words)


def _existing(folder: Path) -> Path:
    if not os.path.isdir(folder):  # noqa: PTH112  (Path.is_dir raises for a name that is too long)
        raise DataError(f"{folder}: no such folder. Check the path.")
    return folder


def progress(title: str, unit: str) -> Callable[[Iterable, int | None], Iterable]:
    """A bar on stderr, where that is a terminal. It takes items and how many they are, None where
    nobody knows."""
    return lambda items, total: tqdm(
        items,
        desc=escaped(title),
        total=total,
        unit=unit,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
        delay=0.5,
    )


def _hear(spotter: Spotter, index: int, streams: Streams | None) -> list[Heard]:
    told = progress(f"streams of {spotter.words[index]}", "stream")
    return hear_streams(spotter, index, streams, told) if streams else []


def _report(evidence: Evidence, options: Options, left_out: int) -> dict:
    results = judge(evidence)
    negatives = {
        "hours": round(evidence.hours, 4),
        "recordings": len(evidence.listened),
        "left_out": left_out,
    }
    return {
        "model": str(evidence.spotter.info.path),
        "words": [result["word"] for result in results],
        "positives": str(options.positives),
        "negatives": {"folders": [str(folder) for folder in options.negatives], **negatives},
        "background": [str(folder) for folder in options.background] or "pink noise",
        "snr_db": list(options.snrs_db),
        "stream_seconds": options.stream_seconds,
        "position_seconds": list(options.positions) or None,
        "part": options.part,
        "seed": options.seed,
        "tolerance_seconds": {"before_end": EARLY_SECONDS, "after_end": LATE_SECONDS},
        "confidence": 0.95,
        "results": results,
    }


def _streams(bank: Bank, noises: Sequence[np.ndarray], options: Options) -> Streams:
    return Streams(
        bank,
        noises,
        snrs_db=options.snrs_db,
        seconds=options.stream_seconds,
        seed=options.seed,
        positions=options.positions,
    )


def _noises(options: Options, warn: Warn) -> list[np.ndarray]:
    if not options.background:
        return pink_noise(options.seed)
    bank = _read(
        [clip for folder in options.background for clip in clips_in(folder)], "background", warn
    )
    return usable_noises(bank)


def _read(
    clips: Sequence[Clip],
    title: str,
    warn: Warn,
    longest_seconds: float = float("inf"),
    too_long: str = TOO_LONG_FOR_A_WORD,
) -> Bank:
    bar = progress(title, "clip")
    return read_bank(
        clips,
        longest_seconds=longest_seconds,
        too_long=too_long,
        warn=warn,
        progress=lambda items: bar(items, len(clips)),
        most_unreadable=1.0,
    )


def _of_part(clips: Iterable[Clip], part: str) -> list[Clip]:
    return [clip for clip in clips if part in ("all", clip.part)]
