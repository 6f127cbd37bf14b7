"""Trains a classifier on a protocol of Speech Commands and writes its model file."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from kws.audio.endpoints import find_endpoints
from kws.audio.folders import sibling_path
from kws.audio.formats import to_float32
from kws.errors import DataError, SynthError
from kws.runtime.engine import Engine
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD, EventSettings
from kws.runtime.spotter import Spotter
from kws.training import distributed
from kws.training.augment.rooms import simulate_room_responses
from kws.training.data.dataset import ClipDataset, concatenate_datasets, digest
from kws.training.evaluate.calibration import (
    calibrate,
    highest_threshold_with_recall,
    set_default_thresholds,
)
from kws.training.evaluate.scoring import ScoredWord, score_clips, score_words
from kws.training.fit.model_card import describe_network, describe_training, load_uncalibrated
from kws.training.fit.progress import TrainingProgress
from kws.training.fit.state import TrainState
from kws.training.fit.trainer import fit
from kws.training.model.export import export
from kws.training.model.network import SIZES, NetworkConfig, ScanningCNN
from kws.training.model.pretrained import band_channels, load_phones
from kws.training.speech_commands.batches import ClassificationBatches
from kws.training.speech_commands.config import ClassifierTrainConfig
from kws.training.speech_commands.dataset import SILENCE, UNKNOWN, LabeledClips
from kws.training.speech_commands.lexicon import (
    Lexicon,
    Pronunciations,
    encode_phones,
    look_up_pronunciations,
)
from kws.training.speech_commands.objective import ClassificationObjective, lead_samples
from kws.training.speech_commands.predict import balanced_accuracy, predict
from kws.training.speech_commands.protocols import Protocol
from kws.training.speech_commands.unknowns import cut_speech_clips

ROOM_COUNT = 200
POOL_FRAMES = 16  # 0.3 s: the end of the word lies somewhere in it
BAND_CHANNELS = 16
# With more classes, a phone head would make a network larger than the name of its size promises.
MAX_CLASSES_WITH_PHONES = 20
# Recall of the validation clips of a word at its threshold, where too little other speech is held
# out to choose one by false alarms.
TARGET_RECALL = 0.9
CALIBRATION_CLIPS = 200  # of a word, at most

logger = logging.getLogger("kws")


def make_classifier_config(
    classes: tuple[str, ...], size: str, init_from: Path | None = None
) -> NetworkConfig:
    """The classifier of a size; stem and phone head are those of the checkpoint that it starts
    from. Raises ModelError for a file that is no checkpoint."""
    channels, phones = BAND_CHANNELS, ""
    if init_from:
        channels, phones = band_channels(init_from), load_phones(init_from)
    return NetworkConfig(
        classes,
        pool_frames=POOL_FRAMES,
        band_channels=channels,
        phones=phones if len(classes) <= MAX_CLASSES_WITH_PHONES else "",
        **SIZES[size],
    )


def add_pronunciations(
    config: NetworkConfig, protocol: Protocol
) -> tuple[NetworkConfig, Pronunciations]:
    """The pronunciations of a protocol's words, for a network that recognises phones. Where they
    are unknown, the network does without phones."""
    if not config.phones:
        return config, {}
    try:
        pronunciations = look_up_pronunciations({*protocol.classes, *protocol.train.words})
        if pronunciations.keys() & {*protocol.classes}:
            return config, pronunciations
        reason = "none of them is an English word."
    except SynthError as error:
        reason = str(error)
    logger.warning(f"words are classified without their pronunciations: {reason}")
    return replace(config, phones=""), {}


def train(
    protocol: Protocol,
    config: NetworkConfig,
    train_config: ClassifierTrainConfig,
    path: Path,
    *,
    device: torch.device,
    other_speech: Sequence[ClipDataset] = (),
    heldout_speech: Sequence[ClipDataset] = (),
    background: Sequence[ClipDataset] = (),
    resume: bool = False,
    init_from: ScanningCNN | None = None,
    pronunciations: Pronunciations = MappingProxyType({}),
    progress: TrainingProgress | None = None,
    model_card: dict[str, Any] | None = None,
    workers: int = 1,
) -> dict | None:
    """Trains on the training part of a protocol and writes the model file. Returns its document, to
    which `model_card` adds. The test part is not used.

    other_speech: speech without the words of the protocol, except in clips whose folders are named
    after one. heldout_speech: the same by other speakers, to choose thresholds. background: noise,
    beside the protocol's own. init_from: network whose weights a new training starts with.
    pronunciations: of words, for a network that recognises phones. Of several processes all must
    call this with the same arguments; rank 0 alone writes, and gets the document. Raises KwsError.
    """
    _check(protocol)
    lexicon = Lexicon.build(protocol.classes, pronunciations) if config.phones else None
    fingerprint = _fingerprint(protocol, [protocol.noise, *other_speech, *background])
    state = TrainState(config, train_config, device, fingerprint)
    checkpoint = path.with_suffix(".pt")
    if init_from is not None:
        state.init_from(init_from)
    if resume:
        logger.info(state.resume_from(checkpoint))
    rooms = simulate_room_responses(ROOM_COUNT, np.random.default_rng(0))
    fit(
        state,
        _make_batches(protocol, config, train_config, other_speech, background, pronunciations),
        ClassificationObjective(config, torch.from_numpy(rooms).to(device), train_config),
        path=checkpoint,
        validate=lambda network: _validate(network, protocol.validation, lexicon),
        progress=progress,
        workers=workers,
    )
    with distributed.raise_on_any_rank():
        if not distributed.is_rank_zero():
            return None
        logger.info("exporting and calibrating")
        lexicon_card = {"lexicon": lexicon.to_dict()} if lexicon else {}
        card = {**lexicon_card, **(model_card or {})}
        return _export_model(state, protocol, heldout_speech, path, card)


def _make_batches(
    protocol: Protocol,
    config: NetworkConfig,
    train_config: ClassifierTrainConfig,
    other_speech: Sequence[ClipDataset],
    background: Sequence[ClipDataset],
    pronunciations: Pronunciations,
) -> ClassificationBatches:
    speech = [
        dataset.select(lambda clip: clip.label not in protocol.held_out) for dataset in other_speech
    ]
    phone_ids = {}
    if config.phones:
        phone_ids = {word: encode_phones(ways[0]) for word, ways in pronunciations.items()}
    lead = lead_samples(config)
    return ClassificationBatches(
        protocol.train,
        protocol.classes,
        concatenate_datasets([protocol.noise, *background]),
        cut_speech_clips(speech, {*protocol.train.words} - {""}),
        lead + config.clip_frame_samples,
        train_config,
        lead=lead,
        phone_ids=phone_ids,
    )


def _validate(network: ScanningCNN, part: LabeledClips, lexicon: Lexicon | None) -> dict:
    predicted = predict(network, part, lexicon)
    return {"accuracy": round(balanced_accuracy(part, predicted), 5)}


def _check(protocol: Protocol) -> None:
    """Raises DataError where a class has no training clips, or there is nothing to validate on."""
    missing = [
        name
        for label, name in enumerate(protocol.classes)
        if not (protocol.train.labels == label).any()
    ]
    if missing:
        raise DataError(
            f"protocol {protocol.name}: no clips of {', '.join(missing)} to train on. "
            f"{_describe_speakers_of(protocol)}"
        )
    if not len(protocol.validation):
        raise DataError(
            f"protocol {protocol.name}: no clips to validate on, all are for training or for the "
            f"test. {_describe_speakers_of(protocol)}"
        )


def _describe_speakers_of(protocol: Protocol) -> str:
    """What to do where there are too few speakers, and the name of one who is alone."""
    advice = (
        "Clips are split by speaker, whom SPEAKER_nohash_N.wav names: add recordings of others."
    )
    parts = (protocol.train, protocol.validation, protocol.test)
    speakers = {name for part in parts for name in part.speakers if name}
    return f"{advice} Now all are of '{speakers.pop()}'." if len(speakers) == 1 else advice


def _export_model(
    state: TrainState,
    protocol: Protocol,
    heldout: Sequence[ClipDataset],
    path: Path,
    model_card: dict[str, Any],
) -> dict:
    settings = EventSettings(
        tuple(
            UNREACHABLE_THRESHOLD if name in (UNKNOWN, SILENCE) else 0.5
            for name in protocol.classes
        )
    )
    engine = load_uncalibrated(state.ema_network, sibling_path(path, ".basis.kws"), settings)
    settings, table = _calibrate(engine, protocol.validation, heldout)
    document = {
        **describe_network(state.ema_network, settings),
        "calibration": table,
        "protocol": protocol.name,
        **describe_training(state, clips=len(protocol.train)),
        **model_card,
    }
    export(state.ema_network, document, path)
    return document


def _calibrate(
    engine: Engine, validation: LabeledClips, heldout: Sequence[ClipDataset]
) -> tuple[EventSettings, dict]:
    """Thresholds of the words in streams, and the calibration table
    (`kws.training.evaluate.calibration`)."""
    names, settings = engine.info.words, engine.info.events
    spotter = Spotter(engine, settings)
    scored_words = [
        _score_words(spotter, validation, word) if word in settings.targets else []
        for word in range(len(names))
    ]
    others = [dataset.select(lambda clip: clip.label not in names) for dataset in heldout]
    recordings = [each for dataset in others for each in score_clips(spotter, dataset)]
    table = calibrate(names, settings, scored_words, recordings)
    fallback = [highest_threshold_with_recall(TARGET_RECALL, each) for each in scored_words]
    return set_default_thresholds(settings, names, table, fallback), table


def _score_words(spotter: Spotter, part: LabeledClips, word: int) -> list[ScoredWord]:
    waves = list(to_float32(part.samples[part.labels == word][:CALIBRATION_CLIPS]))
    endpoints = np.array([find_endpoints(wave) for wave in waves]).reshape(-1, 2)
    return list(score_words(spotter, word, waves, endpoints))


def _fingerprint(protocol: Protocol, others: Sequence[ClipDataset]) -> str:
    parts = [
        *(digest(part.samples, part.labels) for part in (protocol.train, protocol.validation)),
        *(dataset.fingerprint() for dataset in others),
    ]
    return "-".join(part[:8] for part in parts)
