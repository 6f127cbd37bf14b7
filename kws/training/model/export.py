"""A trained network as a model file, checked against torch."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from kws.errors import ModelError
from kws.files import write_atomically
from kws.runtime.comparison import largest_difference, make_noise, scores_of_file
from kws.runtime.model_file import METADATA_KEY, ModelFile, parse_model
from kws.runtime.output import StepOutput
from kws.runtime.tensors import pack_tensors
from kws.training.model.network import ScanningCNN, fold_batch_norms
from kws.training.model.pretrained import VerifierSpec
from kws.training.model.tensors import network_tensors, verifier_tensors

TOLERANCE = 1e-4


def export(
    network: ScanningCNN, document: dict, path: Path, verifier: VerifierSpec | None = None
) -> None:
    """Writes the model file, with a verifier in it where one is given (`kws.runtime.verifier`).

    Raises ModelError, and leaves an earlier file as it was, where a weight is not a finite number
    or the scores of the file differ from those of torch by more than 1e-4. Raises KwsError where
    the file cannot be written.
    """
    tensors = network_tensors(network)
    if verifier:
        tensors |= _verifier_tensors(network.config.words, verifier)
        document = {**document, "verifier": _describe_verifier(verifier)}
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise ModelError(
            f"{path}: not saved, as weights are not finite numbers: training has diverged. "
            "Begin again with a lower --learning-rate."
        )
    data = pack_tensors(tensors, {METADATA_KEY: json.dumps(document)})
    check_against_torch(network, parse_model(data, path))
    write_atomically(path, data)


def check_against_torch(network: ScanningCNN, model_file: ModelFile) -> float:
    """The largest difference between the scores of torch and those of a model file. Raises
    ModelError above 1e-4."""
    audio = make_noise(network.config.frame_samples)
    difference = largest_difference(
        _scores_of_torch(network, audio), scores_of_file(model_file, audio)
    )
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{model_file.info.path}: the model file differs from torch by {difference:.1e}; not "
            "saved. If the losses were large, training had diverged: "
            "begin again with a lower --learning-rate."
        )
    return difference


@torch.no_grad()
def _scores_of_torch(network: ScanningCNN, audio: np.ndarray) -> StepOutput:
    folded = fold_batch_norms(network)
    output, _ = folded(torch.from_numpy(audio), folded.initial_state(len(audio)))
    return StepOutput(*(scores.numpy() for scores in output.frames_first()))


def _verifier_tensors(words: tuple[str, ...], verifier: VerifierSpec) -> dict[str, np.ndarray]:
    phones = verifier.network.config.words
    pronunciations = [
        [[phones.index(phone) for phone in each] for each in verifier.pronunciations.get(word, ())]
        for word in words
    ]
    return verifier_tensors(verifier.network, pronunciations, verifier.fusion)


def _describe_verifier(verifier: VerifierSpec) -> dict[str, object]:
    """The verifier in the document, for people; the engine reads its tensors."""
    network = verifier.network
    return {
        "phones": "".join(network.config.words),
        "pronunciations": {word: list(each) for word, each in verifier.pronunciations.items()},
        "receptive_field_samples": network.config.receptive_field_samples,
        "parameters": sum(p.numel() for p in network.parameters()),
        "fusion": asdict(verifier.fusion),
        "sources": list(verifier.sources),
    }
