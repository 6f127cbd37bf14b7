"""A model file as ONNX: the same network for other programs, checked against the model file.

The graph takes `audio` [B, F · frame_samples] and `state` [B, S], for any B and any F ≥ 1, and
gives scores of F frames and `new_state`. Its metadata holds the document under `kws`, and, in
base64 under `kws_verifier`, the graph of the verifier's network, which gives `phones` in the place
of scores.
"""

import base64
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.export import Dim

from kws.errors import ModelError
from kws.files import write_atomically
from kws.runtime.comparison import largest_difference, make_noise, scores_of_file
from kws.runtime.model_file import METADATA_KEY, ModelFile
from kws.runtime.numpy_network import NumpyNetwork
from kws.runtime.output import StepOutput
from kws.training.model.network import ScanningCNN
from kws.training.model.tensors import network_from_tensors

OPSET = 18
VERIFIER_KEY = "kws_verifier"
TOLERANCE = 1e-4

Tensors = Mapping[str, np.ndarray]


def export_onnx(model_file: ModelFile, path: Path) -> None:
    """Writes a model file as ONNX.

    Raises ModelError, and writes nothing, for a network that torch does not run, and where the
    scores of the graph differ from those of the model file by more than 1e-4. Raises KwsError where
    the file cannot be written.
    """
    try:
        model = _convert(model_file)
    except ValueError as error:
        raise ModelError(f"{model_file.info.path}: cannot become ONNX: {error}.") from error
    write_atomically(path, model.SerializeToString())


def _convert(model_file: ModelFile) -> onnx.ModelProto:
    audio = make_noise(model_file.info.frame_samples)
    expected = scores_of_file(model_file, audio)
    network = network_from_tensors(model_file.tensors_of("network"))
    model = _make_graph(_Scores(network))
    _check("network", largest_difference(_scores_of_graph(model, network, audio), expected))
    document = {**model_file.info.document, "state_size": network.state_size}
    metadata = {METADATA_KEY: json.dumps(document)}
    verifier = model_file.tensors_of("verifier")
    if verifier:
        graph = _convert_verifier(verifier, audio).SerializeToString()
        metadata[VERIFIER_KEY] = base64.b64encode(graph).decode()
    onnx.helper.set_model_props(model, metadata)
    return model


def _convert_verifier(tensors: Tensors, audio: np.ndarray) -> onnx.ModelProto:
    network, reference = network_from_tensors(tensors), NumpyNetwork(tensors)
    model = _make_graph(_Phones(network))
    phones, _ = _run(model, audio, np.zeros((len(audio), network.state_size), np.float32))
    expected, _ = reference.run(audio, reference.empty_state(len(audio)))
    difference = float(np.abs(np.exp(phones) - np.exp(expected["phones"])).max())
    _check("verifier", difference)
    return model


def _scores_of_graph(model: onnx.ModelProto, network: ScanningCNN, audio: np.ndarray) -> StepOutput:
    state = network.initial_state(len(audio)).numpy()
    pooled, frames, boundaries, *rest = _run(model, audio, state)
    phones = rest[0] if network.config.phones else pooled[..., :0]
    return StepOutput(pooled, frames, boundaries, phones)


def _run(model: onnx.ModelProto, audio: np.ndarray, state: np.ndarray) -> list[np.ndarray]:
    """All outputs, by the reference implementation of ONNX."""
    return list(ReferenceEvaluator(model).run(None, {"audio": audio, "state": state}))


def _check(part: str, difference: float) -> None:
    if not difference <= TOLERANCE:
        raise ValueError(f"the graph of its {part} differs from it by {difference:.1e}")


class _Scores(nn.Module):
    """What the graph of a scanning network computes."""

    def __init__(self, network: ScanningCNN):
        super().__init__()
        self.network = network
        phones = ["phones"] if network.config.phones else []
        self.output_names = ["pooled", "frames", "boundaries", *phones, "new_state"]

    def forward(self, audio: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        output, new_state = self.network(audio, state)
        scores = output.frames_first()
        return (*(scores if self.network.config.phones else scores[:3]), new_state)


class _Phones(nn.Module):
    """What the graph of a verifier's network computes: log p of the phones, which are its words."""

    def __init__(self, network: ScanningCNN):
        super().__init__()
        self.network = network
        self.output_names = ["phones", "new_state"]

    def forward(self, audio: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        output, new_state = self.network(audio, state)
        return output.logits.log_softmax(1).mT, new_state


def _make_graph(module: _Scores | _Phones) -> onnx.ModelProto:
    network = module.network
    frame_samples = network.config.frame_samples
    batch, frames = Dim("batch", min=1), Dim("frames", min=1)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (torch.zeros(2, 2 * frame_samples), torch.zeros(2, network.state_size)),
            dynamo=True,
            input_names=["audio", "state"],
            output_names=module.output_names,
            dynamic_shapes={"audio": {0: batch, 1: frame_samples * frames}, "state": {0: batch}},
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _remove_remarks(model.graph)
    onnx.checker.check_model(model)
    return model


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
