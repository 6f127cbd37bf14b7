"""What `kws calibrate` does: hears a user's own recordings, and writes a copy of the model with
thresholds for that room."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from kws.audio.endpoints import find_endpoints
from kws.audio.folders import append_suffix, normalize_name
from kws.errors import DataError
from kws.runtime.model_file import METADATA_KEY
from kws.runtime.spotter import Spotter
from kws.terminal.printers import check_writable, write_atomically, write_line
from kws.terminal.stdio import escape_control_chars
from kws.training.data.dataset import MAX_WORD_SECONDS, ClipDataset
from kws.training.evaluate.calibration import (
    CALIBRATION_RATES,
    THRESHOLDS,
    build_table,
    is_rate_measurable,
    set_default_thresholds,
)
from kws.training.evaluate.command import find_negative_clips, load_word_clips, progress
from kws.training.evaluate.scored_words import Trial, score_words
from kws.training.evaluate.scoring import RecordingResult, run_in_parallel, score_recordings
from kws.training.report.text import alarms, format_duration, format_miss_rate

Warn = Callable[[str], None]
# What a model file says of its own threshold, and not of another.
_THRESHOLD_KEYS = ("confusables", "latency_seconds")


def run(
    spotter: Spotter,
    negatives: tuple[Path, ...],
    positives: Path | None,
    out: Path | None,
    warn: Warn,
) -> Path:
    """Calibrates, writes the new model file and tells of it on stdout; returns its path.
    Raises KwsError."""
    source = spotter.info.path
    out = out or Path("models") / append_suffix(normalize_name(source.stem), "-calibrated.onnx")
    if out.suffix != ".onnx":
        raise DataError(f"{out}: a model file is named NAME.onnx. Change --out.")
    check_writable(out)
    if _would_replace_checkpoint(source, out):
        raise DataError(
            f"{out.with_suffix('.pt')}: the checkpoint beside {out.name} would replace it. "
            "Change --out, or move it away."
        )
    datasets = (
        load_word_clips(spotter, positives, "all", MAX_WORD_SECONDS, warn) if positives else []
    )
    clips = find_negative_clips(negatives, spotter.words, datasets, "all", warn)
    recording_results = score_recordings(
        spotter, clips, THRESHOLDS, warn, progress("recordings without the word", "recording")
    )
    if not recording_results:
        raise DataError(
            f"{negatives[0]}: none of its recordings can be used. Give others with --negatives."
        )
    calibration = build_calibration(spotter, datasets, recording_results)
    new_thresholds = tuple(
        map(
            max,
            set_default_thresholds(
                spotter.events, spotter.words, calibration, spotter.events.threshold
            ).threshold,
            _raised_thresholds(spotter),
        )
    )
    document = {
        **spotter.info.document,
        "events": {**spotter.info.document["events"], "threshold": list(new_thresholds)},
        "calibration": calibration,
    }
    if new_thresholds != spotter.events.threshold:
        document = {key: value for key, value in document.items() if key not in _THRESHOLD_KEYS}
    copy_with_document(source, document, out)
    write_line(sys.stdout, _summarize(out, spotter, new_thresholds, calibration), "the figures")
    return out


def _raised_thresholds(spotter: Spotter) -> tuple[float, ...]:
    """Thresholds that are higher than the model's own calibration asked for, and 0 for the others:
    something else was known, such as which of its neighbours fire, of which a room says nothing."""
    old_calibration = spotter.info.document.get("calibration") or {"rows": []}
    calibrated = set_default_thresholds(
        spotter.events, spotter.words, old_calibration, spotter.events.threshold
    ).threshold
    return tuple(
        own if own > each else 0.0
        for own, each in zip(spotter.events.threshold, calibrated, strict=True)
    )


def build_calibration(
    spotter: Spotter, datasets: list[ClipDataset], recording_results: list[RecordingResult]
) -> dict:
    """The calibration table of recordings without the words and clips of each word (no banks: it
    says nothing of misses)."""
    hours = sum(each.seconds for each in recording_results) / 3600
    counts = np.sum([each.counts for each in recording_results], axis=0)
    trials = [
        _trials(spotter, dataset, word)
        for word, dataset in zip(spotter.words, datasets, strict=False)
    ] or [[] for _ in spotter.words]
    note = (
        {}
        if datasets
        else {"note": "no clips of the word were given, so it is not known how many are missed"}
    )
    return {
        **build_table(spotter.words, counts, hours, trials, spotter.events),
        "recordings": len(recording_results),
        **note,
    }


def _would_replace_checkpoint(source: Path, out: Path) -> bool:
    """Whether beside the model file that is not there yet lies a checkpoint, or what is named
    like one."""
    return (
        source.with_suffix(".pt").is_file() and out.with_suffix(".pt").exists() and not out.exists()
    )


def copy_with_document(source: Path, document: dict, out: Path) -> None:
    """Copies a model file, and the checkpoint beside it, with another description.
    Raises KwsError."""
    model = onnx.load(source)
    metadata = {each.key: each.value for each in model.metadata_props}
    onnx.helper.set_model_props(model, {**metadata, METADATA_KEY: json.dumps(document)})
    write_atomically(out, model.SerializeToString())
    checkpoint = source.with_suffix(".pt")
    if checkpoint.is_file() and checkpoint.resolve() != out.with_suffix(".pt").resolve():
        write_atomically(out.with_suffix(".pt"), checkpoint.read_bytes())


def _trials(spotter: Spotter, dataset: ClipDataset, word: str) -> list[Trial]:
    def one(clip: int) -> Trial:
        return score_words(
            spotter.engine, [dataset[clip]], np.array([find_endpoints(dataset[clip])])
        )[0]

    return list(
        progress(f"clips of {word}", "clip")(
            run_in_parallel(one, range(len(dataset))), len(dataset)
        )
    )


def _summarize(
    path: Path, spotter: Spotter, new_thresholds: tuple[float, ...], calibration: dict
) -> str:
    hours = calibration["hours"]
    lines = [
        f"{path}: calibrated on {format_duration(hours)} in {calibration['recordings']:,} recordings"
    ]
    for index in spotter.events.targets:
        word, old_threshold, new_threshold = (
            spotter.words[index],
            spotter.events.threshold[index],
            new_thresholds[index],
        )
        rows = [row for row in calibration["rows"] if row["word"] == word]
        lines += [
            f"{word}: threshold {old_threshold:.4f} → {new_threshold:.4f}"
            if new_threshold != old_threshold
            else f"{word}: threshold {old_threshold:.4f}, as before"
        ]
        lines += [
            f"  {row['false_alarms_per_hour']:g} per hour: {_format_row(row, hours)}"
            for row in rows
        ]
        lowest = min(
            (row["false_alarms_per_hour"] for row in rows), default=CALIBRATION_RATES[-1] * 2
        )
        unknown = [rate for rate in CALIBRATION_RATES if rate < lowest]
        if unknown:
            lines.append(
                f"  {unknown[-1]:g} per hour or fewer: {_explain_missing(unknown[-1], hours)}"
            )
    return "\n".join(map(escape_control_chars, lines))


def _format_row(row: dict, hours: float) -> str:
    alarm_text = alarms({**row, "false_alarms_per_hour": row["false_alarms"] / hours})
    missed = f", {format_miss_rate(row)} missed" if "miss_rate" in row else ""
    return f"at {row['threshold']:.4f}, heard {alarm_text}{missed}"


def _explain_missing(rate: float, hours: float) -> str:
    if is_rate_measurable(hours, rate):
        return "no threshold reaches it"
    return f"{format_duration(hours)} cannot show it; for {rate:g} per hour it takes {1 / rate:g} h"
