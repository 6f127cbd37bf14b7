"""Telling clips apart with the scanning network: softmax over its pooled logits; one protocol from
clips to a model file."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.audio.folders import beside
from kws.errors import DataError
from kws.runtime.engine import Engine, OnnxEngine
from kws.runtime.model_file import ModelInfo
from kws.runtime.postprocess import NEVER, EventSettings
from kws.training import distributed
from kws.training.augment.waveform import chance, simulated_rooms
from kws.training.data.clips import Bank, digest, extent, merged
from kws.training.detection.train import Hooks, describe, provenance_of, uncalibrated
from kws.training.evaluate import scored_words
from kws.training.evaluate.calibration import calibrate, highest_that_finds, with_defaults
from kws.training.fit.trainer import Heard, Run, Task, fit
from kws.training.model.export import export
from kws.training.model.network import SIZES, NetworkConfig, ScanningCNN
from kws.training.model.pretrained import band_channels, letters_of
from kws.training.phones.objective import reading_loss
from kws.training.speech_commands import lexicon
from kws.training.speech_commands.batches import (
    ClassBatch,
    ClassBatches,
    ClassRecipe,
    centred,
    heard,
    masks,
    mixed,
)
from kws.training.speech_commands.dataset import SILENCE, UNKNOWN, Part
from kws.training.speech_commands.lexicon import Lexicon, Sounds, encoded
from kws.training.speech_commands.protocols import Protocol
from kws.training.speech_commands.unknowns import speech_pieces

ROOMS = 200
POOL_FRAMES = 16  # 0.3 s: wherever in it the whole word has been heard
BATCH = 512
BAND_CHANNELS = 16
READING = 0.6  # what reading counts in the loss, beside sorting
MOST_READ = 20  # classes with which a network that reads, too, is not larger than its size promises
# Of a word's validation clips, at its threshold, where too little other speech was heard to choose
# one by.
FOUND = 0.9
CALIBRATION_CLIPS = 200  # at most, of a word
_MORE_SPEAKERS = (
    "Clips go by their speakers, whom SPEAKER_nohash_N.wav names: add recordings of others."
)


def sorting_config(
    classes: tuple[str, ...],
    size: str,
    trunk: Path | None = None,
    pooling: str = NetworkConfig.pooling,
) -> NetworkConfig:
    """The network of a size that tells classes apart; its stem looks at bands, or is like that of
    the trunk that it begins with. It reads, too, if its trunk does.

    Raises ModelError for a trunk that is none.
    """
    channels, letters = (band_channels(trunk), letters_of(trunk)) if trunk else (BAND_CHANNELS, "")
    letters = letters if len(classes) <= MOST_READ else ""
    return NetworkConfig(
        classes,
        pooling=pooling,
        pool_frames=POOL_FRAMES,
        band_channels=channels,
        letters=letters,
        **SIZES[size],
    )


def lead_samples(config: NetworkConfig) -> int:
    """How much silence a clip needs before it, where words are read in more frames than its classes
    are scored in."""
    return (lexicon.FRAMES - 1) * config.frame_samples if config.letters else 0


def class_logits(pooled: Tensor) -> Tensor:
    """log p [..., W] of the pooled scores → logits, to put a softmax on."""
    return pooled - torch.log(-torch.expm1(pooled - 1e-7))


def sorting_task(rooms: Tensor, recipe: ClassRecipe, config: NetworkConfig) -> Task:
    """To tell the classes of clips apart as they may be heard: cross-entropy, with mixed and
    smoothed targets."""

    def hear(batch: ClassBatch, index: int) -> Heard:
        generator = chance(recipe.seed, index)
        audio = heard(
            batch, rooms, lead_samples(config) + config.clip_frame_samples, recipe, generator
        )
        targets = F.one_hot(batch.label, len(config.words)).float()
        targets = targets + recipe.label_smoothing * (1 / len(config.words) - targets)
        audio, targets = mixed(audio, targets, recipe.mixup, generator)
        hops = (audio.shape[1] - config.window_samples) // config.hop_samples + 1
        return (
            audio,
            targets,
            masks(len(audio), config.mels, hops, recipe, generator).to(audio.device),
            batch.letters,
            batch.lengths,
        )

    def loss(network: nn.Module, heard: Heard) -> Tensor:
        audio, targets, mask, letters, count = heard
        output, _ = network(audio, mask=mask)
        sorting = F.cross_entropy(class_logits(output.pooled[..., -1]), targets)
        return (
            sorting + READING * _told_loss(output.letters, letters, count)
            if config.letters
            else sorting
        )

    return Task(hear, loss)


def _told_loss(logits: Tensor, letters: Tensor, count: Tensor) -> Tensor:
    """As `reading_loss`, where the clips of which nobody knows what is said lose nothing."""
    told = count >= 0
    if not told.any():
        # Several processes wait for each other's gradients of every weight.
        return 0.0 * logits.sum()
    # Per clip of the batch, told or not, so that it makes no difference how the shards of a step
    # are spread over processes.
    return reading_loss(logits[told], letters[told], count[told]) * told.float().mean()


@torch.no_grad()
def predict(network: ScanningCNN, part: Part, words: Lexicon | None = None) -> np.ndarray:
    """Class of each clip [n], by the network as it is in torch, and a lexicon where it reads."""
    network.eval()
    lead, device, found = lead_samples(network.config), network.head.weight.device, []
    for block in _blocks(part.samples):
        output, _ = network(
            centred(
                torch.from_numpy(block).to(device), lead + network.config.clip_frame_samples, lead
            )
        )
        found.append(
            _classes(
                output.pooled[..., -1].exp().cpu().numpy(),
                output.letters.log_softmax(1).mT.cpu().numpy(),
                words,
            )
        )
    return np.concatenate(found)


def predict_streamed(engine: Engine, part: Part, chunk_samples: int | None = None) -> np.ndarray:
    """Class of each clip [n], by a model file that hears it in a stream begun with silence: whole,
    or in chunks of so many samples, a multiple of the model's frame."""
    words, past, found = lexicon_of(engine.info), engine.info.past_samples, []
    frames = max(-(-past // engine.info.frame_samples), lexicon.FRAMES)
    for block in _blocks(part.samples):
        audio = F.pad(
            centred(torch.from_numpy(block), past), (frames * engine.info.frame_samples - past, 0)
        ).numpy()
        state, length, letters = engine.silence(len(audio)), chunk_samples or audio.shape[1], []
        for at in range(0, audio.shape[1], length):
            step, state = engine.step(audio[:, at : at + length], state)
            letters.append(step.letters)
        # The last frame ends where the clip's audio does.
        found.append(_classes(step.pooled[:, -1], np.concatenate(letters, axis=1), words))
    return np.concatenate(found)


def lexicon_of(info: ModelInfo) -> Lexicon | None:
    """The words that a model tells apart by their sounds, if it does."""
    known = info.document.get("lexicon")
    return Lexicon.from_dict(known) if known else None


def balanced_accuracy(part: Part, predicted: np.ndarray) -> float:
    """Share of the clips whose class is right, every class counting alike: validation parts may
    hold few unknown words."""
    return float(
        np.mean(
            [(predicted[part.labels == label] == label).mean() for label in np.unique(part.labels)]
        )
    )


def train(
    protocol: Protocol,
    config: NetworkConfig,
    recipe: ClassRecipe,
    path: Path,
    *,
    device: torch.device,
    other_speech: Sequence[Bank] = (),
    heldout_speech: Sequence[Bank] = (),
    background: Sequence[Bank] = (),
    resume: bool = False,
    start: ScanningCNN | None = None,
    sounds: Sounds = MappingProxyType({}),
    hooks: Hooks = Hooks(),  # noqa: B008  (frozen)
    card: dict[str, Any] | None = None,
    workers: int = 1,
) -> dict | None:
    """Trains on a protocol's training part, exports to `path`; returns the model's document, to
    which `card` adds. The test part is not touched. `other_speech`: in which no word of the
    protocol is said, but in clips whose folders are named after one; `heldout_speech`: the same by
    others, to choose thresholds by. `background`: noise, beside the protocol's own. `start` is a
    network whose weights a new run begins with. `sounds`: how words are pronounced, for a network
    that reads, too.

    Of several processes all must come here with the same arguments; only the first writes, and gets
    the document.
    """
    _check(protocol)
    words = Lexicon.of(protocol.classes, sounds) if config.letters else None
    run = Run(
        config, recipe, device, _fingerprint(protocol, [protocol.noise, *other_speech, *background])
    )
    if start is not None:
        run.begin_with(start)
    if resume:
        hooks.say(run.go_on(path.with_suffix(".pt")))
    speech = speech_pieces(
        [bank.select(lambda clip: clip.label not in protocol.held_out) for bank in other_speech],
        {*protocol.train.words} - {""},
    )
    rooms = torch.from_numpy(simulated_rooms(ROOMS, np.random.default_rng(0))).to(device)
    noise = merged([protocol.noise, *background])
    spelled = {word: encoded(ways[0]) for word, ways in sounds.items()} if words else {}
    lead = lead_samples(config)
    samples = lead + config.clip_frame_samples
    batches = ClassBatches(
        protocol.train, protocol.classes, noise, speech, samples, recipe, lead=lead, spelled=spelled
    )

    def validate(network: ScanningCNN) -> dict:
        return {
            "accuracy": round(
                balanced_accuracy(
                    protocol.validation, predict(network, protocol.validation, words)
                ),
                5,
            )
        }

    fit(
        run,
        batches,
        sorting_task(rooms, recipe, config),
        path=path.with_suffix(".pt"),
        validate=validate,
        on_step=hooks.step,
        on_epoch=hooks.epoch,
        workers=workers,
    )
    with distributed.together():
        known = {"lexicon": words.to_dict()} if words else {}
        if not distributed.first():
            return None
        hooks.say("exporting and calibrating")
        return _finish(run, protocol, heldout_speech, path, {**known, **(card or {})})


def _check(protocol: Protocol) -> None:
    """Raises DataError where a class cannot be learned, or nothing can be chosen by."""
    missing = [
        name
        for label, name in enumerate(protocol.classes)
        if not (protocol.train.labels == label).any()
    ]
    if missing:
        raise DataError(
            f"protocol {protocol.name}: no clips of {', '.join(missing)} among those to learn "
            f"from. {_speakers(protocol)}"
        )
    if not len(protocol.validation):
        raise DataError(
            f"protocol {protocol.name}: no clips to choose by, all are to learn from or for the "
            f"test. {_speakers(protocol)}"
        )


def _speakers(protocol: Protocol) -> str:
    """What to do where there are too few, and who they are if it is one alone."""
    speakers = {
        name
        for part in (protocol.train, protocol.validation, protocol.test)
        for name in part.speakers
        if name
    }
    return (
        f"{_MORE_SPEAKERS} Now all are of '{speakers.pop()}'."
        if len(speakers) == 1
        else _MORE_SPEAKERS
    )


def _finish(
    run: Run, protocol: Protocol, heldout: Sequence[Bank], path: Path, card: dict[str, Any]
) -> dict:
    settings = EventSettings(
        tuple(NEVER if name in (UNKNOWN, SILENCE) else 0.5 for name in protocol.classes)
    )
    engine = uncalibrated(run.trained, beside(path, ".basis.onnx"), settings)
    settings, table = _calibrated(engine, protocol.validation, heldout)
    document = {
        **describe(run.trained, settings),
        "calibration": table,
        "protocol": protocol.name,
        **provenance_of(run, clips=len(protocol.train)),
        **card,
    }
    export(run.trained, document, path)
    return document


def _calibrated(
    engine: OnnxEngine, validation: Part, heldout: Sequence[Bank]
) -> tuple[EventSettings, dict]:
    """What its words must score to be reported in streams, and the table (`kws.training.evaluate.calibration`)
    that says what this costs."""
    names, settings = engine.info.words, engine.info.events
    made = [
        _word_trials(engine, validation, word) if word in settings.targets else []
        for word in range(len(names))
    ]
    others = [bank.select(lambda clip: clip.label not in names) for bank in heldout]
    silence = scored_words.listen(engine, chain.from_iterable(others))
    table = calibrate(engine, made, silence, sum(bank.seconds for bank in others) / 3600, settings)
    found = [highest_that_finds(FOUND, each, word, settings) for word, each in enumerate(made)]
    return with_defaults(settings, names, table, found), table


def _word_trials(engine: OnnxEngine, part: Part, word: int) -> list[scored_words.Trial]:
    waves = list(part.samples[part.labels == word][:CALIBRATION_CLIPS].astype(np.float32) / 32768)
    return scored_words.word_trials(
        engine, waves, np.array([extent(wave) for wave in waves]).reshape(-1, 2)
    )


def _classes(scores: np.ndarray, letters: np.ndarray, words: Lexicon | None) -> np.ndarray:
    """Of pooled scores [n, W] and log p of the letters [n, F, L]."""
    if words is None:
        return scores.argmax(1)  # the logit rises with p
    p = scores.astype(np.float64).clip(1e-12, 1 - 1e-7)
    return words.weighed(np.log(p) - np.log1p(-p), letters).argmax(1)


def _blocks(samples: np.ndarray) -> list[np.ndarray]:
    return [samples[at : at + BATCH] for at in range(0, len(samples), BATCH)]


def _fingerprint(protocol: Protocol, others: Sequence[Bank]) -> str:
    parts = [digest(part.samples, part.labels) for part in (protocol.train, protocol.validation)]
    return "-".join(each[:8] for each in [*parts, *(bank.fingerprint() for bank in others)])
