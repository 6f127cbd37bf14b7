"""A trained network as a model file: the folded graph written node by node, checked against torch.

Writing the graph ourselves, rather than tracing, keeps it independent of torch's exporters and lets
it be shaped for small chunks, where a node costs more than its arithmetic. Convolutions are 4-D,
because only those get ONNX Runtime's blocked layout: 3-D ones cost 1.7 times as much at 80 ms
(`experiments/graph.py`). The state is one flat tensor, because that is simple to keep.
"""

import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from kws.audio.folders import sibling_path
from kws.errors import ModelError
from kws.runtime.engine import Engine
from kws.runtime.model_file import METADATA_KEY, VERIFIER_KEY
from kws.training.model.conv2d_stem import BandConvolution, Conv2dStem
from kws.training.model.frontend import LogMel
from kws.training.model.layers import Affine, Convolution, bias_of
from kws.training.model.network import ScanningCNN, fold_batch_norms
from kws.training.model.pooling import (
    GeMPooling,
    MaxPooling,
    MeanPooling,
    NoPooling,
    Pooling,
    PowerPooling,
)
from kws.training.model.pretrained import VerifierSpec
from kws.training.model.streaming_state import contexts

OPSET = 17
TOLERANCE = 1e-4


def export(
    network: ScanningCNN, document: dict, path: Path, reading: VerifierSpec | None = None
) -> None:
    """Write the model file, then run it beside torch; raises ModelError (and leaves no file) if
    they differ by more than 1e-4.

    With `reading` the file holds a reader of the words, too (`kws.runtime.verifier`).
    """
    partial = sibling_path(path, ".partial.onnx")
    folded = fold_batch_norms(network)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        model = _model(folded, document)
        if reading:
            _add_verifier(model, document, reading)
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
    """Largest difference between torch and the model file, over two streams of noise with
    speech-like level changes."""
    network.eval()
    engine = Engine.load(str(path), verifier=False)
    samples = network.config.frame_samples * 150
    generator = torch.Generator().manual_seed(0)
    level = 10 ** (-3 * torch.rand(2, 30, generator=generator)).repeat_interleave(
        samples // 30, dim=1
    )
    audio = torch.randn(2, samples, generator=generator) * level
    expected, _ = network(audio, network.initial_state(2))
    step, _ = engine.step(audio.numpy(), engine.initial_state(2))
    pairs = [
        (expected.pooled.exp().mT, step.pooled),
        (expected.logits.sigmoid().mT, step.frames),
        (expected.boundaries.permute(0, 3, 1, 2), step.boundaries),
        (expected.phones.softmax(1).mT, np.exp(step.phones)),
    ]
    # Not a number if any of them is.
    difference = float(np.max([np.abs(a.numpy() - b).max(initial=0.0) for a, b in pairs]))
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{path}: the exported graph differs from torch by {difference:.1e}; not saved. "
            "If the losses were large, training had gone "
            "astray: begin anew with a lower --learning-rate."
        )
    return difference


def _model(network: ScanningCNN, document: dict) -> onnx.ModelProto:
    model = _checked_model(_Graph(network).build())
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps(document))
    return model


def _checked_model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9, producer_name="kws"
    )
    onnx.checker.check_model(model)
    return model


def _add_verifier(model: onnx.ModelProto, document: dict, reading: VerifierSpec) -> None:
    """Puts the graph that reads, and what is needed to ask it, into the metadata of a model."""
    network = fold_batch_norms(reading.network)
    metadata = {
        "phones": "".join(network.config.words),
        "pronunciations": {word: list(ways) for word, ways in reading.pronunciations.items()},
        "receptive_field_samples": network.config.receptive_field_samples,
        "parameters": sum(p.numel() for p in reading.network.parameters()),
        "fusion": asdict(reading.fusion),
        "sources": list(reading.sources),
    }
    values = {
        METADATA_KEY: json.dumps({**document, "verifier": metadata}),
        VERIFIER_KEY: base64.b64encode(
            _checked_model(_VerifierGraph(network).build()).SerializeToString()
        ).decode(),
    }
    helper.set_model_props(model, values)


class _Graph:
    """Emits nodes in the order the samples pass them. Tensors are named by the number of the node
    that makes them."""

    def __init__(self, network: ScanningCNN):
        self.network, self.config, self.contexts = network, network.config, contexts(network)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.new_states: list[str] = []

    def build(self) -> onnx.GraphProto:
        self.states = self._unpack_state()
        self._outputs(self._layers())
        packed = [self._node("Flatten", part, axis=1) for part in self.new_states]
        self._node("Concat", *packed, output="new_state", axis=1)
        batch, size = "batch", sum(context.size for context in self.contexts)
        inputs = [_tensor("audio", batch, "samples"), _tensor("state", batch, size)]
        outputs = [_tensor(name, batch, "frames", *shape) for name, shape in self._shapes().items()]
        return helper.make_graph(
            self.nodes, "kws", inputs, [*outputs, _tensor("new_state", batch, size)], self.constants
        )

    def _layers(self) -> str:
        x = self._log_mel(self.network.logmel, self._extend("audio", 1))
        # Convolutions are 4-D from here on: [B, channels, 1, T]
        x = (
            self._bands(x, self.network.bands)
            if self.network.bands
            else self._node("Unsqueeze", x, _ints(2))
        )
        x = self._node("Relu", self._convolution(x, self.network.stem))
        for block in self.network.blocks:
            y = self._convolution(
                self._node("Relu", self._convolution(x, block.depthwise)), block.pointwise
            )
            x = self._node("Relu", self._node("Add", y, x))
        return x

    def _shapes(self) -> dict[str, list[int]]:
        """Of the outputs, for each frame."""
        words = len(self.config.words)
        phones = {"phones": [len(self.config.phones)]} if self.config.phones else {}
        return {"pooled": [words], "frames": [words], "boundaries": [words, 2], **phones}

    def _outputs(self, x: str) -> None:
        words = len(self.config.words)
        if self.network.phone_head:
            self._write_phones(self._convolve(x, self.network.phone_head, groups=1, stride=1))
        x = self._convolve(x, self.network.head, groups=1, stride=1)
        logits, boundaries = self._split(x, _ints(words, 2 * words))
        extended = self._extend(logits, 3, 4)
        pooled = self._pool(self.network.pooling, self._log_sigmoid(extended))
        self._node("Exp", self._frames_first(pooled), output="pooled")
        self._node(
            "Sigmoid", self._frames_first(self._node("Squeeze", logits, _ints(2))), output="frames"
        )
        boundaries = self._frames_first(self._node("Squeeze", boundaries, _ints(2)))
        self._node("Reshape", boundaries, _ints(0, 0, words, 2), output="boundaries")

    def _write_phones(self, logits: str) -> None:
        self._node(
            "LogSoftmax",
            self._frames_first(self._node("Squeeze", logits, _ints(2))),
            output="phones",
            axis=2,
        )

    def _frames_first(self, x: str) -> str:
        return self._node("Transpose", x, perm=[0, 2, 1])

    def _log_mel(self, features: LogMel, x: str) -> str:
        """Frames without a gather: with the hop at two fifths of the window, a frame is a row, half
        a row and a row."""
        hop, window = features.hop_samples, features.window_samples
        half = window - 2 * hop
        if 2 * half != hop:
            raise ModelError(f"export needs a window of 2.5 hops, got {window} and {hop} samples.")
        rows = self._node("Reshape", self._slice(x, 1, 0, -half), _ints(0, -1, hop))
        shifted_rows = self._node("Reshape", self._slice(x, 1, half), _ints(0, -1, hop))
        middle = self._slice(self._slice(shifted_rows, 1, 0, -1), 2, half)
        frames = self._node(
            "Concat", self._slice(rows, 1, 0, -1), middle, self._slice(shifted_rows, 1, 1), axis=2
        )
        after, before = (
            self._slice(frames, 2, window // 2),
            self._slice(frames, 2, window // 2, 0, -1),
        )
        real = self._node("MatMul", self._node("Add", after, before), features.cosine)
        imaginary = self._node("MatMul", self._node("Sub", after, before), features.sine)
        power = self._node(
            "Add", self._node("Mul", real, real), self._node("Mul", imaginary, imaginary)
        )
        energy = self._node(
            "Add", self._node("MatMul", power, features.mel), np.float32(features.floor)
        )
        return self._frames_first(self._node("Log", energy))

    def _bands(self, x: str, bands: Conv2dStem) -> str:
        """[B, mels, T] → [B, outputs, 1, T]; in between [B, channels, bands, T]."""
        assert isinstance(self.network.input_norm, Affine)
        x = self._node("Unsqueeze", x, _ints(2))
        x = self._affine(x, self.network.input_norm)
        x = self._node("Transpose", x, perm=[0, 2, 1, 3])
        for layer in bands.downsampling:
            x = self._node("Relu", self._band_convolution(x, layer))
        for layer in bands.residual:
            x = self._node("Relu", self._node("Add", self._band_convolution(x, layer), x))
        return self._node("Reshape", x, _ints(0, bands.outputs, 1, -1))

    def _band_convolution(self, x: str, module: BandConvolution) -> str:
        if module.context.frames:
            x = self._extend(x, 3, 4)
        conv = module.conv
        y = self._node(
            "Conv",
            x,
            conv.weight,
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            pads=[*conv.padding, *conv.padding],
        )
        assert isinstance(module.norm, Affine)
        return self._affine(y, module.norm)

    def _affine(self, x: str, affine: Affine) -> str:
        return self._node("Add", self._node("Mul", x, affine.scale), affine.shift)

    def _convolution(self, x: str, module: Convolution) -> str:
        if module.context.frames:
            x = self._extend(x, 3, 4)
        return self._convolve(
            x, module.conv, groups=module.conv.groups, stride=module.conv.stride[0]
        )

    def _convolve(self, x: str, conv: torch.nn.Conv1d, groups: int, stride: int) -> str:
        weight = conv.weight.unsqueeze(2)
        return self._node(
            "Conv",
            x,
            weight,
            conv.bias,
            group=groups,
            kernel_shape=list(weight.shape[2:]),
            strides=[1, stride],
        )

    def _log_sigmoid(self, x: str) -> str:
        return self._node("Neg", self._node("Softplus", self._node("Neg", x)))

    def _pool(self, pooling: Pooling, log_p: str) -> str:
        """log p [B, W, 1, T] → log scores [B, W, F]."""
        if isinstance(pooling, MaxPooling):
            return self._node(
                "Squeeze",
                self._node("MaxPool", log_p, kernel_shape=[1, pooling.window_frames]),
                _ints(2),
            )
        if isinstance(pooling, NoPooling):
            return self._node("Squeeze", self._slice(log_p, 3, pooling.window_frames - 1), _ints(2))
        windows = self._windows(log_p, pooling.window_frames)
        if isinstance(pooling, PowerPooling):
            n = pooling.n.item()
            return self._node(
                "Sub", self._log_sum_exp(windows, n + 1), self._log_sum_exp(windows, n)
            )
        assert isinstance(pooling, (GeMPooling, MeanPooling))
        q = pooling.q.item() if isinstance(pooling, GeMPooling) else 1.0
        mean = self._node(
            "Sub", self._log_sum_exp(windows, q), np.float32(np.log(pooling.window_frames))
        )
        return self._node("Div", mean, np.float32(q))

    def _windows(self, x: str, length: int) -> str:
        """[B, W, 1, T] → [B, W, length, F]: each window's frames, by a convolution with
        the identity."""
        words = len(self.config.words)
        identity = np.tile(np.eye(length, dtype=np.float32)[:, None, None], (words, 1, 1, 1))
        x = self._node("Conv", x, identity, group=words, kernel_shape=[1, length])
        return self._node("Reshape", x, _ints(0, words, length, -1))

    def _log_sum_exp(self, x: str, factor: float) -> str:
        return self._node(
            "ReduceLogSumExp", self._node("Mul", x, np.float32(factor)), axes=[2], keepdims=0
        )

    def _extend(self, x: str, axis: int, rank: int = 2) -> str:
        """x with its past in front along the last axis; the last frames become its next past."""
        length = self.contexts[len(self.new_states)].frames
        x = self._node("Concat", self.states[len(self.new_states)], x, axis=axis)
        self.new_states.append(self._slice(x, axis, -length))
        return x

    def _unpack_state(self) -> list[str]:
        sizes = _ints(*(context.size for context in self.contexts))
        parts = self._split("state", sizes)
        shapes = [context.shape for context in self.contexts]
        # The logits have an axis more here.
        targets = [(shape[0], 1, shape[1]) if len(shape) == 2 else shape for shape in shapes]
        return [
            self._node("Reshape", part, _ints(0, *target))
            for part, target in zip(parts, targets, strict=True)
        ]

    def _slice(self, x: str, axis: int, start: int, end: int = 2**62, step: int = 1) -> str:
        return self._node("Slice", x, _ints(start), _ints(end), _ints(axis), _ints(step))

    def _split(self, x: str, sizes: np.ndarray) -> list[str]:
        """Parts of these sizes along axis 1."""
        names = [f"split_{len(self.nodes)}_{i}" for i in range(len(sizes))]
        self._add("Split", (x, sizes), names, axis=1)
        return names

    def _node(self, kind: str, *inputs: object, output: str = "", **attributes: Any) -> str:
        name = output or f"{kind.lower()}_{len(self.nodes)}_0"
        self._add(kind, inputs, [name], **attributes)
        return name

    def _add(
        self, kind: str, inputs: Sequence[object], outputs: list[str], **attributes: Any
    ) -> None:
        self.nodes.append(
            helper.make_node(kind, [self._name(value) for value in inputs], outputs, **attributes)
        )

    def _name(self, value: object) -> str:
        """Inputs that are not tensor names become constants."""
        if isinstance(value, str):
            return value
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name


class _VerifierGraph(_Graph):
    """Gives, for each frame, log p of the letters, which are not pooled."""

    def __init__(self, network: ScanningCNN):
        super().__init__(network)
        self.contexts = self.contexts[:-1]

    def _shapes(self) -> dict[str, list[int]]:
        return {"phones": [len(self.config.words)]}

    def _outputs(self, x: str) -> None:
        phones, head = len(self.config.words), self.network.head
        logits = self._node(
            "Conv",
            x,
            head.weight[:phones].unsqueeze(2),
            bias_of(head)[:phones],
            kernel_shape=[1, 1],
        )
        self._write_phones(logits)


def _tensor(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
