"""What `kws train --protocol` and `kws evaluate --protocol` do with their options: train on the
clips of a protocol, and judge by them."""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from kws.runtime.engine import Engine
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD
from kws.synth.engines.base import SynthError
from kws.training import distributed
from kws.training.data.clips import find_clips
from kws.training.data.dataset import ClipDataset, load_clips
from kws.training.data.keyword_data import check_folders
from kws.training.evaluate.calibration import is_rate_measurable
from kws.training.fit.progress import TrainingProgress
from kws.training.model import pretrained
from kws.training.model.network import NetworkConfig
from kws.training.model.pretrained import init_from_pretrained
from kws.training.model.torch_engine import pick_device
from kws.training.speech_commands import accuracy, protocols
from kws.training.speech_commands import train as training
from kws.training.speech_commands.config import ClassifierTrainConfig
from kws.training.speech_commands.dataset import UNKNOWN
from kws.training.speech_commands.lexicon import Pronunciations, look_up_pronunciations
from kws.training.speech_commands.train import make_classifier_config

logger = logging.getLogger("kws")

Warn = Callable[[str], None]
ProgressBar = Callable[[Iterable], Iterable]  # shows how far the reading of clips has come


@dataclass(frozen=True)
class Options:
    """The wishes of one `kws train --protocol`."""

    protocol: str
    data: Path
    words: tuple[str, ...]
    other_speech: tuple[Path, ...]
    background: tuple[Path, ...]
    size: str
    pooling: str
    init_from: Path | None
    train_config: ClassifierTrainConfig
    out: Path
    device: str
    resume: bool


def train(
    options: Options, training_progress: TrainingProgress, warn: Warn, progress: ProgressBar
) -> list[str]:
    """Trains as wished; returns lines on what came of it, of several processes in the first alone.
    Raises KwsError."""
    _check(options)
    warn = warn if distributed.is_rank_zero() else lambda text: None
    protocol = protocols.load(
        options.protocol, options.data, words=options.words, warn=warn, progress=progress
    )
    config, sounds = add_pronunciations(
        make_classifier_config(protocol.classes, options.size, options.init_from, options.pooling),
        protocol,
        warn,
    )
    speech = [
        load_clips(find_clips(folder), warn=warn, progress=progress)
        for folder in options.other_speech
    ]
    noises = [
        load_clips(find_clips(folder), warn=warn, progress=progress)
        for folder in options.background
    ]
    logger.info(
        f"{protocol.name}: {len(protocol.train)} clips to learn from, {len(protocol.validation)} "
        "to choose by"
    )
    device = pick_device(options.device)
    init_from = (
        init_from_pretrained(config, options.init_from, options.train_config.seed)
        if options.init_from
        else None
    )
    document = training.train(
        protocol,
        config,
        options.train_config,
        options.out,
        device=device,
        other_speech=[_in_split(dataset, "train") for dataset in speech],
        heldout_speech=[_in_split(dataset, "validation") for dataset in speech],
        background=noises,
        resume=options.resume,
        init_from=init_from,
        pronunciations=sounds,
        progress=training_progress,
        model_card=pretrained.model_card(options.init_from) if options.init_from else {},
    )
    return _summarize(document, options.out) if document else []


def _check(options: Options) -> None:
    """Raises KwsError for what cannot be, before anything is read."""
    distributed.local_micro_batches(options.train_config.accumulate)
    check_folders("negatives", options.other_speech)
    check_folders("background", options.background)
    if options.init_from:
        init_from_pretrained(
            make_classifier_config((UNKNOWN,), options.size, options.init_from, options.pooling),
            options.init_from,
            options.train_config.seed,
        )


def add_pronunciations(
    config: NetworkConfig, protocol: protocols.Protocol, warn: Warn
) -> tuple[NetworkConfig, Pronunciations]:
    """How the words of a protocol are pronounced, for a network that reads; one that does not,
    where nobody can tell."""
    if not config.phones:
        return config, {}
    try:
        sounds = look_up_pronunciations({*protocol.classes, *protocol.train.words})
        if sounds.keys() & {*protocol.classes}:
            return config, sounds
        reason = "none of them is an English word."
    except SynthError as error:
        reason = str(error)
    warn(f"words are told apart without regard to their sounds: {reason}")
    return replace(config, phones=""), {}


def evaluate(
    model: str, protocol: str, data: Path, as_json: bool, warn: Warn, progress: ProgressBar
) -> None:
    """Prints how well a model sorts the test clips of a protocol. Raises KwsError."""
    engine = Engine.load(model)
    words = (
        tuple(word for word in engine.info.words if not word.startswith("_"))
        if protocol == "words"
        else ()
    )
    report = accuracy.evaluate_classifier(
        engine,
        protocols.load(protocol, data, words=words, wanted=["test"], warn=warn, progress=progress),
    )
    print(json.dumps(report, ensure_ascii=False) if as_json else accuracy.format_report(report))


def _in_split(dataset: ClipDataset, part: str) -> ClipDataset:
    return dataset.select(lambda clip: clip.split == part)


def _summarize(document: dict, path: Path) -> list[str]:
    """What came of a training."""
    right, hours = document["training"]["last_epoch"]["accuracy"], document["calibration"]["hours"]
    used = sorted(
        threshold
        for threshold in document["events"]["threshold"]
        if threshold < UNREACHABLE_THRESHOLD
    )
    lines = [
        (
            f"{path}: {document['parameters']} parameters, {right:.2%} right in validation (mean "
            "of the classes); judge it with kws evaluate"
        )
    ]
    lines.append(
        f"  in streams its words are reported at thresholds from {used[0]:.3f} to {used[-1]:.3f}"
    )
    if not is_rate_measurable(hours, 1.0):
        lines.append(
            f"  too little held-out speech ({hours:.2f} h) to say how often for nothing: add "
            "--negatives, or use kws calibrate"
        )
    return lines
