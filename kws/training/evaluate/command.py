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

from kws.audio.folders import normalize_name
from kws.errors import DataError
from kws.runtime.spotter import Spotter
from kws.terminal.printers import check_writable, write_atomically, write_line
from kws.terminal.stdio import escape_control_chars
from kws.training.data.clips import Clip, describe_speakers, exclude_words, find_clips
from kws.training.data.dataset import (
    TOO_LONG_FOR_A_WORD,
    ClipDataset,
    drop_silent_clips,
    load_clips,
    pack_clips,
)
from kws.training.evaluate.metrics import CURVE_THRESHOLDS, EvaluationData, compute_metrics
from kws.training.evaluate.scored_words import EARLY_TOLERANCE_SECONDS, LATE_TOLERANCE_SECONDS
from kws.training.evaluate.scoring import StreamResult, score_recordings, score_streams
from kws.training.evaluate.test_streams import EvaluationStreams, drop_silent_noises, pink_noise
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
        check_writable(options.html)
    last_position = max(options.positions, default=0.0)
    stream_limit = f"streams of {options.stream_seconds:g} s" + (
        f" from {last_position:g} s on" if last_position else ""
    )
    too_long_message = (
        f"do not fit into {stream_limit}. Cut it, or ask for longer ones (--stream-seconds)."
    )
    words = load_word_clips(
        spotter,
        options.positives,
        options.part,
        options.stream_seconds - last_position,
        warn,
        too_long_message,
    )
    negatives = find_negative_clips(options.negatives, spotter.words, words, options.part, warn)
    report = evaluate(spotter, words, negatives, options, warn)
    write_line(
        sys.stdout,
        json.dumps(report, ensure_ascii=False) if options.as_json else summary(report),
        "the figures",
    )


def evaluate(
    spotter: Spotter,
    words: Sequence[ClipDataset],
    negatives: Sequence[Clip],
    options: Options,
    warn: Warn,
) -> dict:
    """The report (docs/evaluation.md) of clips of each word and of recordings without them; writes
    the page that is wished for.

    Raises KwsError.
    """
    noises = _load_noises(options, warn)
    streams = [
        _make_streams(dataset, noises, options) if len(dataset) else None for dataset in words
    ]
    stream_results = tuple(_score_word(spotter, index, each) for index, each in enumerate(streams))
    recording_results = score_recordings(
        spotter,
        negatives,
        CURVE_THRESHOLDS,
        warn,
        progress("recordings without the word", "recording"),
    )
    evaluation_data = EvaluationData(
        spotter, stream_results, recording_results, options.stream_seconds
    )
    report = _build_report(evaluation_data, options, len(negatives) - len(recording_results))
    if options.html:
        from kws.training.report.examples import collect_error_examples
        from kws.training.report.html import page

        write_atomically(
            options.html, page(report, collect_error_examples(evaluation_data, streams)).encode()
        )
    return report


def load_word_clips(
    spotter: Spotter,
    folder: Path,
    part: str,
    max_seconds: float,
    warn: Warn,
    too_long_message: str = TOO_LONG_FOR_A_WORD,
) -> list[ClipDataset]:
    """The clips of each word in `folder`/WORD; of a single word also those in `folder` itself. A
    word without any is named with `warn`; what can be no event (unknown words, silence) has none.
    `too_long_message`: what is said of clips that are.

    Raises DataError where no word has any, KwsError for a folder that is missing or empty.
    """
    words = [spotter.words[index] for index in spotter.events.targets]
    found = find_clips_in(folder, words)
    datasets = {word: pack_clips([], []) for word in spotter.words}
    for word in words:
        clips = [clip for clip in found if clip.label == normalize_name(word)]
        if not clips and len(words) == 1:
            clips = [clip for clip in found if clip.path.parent == folder]
        datasets[word] = drop_silent_clips(
            _load_dataset(
                _in_split(clips, part), f"clips of {word}", warn, max_seconds, too_long_message
            ),
            warn,
        )
    if not any(map(len, datasets.values())):
        labels = ", ".join(sorted({clip.label for clip in found})[:12])
        of_part = "" if part == "all" else f" of the {part} part"
        speakers = (
            describe_speakers([clip for clip in found if clip.label in map(normalize_name, words)])
            if of_part
            else ""
        )
        told = (
            f"no usable clips{of_part} of {', '.join(words)} (folders there: {labels}). "
            "Expected are DIR/WORD/*.wav."
        )
        raise DataError(f"{folder}: {told}{speakers}")
    for word in (word for word in words if not len(datasets[word])):
        warn(f"{folder}: no usable clips of '{word}'; how often it is missed stays unknown.")
    return list(datasets.values())


def find_negative_clips(
    folders: Iterable[Path],
    words: Sequence[str],
    positives: Iterable[ClipDataset],
    part: str,
    warn: Warn,
) -> list[Clip]:
    """Every recording of the folders once, but for those in folders named after a word, and
    the positives.

    Raises KwsError where nothing is left.
    """
    wordless_clips, named = exclude_words([_check_folder(folder) for folder in folders], words)
    spoken = {clip.path.resolve() for dataset in positives for clip in dataset.clips}
    others = [clip for clip in wordless_clips if clip.path.resolve() not in spoken]
    for count, which in (
        (named, "in folders named after a word"),
        (len(wordless_clips) - len(others), "that are among --positives, too,"),
    ):
        if count:
            warn(f"{count} recordings {which} are not counted as audio without it.")
    chosen, found = _in_split(others, part), len(wordless_clips) + named
    if found and not chosen:
        told = (
            f"none of the {found} recordings of --negatives can be used: they are of the words, or "
            "of other parts."
        )
        raise DataError(f"{told}{describe_speakers(others)}")
    return chosen


def find_clips_in(folder: Path, words: Iterable[str] = ()) -> list[Clip]:
    """All recordings below a folder, as `find_clips` finds them. Raises DataError for a missing
    one, AudioError for one without recordings."""
    return find_clips(_check_folder(folder), words)


def _check_folder(folder: Path) -> Path:
    if not os.path.isdir(folder):  # noqa: PTH112  (Path.is_dir raises for a name that is too long)
        raise DataError(f"{folder}: no such folder. Check the path.")
    return folder


def progress(title: str, unit: str) -> Callable[[Iterable, int | None], Iterable]:
    """A bar on stderr, where that is a terminal. It takes items and how many they are, None where
    nobody knows."""
    return lambda items, total: tqdm(
        items,
        desc=escape_control_chars(title),
        total=total,
        unit=unit,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
        delay=0.5,
    )


def _score_word(
    spotter: Spotter, index: int, streams: EvaluationStreams | None
) -> list[StreamResult]:
    told = progress(f"streams of {spotter.words[index]}", "stream")
    return score_streams(spotter, index, streams, told) if streams else []


def _build_report(evaluation_data: EvaluationData, options: Options, skipped: int) -> dict:
    results = compute_metrics(evaluation_data)
    negatives = {
        "hours": round(evaluation_data.hours, 4),
        "recordings": len(evaluation_data.recording_results),
        "skipped": skipped,
    }
    return {
        "model": str(evaluation_data.spotter.info.path),
        "words": [result["word"] for result in results],
        "positives": str(options.positives),
        "negatives": {"folders": [str(folder) for folder in options.negatives], **negatives},
        "background": [str(folder) for folder in options.background] or "pink noise",
        "snr_db": list(options.snrs_db),
        "stream_seconds": options.stream_seconds,
        "position_seconds": list(options.positions) or None,
        "split": options.part,
        "seed": options.seed,
        "tolerance_seconds": {
            "before_end": EARLY_TOLERANCE_SECONDS,
            "after_end": LATE_TOLERANCE_SECONDS,
        },
        "confidence": 0.95,
        "results": results,
    }


def _make_streams(
    dataset: ClipDataset, noises: Sequence[np.ndarray], options: Options
) -> EvaluationStreams:
    return EvaluationStreams(
        dataset,
        noises,
        snrs_db=options.snrs_db,
        seconds=options.stream_seconds,
        seed=options.seed,
        positions=options.positions,
    )


def _load_noises(options: Options, warn: Warn) -> list[np.ndarray]:
    if not options.background:
        return pink_noise(options.seed)
    dataset = _load_dataset(
        [clip for folder in options.background for clip in find_clips_in(folder)],
        "background",
        warn,
    )
    return drop_silent_noises(dataset)


def _load_dataset(
    clips: Sequence[Clip],
    title: str,
    warn: Warn,
    max_seconds: float = float("inf"),
    too_long_message: str = TOO_LONG_FOR_A_WORD,
) -> ClipDataset:
    bar = progress(title, "clip")
    return load_clips(
        clips,
        max_seconds=max_seconds,
        too_long_message=too_long_message,
        warn=warn,
        progress=lambda items: bar(items, len(clips)),
        max_unreadable_fraction=1.0,
    )


def _in_split(clips: Iterable[Clip], part: str) -> list[Clip]:
    return [clip for clip in clips if part in ("all", clip.split)]
