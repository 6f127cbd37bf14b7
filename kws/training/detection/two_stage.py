"""Training in two rounds: the second goes on from the first, and learns besides from what fired in
it (see `kws.training.fit.hard_negatives`).

    NAME.first.pt, .onnx    the first round, a model of its own
    NAME.hard-negatives.csv          what fired in it, highest score first: file, seconds, word, score
    NAME.pt, .onnx          the second round

Each round is a whole run with a schedule of its own, so both resume bit for bit. The list is made
when the first round is over, and belongs to it: a run that goes on takes the list as it is. So
whoever deletes lines of it and resumes has the second round alone learned again, without them;
whoever deletes the file has it made anew. A run that does not resume makes everything anew.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from kws.audio.folders import sibling_path
from kws.errors import DataError, KwsError
from kws.runtime.engine import Engine
from kws.runtime.spotter import Spotter
from kws.terminal.printers import write_atomically
from kws.training.data.keyword_data import KeywordData
from kws.training.detection.train import Callbacks, train
from kws.training.fit.hard_negatives import (
    FalseAlarm,
    add_hard_negatives,
    cut_segments,
    fingerprint,
    mine,
    read_false_alarms,
    write_false_alarms,
)
from kws.training.fit.trainer import TrainConfig
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.pretrained import VerifierSpec
from kws.training.model.torch_engine import load_network


def second_round_config(train_config: TrainConfig) -> TrainConfig:
    """The recipe of the second round: half as long as the first, a third of its learning rate,
    other examples."""
    return replace(
        train_config,
        epochs=max(train_config.epochs // 2, 1),
        learning_rate=train_config.learning_rate / 3,
        seed=train_config.seed + 1,
    )


def first_round_path(path: Path) -> Path:
    return sibling_path(path, ".first.onnx")


def hard_negatives_path(path: Path) -> Path:
    return sibling_path(path, ".hard-negatives.csv")


def train_two_stage(
    keyword_data: KeywordData,
    config: NetworkConfig,
    train_config: TrainConfig,
    path: Path,
    *,
    device: torch.device,
    callbacks: Callbacks,
    resume: bool = False,
    start: ScanningCNN | None = None,
    model_card: dict[str, Any] | None = None,
    verifier_candidates: Sequence[VerifierSpec | None] = (None,),
    workers: int = 1,
) -> dict | None:
    """As `kws.training.detection.train.train`, in two rounds. `train_config` and `start` are of the first; the
    epochs told of are counted through."""
    first, second_config = first_round_path(path), second_round_config(train_config)
    document = train(
        keyword_data,
        config,
        train_config,
        first,
        device=device,
        resume=resume,
        start=start,
        callbacks=callbacks,
        model_card=model_card,
        verifier_candidates=verifier_candidates,
        workers=workers,
    )
    false_alarms = _find_or_read_false_alarms(keyword_data, path, callbacks)
    if not false_alarms:
        callbacks.log(f"nothing to learn from in a second round; {path} is the model of the first")
        for suffix in (".pt", ".onnx"):
            write_atomically(path.with_suffix(suffix), first.with_suffix(suffix).read_bytes())
        return document
    with callbacks.file_progress(
        list(dict.fromkeys(false_alarm.file for false_alarm in false_alarms))
    ) as on_seconds:
        hard_negatives = cut_segments(false_alarms, on_seconds)
    keyword_data = replace(
        keyword_data, negatives=add_hard_negatives(keyword_data.negatives, hard_negatives)
    )
    return train(
        keyword_data,
        config,
        second_config,
        path,
        device=device,
        resume=resume
        and _is_same_second_round(path.with_suffix(".pt"), second_config, keyword_data),
        start=load_network(first.with_suffix(".pt")),
        callbacks=_offset_callbacks(callbacks, train_config),
        model_card={
            **(model_card or {}),
            "hard_negatives": {
                "segments": len(hard_negatives),
                "seconds": round(hard_negatives.seconds, 1),
                "first_round": asdict(train_config),
            },
        },
        verifier_candidates=verifier_candidates,
        workers=workers,
    )


def _find_or_read_false_alarms(
    keyword_data: KeywordData, path: Path, callbacks: Callbacks
) -> list[FalseAlarm]:
    """What the list holds, if it is of this first round; else what its network finds, written to
    the list."""
    csv_path, checkpoint_path = hard_negatives_path(path), first_round_path(path).with_suffix(".pt")
    saved, hard_negatives = (
        checkpoint.load(checkpoint_path),
        fingerprint(keyword_data.hard_negatives),
    )
    if saved.get("hard_negatives") and csv_path.exists():
        if saved["hard_negatives"] not in (hard_negatives, True):  # True: of before it said more
            raise DataError(
                f"{csv_path}: is of other recordings than those of --hard-negatives-from now. "
                "Give the same, or delete it to have it made anew."
            )
        false_alarms = read_false_alarms(csv_path)
        callbacks.log(f"{csv_path}: {len(false_alarms)} stretches to learn from")
        return false_alarms
    callbacks.log(f"listening to {len(keyword_data.hard_negatives):,} recordings for what fires")
    with callbacks.file_progress([clip.path for clip in keyword_data.hard_negatives]) as on_seconds:
        false_alarms, seconds = mine(
            _load_without_verifier(first_round_path(path)),
            keyword_data.hard_negatives,
            warn=callbacks.warn,
            on_seconds=on_seconds,
        )
    write_false_alarms(false_alarms, csv_path)
    checkpoint.save({**saved, "hard_negatives": hard_negatives}, checkpoint_path)
    callbacks.log(f"{len(false_alarms)} stretches in {seconds / 3600:.2f} h fire or nearly do")
    if false_alarms:
        callbacks.log(
            f"{csv_path} lists them, the highest scores first. "
            "Listen to those: where the word is really said, delete the line and run "
            "the same command with --resume; the second round is learned again without it."
        )
    return read_false_alarms(csv_path)


def _load_without_verifier(path: Path) -> Spotter:
    """The network of a model by itself: what it takes for the word is its lesson, even where a
    reader would have known better."""
    engine = Engine.load(str(path), verifier=False)
    return Spotter(engine, engine.info.events)


def _is_same_second_round(
    checkpoint_path: Path, train_config: TrainConfig, keyword_data: KeywordData
) -> bool:
    """Whether a checkpoint is of this second round, and not of one with other stretches."""
    try:
        saved = checkpoint.load(checkpoint_path)
    except KwsError:
        return False
    # Mixed precision goes on as it began.
    saved_config = {
        **saved.get("train_config", {}),
        "mixed_precision": train_config.mixed_precision,
    }
    return (saved_config, saved.get("fingerprint")) == (
        asdict(train_config),
        keyword_data.fingerprint(),
    )


def _offset_callbacks(callbacks: Callbacks, first_config: TrainConfig) -> Callbacks:
    """Hooks for a round after another."""
    return replace(
        callbacks,
        step=lambda step, loss: callbacks.step(
            first_config.epochs * first_config.steps_per_epoch + step, loss
        ),
        epoch=lambda entry: callbacks.epoch(
            {**entry, "epoch": first_config.epochs + entry["epoch"]}
        ),
        log=lambda text: callbacks.log(f"second round: {text}"),
    )
