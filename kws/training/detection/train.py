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

from kws.audio.folders import beside
from kws.audio.recordings import SAMPLE_RATE
from kws.runtime.engine import OnnxEngine
from kws.runtime.model_file import FORMAT
from kws.runtime.postprocess import EventSettings
from kws.training import distributed
from kws.training.augment.mixer import Batch, Mixer, Word, placed_word
from kws.training.augment.waveform import augment, chance
from kws.training.data.clips import Bank
from kws.training.data.keyword_data import Material, heldout_waves
from kws.training.detection.objective import Targets, detection_loss
from kws.training.evaluate import scored_words
from kws.training.evaluate.calibration import (
    RATES,
    UNMEASURED,
    UNMEASURED_READ,
    calibrate,
    supports,
    with_defaults,
)
from kws.training.fit.trainer import Heard, Recipe, Run, Task, fit
from kws.training.model import provenance
from kws.training.model.export import export
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.pretrained import Reading

VALIDATION_CLIPS = 200
VALIDATION_SECONDS = 1200.0
NOISY_SNR_DB = 10.0

# Around hearing files: is told of seconds heard.
Listening = Callable[[Sequence[Path]], AbstractContextManager[Callable[[float], None]]]


@dataclass(frozen=True)
class Hooks:
    """How a session tells what it does."""

    step: Callable[[int, float], None] = lambda step, loss: None
    epoch: Callable[[dict], None] = lambda entry: None
    say: Callable[[str], None] = lambda text: None
    warn: Callable[[str], None] = lambda text: None
    listening: Listening = lambda paths: nullcontext(lambda seconds: None)


def train(
    material: Material,
    config: NetworkConfig,
    recipe: Recipe,
    path: Path,
    *,
    device: torch.device,
    resume: bool = False,
    start: ScanningCNN | None = None,
    hooks: Hooks = Hooks(),
    card: dict[str, Any] | None = None,
    readings: Sequence[Reading | None] = (None,),
    workers: int = 1,
) -> dict | None:
    """Trains, exports to `path` (.onnx; the checkpoint stands beside it as .pt), calibrates.
    Returns the model's document.

    `card` adds to the document: sources with their licences, notes. With `resume` it goes on from
    the checkpoint; `start` is a network whose weights a new run begins with. Of the `readings` one
    makes the reader in the model file: the one with which fewest of the held-out words are missed;
    where one is None, that means without. Of several processes all must come here with the same
    arguments; only the first writes, and gets the document.
    """
    run = Run(config, recipe, device, material.fingerprint())
    if start is not None:
        run.begin_with(start)
    checkpoint = path.with_suffix(".pt")
    if resume:
        hooks.say(run.go_on(checkpoint))
    mixer = Mixer(
        material.names,
        material.words,
        material.negatives,
        material.noises,
        clip_seconds=recipe.clip_seconds,
        earliest_end_seconds=config.clip_frame_samples / SAMPLE_RATE,
        batch=recipe.batch,
        speeds=recipe.speeds,
        seed=recipe.seed,
    )
    scratch = beside(path, ".epoch.onnx")
    try:
        fit(
            run,
            mixer,
            detection_task(material.rooms.to(device), recipe, config),
            path=checkpoint,
            validate=lambda network: _validate(network, material, scratch),
            on_step=hooks.step,
            on_epoch=hooks.epoch,
            workers=workers,
        )
    finally:
        with suppress(OSError):
            scratch.unlink()
    with distributed.together():
        return (
            finish(run, material, path, card or {}, hooks, readings)
            if distributed.first()
            else None
        )


def detection_task(rooms: Tensor, recipe: Recipe, config: NetworkConfig) -> Task:
    """To fire at the end of words in mixed batches, as microphones might have heard them."""

    def hear(batch: Batch, index: int) -> Heard:
        return (
            augment(batch, rooms, recipe.snr_db, chance(recipe.seed, index)),
            batch.word,
            batch.places,
        )

    def loss(network: nn.Module, heard: Heard) -> Tensor:
        audio, word, places = heard
        output, _ = network(audio)
        return detection_loss(output, word, places, config, Targets())

    return Task(hear, loss)


def finish(
    run: Run,
    material: Material,
    path: Path,
    card: dict[str, Any],
    hooks: Hooks,
    readings: Sequence[Reading | None],
) -> dict:
    """Exports the trained network, calibrates it on the held-out material and writes both into the
    model file."""
    hooks.say("exporting and calibrating")
    scratch = beside(path, ".basis.onnx")
    reading = chosen(run.trained, material, scratch, readings, hooks.say)
    document = {
        **calibrated(run.trained, material, scratch, reading),
        **provenance_of(run, notes=material.notes),
        "sources": list(material.sources),
        **card,
    }
    export(run.trained, document, path, reading)
    return document


def chosen(
    network: ScanningCNN,
    material: Material,
    scratch: Path,
    readings: Sequence[Reading | None],
    say: Callable[[str], None],
) -> Reading | None:
    """Of several readings, the first of which is none, the one with which fewest of the held-out
    words are missed in noise; the earlier where as many are, and none where too little is held out
    to tell."""
    if len(readings) == 1:
        return readings[0]
    rate = min(
        (each for each in RATES if each >= 1 and supports(material.heldout_hours, each)),
        default=None,
    )
    if rate is None:
        say(
            f"no reader: too little other speech is held out ({material.heldout_hours:.2f} h) to "
            "tell if it would help; add --negatives"
        )
        return None
    without, *with_it = missed = [
        _missed_in_noise(uncalibrated(network, scratch, _even(network), each), material, rate)
        for each in readings
    ]
    told = (
        f"{min(with_it):.1%} of the held-out words are missed in noise with it, {without:.1%} "
        f"without, at {rate:g} false alarms/h"
    )
    say(
        f"a reader confirms the words: {told}"
        if min(with_it) < without
        else f"no reader, it would not help: {told}"
    )
    return readings[int(np.argmin(missed))]


def _missed_in_noise(engine: OnnxEngine, material: Material, rate: float) -> float:
    """Mean over the words, at no more than so many false alarms per hour; all, where every
    threshold has more."""
    words = [
        _word_trials(engine, word, NOISY_SNR_DB, VALIDATION_CLIPS)
        for word in material.heldout_words
    ]
    silence = scored_words.listen(engine, heldout_waves(material))
    rows = calibrate(engine, words, silence, material.heldout_hours, engine.info.events)["rows"]
    missed = {
        row["word"]: row.get("miss_rate", 0.0)
        for row in rows
        if row["false_alarms_per_hour"] == rate
    }
    return float(np.mean([missed.get(word, 1.0) for word in material.names]))


def calibrated(
    network: ScanningCNN, material: Material, scratch: Path, reading: Reading | None
) -> dict:
    """What a model's document says of the network, its thresholds and its latency, by the
    held-out material."""
    engine = uncalibrated(network, scratch, _even(network), reading)
    words = [_word_trials(engine, word, None) for word in material.heldout_words]
    silence = scored_words.listen(engine, heldout_waves(material))
    table = calibrate(engine, words, silence, material.heldout_hours, engine.info.events)
    otherwise = [UNMEASURED_READ if reading else UNMEASURED] * len(words)
    settings = with_defaults(engine.info.events, material.names, table, otherwise)
    return {
        **describe(network, settings),
        "latency_seconds": _latency_seconds(words, material.names, settings),
        "calibration": table,
        **(
            {"neighbours": _fired(engine, material.heldout_alike, settings)}
            if material.heldout_alike
            else {}
        ),
    }


def _fired(engine: OnnxEngine, bank: Bank, settings: EventSettings) -> dict:
    """Of clips that sound like the words, and are not, those at which the model fires."""
    made = _word_trials(engine, placed_word("", bank), None)
    return {
        "clips": len(made),
        "fire": sum(
            bool(scored_words.events(each.scores, engine.info.words, settings)) for each in made
        ),
    }


def uncalibrated(
    network: ScanningCNN, scratch: Path, settings: EventSettings, reading: Reading | None = None
) -> OnnxEngine:
    """The network as a model file gives it; the file is gone again, since nobody should use it
    before it has its thresholds."""
    try:
        export(network, describe(network, settings), scratch, reading)
        return OnnxEngine(str(scratch))
    finally:
        with suppress(OSError):
            scratch.unlink()


def _even(network: ScanningCNN) -> EventSettings:
    return EventSettings((0.5,) * len(network.config.words))


def _latency_seconds(
    words: list[list[scored_words.Trial]], names: tuple[str, ...], settings: EventSettings
) -> float | None:
    """How long after a held-out word is over it is reported: the median."""
    decided = [
        (trial, scored_words.decision(trial, i, names, settings))
        for i, made in enumerate(words)
        for trial in made
    ]
    delays = [known[1] - trial.end for trial, known in decided if known]
    return round(float(np.median(delays)), 3) if delays else None


def describe(network: ScanningCNN, settings: EventSettings) -> dict:
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
        "hop_seconds": config.frame_samples / SAMPLE_RATE,
        "receptive_field_seconds": config.receptive_field_samples / SAMPLE_RATE,
        "past_samples": config.clip_frame_samples,
        "state_size": sum(channels * length for channels, length in network.state_shapes),
        "parameters": sum(p.numel() for p in network.parameters()),
        **({"letters": config.letters} if config.letters else {}),
        "pooling": {
            "kind": config.pooling,
            "window_seconds": config.pool_frames * config.frame_samples / SAMPLE_RATE,
            **exponent,
        },
        "events": asdict(settings),
    }


def provenance_of(run: Run, **more: Any) -> dict:
    """The part of a model's document that says what would make it again, with `more` on
    the training."""
    return {
        "training": {
            "command": provenance.command(),
            "recipe": asdict(run.recipe),
            "config": run.network.config.to_dict(),
            "last_epoch": run.history[-1],
            "data_fingerprint": run.fingerprint,
            "device": run.device.type,
            **more,
        },
        "versions": provenance.versions(),
    }


def _validate(network: ScanningCNN, material: Material, scratch: Path) -> dict:
    """Miss rate at 10 dB and false alarms per hour of the held-out material, at a threshold of
    one half."""
    settings = _even(network)
    export(network, describe(network, settings), scratch)
    engine = OnnxEngine(str(scratch))
    missed = [
        scored_words.miss_rate(
            _word_trials(engine, word, NOISY_SNR_DB, VALIDATION_CLIPS), i, material.names, settings
        )
        for i, word in enumerate(material.heldout_words)
    ]
    waves = heldout_waves(material, VALIDATION_SECONDS)
    hours = sum(map(len, waves)) / SAMPLE_RATE / 3600
    alarms = len(scored_words.events(scored_words.listen(engine, waves), material.names, settings))
    return {
        "miss_rate": round(float(np.mean(missed)), 4),
        "false_alarms_per_hour": round(alarms / hours, 2) if hours else None,
    }


def _word_trials(
    engine: OnnxEngine, word: Word, snr_db: float | None, most: int | None = None
) -> list[scored_words.Trial]:
    count = min(len(word.bank), most or len(word.bank))
    return scored_words.word_trials(
        engine, [word.bank[i] for i in range(count)], word.placed[:count], snr_db
    )
