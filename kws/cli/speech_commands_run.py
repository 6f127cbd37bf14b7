"""The work of `kws speech-commands`: train a classifier by a protocol, and evaluate one."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kws.cli.speech_commands import CUSTOM
from kws.cli.training_reporter import (
    Stage,
    TrainingReporter,
    check_model_path,
    report_training,
)
from kws.runtime.engine import Engine
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD
from kws.terminal.progress import progress_bar
from kws.training import distributed
from kws.training.data.clips import check_folders, find_clips
from kws.training.data.dataset import ClipDataset, load_clips
from kws.training.evaluate.calibration import DEFAULT_RATE
from kws.training.evaluate.hours import explain_too_few_hours, is_rate_measurable
from kws.training.model import pretrained
from kws.training.model.network import NetworkConfig
from kws.training.model.pretrained import init_from_pretrained
from kws.training.model.torch_engine import pick_device
from kws.training.speech_commands import accuracy, protocols
from kws.training.speech_commands import train as training
from kws.training.speech_commands.config import ClassifierTrainConfig
from kws.training.speech_commands.dataset import UNKNOWN
from kws.training.speech_commands.train import add_pronunciations, make_classifier_config

logger = logging.getLogger("kws")


@dataclass(frozen=True)
class TrainOptions:
    """The options of `kws speech-commands train`. init_from: checkpoint whose encoder the training
    starts from."""

    protocol: str
    data: tuple[Path, ...]
    words: tuple[str, ...]
    other_speech: tuple[Path, ...]
    background: tuple[Path, ...]
    size: str
    init_from: Path | None
    train_config: ClassifierTrainConfig
    out: Path
    device: str
    resume: bool
    as_json: bool

    def network_config(self, classes: Sequence[str]) -> NetworkConfig:
        """Raises ModelError where `init_from` is no checkpoint."""
        return make_classifier_config(tuple(classes), self.size, self.init_from)


def train(options: TrainOptions) -> None:
    """Trains a classifier and writes its model file, in one process or in all that torchrun
    started.

    Raises KwsError.
    """
    check_model_path(options.out)
    device = pick_device(options.device)
    stage = Stage(options.train_config, options.out.with_suffix(".pt"))
    with (
        distributed.init_distributed(device),
        report_training([stage], as_json=options.as_json, resume=options.resume) as reporter,
    ):
        _check(options)
        protocol = _load_protocol(options, reporter)
        config, pronunciations = add_pronunciations(
            options.network_config(protocol.classes), protocol
        )
        speech = _load_folders(options.other_speech, reporter)
        background = _load_folders(options.background, reporter)
        logger.info(
            f"{protocol.name}: {len(protocol.train)} clips to train on, {len(protocol.validation)} "
            "to validate with"
        )
        init_from, model_card = None, {}
        if options.init_from:
            seed = options.train_config.seed
            init_from = init_from_pretrained(config, options.init_from, seed)
            model_card = pretrained.model_card(options.init_from)
        document = training.train(
            protocol,
            config,
            options.train_config,
            options.out,
            device=device,
            other_speech=[dataset.select_split("train") for dataset in speech],
            heldout_speech=[dataset.select_split("validation") for dataset in speech],
            background=background,
            resume=options.resume,
            init_from=init_from,
            pronunciations=pronunciations,
            progress=reporter,
            model_card=model_card,
        )
        if document:
            for line in _summarize(document, options.out):
                logger.info(line)


def _check(options: TrainOptions) -> None:
    """Raises KwsError for wrong options, before anything is read."""
    distributed.local_micro_batches(options.train_config.accumulate)
    check_folders("negatives", options.other_speech)
    check_folders("background", options.background)
    if options.init_from:
        config = options.network_config([UNKNOWN])
        init_from_pretrained(config, options.init_from, options.train_config.seed)


def _load_protocol(options: TrainOptions, reporter: TrainingReporter) -> protocols.Protocol:
    return protocols.load(
        options.protocol,
        *options.data,
        words=options.words,
        warn=logger.warning,
        progress=reporter.reading,
    )


def _load_folders(folders: Iterable[Path], reporter: TrainingReporter) -> list[ClipDataset]:
    return [
        load_clips(find_clips(folder), warn=logger.warning, progress=reporter.reading)
        for folder in folders
    ]


def _summarize(document: dict, path: Path) -> list[str]:
    accuracy = document["training"]["last_epoch"]["accuracy"]
    hours = document["calibration"]["hours"]
    thresholds = document["events"]["threshold"]
    used = [threshold for threshold in thresholds if threshold < UNREACHABLE_THRESHOLD]
    lines = [
        f"{path}: {document['parameters']} parameters, validation accuracy {accuracy:.2%} (mean of "
        "the classes); test it with kws speech-commands evaluate",
        f"  as a detector it has thresholds from {min(used):.3f} to {max(used):.3f}",
    ]
    if not is_rate_measurable(hours, DEFAULT_RATE):
        lines.append(
            f"  too little held-out speech for {DEFAULT_RATE:g} false alarms per hour: "
            f"{explain_too_few_hours(hours)}. Add --negatives, or use kws calibrate."
        )
    return lines


def evaluate(model: str, protocol: str, data: Sequence[Path], as_json: bool) -> None:
    """Prints the accuracy of a model on the test clips of a protocol. Raises KwsError."""
    engine = Engine.load(model)
    words = [word for word in engine.info.words if not word.startswith("_")]
    test_clips = protocols.load(
        protocol,
        *data,
        words=words if protocol == CUSTOM else (),
        splits=["test"],
        warn=logger.warning,
        progress=lambda clips: progress_bar(clips, "reading", unit="clip"),
    )
    report = accuracy.evaluate_classifier(engine, test_clips)
    print(json.dumps(report, ensure_ascii=False) if as_json else accuracy.format_report(report))
