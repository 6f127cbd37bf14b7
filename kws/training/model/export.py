"""A trained network as a model file: exported by torch, checked against torch.

The graph takes `audio` [B, F · frame_samples] and `state` [B, S], for any B and any F ≥ 1, and
gives scores of F frames and `new_state`.
"""

import base64
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.export import Dim
from torch.func import functional_call

from kws.audio.folders import sibling_path
from kws.errors import ModelError
from kws.runtime.engine import Engine
from kws.runtime.model_file import METADATA_KEY, VERIFIER_KEY
from kws.training.model.network import NetworkConfig, ScanningCNN, fold_batch_norms
from kws.training.model.pretrained import VerifierSpec

OPSET = 18
TOLERANCE = 1e-4

Weights = dict[str, Tensor]


def export(
    network: ScanningCNN, document: dict, path: Path, verifier: VerifierSpec | None = None
) -> None:
    """Writes the model file, with a verifier in it where one is given (`kws.runtime.verifier`).

    Raises ModelError, and leaves no file, where the scores of the file differ from those of torch
    by more than 1e-4.
    """
    partial = sibling_path(path, ".partial.onnx")
    folded = fold_batch_norms(network)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        model = _make_graph(folded, is_verifier=False)
        metadata = _verifier_metadata(document, verifier) if verifier else {}
        onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(document), **metadata})
        partial.write_bytes(model.SerializeToString())
        check_against_torch(folded, partial)
        partial.replace(path)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be written ({error.strerror}). "
            "Free some space or choose another place."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


@torch.no_grad()
def check_against_torch(network: ScanningCNN, path: Path) -> float:
    """The largest difference between the scores of torch and those of the model file, over two
    streams of noise whose level changes as that of speech. Raises ModelError above 1e-4."""
    network.eval()
    engine = Engine.load(str(path), verifier=False)
    samples = network.config.frame_samples * 150
    generator = torch.Generator().manual_seed(0)
    level = 10 ** (-3 * torch.rand(2, 30, generator=generator)).repeat_interleave(
        samples // 30, dim=1
    )
    audio = torch.randn(2, samples, generator=generator) * level
    output, _ = network(audio, network.initial_state(2))
    expected = output.frames_first()
    step, _ = engine.step(audio.numpy(), engine.initial_state(2))
    pairs = [
        (expected.pooled, step.pooled),
        (expected.frames, step.frames),
        (expected.boundaries, step.boundaries),
        (expected.phones.exp(), np.exp(step.phones)),
    ]
    # Not a number if any of them is.
    difference = float(np.max([np.abs(a.numpy() - b).max(initial=0.0) for a, b in pairs]))
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{path}: the exported graph differs from torch by {difference:.1e}; not saved. "
            "If the losses were large, training had diverged: "
            "begin again with a lower --learning-rate."
        )
    return difference


class _Scores(nn.Module):
    """What a model file computes."""

    def __init__(self, network: ScanningCNN):
        super().__init__()
        self.network = network
        phones = ["phones"] if network.config.phones else []
        self.output_names = ["pooled", "frames", "boundaries", *phones, "new_state"]

    def forward(self, audio: Tensor, state: Tensor, weights: Weights) -> tuple[Tensor, ...]:
        output, new_state = functional_call(self.network, weights, (audio, state))
        scores = output.frames_first()
        return (*(scores if self.network.config.phones else scores[:3]), new_state)


class _Phones(nn.Module):
    """What a verifier computes: log p of the phones, which are the words of its network."""

    def __init__(self, network: ScanningCNN):
        super().__init__()
        self.network = network
        self.output_names = ["phones", "new_state"]

    def forward(self, audio: Tensor, state: Tensor, weights: Weights) -> tuple[Tensor, ...]:
        output, new_state = functional_call(self.network, weights, (audio, state))
        return output.logits.log_softmax(1).mT, new_state


def _make_graph(network: ScanningCNN, *, is_verifier: bool) -> onnx.ModelProto:
    """The graph of a network without batch norms."""
    model = onnx.load_from_string(_trace(network.config, is_verifier))
    graph, weights = model.graph, network.state_dict()
    inputs = [each for each in graph.input if each.name not in weights]
    graph.ClearField("input")
    graph.input.extend(inputs)
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(weight.numpy(), name)
        for name, weight in weights.items()
        if name in used
    )
    onnx.checker.check_model(model)
    return model


@cache
def _trace(config: NetworkConfig, is_verifier: bool) -> bytes:
    """The graph of an architecture, whose weights are inputs, too: the exporter takes seconds, and
    training exports after each epoch."""
    network = fold_batch_norms(ScanningCNN(config))
    graph = _Phones(network) if is_verifier else _Scores(network)
    weights = network.state_dict()
    batch, frames = Dim("batch", min=1), Dim("frames", min=1)
    audio = torch.zeros(2, 2 * config.frame_samples)
    state = torch.zeros(2, network.state_size)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (audio, state),
            kwargs={"weights": weights},
            dynamo=True,
            input_names=["audio", "state", *weights],
            output_names=graph.output_names,
            dynamic_shapes={
                "audio": {0: batch, 1: config.frame_samples * frames},
                "state": {0: batch},
                "weights": dict.fromkeys(weights),
            },
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _remove_remarks(model.graph)
    return model.SerializeToString()


def _remove_remarks(graph: onnx.GraphProto) -> None:
    """Removes the exporter's notes for debugging, such as stack traces. Types and shapes stay, as
    ONNX Runtime fuses more nodes with them."""
    for each in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        each.ClearField("metadata_props")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that it lacks and axes that it renames."""
    previous_level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous_level)


def _verifier_metadata(document: dict, verifier: VerifierSpec) -> dict[str, str]:
    """The document of a model file with a verifier, and the verifier's graph."""
    network = verifier.network
    described = {
        "phones": "".join(network.config.words),
        "pronunciations": {word: list(each) for word, each in verifier.pronunciations.items()},
        "receptive_field_samples": network.config.receptive_field_samples,
        "parameters": sum(p.numel() for p in network.parameters()),
        "fusion": asdict(verifier.fusion),
        "sources": list(verifier.sources),
    }
    graph = _make_graph(fold_batch_norms(network), is_verifier=True).SerializeToString()
    return {
        METADATA_KEY: json.dumps({**document, "verifier": described}),
        VERIFIER_KEY: base64.b64encode(graph).decode(),
    }
