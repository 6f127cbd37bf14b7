"""Using what another network has learned: as the layers to begin with, all but the head, which
belongs to its own words; or to read.

Three networks that have learned to read (`kws.training.phones.objective`) come with kws: they know all
sounds, if no word. Two are small, to begin with: models/encoder.pt for words from text,
models/encoder_conv2d.pt, whose stem looks at bands, for words that people recorded. models/phone_recognizer.pt
is large, to read, or for large networks to begin with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kws.audio.addresses import reject_url
from kws.audio.folders import find_on_disk
from kws.errors import DataError
from kws.runtime.model_file import model_folders
from kws.runtime.verifier import Fusion
from kws.training.model import checkpoint
from kws.training.model.network import SIZES, NetworkConfig, ScanningCNN
from kws.training.model.phone_set import BLANK, PHONES, to_phones
from kws.training.model.torch_engine import load_network

OWN_PREFIXES = ("head.", "pooling.", "phone_head.")  # what is not taken over
ENCODER_FILE, ENCODER_CONV2D_FILE, PHONE_RECOGNIZER_FILE = (
    "encoder.pt",
    "encoder_conv2d.pt",
    "phone_recognizer.pt",
)  # that come with kws
# Of this reader; how they were chosen: docs/explanation/verifier.md.
DEFAULT_FUSION = Fusion(scale=3.0, ceiling=-2.5, floor=-4.0)
# For words that it reads well: what is not read perfectly counts.
STRICT_FUSION = Fusion(scale=1.5, ceiling=0.0, floor=-4.0)
NO_CHECKPOINT = "none"


def resolve_checkpoint(requested: str | None, size: str, *, from_text: bool) -> Path | None:
    """The checkpoint to begin with: the one that is wished for, unless that is NONE; else the one
    that comes with kws, which is small."""
    if requested:
        reject_url(requested)
        return None if requested == NO_CHECKPOINT else find_on_disk(Path(requested))
    return (
        shipped_checkpoint(ENCODER_FILE if from_text else ENCODER_CONV2D_FILE)
        if size == next(iter(SIZES))
        else None
    )


def shipped_checkpoint(name: str = ENCODER_FILE) -> Path | None:
    """A checkpoint that comes with kws, unless it was taken away."""
    return next(
        (folder / name for folder in model_folders()[1:] if (folder / name).is_file()), None
    )


def band_channels(init_from: Path | None) -> int:
    """Of the stem of a detector that begins with this checkpoint, or with none. Raises ModelError
    for what is no checkpoint."""
    return (
        load_network(init_from).config.band_channels if init_from else NetworkConfig.band_channels
    )


def load_phones(init_from: Path) -> str:
    """What a trunk can write down; nothing, if it does not read."""
    config = load_network(init_from).config
    return "".join(config.words) if config.words == (BLANK, *PHONES) else config.phones


@dataclass(frozen=True)
class VerifierSpec:
    """What makes a reader (`kws.runtime.verifier`): a network that reads, how words are pronounced, in its
    letters, what its likeness counts, and what it was made of."""

    network: ScanningCNN
    pronunciations: dict[str, tuple[str, ...]]
    fusion: Fusion = DEFAULT_FUSION
    sources: tuple[dict, ...] = ()


def load_verifier(pronunciations: Mapping[str, Sequence[str]]) -> VerifierSpec | None:
    """The network that comes with kws, to read words with these pronunciations (as of
    `kws.synth.confusables`)."""
    path = shipped_checkpoint(PHONE_RECOGNIZER_FILE)
    if path is None:
        return None
    phone_pronunciations = {
        word: tuple(dict.fromkeys(filter(None, map(to_phones, variants))))
        for word, variants in pronunciations.items()
    }
    return VerifierSpec(load_network(path), phone_pronunciations, sources=tuple(_sources(path)))


def verifier_candidates(
    pronunciations: Mapping[str, Sequence[str]],
) -> tuple[VerifierSpec | None, ...]:
    """What there is to choose from, by held-out recordings of the words: no reader, and one that is
    believed more or less."""
    verifier = load_verifier(pronunciations)
    return (None, verifier, replace(verifier, fusion=STRICT_FUSION)) if verifier else (None,)


def model_card(init_from: Path) -> dict:
    """What a model that begins with it says of it: where it came from, and what it was made of, if
    it tells."""
    return {"encoder": {"file": init_from.name, "sources": _sources(init_from)}}


def _sources(init_from: Path) -> list[dict]:
    return checkpoint.load(init_from).get("sources", [])


def init_from_pretrained(config: NetworkConfig, checkpoint: Path, seed: int) -> ScanningCNN:
    """A new network whose layers are those of a checkpoint (.pt), with a head of its own, random by
    the seed.

    Raises ModelError for what is no checkpoint, DataError for one of another size.
    """
    with torch.random.fork_rng(devices=[]):
        source = load_network(checkpoint)
        torch.manual_seed(seed)
        network = ScanningCNN(config)
    pretrained = {
        name: tensor
        for name, tensor in source.state_dict().items()
        if not name.startswith(OWN_PREFIXES)
    }
    initial = network.state_dict()
    mismatched = [
        name
        for name, tensor in pretrained.items()
        if name not in initial or initial[name].shape != tensor.shape
    ]
    if mismatched or len(pretrained) < sum(not name.startswith(OWN_PREFIXES) for name in initial):
        raise DataError(
            f"{checkpoint}: is a network of another size. "
            "Train with the --size it has, or without --init-from."
        )
    if network.phone_head:
        pretrained |= {
            f"phone_head.{name}": tensor
            for name, tensor in _phone_head_weights(source, len(config.phones)).items()
        }
    network.load_state_dict(pretrained, strict=False)
    return network


def _phone_head_weights(source: ScanningCNN, phones: int) -> dict[str, torch.Tensor]:
    """What writes letters in a network: a head of its own, or all that its words are."""
    head = source.phone_head.state_dict() if source.phone_head else source.head.state_dict()
    return {name: tensor[:phones] for name, tensor in head.items()}
