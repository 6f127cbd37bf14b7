"""What `kws calibrate` does: hears a user's own recordings, and writes a copy of the model with
thresholds for that room."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from kws.audio.folders import fitting, normalized
from kws.errors import DataError
from kws.runtime.model_file import METADATA_KEY
from kws.runtime.spotter import Spotter
from kws.terminal.printers import check_place, replace_file, write_line
from kws.terminal.stdio import escaped
from kws.training.data.clips import LONGEST_WORD_SECONDS, Bank, extent
from kws.training.evaluate.calibration import RATES, THRESHOLDS, supports, table, with_defaults
from kws.training.evaluate.command import find_negatives, progress, read_words
from kws.training.evaluate.scored_words import Trial, word_trials
from kws.training.evaluate.scoring import Listened, hear_recordings, side_by_side
from kws.training.report.text import alarms, duration, share

Warn = Callable[[str], None]
# What a model file says of its own threshold, and not of another.
_OF_THE_THRESHOLD = ("neighbours", "latency_seconds")


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
    out = out or Path("models") / fitting(normalized(source.stem), "-calibrated.onnx")
    if out.suffix != ".onnx":
        raise DataError(f"{out}: a model file is named NAME.onnx. Change --out.")
    check_place(out)
    if _in_the_way(source, out):
        raise DataError(
            f"{out.with_suffix('.pt')}: the checkpoint beside {out.name} would replace it. "
            "Change --out, or move it away."
        )
    banks = read_words(spotter, positives, "all", LONGEST_WORD_SECONDS, warn) if positives else []
    clips = find_negatives(negatives, spotter.words, banks, "all", warn)
    listened = hear_recordings(
        spotter, clips, THRESHOLDS, warn, progress("recordings without the word", "recording")
    )
    if not listened:
        raise DataError(
            f"{negatives[0]}: none of its recordings can be used. Give others with --negatives."
        )
    calibration = measure(spotter, banks, listened)
    new = tuple(
        map(
            max,
            with_defaults(
                spotter.events, spotter.words, calibration, spotter.events.threshold
            ).threshold,
            _raised(spotter),
        )
    )
    document = {
        **spotter.info.document,
        "events": {**spotter.info.document["events"], "threshold": list(new)},
        "calibration": calibration,
    }
    if new != spotter.events.threshold:
        document = {key: value for key, value in document.items() if key not in _OF_THE_THRESHOLD}
    rewrite(source, document, out)
    write_line(sys.stdout, _told(out, spotter, new, calibration), "the figures")
    return out


def _raised(spotter: Spotter) -> tuple[float, ...]:
    """Thresholds that are higher than the model's own calibration asked for, and 0 for the others:
    something else was known, such as which of its neighbours fire, of which a room says nothing."""
    before = spotter.info.document.get("calibration") or {"rows": []}
    asked = with_defaults(spotter.events, spotter.words, before, spotter.events.threshold).threshold
    return tuple(
        own if own > each else 0.0
        for own, each in zip(spotter.events.threshold, asked, strict=True)
    )


def measure(spotter: Spotter, banks: list[Bank], listened: list[Listened]) -> dict:
    """The calibration table of recordings without the words and clips of each word (no banks: it
    says nothing of misses)."""
    hours = sum(each.seconds for each in listened) / 3600
    counts = np.sum([each.counts for each in listened], axis=0)
    trials = [
        _trials(spotter, bank, word) for word, bank in zip(spotter.words, banks, strict=False)
    ] or [[] for _ in spotter.words]
    note = (
        {}
        if banks
        else {"note": "no clips of the word were given, so it is not known how many are missed"}
    )
    return {
        **table(spotter.words, counts, hours, trials, spotter.events),
        "recordings": len(listened),
        **note,
    }


def _in_the_way(source: Path, out: Path) -> bool:
    """Whether beside the model file that is not there yet lies a checkpoint, or what is named
    like one."""
    return (
        source.with_suffix(".pt").is_file() and out.with_suffix(".pt").exists() and not out.exists()
    )


def rewrite(source: Path, document: dict, out: Path) -> None:
    """Copies a model file, and the checkpoint beside it, with another description.
    Raises KwsError."""
    model = onnx.load(source)
    kept = {each.key: each.value for each in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, METADATA_KEY: json.dumps(document)})
    replace_file(out, model.SerializeToString())
    checkpoint = source.with_suffix(".pt")
    if checkpoint.is_file() and checkpoint.resolve() != out.with_suffix(".pt").resolve():
        replace_file(out.with_suffix(".pt"), checkpoint.read_bytes())


def _trials(spotter: Spotter, bank: Bank, word: str) -> list[Trial]:
    def one(clip: int) -> Trial:
        return word_trials(spotter.engine, [bank[clip]], np.array([extent(bank[clip])]))[0]

    return list(
        progress(f"clips of {word}", "clip")(side_by_side(one, range(len(bank))), len(bank))
    )


def _told(path: Path, spotter: Spotter, new: tuple[float, ...], calibration: dict) -> str:
    hours = calibration["hours"]
    lines = [f"{path}: calibrated on {duration(hours)} in {calibration['recordings']:,} recordings"]
    for index in spotter.events.targets:
        word, was, now = spotter.words[index], spotter.events.threshold[index], new[index]
        rows = [row for row in calibration["rows"] if row["word"] == word]
        lines += [
            f"{word}: threshold {was:.4f} → {now:.4f}"
            if now != was
            else f"{word}: threshold {was:.4f}, as before"
        ]
        lines += [
            f"  {row['false_alarms_per_hour']:g} per hour: {_row(row, hours)}" for row in rows
        ]
        lowest = min((row["false_alarms_per_hour"] for row in rows), default=RATES[-1] * 2)
        unknown = [rate for rate in RATES if rate < lowest]
        if unknown:
            lines.append(f"  {unknown[-1]:g} per hour or fewer: {_why(unknown[-1], hours)}")
    return "\n".join(map(escaped, lines))


def _row(row: dict, hours: float) -> str:
    heard = alarms({**row, "false_alarms_per_hour": row["false_alarms"] / hours})
    missed = f", {share(row)} missed" if "miss_rate" in row else ""
    return f"at {row['threshold']:.4f}, heard {heard}{missed}"


def _why(rate: float, hours: float) -> str:
    if supports(hours, rate):
        return "no threshold reaches it"
    return f"{duration(hours)} cannot show it; for {rate:g} per hour it takes {1 / rate:g} h"
