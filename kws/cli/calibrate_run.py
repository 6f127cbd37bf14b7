"""The work of `kws calibrate`: score a user's own recordings, and write a copy of the model with
thresholds for that room."""

import sys
from pathlib import Path

import numpy as np

from kws.audio.endpoints import find_endpoints
from kws.audio.folders import append_suffix, normalize_name
from kws.cli.evaluate_run import find_negative_clips, load_word_clips, score_negatives
from kws.errors import DataError
from kws.files import check_writable
from kws.runtime.spotter import Spotter
from kws.terminal.printers import write_line
from kws.terminal.progress import progress_bar
from kws.terminal.stdio import escape_control_chars
from kws.training.data.dataset import MAX_WORD_SECONDS, ClipDataset
from kws.training.evaluate.calibration import (
    CALIBRATION_RATES,
    calibrate,
    set_default_thresholds,
)
from kws.training.evaluate.hours import describe_hours, explain_too_few_hours, is_rate_measurable
from kws.training.evaluate.scoring import ScoredWord, score_words
from kws.training.model.document import copy_with_document
from kws.training.report.text import format_alarm_rate, format_miss_rate

# Keys of a model file that hold for its own threshold alone.
_THRESHOLD_KEYS = ("confusables", "latency_seconds")


def run(
    spotter: Spotter,
    negatives: tuple[Path, ...],
    positives: Path | None,
    false_alarms_per_hour: float,
    out: Path | None,
) -> Path:
    """Calibrates a model, writes the new model file, and prints the figures to stdout. Returns the
    path of the new file. false_alarms_per_hour: at the new threshold. Raises KwsError."""
    out = _check_out(spotter.info.path, out)
    calibration = _calibrate(spotter, negatives, positives, false_alarms_per_hour)
    thresholds = _new_thresholds(spotter, calibration)
    document = {
        **spotter.info.document,
        "events": {**spotter.info.document["events"], "threshold": list(thresholds)},
        "calibration": calibration,
    }
    if thresholds != spotter.events.threshold:
        document = {key: value for key, value in document.items() if key not in _THRESHOLD_KEYS}
    copy_with_document(spotter.info.path, document, out)
    write_line(sys.stdout, _summarize(out, spotter, thresholds, calibration), "the figures")
    return out


def _check_out(source: Path, out: Path | None) -> Path:
    """Where the new model goes. Raises KwsError if it cannot be written there."""
    out = out or Path("models") / append_suffix(normalize_name(source.stem), "-calibrated.kws")
    if out.suffix != ".kws":
        raise DataError(f"{out}: a model file is named NAME.kws. Change --out.")
    check_writable(out)
    checkpoint = out.with_suffix(".pt")
    if source.with_suffix(".pt").is_file() and checkpoint.exists() and not out.exists():
        raise DataError(
            f"{checkpoint}: the checkpoint beside {out.name} would replace it. "
            "Change --out, or move it away."
        )
    return out


def _calibrate(
    spotter: Spotter, negatives: tuple[Path, ...], positives: Path | None, rate: float
) -> dict:
    datasets = []
    if positives:
        datasets = load_word_clips(spotter, positives, "all", MAX_WORD_SECONDS)
    clips = find_negative_clips(negatives, spotter.words, datasets, "all")
    scored_recordings = score_negatives(spotter, clips)
    if not scored_recordings:
        raise DataError(
            f"{negatives[0]}: none of its recordings can be used. Give others with --negatives."
        )
    scored_words: list[list[ScoredWord]] = [[] for _ in spotter.words]
    for index, dataset in enumerate(datasets):
        scored_words[index] = _score_clips(spotter, index, dataset)
    calibration = {
        **calibrate(spotter.words, spotter.events, scored_words, scored_recordings, rate),
        "recordings": len(scored_recordings),
    }
    if not datasets:
        calibration["note"] = "there were no clips of the word, so the miss rate is unknown"
    return calibration


def _score_clips(spotter: Spotter, index: int, dataset: ClipDataset) -> list[ScoredWord]:
    endpoints = np.array([find_endpoints(wave) for wave in dataset]).reshape(-1, 2)
    return list(
        progress_bar(
            score_words(spotter, index, dataset, endpoints),
            f"clips of {spotter.words[index]}",
            unit="clip",
            total=len(dataset),
        )
    )


def _new_thresholds(spotter: Spotter, calibration: dict) -> tuple[float, ...]:
    """The threshold of each word by the new calibration.

    A threshold above the one that the old calibration asks for stays: it was raised for a reason of
    which the room says nothing, such as confusable words.
    """
    own = spotter.events.threshold
    old_calibration = spotter.info.document.get("calibration") or {"rows": []}
    old, new = (
        set_default_thresholds(spotter.events, spotter.words, table, own).threshold
        for table in (old_calibration, calibration)
    )
    return tuple(
        max(new_threshold, own_threshold) if own_threshold > old_threshold else new_threshold
        for own_threshold, old_threshold, new_threshold in zip(own, old, new, strict=True)
    )


def _summarize(
    path: Path, spotter: Spotter, thresholds: tuple[float, ...], calibration: dict
) -> str:
    hours = calibration["hours"]
    lines = [
        f"{path}: calibrated on {describe_hours(calibration['hours_by_kind'])} in "
        f"{calibration['recordings']:,} recordings"
    ]
    for index in spotter.events.targets:
        word, old, new = spotter.words[index], spotter.events.threshold[index], thresholds[index]
        change = f"{old:.4f}, as before" if new == old else f"{old:.4f} → {new:.4f}"
        lines.append(f"{word}: threshold {change}")
        rows = [row for row in calibration["rows"] if row["word"] == word]
        lines += [
            f"  {row['false_alarms_per_hour']:g} per hour: {_format_row(row, hours)}"
            for row in rows
        ]
        lines += _explain_missing(rows, calibration)
    return "\n".join(map(escape_control_chars, lines))


def _format_row(row: dict, hours: float) -> str:
    rate = format_alarm_rate({**row, "false_alarms_per_hour": row["false_alarms"] / hours})
    missed = f", {format_miss_rate(row)} missed" if "miss_rate" in row else ""
    return f"at {row['threshold']:.4f}, measured {rate}{missed}"


def _explain_missing(rows: list[dict], calibration: dict) -> list[str]:
    """A line on the rates below the lowest one in the table, if there are any."""
    target = calibration["target_false_alarms_per_hour"]
    lowest = min((row["false_alarms_per_hour"] for row in rows), default=np.inf)
    lower = [rate for rate in sorted({*CALIBRATION_RATES, target}) if rate < lowest]
    if not lower:
        return []
    rate = target if target < lowest else lower[-1]
    reason = "no threshold reaches it"
    if not is_rate_measurable(calibration["hours"], rate):
        reason = explain_too_few_hours(calibration["hours"])
    return [f"  {rate:g} per hour or fewer: {reason}"]
