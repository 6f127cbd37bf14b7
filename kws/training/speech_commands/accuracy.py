"""Accuracy of a model on the clips of a protocol, with its interval, by class, and the unknown
words that it accepts."""

from collections.abc import Callable
from functools import partial

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
    """Metrics on the test split and on further test sets.

    Raises DataError for a model with other classes than the protocol's, for one that learned from
    words which the protocol holds out, and for a protocol without test clips.
    """
    trained_protocol = engine.info.document.get("protocol")
    _check(engine, protocol, trained_protocol)
    return {
        "protocol": protocol.name,
        "trained_protocol": trained_protocol,
        "test_set": protocol.test_set_description,
        "parameters": engine.info.document.get("parameters"),
        "sets": evaluate_sets(protocol, partial(predict_streaming, engine)),
    }


def evaluate_sets(
    protocol: Protocol, predict_classes: Callable[[LabeledClips], np.ndarray]
) -> dict[str, dict]:
    """Metrics by test set of whatever predicts the class of each clip [n]. Raises DataError for a
    protocol without test clips."""
    sets = {"test": protocol.test, **protocol.extra_test_sets}
    sets = {name: clips for name, clips in sets.items() if len(clips)}
    if not sets:
        raise DataError(
            f"protocol {protocol.name}: no clips to judge by, for which one speaker in ten is "
            "held out. Add others' recordings."
        )
    return {
        name: _compute_metrics(clips, predict_classes(clips), protocol.classes)
        for name, clips in sets.items()
    }


def _check(engine: Engine, protocol: Protocol, trained_protocol: str | None) -> None:
    if tuple(map(normalize_name, engine.info.words)) != protocol.classes:
        raise DataError(
            f"the model has the classes {', '.join(engine.info.words)}; "
            f"{protocol.name} is {', '.join(protocol.classes)}. Give another."
        )
    if protocol.held_out and trained_protocol != protocol.name:
        raise DataError(
            f"{protocol.name} holds out words ({', '.join(protocol.held_out)}); the model was "
            f"trained by {trained_protocol}, where they are among the unknown. "
            f"Give a model trained by {protocol.name}."
        )


def format_report(report: dict) -> str:
    """The metrics as lines of text."""
    heading = f"{report['protocol']}: {report['test_set']}"
    if report["trained_protocol"] != report["protocol"]:
        heading += f"; the model was trained by {report['trained_protocol']}"
    return "\n".join([heading, *map(_format_set, report["sets"], report["sets"].values())])


def _compute_metrics(clips: LabeledClips, predicted: np.ndarray, classes: tuple[str, ...]) -> dict:
    is_correct = predicted == clips.labels
    metrics = {
        "clips": len(clips),
        "speakers": len({*clips.speakers} - {""}),
        **_rate_with_interval("accuracy", is_correct),
        "by_class": {
            name: round(float(is_correct[clips.labels == label].mean()), 4)
            for label, name in enumerate(classes)
            if (clips.labels == label).any()
        },
    }
    if UNKNOWN in metrics["by_class"]:
        words = [label for label, name in enumerate(classes) if not name.startswith("_")]
        is_accepted = np.isin(predicted[clips.labels == classes.index(UNKNOWN)], words)
        metrics["unknown_clips"] = len(is_accepted)
        metrics |= _rate_with_interval("unknown_accepted", is_accepted)
    return metrics


def _rate_with_interval(name: str, is_counted: np.ndarray) -> dict:
    """A rate and its 95 % interval."""
    low, high = wilson(int(is_counted.sum()), len(is_counted))
    return {
        name: round(float(is_counted.mean()), 4),
        f"{name}_interval": [round(low, 4), round(high, 4)],
    }


def _format_set(name: str, metrics: dict) -> str:
    low, high = metrics["accuracy_interval"]
    text = (
        f"  {name}: {metrics['accuracy']:.2%} of {metrics['clips']} clips right "
        f"(95 %: {low:.1%} to {high:.1%})"
    )
    if "unknown_clips" in metrics:
        low, high = metrics["unknown_accepted_interval"]
        text += (
            f"; {metrics['unknown_accepted']:.2%} of {metrics['unknown_clips']} unknown words "
            f"accepted as a known one ({low:.1%} to {high:.1%})"
        )
    by_class = [
        f"{escape_control_chars(each)} {rate:.1%}" for each, rate in metrics["by_class"].items()
    ]
    return f"{text}\n    {'  '.join(by_class)}"
