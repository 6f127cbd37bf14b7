"""Why the exported graph is shaped as it is: a model file against the same network written in
other ways.

    python experiments/graph.py [MODEL]

The model file is rewritten, without changing its scores: with 3-D convolutions, [B, C, T] in place
of [B, C, 1, T]; and with one tensor for each layer's share of the state in place of a flat one. All
are timed in turn on one thread; the least of the rounds counts.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from kws.runtime.model_file import find_model

RATE = 16_000
CHUNKS = {"80 ms": 1_280, "1 s": 16_000, "10 s": 160_000}  # samples
SCORES = 3  # outputs before the state
ROUND_SECONDS = 60  # audio each round hears
ROUNDS = 9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="welcome", help="name or path of a model file")
    path = find_model(parser.parse_args().model)
    rewritings = {
        "as shipped": lambda model: None,
        "3-D convolutions": remove_height,
        "separate states": separate_state,
    }
    variants = {
        name: Variant(rewritten(onnx.load(path), rewrite)) for name, rewrite in rewritings.items()
    }
    check(list(variants.values()))
    print(f"{path.name}: CPU ms per second of audio, one thread (ratio to the file as shipped)")
    for name, samples in CHUNKS.items():
        costs = {each: 1e3 * seconds for each, seconds in measure(variants, samples).items()}
        print(
            f"{name:>6} chunks: "
            + ", ".join(
                f"{each} {cost:.2f} ({cost / costs['as shipped']:.2f})"
                for each, cost in costs.items()
            )
        )


def rewritten(model: onnx.ModelProto, rewrite: Callable[[onnx.ModelProto], None]) -> bytes:
    rewrite(model)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


class Variant:
    """A graph that is stepped from zeros; its state is whatever it takes besides audio."""

    def __init__(self, model: bytes):
        import onnxruntime  # after kws, which keeps it from reporting to its maker

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        inputs = [each for each in self._session.get_inputs() if each.name != "audio"]
        self._state = {each.name: np.zeros((1, *each.shape[1:]), np.float32) for each in inputs}

    def step(self, audio: np.ndarray) -> list[np.ndarray]:
        outputs = self._session.run(None, {"audio": audio, **self._state})
        self._state = dict(zip(self._state, outputs[SCORES:], strict=True))
        return outputs[:SCORES]


def check(variants: list[Variant]) -> None:
    """All give the same scores, chunk after chunk."""
    for audio in np.split(noise(48_000), 3, axis=1):
        first, *others = (each.step(audio) for each in variants)
        for other in others:
            for expected, actual in zip(first, other, strict=True):
                np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)


def measure(variants: dict[str, Variant], samples: int) -> dict[str, float]:
    """CPU seconds per second of audio, taken in turns so that what disturbs the machine
    disturbs all."""
    chunk, steps = noise(samples), ROUND_SECONDS * RATE // samples
    least = dict.fromkeys(variants, np.inf)
    for _ in range(ROUNDS):
        for name, variant in variants.items():
            begin = time.process_time()
            for _ in range(steps):
                variant.step(chunk)
            least[name] = min(least[name], (time.process_time() - begin) / ROUND_SECONDS)
    return least


def noise(samples: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((1, samples), dtype=np.float32)


def remove_height(model: onnx.ModelProto) -> None:
    """Takes the axis of length 1 out of the weights, the state and every node that names an axis
    behind it."""
    graph, constants = model.graph, {each.name: each for each in model.graph.initializer}
    passed_on = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type in ("Unsqueeze", "Squeeze")
    }
    split = next(node for node in graph.node if "state" in node.input)
    for node in graph.node:
        node.input[:] = [passed_on.get(name, name) for name in node.input]
        attributes = {each.name: each for each in node.attribute}
        if node.op_type in ("Conv", "MaxPool"):
            for name in {"kernel_shape", "strides"} & attributes.keys():
                del attributes[name].ints[0]
        if node.op_type == "Conv":
            del constants[node.input[1]].dims[2]
        if node.op_type == "Concat":
            attributes["axis"].i = min(attributes["axis"].i, 2)
        if node.op_type == "Slice":
            _change(constants[node.input[3]], lambda axis: np.minimum(axis, 2))
        if node.op_type == "Reshape" and node.input[0] in split.output[1:]:
            _change(constants[node.input[1]], lambda shape: np.delete(shape, 2))
    _keep(graph, lambda node: node.output[0] not in passed_on)


def separate_state(model: onnx.ModelProto) -> None:
    """The parts into which the state is split become inputs, those of which the new state is made
    become outputs."""
    graph, constants = model.graph, {each.name: each for each in model.graph.initializer}
    split = next(node for node in graph.node if "state" in node.input)
    pack = next(node for node in graph.node if "new_state" in node.output)
    unpacked = [node for node in graph.node if node.input[0] in split.output]
    packed = [node for node in graph.node if node.output[0] in pack.input]
    shapes = [
        ["batch", *numpy_helper.to_array(constants[node.input[1]])[1:].tolist()]
        for node in unpacked
    ]
    for values, kept, names in (
        (graph.input, 1, [node.output[0] for node in unpacked]),
        (graph.output, SCORES, [node.input[0] for node in packed]),
    ):
        del values[kept:]
        values.extend(
            onnx.helper.make_tensor_value_info(*each)
            for each in zip(names, [1] * len(names), shapes, strict=True)
        )
    gone = {node.output[0] for node in (split, pack, *unpacked, *packed)}
    _keep(graph, lambda node: node.output[0] not in gone)


def _change(constant: onnx.TensorProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    constant.CopyFrom(
        numpy_helper.from_array(change(numpy_helper.to_array(constant)), constant.name)
    )


def _keep(graph: onnx.GraphProto, wanted: Callable[[onnx.NodeProto], bool]) -> None:
    """Only the wanted nodes, and the constants they read."""
    nodes = [node for node in graph.node if wanted(node)]
    read = {name for node in nodes for name in node.input}
    constants = [each for each in graph.initializer if each.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)


if __name__ == "__main__":
    main()
