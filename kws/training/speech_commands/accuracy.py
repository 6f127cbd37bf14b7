"""How well a model sorts the clips of a protocol: accuracy with its interval, by class, and unknown
words taken for known ones."""

import numpy as np

from kws.audio.folders import normalize_name
from kws.errors import DataError
from kws.runtime.engine import Engine
from kws.terminal.stdio import escape_control_chars
from kws.training.evaluate.intervals import wilson
from kws.training.speech_commands.dataset import UNKNOWN, LabeledClips
from kws.training.speech_commands.predict import predict_streaming
from kws.training.speech_commands.protocols import Protocol


def evaluate_classifier(engine: Engine, protocol: Protocol) -> dict:
    """Figures on the test part and on further test sets. Raises DataError for a model with other
    classes than the protocol's."""
    if tuple(map(normalize_name, engine.info.words)) != protocol.classes:
        raise DataError(
            f"the model tells apart {', '.join(engine.info.words)}; "
            f"{protocol.name} is {', '.join(protocol.classes)}. Give another."
        )
    trained_protocol = engine.info.document.get("protocol")
    if protocol.held_out and trained_protocol != protocol.name:
        raise DataError(
            f"{protocol.name} asks of words that were never heard "
            f"({', '.join(protocol.held_out)}); the model learned by {trained_protocol}, where "
            "they are among the unknown. Give one that learned by it."
        )
    sets = {
        name: part
        for name, part in {"test": protocol.test, **protocol.extra_test_sets}.items()
        if len(part)
    }
    if not sets:
        raise DataError(
            f"protocol {protocol.name}: no clips to judge by, for which one speaker in ten is "
            "held out. Add others' recordings."
        )
    return {
        "protocol": protocol.name,
        "trained_protocol": trained_protocol,
        "test_set": protocol.test_set_description,
        "parameters": engine.info.document.get("parameters"),
        "sets": {
            name: _compute_metrics(part, predict_streaming(engine, part), protocol.classes)
            for name, part in sets.items()
        },
    }


def format_report(report: dict) -> str:
    """The figures for a person."""
    other = (
        f"; the model learned by {report['trained_protocol']}"
        if report["trained_protocol"] != report["protocol"]
        else ""
    )
    return "\n".join(
        [
            f"{report['protocol']}: {report['test_set']}{other}",
            *map(_format_line, report["sets"], report["sets"].values()),
        ]
    )


def _compute_metrics(part: LabeledClips, predicted: np.ndarray, classes: tuple[str, ...]) -> dict:
    metrics = {
        "clips": len(part),
        "speakers": len({*part.speakers} - {""}),
        **_rate_with_interval("accuracy", predicted == part.labels),
    }
    by_class = {
        name: predicted[part.labels == i] == i
        for i, name in enumerate(classes)
        if (part.labels == i).any()
    }
    metrics["by_class"] = {
        name: round(float(is_correct.mean()), 4) for name, is_correct in by_class.items()
    }
    if UNKNOWN in by_class:
        words = [i for i, name in enumerate(classes) if not name.startswith("_")]
        unknown = part.labels == classes.index(UNKNOWN)
        metrics |= {
            "unknown_clips": int(unknown.sum()),
            **_rate_with_interval("unknown_accepted", np.isin(predicted[unknown], words)),
        }
    return metrics


def _rate_with_interval(name: str, is_correct: np.ndarray) -> dict:
    low, high = wilson(int(is_correct.sum()), len(is_correct))
    return {
        name: round(float(is_correct.mean()), 4),
        f"{name}, 95 %": [round(low, 4), round(high, 4)],
    }


def _format_line(name: str, metrics: dict) -> str:
    low, high = metrics["accuracy_interval"]
    text = (
        f"  {name}: {metrics['accuracy']:.2%} of {metrics['clips']} clips right (95 %: {low:.1%} "
        f"to {high:.1%})"
    )
    if "unknown_clips" in metrics:
        low, high = metrics["unknown_accepted_interval"]
        accepted_rate = metrics["unknown_accepted"]
        text += (
            f"; {accepted_rate:.2%} of {metrics['unknown_clips']} unknown words taken for a known one "
            f"({low:.1%} to {high:.1%})"
        )
    return f"{text}\n    " + "  ".join(
        f"{escape_control_chars(each)} {share:.1%}" for each, share in metrics["by_class"].items()
    )
