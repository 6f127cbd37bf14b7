"""A trained network as a model file, checked against torch."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kws.errors import ModelError
from kws.files import write_atomically
from kws.runtime.kernel import KernelModel, KernelOutput, library_path, load_library
from kws.runtime.model_file import METADATA_KEY
from kws.runtime.numpy_network import NumpyNetwork
from kws.runtime.tensors import pack_tensors, unpack_tensors
from kws.training.model.network import NetworkConfig, ScanningCNN, fold_batch_norms
from kws.training.model.pretrained import VerifierSpec
from kws.training.model.tensors import network_tensors, verifier_tensors

TOLERANCE = 1e-4
_CHECKED_STREAMS, _CHECKED_FRAMES = 2, 150


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
    check_against_torch(network, data, path)
    write_atomically(path, data)


def check_against_torch(network: ScanningCNN, data: bytes, path: Path) -> float:
    """The largest difference between the scores of torch and those of a model file's bytes, over
    two streams of noise whose level changes as that of speech. Raises ModelError above 1e-4."""
    audio = _noise(network.config.frame_samples)
    expected, actual = (
        _torch_scores(network, audio),
        _file_scores(network.config, data, path, audio),
    )
    pairs = [
        (expected.pooled, actual.pooled),
        (expected.frames, actual.frames),
        (expected.boundaries, actual.boundaries),
        (np.exp(expected.phones), np.exp(actual.phones)),
    ]
    # Not a number if any of them is.
    difference = float(np.max([np.abs(a - b).max(initial=0.0) for a, b in pairs]))
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{path}: the model file differs from torch by {difference:.1e}; not saved. "
            "If the losses were large, training had diverged: "
            "begin again with a lower --learning-rate."
        )
    return difference


def _noise(frame_samples: int) -> Tensor:
    samples = frame_samples * _CHECKED_FRAMES
    generator = torch.Generator().manual_seed(0)
    level = 10 ** (-3 * torch.rand(_CHECKED_STREAMS, 30, generator=generator))
    noise = torch.randn(_CHECKED_STREAMS, samples, generator=generator)
    return noise * level.repeat_interleave(samples // 30, dim=1)


@torch.no_grad()
def _torch_scores(network: ScanningCNN, audio: Tensor) -> KernelOutput:
    folded = fold_batch_norms(network)
    output, _ = folded(audio, folded.initial_state(len(audio)))
    return KernelOutput(*(scores.numpy() for scores in output.frames_first()))


def _file_scores(config: NetworkConfig, data: bytes, path: Path, audio: Tensor) -> KernelOutput:
    """Scores of the kernel, or of numpy where the kernel is missing; before the verifier."""
    try:
        load_library(library_path())
    except OSError:
        return _numpy_scores(config, unpack_tensors(data, path), audio.numpy())
    model = KernelModel(data, path)
    never = [np.inf] * model.words  # asks the verifier
    steps = [model.open_stream(never).step(stream) for stream in audio.numpy()]
    return KernelOutput(*map(np.stack, zip(*steps, strict=True)))


def _numpy_scores(
    config: NetworkConfig, tensors: dict[str, np.ndarray], audio: np.ndarray
) -> KernelOutput:
    prefix = "network."
    network = NumpyNetwork(
        {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}
    )
    silent_frames = -(-config.clip_frame_samples // config.frame_samples)
    silence = np.zeros((len(audio), silent_frames * config.frame_samples), np.float32)
    _, state = network.run(silence, network.empty_state(len(audio)))
    scores, _ = network.run(audio, state)
    no_phones = np.zeros((*scores["pooled"].shape[:2], 0), np.float32)
    return KernelOutput(**{"phones": no_phones, **scores})


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
