"""What `kws train --protocol` and `kws evaluate --protocol` do with their options: train on the
clips of a protocol, and judge by them."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from kws.runtime.engine import load
from kws.runtime.postprocess import NEVER
from kws.synth.engines.base import SynthError
from kws.training import distributed
from kws.training.data.clips import Bank, find_clips, read_bank
from kws.training.data.keyword_data import check_folders
from kws.training.detection.train import Hooks
from kws.training.evaluate.calibration import supports
from kws.training.model import pretrained
from kws.training.model.network import NetworkConfig
from kws.training.model.pretrained import with_trunk
from kws.training.model.torch_engine import pick_device
from kws.training.speech_commands import accuracy, protocols
from kws.training.speech_commands import train as training
from kws.training.speech_commands.batches import ClassRecipe
from kws.training.speech_commands.dataset import UNKNOWN
from kws.training.speech_commands.lexicon import Sounds, pronounced
from kws.training.speech_commands.train import sorting_config

Warn = Callable[[str], None]
Bar = Callable[[Iterable], Iterable]  # shows how far the reading of clips has come


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
    trunk: Path | None
    recipe: ClassRecipe
    out: Path
    device: str
    resume: bool


def train(options: Options, hooks: Hooks, warn: Warn, progress: Bar) -> list[str]:
    """Trains as wished; returns lines on what came of it, of several processes in the first alone.
    Raises KwsError."""
    _check(options)
    warn = distributed.by_first(warn)
    protocol = protocols.load(
        options.protocol, options.data, words=options.words, warn=warn, progress=progress
    )
    config, sounds = with_sounds(
        sorting_config(protocol.classes, options.size, options.trunk, options.pooling),
        protocol,
        warn,
    )
    speech = [
        read_bank(find_clips(folder), warn=warn, progress=progress)
        for folder in options.other_speech
    ]
    noises = [
        read_bank(find_clips(folder), warn=warn, progress=progress) for folder in options.background
    ]
    hooks.say(
        f"{protocol.name}: {len(protocol.train)} clips to learn from, {len(protocol.validation)} "
        "to choose by"
    )
    device = pick_device(options.device)
    start = with_trunk(config, options.trunk, options.recipe.seed) if options.trunk else None
    document = training.train(
        protocol,
        config,
        options.recipe,
        options.out,
        device=device,
        other_speech=[_of_part(bank, "train") for bank in speech],
        heldout_speech=[_of_part(bank, "validation") for bank in speech],
        background=noises,
        resume=options.resume,
        start=start,
        sounds=sounds,
        hooks=hooks,
        card=pretrained.card(options.trunk) if options.trunk else {},
    )
    return _told(document, options.out) if document else []


def _check(options: Options) -> None:
    """Raises KwsError for what cannot be, before anything is read."""
    distributed.share(options.recipe.shards)
    check_folders("negatives", options.other_speech)
    check_folders("background", options.background)
    if options.trunk:
        with_trunk(
            sorting_config((UNKNOWN,), options.size, options.trunk, options.pooling),
            options.trunk,
            options.recipe.seed,
        )


def with_sounds(
    config: NetworkConfig, protocol: protocols.Protocol, warn: Warn
) -> tuple[NetworkConfig, Sounds]:
    """How the words of a protocol are pronounced, for a network that reads; one that does not,
    where nobody can tell."""
    if not config.letters:
        return config, {}
    try:
        sounds = pronounced({*protocol.classes, *protocol.train.words})
        if sounds.keys() & {*protocol.classes}:
            return config, sounds
        trouble = "none of them is an English word."
    except SynthError as error:
        trouble = str(error)
    warn(f"words are told apart without regard to their sounds: {trouble}")
    return replace(config, letters=""), {}


def evaluate(
    model: str, protocol: str, data: Path, as_json: bool, warn: Warn, progress: Bar
) -> None:
    """Prints how well a model sorts the test clips of a protocol. Raises KwsError."""
    engine = load(model)
    words = (
        tuple(word for word in engine.info.words if not word.startswith("_"))
        if protocol == "words"
        else ()
    )
    report = accuracy.judge(
        engine,
        protocols.load(protocol, data, words=words, wanted=["test"], warn=warn, progress=progress),
    )
    print(json.dumps(report, ensure_ascii=False) if as_json else accuracy.summary(report))


def _of_part(bank: Bank, part: str) -> Bank:
    return bank.select(lambda clip: clip.part == part)


def _told(document: dict, path: Path) -> list[str]:
    """What came of a training."""
    right, hours = document["training"]["last_epoch"]["accuracy"], document["calibration"]["hours"]
    used = sorted(threshold for threshold in document["events"]["threshold"] if threshold < NEVER)
    lines = [
        (
            f"{path}: {document['parameters']} parameters, {right:.2%} right in validation (mean "
            "of the classes); judge it with kws evaluate"
        )
    ]
    lines.append(
        f"  in streams its words are reported at thresholds from {used[0]:.3f} to {used[-1]:.3f}"
    )
    if not supports(hours, 1.0):
        lines.append(
            f"  too little held-out speech ({hours:.2f} h) to say how often for nothing: add "
            "--negatives, or use kws calibrate"
        )
    return lines
