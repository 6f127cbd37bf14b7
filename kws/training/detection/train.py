"""Trains a detector and writes its calibrated model file."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kws.audio.folders import sibling_path
from kws.audio.recordings import SAMPLE_RATE
from kws.training import distributed
from kws.training.augment.mixer import ExampleMixer
from kws.training.augment.rooms import make_rooms
from kws.training.data.keyword_data import KeywordData
from kws.training.detection.model_card import export_calibrated, validate
from kws.training.detection.objective import DetectionObjective
from kws.training.evaluate.calibration import DEFAULT_RATE
from kws.training.fit.config import TrainConfig
from kws.training.fit.progress import TrainingProgress
from kws.training.fit.state import TrainState
from kws.training.fit.trainer import fit
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.pretrained import VerifierSpec

logger = logging.getLogger("kws")


def train(
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
    false_alarms_per_hour: float = DEFAULT_RATE,
    workers: int = 1,
) -> dict | None:
    """Trains, calibrates and writes the model file. Returns its document.

    path: of the model (.kws); the checkpoint (.pt) is written beside it. resume: continue from
    that checkpoint. init_from: network whose weights a new training starts with. model_card: added
    to the document, for example sources with their licences. verifier_candidates: see
    `select_verifier`. false_alarms_per_hour: at the default threshold. Of several processes all
    must call this with the same arguments; rank 0 alone writes, and gets the document.
    """
    state = TrainState(config, train_config, device, keyword_data.fingerprint())
    if init_from is not None:
        state.init_from(init_from)
    checkpoint = path.with_suffix(".pt")
    if resume:
        logger.info(state.resume_from(checkpoint))
    scratch = sibling_path(path, ".epoch.kws")
    rooms = torch.from_numpy(make_rooms(keyword_data.recorded_rooms)).to(device)
    fit(
        state,
        make_mixer(keyword_data, config, train_config),
        DetectionObjective(config, rooms, train_config),
        path=checkpoint,
        validate=lambda network: validate(network, keyword_data, scratch),
        progress=progress,
        workers=workers,
    )
    with distributed.raise_on_any_rank():
        if not distributed.is_rank_zero():
            return None
        return export_calibrated(
            state,
            keyword_data,
            path,
            model_card or {},
            verifier_candidates,
            false_alarms_per_hour,
        )


def make_mixer(
    keyword_data: KeywordData, config: NetworkConfig, train_config: TrainConfig
) -> ExampleMixer:
    """The data set of training examples, as long as the settings say."""
    return ExampleMixer(
        keyword_data.names,
        keyword_data.words,
        keyword_data.negatives,
        keyword_data.noises,
        clip_seconds=train_config.clip_seconds,
        earliest_end_seconds=config.clip_frame_samples / SAMPLE_RATE,
        batch=train_config.batch,
        config=train_config,
        seed=train_config.seed,
    )
