"""Pre-trained networks: encoders that training starts from, and the verifier's phone recogniser.

Three checkpoints come with kws, all trained on phone recognition (`kws.training.phones`):

    encoder.pt            small                         words from text start from it
    encoder_conv2d.pt     small, stem over frequency    recorded words start from it
    phone_recognizer.pt   large, stem over frequency    the verifier; large networks may, too
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from kws.audio.addresses import reject_url
from kws.audio.folders import find_on_disk
from kws.errors import DataError
from kws.runtime.model_file import model_folders
from kws.runtime.verifier import Fusion
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.phone_set import BLANK, PHONES, to_phones
from kws.training.model.torch_engine import load_network

HEAD_PREFIXES = (
    "head.",
    "pooling.",
    "phone_head.",
)  # of parameters that a new network does not take
ENCODER_FILE = "encoder.pt"
ENCODER_CONV2D_FILE = "encoder_conv2d.pt"
PHONE_RECOGNIZER_FILE = "phone_recognizer.pt"
# For phone_recognizer.pt; docs/explanation/verifier.md tells how they were chosen.
DEFAULT_FUSION = Fusion(scale=3.0, ceiling=-2.5, floor=-4.0)
# For words whose phones it recognises well: any deviation lowers the score.
STRICT_FUSION = Fusion(scale=1.5, ceiling=0.0, floor=-4.0)
NO_CHECKPOINT = "none"
_MAX_PHONES = 64  # of a pronunciation: the kernel takes no longer one, and nobody says it in 2 s


def resolve_checkpoint(requested: str | None, size: str, *, from_text: bool) -> Path | None:
    """The checkpoint that training starts from. Without a request it is a shipped encoder, which
    fits small networks only. Raises KwsError for an address."""
    if requested:
        reject_url(requested)
        return None if requested == NO_CHECKPOINT else find_on_disk(Path(requested))
    if size != "small":
        return None
    return shipped_checkpoint(ENCODER_FILE if from_text else ENCODER_CONV2D_FILE)


def shipped_checkpoint(name: str = ENCODER_FILE) -> Path | None:
    """A checkpoint that comes with kws; None where it was removed."""
    paths = [folder / name for folder in model_folders()[1:]]
    return next((path for path in paths if path.is_file()), None)


def band_channels(init_from: Path | None) -> int:
    """`NetworkConfig.band_channels` of a network that starts from this checkpoint, or from none.
    Raises ModelError for what is no checkpoint."""
    if init_from is None:
        return NetworkConfig.band_channels
    return load_network(init_from).config.band_channels


def load_phones(init_from: Path) -> str:
    """The phones that a checkpoint recognises; "" for none. Raises ModelError."""
    config = load_network(init_from).config
    return "".join(config.words) if config.words == (BLANK, *PHONES) else config.phones


@dataclass(frozen=True)
class VerifierSpec:
    """A verifier to be written into a model file (`kws.runtime.verifier`).

    network: recognises phones; they are its words. pronunciations: of each word, in these phones.
    sources: the recordings that the network was trained on, with their licences.
    """

    network: ScanningCNN
    pronunciations: dict[str, tuple[str, ...]]
    fusion: Fusion = DEFAULT_FUSION
    sources: tuple[dict, ...] = ()


def load_verifier(pronunciations: Mapping[str, Sequence[str]]) -> VerifierSpec | None:
    """The shipped verifier for words with these pronunciations (as `kws.synth.confusables` gives
    them), without those that are too long; None where its checkpoint was removed."""
    path = shipped_checkpoint(PHONE_RECOGNIZER_FILE)
    if path is None:
        return None
    phone_pronunciations = {
        word: tuple(
            phones
            for phones in dict.fromkeys(map(to_phones, variants))
            if 0 < len(phones) <= _MAX_PHONES
        )
        for word, variants in pronunciations.items()
    }
    return VerifierSpec(load_network(path), phone_pronunciations, sources=tuple(_sources(path)))


def verifier_candidates(
    pronunciations: Mapping[str, Sequence[str]],
) -> tuple[VerifierSpec | None, ...]:
    """What held-out recordings choose from: none, the shipped verifier, and a stricter one."""
    verifier = load_verifier(pronunciations)
    if verifier is None:
        return (None,)
    return None, verifier, replace(verifier, fusion=STRICT_FUSION)


def model_card(init_from: Path) -> dict:
    """The entries in the document of a model that started from a checkpoint: its file and the
    sources of its recordings."""
    return {"encoder": {"file": init_from.name, "sources": _sources(init_from)}}


def _sources(init_from: Path) -> list[dict]:
    return checkpoint.load(init_from).get("sources", [])


def init_from_pretrained(config: NetworkConfig, checkpoint: Path, seed: int) -> ScanningCNN:
    """A new network with the layers of a checkpoint (.pt) and a new head, random by the seed. A
    phone head is taken over, too.

    Raises ModelError for what is no checkpoint, DataError for one of another size.
    """
    with torch.random.fork_rng(devices=[]):
        source = load_network(checkpoint)
        torch.manual_seed(seed)
        network = ScanningCNN(config)
    pretrained = _encoder_weights(source)
    if _shapes(pretrained) != _shapes(_encoder_weights(network)):
        raise DataError(
            f"{checkpoint}: is a network of another size. "
            "Train with the --size it has, or without --init-from."
        )
    network.load_state_dict(pretrained, strict=False)
    if network.phone_head:
        head = source.phone_head or source.head  # a phone recogniser's words are the phones
        weights = {name: rows[: len(config.phones)] for name, rows in head.state_dict().items()}
        network.phone_head.load_state_dict(weights)
    return network


def _encoder_weights(network: ScanningCNN) -> dict[str, Tensor]:
    """All but the heads."""
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.startswith(HEAD_PREFIXES)
    }


def _shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}
