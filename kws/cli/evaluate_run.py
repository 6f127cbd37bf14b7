"""The work of `kws evaluate`: load the folders, score the recordings, write the figures and the
page."""

import json
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.audio.folders import normalize_name
from kws.errors import AudioError, DataError
from kws.files import check_writable, write_atomically
from kws.runtime.spotter import Spotter
from kws.terminal.printers import write_line
from kws.terminal.progress import progress_bar
from kws.training.data.clips import (
    Clip,
    check_folders,
    describe_speakers,
    exclude_words,
    find_clips,
)
from kws.training.data.dataset import (
    TOO_LONG_FOR_A_WORD,
    ClipDataset,
    drop_silent_clips,
    load_clips,
    pack_clips,
)
from kws.training.evaluate.hours import hours_by_kind
from kws.training.evaluate.intervals import CONFIDENCE
from kws.training.evaluate.metrics import EvaluationData, compute_metrics
from kws.training.evaluate.scoring import (
    EARLY_TOLERANCE_SECONDS,
    LATE_TOLERANCE_SECONDS,
    ScoredRecording,
    StreamResult,
    score_recordings,
    score_streams,
)
from kws.training.evaluate.test_streams import EvaluationStreams, drop_silent_noises, pink_noise
from kws.training.report.text import summary

logger = logging.getLogger("kws")


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of `kws evaluate`. split: "all", or one split of the speakers. target_rates: of
    false alarms per hour, at which to tell threshold and misses."""

    positives: Path
    negatives: tuple[Path, ...]
    background: tuple[Path, ...]
    snrs_db: tuple[float | None, ...]
    stream_seconds: float
    positions: tuple[float, ...]
    split: str
    target_rates: tuple[float, ...]
    seed: int
    as_json: bool
    html: Path | None


def run(spotter: Spotter, options: EvaluateOptions) -> None:
    """Evaluates a model and prints the figures to stdout. Raises KwsError."""
    if options.html:
        check_writable(options.html)
    last_position = max(options.positions, default=0.0)
    words = load_word_clips(
        spotter,
        options.positives,
        options.split,
        options.stream_seconds - last_position,
        _too_long_message(options.stream_seconds, last_position),
    )
    negatives = find_negative_clips(options.negatives, spotter.words, words, options.split)
    report = evaluate(spotter, words, negatives, options)
    text = json.dumps(report, ensure_ascii=False) if options.as_json else summary(report)
    write_line(sys.stdout, text, "the figures")


def evaluate(
    spotter: Spotter,
    words: Sequence[ClipDataset],
    negatives: Sequence[Clip],
    options: EvaluateOptions,
) -> dict:
    """The report of a model (docs/reference/evaluation-json.md lists its keys). Writes the page
    that the options ask for.

    words: clips of each word. negatives: recordings without the words. Raises KwsError.
    """
    noises = _load_noises(options)
    streams = tuple(_make_streams(dataset, noises, options) for dataset in words)
    stream_results = tuple(
        _score_word(spotter, index, word_streams) for index, word_streams in enumerate(streams)
    )
    scored_recordings = score_negatives(spotter, negatives)
    data = EvaluationData(spotter, streams, stream_results, scored_recordings)
    report = _build_report(data, options, len(negatives) - len(scored_recordings))
    if options.html:
        from kws.training.report.examples import collect_error_examples
        from kws.training.report.html import page

        html = page(report, collect_error_examples(data))
        write_atomically(options.html, html.encode())
    return report


def load_word_clips(
    spotter: Spotter,
    folder: Path,
    split: str,
    max_seconds: float,
    too_long_message: str = TOO_LONG_FOR_A_WORD,
) -> list[ClipDataset]:
    """The clips of each of the model's words in `folder`/WORD; for a single word also those
    directly in `folder`.

    A word without clips has an empty data set, and a warning. The classes for unknown
    words and silence are empty, too. too_long_message: follows the length of a clip that is longer
    than `max_seconds`. Raises DataError if no word has clips, KwsError for a folder that is missing
    or empty.
    """
    words = [spotter.words[index] for index in spotter.events.targets]
    check_folders("positives", [folder])
    found = find_clips(folder)
    datasets = {word: pack_clips([], []) for word in spotter.words}
    for word in words:
        clips = [clip for clip in found if clip.label == normalize_name(word)]
        if not clips and len(words) == 1:
            clips = [clip for clip in found if clip.path.parent == folder]
        dataset = _load_dataset(
            _in_split(clips, split), f"clips of {word}", max_seconds, too_long_message
        )
        datasets[word] = drop_silent_clips(dataset, logger.warning)
    if not any(map(len, datasets.values())):
        raise DataError(_no_clips_message(folder, words, found, split))
    for word in words:
        if not len(datasets[word]):
            logger.warning(f"{folder}: no usable clips of '{word}'; its miss rate stays unknown.")
    return list(datasets.values())


def find_negative_clips(
    folders: Sequence[Path],
    words: Sequence[str],
    positives: Iterable[ClipDataset],
    split: str,
) -> list[Clip]:
    """Every recording of the folders once, except the positives and those in folders named after a
    word.

    Raises KwsError if nothing is left.
    """
    check_folders("negatives", folders)
    without_words, named = exclude_words(folders, words)
    positive_paths = {clip.path.resolve() for dataset in positives for clip in dataset.clips}
    others = [clip for clip in without_words if clip.path.resolve() not in positive_paths]
    if named:
        logger.warning(
            f"{named} recordings in folders named after a word are not counted as audio without it."
        )
    if len(others) < len(without_words):
        logger.warning(
            f"{len(without_words) - len(others)} recordings that are also among --positives are "
            "not counted as audio without the word."
        )
    chosen, found = _in_split(others, split), len(without_words) + named
    if found and not chosen:
        raise DataError(
            f"none of the {found} recordings of --negatives can be used: they are of the words, "
            f"or of other splits.{describe_speakers(others)}"
        )
    return chosen


def score_negatives(spotter: Spotter, clips: Sequence[Clip]) -> list[ScoredRecording]:
    """Scores recordings without the words. Those that cannot be read are warned about."""
    results = list(
        progress_bar(
            score_recordings(spotter, clips),
            "recordings without the word",
            unit="recording",
            total=len(clips),
        )
    )
    for result in results:
        if isinstance(result, AudioError):
            logger.warning(f"left out: {result}")
    return [result for result in results if isinstance(result, ScoredRecording)]


def _too_long_message(stream_seconds: float, last_position: float) -> str:
    start = f" from {last_position:g} s on" if last_position else ""
    return (
        f"do not fit into streams of {stream_seconds:g} s{start}. "
        "Cut it, or ask for longer streams (--stream-seconds)."
    )


def _no_clips_message(folder: Path, words: Sequence[str], found: list[Clip], split: str) -> str:
    of_split, speakers = "", ""
    if split != "all":
        of_split = f" of the {split} split"
        names = {normalize_name(word) for word in words}
        speakers = describe_speakers([clip for clip in found if clip.label in names])
    labels = ", ".join(sorted({clip.label for clip in found})[:12])
    return (
        f"{folder}: no usable clips{of_split} of {', '.join(words)} (folders there: {labels}). "
        f"Expected are DIR/WORD/*.wav.{speakers}"
    )


def _score_word(spotter: Spotter, index: int, streams: EvaluationStreams) -> list[StreamResult]:
    return list(
        progress_bar(
            score_streams(spotter, index, streams),
            f"streams of {spotter.words[index]}",
            unit="stream",
            total=len(streams.all),
        )
    )


def _build_report(data: EvaluationData, options: EvaluateOptions, skipped: int) -> dict:
    results = compute_metrics(data, options.target_rates)
    return {
        "model": str(data.spotter.info.path),
        "words": [result["word"] for result in results],
        "positives": str(options.positives),
        "negatives": {
            "folders": [str(folder) for folder in options.negatives],
            "hours": round(data.hours, 4),
            "hours_by_kind": hours_by_kind(data.scored_recordings),
            "recordings": len(data.scored_recordings),
            "skipped": skipped,
        },
        "background": [str(folder) for folder in options.background] or "pink noise",
        "snr_db": list(options.snrs_db),
        "stream_seconds": options.stream_seconds,
        "position_seconds": list(options.positions) or None,
        "split": options.split,
        "seed": options.seed,
        "tolerance_seconds": {
            "before_end": EARLY_TOLERANCE_SECONDS,
            "after_end": LATE_TOLERANCE_SECONDS,
        },
        "confidence": CONFIDENCE,
        "results": results,
    }


def _make_streams(
    dataset: ClipDataset, noises: Sequence[np.ndarray], options: EvaluateOptions
) -> EvaluationStreams:
    return EvaluationStreams(
        dataset,
        noises,
        snrs_db=options.snrs_db,
        seconds=options.stream_seconds,
        seed=options.seed,
        positions=options.positions,
    )


def _load_noises(options: EvaluateOptions) -> list[np.ndarray]:
    if not options.background:
        return pink_noise(options.seed)
    check_folders("background", options.background)
    clips = [clip for folder in options.background for clip in find_clips(folder)]
    return drop_silent_noises(_load_dataset(clips, "background"))


def _load_dataset(
    clips: Sequence[Clip],
    title: str,
    max_seconds: float = float("inf"),
    too_long_message: str = TOO_LONG_FOR_A_WORD,
) -> ClipDataset:
    return load_clips(
        clips,
        max_seconds=max_seconds,
        too_long_message=too_long_message,
        warn=logger.warning,
        progress=lambda items: progress_bar(items, title, unit="clip", total=len(clips)),
        max_unreadable_fraction=1.0,
    )


def _in_split(clips: Iterable[Clip], split: str) -> list[Clip]:
    return [clip for clip in clips if split in ("all", clip.split)]
