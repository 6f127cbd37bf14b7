"""How well a model sorts the clips of a protocol: accuracy with its interval, by class, and unknown
words taken for known ones."""

import numpy as np

from kws.audio.folders import normalized
from kws.errors import DataError
from kws.runtime.engine import Engine
from kws.terminal.stdio import escaped
from kws.training.evaluate.intervals import wilson
from kws.training.speech_commands.dataset import UNKNOWN, Part
from kws.training.speech_commands.protocols import Protocol
from kws.training.speech_commands.train import predict_streamed


def judge(engine: Engine, protocol: Protocol) -> dict:
    """Figures on the test part and on further test sets. Raises DataError for a model with other
    classes than the protocol's."""
    if tuple(map(normalized, engine.info.words)) != protocol.classes:
        raise DataError(
            f"the model tells apart {', '.join(engine.info.words)}; "
            f"{protocol.name} is {', '.join(protocol.classes)}. Give another."
        )
    learned = engine.info.document.get("protocol")
    if protocol.held_out and learned != protocol.name:
        raise DataError(
            f"{protocol.name} asks of words that were never heard "
            f"({', '.join(protocol.held_out)}); the model learned by {learned}, where "
            "they are among the unknown. Give one that learned by it."
        )
    sets = {
        name: part for name, part in {"test": protocol.test, **protocol.tests}.items() if len(part)
    }
    if not sets:
        raise DataError(
            f"protocol {protocol.name}: no clips to judge by, for which one speaker in ten is "
            "held out. Add others' recordings."
        )
    return {
        "protocol": protocol.name,
        "learned by": learned,
        "test set": protocol.reported,
        "parameters": engine.info.document.get("parameters"),
        "sets": {
            name: _figures(part, predict_streamed(engine, part), protocol.classes)
            for name, part in sets.items()
        },
    }


def summary(report: dict) -> str:
    """The figures for a person."""
    other = (
        f"; the model learned by {report['learned by']}"
        if report["learned by"] != report["protocol"]
        else ""
    )
    return "\n".join(
        [
            f"{report['protocol']}: {report['test set']}{other}",
            *map(_line, report["sets"], report["sets"].values()),
        ]
    )


def _figures(part: Part, predicted: np.ndarray, classes: tuple[str, ...]) -> dict:
    figures = {
        "clips": len(part),
        "speakers": len({*part.speakers} - {""}),
        **_share("accuracy", predicted == part.labels),
    }
    by_class = {
        name: predicted[part.labels == i] == i
        for i, name in enumerate(classes)
        if (part.labels == i).any()
    }
    figures["by class"] = {name: round(float(hits.mean()), 4) for name, hits in by_class.items()}
    if UNKNOWN in by_class:
        words = [i for i, name in enumerate(classes) if not name.startswith("_")]
        unknown = part.labels == classes.index(UNKNOWN)
        figures |= {
            "unknown clips": int(unknown.sum()),
            **_share("unknown taken for a word", np.isin(predicted[unknown], words)),
        }
    return figures


def _share(name: str, hits: np.ndarray) -> dict:
    low, high = wilson(int(hits.sum()), len(hits))
    return {name: round(float(hits.mean()), 4), f"{name}, 95 %": [round(low, 4), round(high, 4)]}


def _line(name: str, figures: dict) -> str:
    low, high = figures["accuracy, 95 %"]
    text = (
        f"  {name}: {figures['accuracy']:.2%} of {figures['clips']} clips right (95 %: {low:.1%} "
        f"to {high:.1%})"
    )
    if "unknown clips" in figures:
        low, high = figures["unknown taken for a word, 95 %"]
        taken = figures["unknown taken for a word"]
        text += (
            f"; {taken:.2%} of {figures['unknown clips']} unknown words taken for a known one "
            f"({low:.1%} to {high:.1%})"
        )
    return f"{text}\n    " + "  ".join(
        f"{escaped(each)} {share:.1%}" for each, share in figures["by class"].items()
    )
