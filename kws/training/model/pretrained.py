"""Using what another network has learned: as the layers to begin with, all but the head, which
belongs to its own words; or to read.

Three networks that have learned to read (`kws.training.phones.objective`) come with kws: they know all
sounds, if no word. Two are small, to begin with: models/trunk.pt for words from text,
models/trunk_bands.pt, whose stem looks at bands, for words that people recorded. models/reader.pt
is large, to read, or for large networks to begin with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kws.audio.addresses import check_file
from kws.audio.folders import on_disk
from kws.errors import DataError
from kws.runtime.model_file import folders
from kws.runtime.verifier import Weighing
from kws.training.model import checkpoint
from kws.training.model.network import SIZES, NetworkConfig, ScanningCNN
from kws.training.model.torch_engine import load_network
from kws.training.phones.utterances import BLANK, LETTERS, lettered

OWN = ("head.", "pooling.", "reading.")  # what is not taken over
TRUNK, BANDS, READER = "trunk.pt", "trunk_bands.pt", "reader.pt"  # that come with kws
# Of this reader; how they were chosen: docs/reader.md, docs/detectors.md.
WEIGHING = Weighing(weight=3.0, enough=-2.5, least=-4.0)
# For words that it reads well: what is not read perfectly counts.
STRICT = Weighing(weight=1.5, enough=0.0, least=-4.0)
NONE = "none"


def chosen(wish: str | None, size: str, *, from_text: bool) -> Path | None:
    """The checkpoint to begin with: the one that is wished for, unless that is NONE; else the one
    that comes with kws, which is small."""
    if wish:
        check_file(wish)
        return None if wish == NONE else on_disk(Path(wish))
    return shipped(TRUNK if from_text else BANDS) if size == next(iter(SIZES)) else None


def shipped(name: str = TRUNK) -> Path | None:
    """A checkpoint that comes with kws, unless it was taken away."""
    return next((folder / name for folder in folders()[1:] if (folder / name).is_file()), None)


def band_channels(trunk: Path | None) -> int:
    """Of the stem of a detector that begins with this checkpoint, or with none. Raises ModelError
    for what is no checkpoint."""
    return load_network(trunk).config.band_channels if trunk else NetworkConfig.band_channels


def letters_of(trunk: Path) -> str:
    """What a trunk can write down; nothing, if it does not read."""
    config = load_network(trunk).config
    return "".join(config.words) if config.words == (BLANK, *LETTERS) else config.letters


@dataclass(frozen=True)
class Reading:
    """What makes a reader (`kws.runtime.verifier`): a network that reads, how words are pronounced, in its
    letters, what its likeness counts, and what it was made of."""

    network: ScanningCNN
    sounds: dict[str, tuple[str, ...]]
    weighing: Weighing = WEIGHING
    sources: tuple[dict, ...] = ()


def reading(sounds: Mapping[str, Sequence[str]]) -> Reading | None:
    """The network that comes with kws, to read words with these pronunciations (as of
    `kws.synth.confusables`)."""
    path = shipped(READER)
    if path is None:
        return None
    lettered_sounds = {
        word: tuple(dict.fromkeys(filter(None, map(lettered, ways))))
        for word, ways in sounds.items()
    }
    return Reading(load_network(path), lettered_sounds, sources=tuple(_sources(path)))


def readings(sounds: Mapping[str, Sequence[str]]) -> tuple[Reading | None, ...]:
    """What there is to choose from, by held-out recordings of the words: no reader, and one that is
    believed more or less."""
    found = reading(sounds)
    return (None, found, replace(found, weighing=STRICT)) if found else (None,)


def card(trunk: Path) -> dict:
    """What a model that begins with it says of it: where it came from, and what it was made of, if
    it tells."""
    return {"trunk": {"file": trunk.name, "sources": _sources(trunk)}}


def _sources(trunk: Path) -> list[dict]:
    return checkpoint.load(trunk).get("sources", [])


def with_trunk(config: NetworkConfig, checkpoint: Path, seed: int) -> ScanningCNN:
    """A new network whose layers are those of a checkpoint (.pt), with a head of its own, random by
    the seed.

    Raises ModelError for what is no checkpoint, DataError for one of another size.
    """
    with torch.random.fork_rng(devices=[]):
        source = load_network(checkpoint)
        torch.manual_seed(seed)
        network = ScanningCNN(config)
    taken = {
        name: tensor for name, tensor in source.state_dict().items() if not name.startswith(OWN)
    }
    own = network.state_dict()
    other = [
        name for name, tensor in taken.items() if name not in own or own[name].shape != tensor.shape
    ]
    if other or len(taken) < sum(not name.startswith(OWN) for name in own):
        raise DataError(
            f"{checkpoint}: is a network of another size. "
            "Train with the --size it has, or without --trunk."
        )
    if network.reading:
        taken |= {
            f"reading.{name}": tensor
            for name, tensor in _reading_head(source, len(config.letters)).items()
        }
    network.load_state_dict(taken, strict=False)
    return network


def _reading_head(source: ScanningCNN, letters: int) -> dict[str, torch.Tensor]:
    """What writes letters in a network: a head of its own, or all that its words are."""
    head = source.reading.state_dict() if source.reading else source.head.state_dict()
    return {name: tensor[:letters] for name, tensor in head.items()}
