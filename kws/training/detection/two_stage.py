"""Two-stage training: the second stage starts from the first and also learns from its false alarms
(see `kws.training.fit.hard_negatives`).

    NAME.first.pt, .kws       first stage, a model of its own
    NAME.hard-negatives.csv   its false alarms, highest score first: file, seconds, word, score
    NAME.pt, .kws             second stage

Each stage is a whole training with its own schedule, so both resume bit for bit. The list is
written when the first stage is over, and a resumed run uses it as it is:

- delete lines of it and resume: the second stage is trained again, without them;
- delete the file and resume: the first stage's network scans the recordings again;
- train without --resume: everything is made anew.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from kws.audio.durations import format_duration
from kws.audio.folders import sibling_path
from kws.errors import DataError, KwsError
from kws.files import write_atomically
from kws.runtime.engine import Engine
from kws.runtime.spotter import Spotter
from kws.training.data.keyword_data import KeywordData
from kws.training.detection.said_words import SaidWordFilter
from kws.training.detection.train import train
from kws.training.evaluate.calibration import DEFAULT_RATE
from kws.training.fit.config import TrainConfig
from kws.training.fit.hard_negatives import (
    FalseAlarm,
    MiningConfig,
    add_hard_negatives,
    cut_segments,
    fingerprint,
    mine,
    read_false_alarms,
    write_false_alarms,
)
from kws.training.fit.progress import TrainingProgress
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.pretrained import VerifierSpec
from kws.training.model.torch_engine import load_network

logger = logging.getLogger("kws")


def second_stage_config(train_config: TrainConfig) -> TrainConfig:
    """Settings of the second stage: half the epochs of the first, a third of its learning rate, and
    other examples."""
    return replace(
        train_config,
        epochs=max(train_config.epochs // 2, 1),
        learning_rate=train_config.learning_rate / 3,
        seed=train_config.seed + 1,
    )


def first_stage_path(path: Path) -> Path:
    return sibling_path(path, ".first.kws")


def hard_negatives_path(path: Path) -> Path:
    return sibling_path(path, ".hard-negatives.csv")


def train_two_stage(
    keyword_data: KeywordData,
    config: NetworkConfig,
    train_config: TrainConfig,
    path: Path,
    *,
    device: torch.device,
    resume: bool = False,
    init_from: ScanningCNN | None = None,
    progress: TrainingProgress | None = None,
    model_card: dict[str, Any] | None = None,
    verifier_candidates: Sequence[VerifierSpec | None] = (None,),
    mining: MiningConfig | None = None,
    false_alarms_per_hour: float = DEFAULT_RATE,
    said_words: SaidWordFilter | None = None,
    workers: int = 1,
) -> dict | None:
    """As `kws.training.detection.train.train`, in two stages. `train_config` and `init_from` are
    those of the first; `progress` counts steps and epochs of both. said_words: leaves out false
    alarms that are none."""
    first_path, second_config = first_stage_path(path), second_stage_config(train_config)
    mining = mining or MiningConfig()
    document = train(
        keyword_data,
        config,
        train_config,
        first_path,
        device=device,
        resume=resume,
        init_from=init_from,
        progress=progress,
        model_card=model_card,
        verifier_candidates=verifier_candidates,
        false_alarms_per_hour=false_alarms_per_hour,
        workers=workers,
    )
    false_alarms = _find_or_read_false_alarms(keyword_data, path, mining)
    hard_negatives = cut_segments(false_alarms)
    if said_words:
        hard_negatives = said_words.clean_segments(hard_negatives, false_alarms)
    if not len(hard_negatives):
        logger.info(f"no false alarms to learn from; {path} is the model of the first stage")
        for suffix in (".pt", ".kws"):
            content = first_path.with_suffix(suffix).read_bytes()
            write_atomically(path.with_suffix(suffix), content)
        return document
    keyword_data = replace(
        keyword_data, negatives=add_hard_negatives(keyword_data.negatives, hard_negatives, mining)
    )
    hard_negatives_card = {
        "segments": len(hard_negatives),
        "seconds": round(hard_negatives.seconds, 1),
        "first_stage": asdict(train_config),
    }
    logger.info(f"second stage: {second_config.epochs} epochs")
    return train(
        keyword_data,
        config,
        second_config,
        path,
        device=device,
        resume=resume and _is_same_stage(path.with_suffix(".pt"), second_config, keyword_data),
        init_from=load_network(first_path.with_suffix(".pt")),
        progress=_SecondStageProgress(progress or TrainingProgress(), train_config),
        model_card={**(model_card or {}), "hard_negatives": hard_negatives_card},
        verifier_candidates=verifier_candidates,
        false_alarms_per_hour=false_alarms_per_hour,
        workers=workers,
    )


def _find_or_read_false_alarms(
    keyword_data: KeywordData, path: Path, mining: MiningConfig
) -> list[FalseAlarm]:
    """The list if it is of this first stage; else the false alarms of its network, which are
    written to the list."""
    csv_path, checkpoint_path = hard_negatives_path(path), first_stage_path(path).with_suffix(".pt")
    saved = checkpoint.load(checkpoint_path)
    recordings_fingerprint = fingerprint(keyword_data.hard_negatives)
    # The checkpoint knows whether its list was written: one that lies there may be of an older run.
    if saved.get("hard_negatives") and csv_path.exists():
        if saved["hard_negatives"] != recordings_fingerprint:
            raise DataError(
                f"{csv_path}: is of other recordings than those of --hard-negatives-from now. "
                "Give the same, or delete it to have it made anew."
            )
        false_alarms = read_false_alarms(csv_path)
        logger.info(f"{csv_path}: {len(false_alarms)} false alarms to learn from")
        return false_alarms
    logger.info(f"scanning {len(keyword_data.hard_negatives):,} recordings for false alarms")
    spotter = _load_without_verifier(first_stage_path(path))
    false_alarms, seconds = mine(spotter, keyword_data.hard_negatives, mining)
    write_false_alarms(false_alarms, csv_path)
    checkpoint.save({**saved, "hard_negatives": recordings_fingerprint}, checkpoint_path)
    logger.info(f"{len(false_alarms)} alarms and near alarms in {format_duration(seconds / 3600)}")
    if false_alarms:
        logger.info(
            f"{csv_path} lists them, the highest scores first. "
            "Listen to those: where the word is really said, delete the line and run "
            "the same command with --resume; the second stage is trained again without it."
        )
    return read_false_alarms(csv_path)


def _load_without_verifier(path: Path) -> Spotter:
    """The network of a model alone: it learns from its own false alarms, even from those that the
    verifier rejects."""
    engine = Engine.load(str(path), verifier=False)
    return Spotter(engine, engine.info.events)


def _is_same_stage(
    checkpoint_path: Path, train_config: TrainConfig, keyword_data: KeywordData
) -> bool:
    """Whether a checkpoint is of this second stage, not of one with other hard negatives."""
    try:
        saved = checkpoint.load(checkpoint_path)
    except KwsError:
        return False
    # A resumed training keeps its mixed precision.
    saved_config = {
        **saved.get("train_config", {}),
        "mixed_precision": train_config.mixed_precision,
    }
    is_same_config = saved_config == asdict(train_config)
    return is_same_config and saved.get("fingerprint") == keyword_data.fingerprint()


class _SecondStageProgress(TrainingProgress):
    """Counts on from the first stage."""

    def __init__(self, progress: TrainingProgress, first_config: TrainConfig):
        self._progress, self._first_config = progress, first_config

    def step(self, step: int, loss: float) -> None:
        self._progress.step(self._first_config.steps + step, loss)

    def epoch(self, metrics: dict) -> None:
        self._progress.epoch({**metrics, "epoch": self._first_config.epochs + metrics["epoch"]})

    def should_stop(self) -> bool:
        return self._progress.should_stop()
