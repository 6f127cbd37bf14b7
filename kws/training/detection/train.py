"""One training session, from material to a calibrated model file. `kws train` is a thin layer
over this."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kws.audio.folders import sibling_path
from kws.audio.recordings import SAMPLE_RATE
from kws.runtime.engine import Engine
from kws.runtime.model_file import FORMAT
from kws.runtime.postprocess import EventSettings
from kws.training import distributed
from kws.training.augment.mixer import Batch, ExampleMixer
from kws.training.augment.rooms import make_rooms
from kws.training.augment.waveform import augment, seeded_generator
from kws.training.data.dataset import ClipDataset
from kws.training.data.keyword_data import KeywordData, heldout_waves
from kws.training.data.sources import WordClips, aligned_word
from kws.training.detection.objective import TargetZones, detection_loss
from kws.training.evaluate import scored_words
from kws.training.evaluate.calibration import (
    CALIBRATION_RATES,
    DEFAULT_THRESHOLD,
    DEFAULT_THRESHOLD_WITH_VERIFIER,
    calibrate,
    is_rate_measurable,
    set_default_thresholds,
)
from kws.training.fit.trainer import Objective, PreparedBatch, TrainConfig, TrainState, fit
from kws.training.model import provenance
from kws.training.model.export import export
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.pretrained import VerifierSpec

VALIDATION_CLIPS = 200
VALIDATION_SECONDS = 1200.0
NOISY_SNR_DB = 10.0

# Around hearing files: is told of seconds heard.
FileProgress = Callable[[Sequence[Path]], AbstractContextManager[Callable[[float], None]]]


@dataclass(frozen=True)
class Callbacks:
    """How a session tells what it does."""

    step: Callable[[int, float], None] = lambda step, loss: None
    epoch: Callable[[dict], None] = lambda entry: None
    log: Callable[[str], None] = lambda text: None
    warn: Callable[[str], None] = lambda text: None
    file_progress: FileProgress = lambda paths: nullcontext(lambda seconds: None)


def train(
    keyword_data: KeywordData,
    config: NetworkConfig,
    train_config: TrainConfig,
    path: Path,
    *,
    device: torch.device,
    resume: bool = False,
    start: ScanningCNN | None = None,
    callbacks: Callbacks = Callbacks(),
    model_card: dict[str, Any] | None = None,
    verifier_candidates: Sequence[VerifierSpec | None] = (None,),
    workers: int = 1,
) -> dict | None:
    """Trains, exports to `path` (.onnx; the checkpoint stands beside it as .pt), calibrates.
    Returns the model's document.

    `model_card` adds to the document: sources with their licences, notes. With `resume` it goes on from
    the checkpoint; `start` is a network whose weights a new run begins with. Of the `verifier_candidates` one
    makes the reader in the model file: the one with which fewest of the held-out words are missed;
    where one is None, that means without. Of several processes all must come here with the same
    arguments; only the first writes, and gets the document.
    """
    run = TrainState(config, train_config, device, keyword_data.fingerprint())
    if start is not None:
        run.init_from(start)
    checkpoint = path.with_suffix(".pt")
    if resume:
        callbacks.log(run.resume_from(checkpoint))
    mixer = ExampleMixer(
        keyword_data.names,
        keyword_data.words,
        keyword_data.negatives,
        keyword_data.noises,
        clip_seconds=train_config.clip_seconds,
        earliest_end_seconds=config.clip_frame_samples / SAMPLE_RATE,
        batch=train_config.batch,
        speed_range=train_config.speed_range,
        seed=train_config.seed,
    )
    rooms = torch.from_numpy(make_rooms(keyword_data.recorded_rooms))
    scratch = sibling_path(path, ".epoch.onnx")
    try:
        fit(
            run,
            mixer,
            detection_objective(rooms.to(device), train_config, config),
            path=checkpoint,
            validate=lambda network: _validate(network, keyword_data, scratch),
            on_step=callbacks.step,
            on_epoch=callbacks.epoch,
            workers=workers,
        )
    finally:
        with suppress(OSError):
            scratch.unlink()
    with distributed.raise_on_any_rank():
        return (
            export_calibrated(
                run, keyword_data, path, model_card or {}, callbacks, verifier_candidates
            )
            if distributed.is_rank_zero()
            else None
        )


def detection_objective(
    rooms: Tensor, train_config: TrainConfig, config: NetworkConfig
) -> Objective:
    """To fire at the end of words in mixed batches, as microphones might have heard them."""

    def prepare(batch: Batch, index: int) -> PreparedBatch:
        return (
            augment(batch, rooms, train_config.snr_db, seeded_generator(train_config.seed, index)),
            batch.word,
            batch.endpoints,
        )

    def loss(network: nn.Module, prepared: PreparedBatch) -> Tensor:
        audio, word, endpoints = prepared
        output, _ = network(audio)
        return detection_loss(output, word, endpoints, config, TargetZones())

    return Objective(prepare, loss)


def export_calibrated(
    run: TrainState,
    keyword_data: KeywordData,
    path: Path,
    model_card: dict[str, Any],
    callbacks: Callbacks,
    verifier_candidates: Sequence[VerifierSpec | None],
) -> dict:
    """Exports the trained network, calibrates it on the held-out material and writes both into the
    model file."""
    callbacks.log("exporting and calibrating")
    scratch = sibling_path(path, ".basis.onnx")
    verifier = select_verifier(
        run.ema_network, keyword_data, scratch, verifier_candidates, callbacks.log
    )
    document = {
        **calibrate_network(run.ema_network, keyword_data, scratch, verifier),
        **provenance_of(run, notes=keyword_data.notes),
        "sources": list(keyword_data.sources),
        **model_card,
    }
    export(run.ema_network, document, path, verifier)
    return document


def select_verifier(
    network: ScanningCNN,
    keyword_data: KeywordData,
    scratch: Path,
    verifier_candidates: Sequence[VerifierSpec | None],
    log: Callable[[str], None],
) -> VerifierSpec | None:
    """Of several readings, the first of which is none, the one with which fewest of the held-out
    words are missed in noise; the earlier where as many are, and none where too little is held out
    to tell."""
    if len(verifier_candidates) == 1:
        return verifier_candidates[0]
    rate = min(
        (
            each
            for each in CALIBRATION_RATES
            if each >= 1 and is_rate_measurable(keyword_data.heldout_hours, each)
        ),
        default=None,
    )
    if rate is None:
        log(
            f"no reader: too little other speech is held out ({keyword_data.heldout_hours:.2f} h) to "
            "tell if it would help; add --negatives"
        )
        return None
    without_verifier, *with_verifier = miss_rates = [
        _noisy_miss_rate(
            load_uncalibrated(network, scratch, _neutral_settings(network), each),
            keyword_data,
            rate,
        )
        for each in verifier_candidates
    ]
    comparison = (
        f"{min(with_verifier):.1%} of the held-out words are missed in noise with it, {without_verifier:.1%} "
        f"without, at {rate:g} false alarms/h"
    )
    log(
        f"a reader confirms the words: {comparison}"
        if min(with_verifier) < without_verifier
        else f"no reader, it would not help: {comparison}"
    )
    return verifier_candidates[int(np.argmin(miss_rates))]


def _noisy_miss_rate(engine: Engine, keyword_data: KeywordData, rate: float) -> float:
    """Mean over the words, at no more than so many false alarms per hour; all, where every
    threshold has more."""
    words = [
        _word_trials(engine, word, NOISY_SNR_DB, VALIDATION_CLIPS)
        for word in keyword_data.heldout_words
    ]
    silence = scored_words.score_waves(engine, heldout_waves(keyword_data))
    rows = calibrate(engine, words, silence, keyword_data.heldout_hours, engine.info.events)["rows"]
    miss_rates = {
        row["word"]: row.get("miss_rate", 0.0)
        for row in rows
        if row["false_alarms_per_hour"] == rate
    }
    return float(np.mean([miss_rates.get(word, 1.0) for word in keyword_data.names]))


def calibrate_network(
    network: ScanningCNN, keyword_data: KeywordData, scratch: Path, verifier: VerifierSpec | None
) -> dict:
    """What a model's document says of the network, its thresholds and its latency, by the
    held-out material."""
    engine = load_uncalibrated(network, scratch, _neutral_settings(network), verifier)
    words = [_word_trials(engine, word, None) for word in keyword_data.heldout_words]
    silence = scored_words.score_waves(engine, heldout_waves(keyword_data))
    table = calibrate(engine, words, silence, keyword_data.heldout_hours, engine.info.events)
    unmeasured_notes = [DEFAULT_THRESHOLD_WITH_VERIFIER if verifier else DEFAULT_THRESHOLD] * len(
        words
    )
    settings = set_default_thresholds(
        engine.info.events, keyword_data.names, table, unmeasured_notes
    )
    return {
        **describe_network(network, settings),
        "latency_seconds": _latency_seconds(words, keyword_data.names, settings),
        "calibration": table,
        **(
            {
                "confusables": _count_confusable_alarms(
                    engine, keyword_data.heldout_confusables, settings
                )
            }
            if keyword_data.heldout_confusables
            else {}
        ),
    }


def _count_confusable_alarms(engine: Engine, dataset: ClipDataset, settings: EventSettings) -> dict:
    """Of clips that sound like the words, and are not, those at which the model fires."""
    made = _word_trials(engine, aligned_word("", dataset), None)
    return {
        "clips": len(made),
        "alarms": sum(
            bool(scored_words.events(each.scores, engine.info.words, settings)) for each in made
        ),
    }


def load_uncalibrated(
    network: ScanningCNN,
    scratch: Path,
    settings: EventSettings,
    verifier: VerifierSpec | None = None,
) -> Engine:
    """The network as a model file gives it; the file is gone again, since nobody should use it
    before it has its thresholds."""
    try:
        export(network, describe_network(network, settings), scratch, verifier)
        return Engine.load(str(scratch))
    finally:
        with suppress(OSError):
            scratch.unlink()


def _neutral_settings(network: ScanningCNN) -> EventSettings:
    return EventSettings((0.5,) * len(network.config.words))


def _latency_seconds(
    words: list[list[scored_words.Trial]], names: tuple[str, ...], settings: EventSettings
) -> float | None:
    """How long after a held-out word is over it is reported: the median."""
    decisions = [
        (trial, scored_words.find_decision(trial, i, names, settings))
        for i, made in enumerate(words)
        for trial in made
    ]
    delays = [
        event_decision[1] - trial.end for trial, event_decision in decisions if event_decision
    ]
    return round(float(np.median(delays)), 3) if delays else None


def describe_network(network: ScanningCNN, settings: EventSettings) -> dict:
    """The part of a model's document that follows from the network itself."""
    config = network.config
    exponent = {
        name: getattr(network.pooling, name).item()
        for name in ("q", "n")
        if hasattr(network.pooling, name)
    }
    return {
        "format": FORMAT,
        "words": list(config.words),
        "sample_rate": SAMPLE_RATE,
        "frame_samples": config.frame_samples,
        "frame_seconds": config.frame_samples / SAMPLE_RATE,
        "receptive_field_seconds": config.receptive_field_samples / SAMPLE_RATE,
        "context_samples": config.clip_frame_samples,
        "state_size": sum(channels * length for channels, length in network.state_shapes),
        "parameters": sum(p.numel() for p in network.parameters()),
        **({"phones": config.phones} if config.phones else {}),
        "pooling": {
            "kind": config.pooling,
            "window_seconds": config.pool_frames * config.frame_samples / SAMPLE_RATE,
            **exponent,
        },
        "events": asdict(settings),
    }


def provenance_of(run: TrainState, **more: Any) -> dict:
    """The part of a model's document that says what would make it again, with `more` on
    the training."""
    return {
        "training": {
            "command": provenance.reproduce_command(),
            "train_config": asdict(run.train_config),
            "network_config": run.network.config.to_dict(),
            "last_epoch": run.history[-1],
            "data_fingerprint": run.fingerprint,
            "device": run.device.type,
            **more,
        },
        "versions": provenance.versions(),
    }


def _validate(network: ScanningCNN, keyword_data: KeywordData, scratch: Path) -> dict:
    """Miss rate at 10 dB and false alarms per hour of the held-out material, at a threshold of
    one half."""
    settings = _neutral_settings(network)
    export(network, describe_network(network, settings), scratch)
    engine = Engine.load(str(scratch))
    miss_rates = [
        scored_words.miss_rate(
            _word_trials(engine, word, NOISY_SNR_DB, VALIDATION_CLIPS),
            i,
            keyword_data.names,
            settings,
        )
        for i, word in enumerate(keyword_data.heldout_words)
    ]
    waves = heldout_waves(keyword_data, VALIDATION_SECONDS)
    hours = sum(map(len, waves)) / SAMPLE_RATE / 3600
    alarms = len(
        scored_words.events(scored_words.score_waves(engine, waves), keyword_data.names, settings)
    )
    return {
        "miss_rate": round(float(np.mean(miss_rates)), 4),
        "false_alarms_per_hour": round(alarms / hours, 2) if hours else None,
    }


def _word_trials(
    engine: Engine, word: WordClips, snr_db: float | None, limit: int | None = None
) -> list[scored_words.Trial]:
    count = min(len(word.dataset), limit or len(word.dataset))
    return scored_words.score_words(
        engine, [word.dataset[i] for i in range(count)], word.endpoints[:count], snr_db
    )
