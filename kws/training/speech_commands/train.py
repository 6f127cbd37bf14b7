"""Telling clips apart with the scanning network: softmax over its pooled logits; one protocol from
clips to a model file."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.audio.endpoints import find_endpoints
from kws.audio.folders import sibling_path
from kws.audio.formats import to_float32
from kws.errors import DataError
from kws.runtime.engine import Engine
from kws.runtime.model_file import ModelInfo
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
from kws.training.fit.trainer import Objective, fit
from kws.training.model.export import export
from kws.training.model.network import SIZES, NetworkConfig, ScanningCNN
from kws.training.model.pretrained import band_channels, load_phones
from kws.training.phones.objective import phone_ctc_loss
from kws.training.speech_commands import lexicon
from kws.training.speech_commands.batches import (
    ClassificationBatch,
    ClassificationBatches,
    ClassifierTrainConfig,
    apply_mixup,
    center_clips,
    draw_spec_masks,
    heard,
)
from kws.training.speech_commands.dataset import SILENCE, UNKNOWN, LabeledClips
from kws.training.speech_commands.lexicon import Lexicon, Pronunciations, encode_phones
from kws.training.speech_commands.protocols import Protocol
from kws.training.speech_commands.unknowns import cut_speech_clips

ROOM_COUNT = 200
POOL_FRAMES = 16  # 0.3 s: wherever in it the whole word has been heard
PREDICTION_BATCH = 512
BAND_CHANNELS = 16
PHONE_LOSS_WEIGHT = 0.6  # what reading counts in the loss, beside sorting
MAX_CLASSES_WITH_PHONES = (
    20  # classes with which a network that reads, too, is not larger than its size promises
)
# Of a word's validation clips, at its threshold, where too little other speech was heard to choose
# one by.
TARGET_RECALL = 0.9
CALIBRATION_CLIPS = 200  # at most, of a word
_MORE_SPEAKERS = (
    "Clips go by their speakers, whom SPEAKER_nohash_N.wav names: add recordings of others."
)


logger = logging.getLogger("kws")


def make_classifier_config(
    classes: tuple[str, ...],
    size: str,
    init_from: Path | None = None,
    pooling: str = NetworkConfig.pooling,
) -> NetworkConfig:
    """The network of a size that tells classes apart; its stem looks at bands, or is like that of
    the trunk that it begins with. It reads, too, if its trunk does.

    Raises ModelError for a trunk that is none.
    """
    channels, phones = (
        (band_channels(init_from), load_phones(init_from)) if init_from else (BAND_CHANNELS, "")
    )
    phones = phones if len(classes) <= MAX_CLASSES_WITH_PHONES else ""
    return NetworkConfig(
        classes,
        pooling=pooling,
        pool_frames=POOL_FRAMES,
        band_channels=channels,
        phones=phones,
        **SIZES[size],
    )


def lead_samples(config: NetworkConfig) -> int:
    """How much silence a clip needs before it, where words are read in more frames than its classes
    are scored in."""
    return (lexicon.SCORED_FRAMES - 1) * config.frame_samples if config.phones else 0


def class_logits(pooled: Tensor) -> Tensor:
    """log p [..., W] of the pooled scores → logits, to put a softmax on."""
    return pooled - torch.log(-torch.expm1(pooled - 1e-7))


class PreparedClips(NamedTuple):
    """`audio` [B, N]; `targets` [B, K]: class probabilities; `mask` [B, mels, hops]: 0 where
    SpecAugment hides the spectrogram; `phones` [B, L], of which the first `lengths` [B] count; -1
    where the phones are unknown."""

    audio: Tensor
    targets: Tensor
    mask: Tensor
    phones: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class ClassificationObjective(Objective[ClassificationBatch, PreparedClips]):
    """Classifies augmented clips: cross-entropy with mixed and smoothed targets, and the CTC loss
    of the phones where the network recognises them. rooms [R, K]: impulse responses, on the device
    that trains."""

    config: NetworkConfig
    rooms: Tensor
    train_config: ClassifierTrainConfig

    def prepare(self, batch: ClassificationBatch, generator: torch.Generator) -> PreparedClips:
        config, train_config = self.config, self.train_config
        samples = lead_samples(config) + config.clip_frame_samples
        audio = heard(batch, self.rooms, samples, train_config, generator)
        targets = F.one_hot(batch.label, len(config.words)).float()
        targets = targets + train_config.label_smoothing * (1 / len(config.words) - targets)
        audio, targets = apply_mixup(audio, targets, train_config.mixup, generator)
        hops = (audio.shape[1] - config.window_samples) // config.hop_samples + 1
        mask = draw_spec_masks(len(audio), config.mels, hops, train_config, generator)
        return PreparedClips(audio, targets, mask.to(audio.device), batch.phones, batch.lengths)

    def loss(self, network: nn.Module, prepared: PreparedClips) -> Tensor:
        output, _ = network(prepared.audio, mask=prepared.mask)
        class_loss = F.cross_entropy(class_logits(output.pooled[..., -1]), prepared.targets)
        if not self.config.phones:
            return class_loss
        phone_loss = _masked_phone_loss(output.phones, prepared.phones, prepared.lengths)
        return class_loss + PHONE_LOSS_WEIGHT * phone_loss


def _masked_phone_loss(logits: Tensor, phones: Tensor, lengths: Tensor) -> Tensor:
    """CTC loss, mean over the batch; 0 for clips whose phones are unknown."""
    has_phones = lengths >= 0
    if not has_phones.any():
        return 0.0 * logits.sum()  # several processes wait for the gradient of every weight
    loss = phone_ctc_loss(logits[has_phones], phones[has_phones], lengths[has_phones])
    return loss * has_phones.float().mean()


@torch.no_grad()
def predict(network: ScanningCNN, part: LabeledClips, words: Lexicon | None = None) -> np.ndarray:
    """Class of each clip [n], by the network as it is in torch, and a lexicon where it reads."""
    network.eval()
    lead, device, found = lead_samples(network.config), network.head.weight.device, []
    for block in _blocks(part.samples):
        output, _ = network(
            center_clips(
                torch.from_numpy(block).to(device), lead + network.config.clip_frame_samples, lead
            )
        )
        found.append(
            _pick_classes(
                output.pooled[..., -1].exp().cpu().numpy(),
                output.phones.log_softmax(1).mT.cpu().numpy(),
                words,
            )
        )
    return np.concatenate(found)


def predict_streaming(
    engine: Engine, part: LabeledClips, chunk_samples: int | None = None
) -> np.ndarray:
    """Class of each clip [n], by a model file that hears it in a stream begun with silence: whole,
    or in chunks of so many samples, a multiple of the model's frame."""
    words, past, found = load_lexicon(engine.info), engine.info.context_samples, []
    frames = max(-(-past // engine.info.frame_samples), lexicon.SCORED_FRAMES)
    for block in _blocks(part.samples):
        audio = F.pad(
            center_clips(torch.from_numpy(block), past),
            (frames * engine.info.frame_samples - past, 0),
        ).numpy()
        state, length, phones = (
            engine.initial_state(len(audio)),
            chunk_samples or audio.shape[1],
            [],
        )
        for at in range(0, audio.shape[1], length):
            step, state = engine.step(audio[:, at : at + length], state)
            phones.append(step.phones)
        # The last frame ends where the clip's audio does.
        found.append(_pick_classes(step.pooled[:, -1], np.concatenate(phones, axis=1), words))
    return np.concatenate(found)


def load_lexicon(info: ModelInfo) -> Lexicon | None:
    """The words that a model tells apart by their sounds, if it does."""
    known = info.document.get("lexicon")
    return Lexicon.from_dict(known) if known else None


def balanced_accuracy(part: LabeledClips, predicted: np.ndarray) -> float:
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
    train_config: ClassifierTrainConfig,
    path: Path,
    *,
    device: torch.device,
    other_speech: Sequence[ClipDataset] = (),
    heldout_speech: Sequence[ClipDataset] = (),
    background: Sequence[ClipDataset] = (),
    resume: bool = False,
    init_from: ScanningCNN | None = None,
    sounds: Pronunciations = MappingProxyType({}),
    progress: TrainingProgress | None = None,
    model_card: dict[str, Any] | None = None,
    workers: int = 1,
) -> dict | None:
    """Trains on a protocol's training part, exports to `path`; returns the model's document, to
    which `model_card` adds. The test part is not touched. `other_speech`: in which no word of the
    protocol is said, but in clips whose folders are named after one; `heldout_speech`: the same by
    others, to choose thresholds by. `background`: noise, beside the protocol's own. `init_from` is
    a network whose weights a new run begins with. `sounds`: how words are pronounced, for a network
    that reads, too.

    Of several processes all must come here with the same arguments; only the first writes, and gets
    the document.
    """
    _check(protocol)
    words = Lexicon.build(protocol.classes, sounds) if config.phones else None
    run = TrainState(
        config,
        train_config,
        device,
        _fingerprint(protocol, [protocol.noise, *other_speech, *background]),
    )
    if init_from is not None:
        run.init_from(init_from)
    if resume:
        logger.info(run.resume_from(path.with_suffix(".pt")))
    speech = cut_speech_clips(
        [
            dataset.select(lambda clip: clip.label not in protocol.held_out)
            for dataset in other_speech
        ],
        {*protocol.train.words} - {""},
    )
    rooms = torch.from_numpy(simulate_room_responses(ROOM_COUNT, np.random.default_rng(0))).to(
        device
    )
    noise = concatenate_datasets([protocol.noise, *background])
    phone_ids = {word: encode_phones(ways[0]) for word, ways in sounds.items()} if words else {}
    lead = lead_samples(config)
    samples = lead + config.clip_frame_samples
    batches = ClassificationBatches(
        protocol.train,
        protocol.classes,
        noise,
        speech,
        samples,
        train_config,
        lead=lead,
        phone_ids=phone_ids,
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
        ClassificationObjective(config, rooms, train_config),
        path=path.with_suffix(".pt"),
        validate=validate,
        progress=progress,
        workers=workers,
    )
    with distributed.raise_on_any_rank():
        known = {"lexicon": words.to_dict()} if words else {}
        if not distributed.is_rank_zero():
            return None
        logger.info("exporting and calibrating")
        return _export_model(run, protocol, heldout_speech, path, {**known, **(model_card or {})})


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
            f"from. {_describe_speakers_of(protocol)}"
        )
    if not len(protocol.validation):
        raise DataError(
            f"protocol {protocol.name}: no clips to choose by, all are to learn from or for the "
            f"test. {_describe_speakers_of(protocol)}"
        )


def _describe_speakers_of(protocol: Protocol) -> str:
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


def _export_model(
    run: TrainState,
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
    engine = load_uncalibrated(run.ema_network, sibling_path(path, ".basis.onnx"), settings)
    settings, table = _calibrate(engine, protocol.validation, heldout)
    document = {
        **describe_network(run.ema_network, settings),
        "calibration": table,
        "protocol": protocol.name,
        **describe_training(run, clips=len(protocol.train)),
        **model_card,
    }
    export(run.ema_network, document, path)
    return document


def _calibrate(
    engine: Engine, validation: LabeledClips, heldout: Sequence[ClipDataset]
) -> tuple[EventSettings, dict]:
    """What its words must score to be reported in streams, and the table (`kws.training.evaluate.calibration`)
    that says what this costs."""
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


def _pick_classes(scores: np.ndarray, phones: np.ndarray, words: Lexicon | None) -> np.ndarray:
    """Of pooled scores [n, W] and log p of the letters [n, F, L]."""
    if words is None:
        return scores.argmax(1)  # the logit rises with p
    p = scores.astype(np.float64).clip(1e-12, 1 - 1e-7)
    return words.rescore(np.log(p) - np.log1p(-p), phones).argmax(1)


def _blocks(samples: np.ndarray) -> list[np.ndarray]:
    return [samples[at : at + PREDICTION_BATCH] for at in range(0, len(samples), PREDICTION_BATCH)]


def _fingerprint(protocol: Protocol, others: Sequence[ClipDataset]) -> str:
    parts = [digest(part.samples, part.labels) for part in (protocol.train, protocol.validation)]
    return "-".join(each[:8] for each in [*parts, *(dataset.fingerprint() for dataset in others)])
