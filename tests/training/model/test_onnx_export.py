"""A model as ONNX gives the scores of the kernel, in ONNX Runtime."""

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from factories import BANDS, WITH_PHONES, make_audio, make_model, make_network

from kws.audio.recordings import read
from kws.errors import ModelError
from kws.runtime.comparison import scores_of_file
from kws.runtime.model_file import ModelFile, find_model, read_model
from kws.runtime.numpy_network import NumpyNetwork
from kws.training.model.onnx_export import VERIFIER_KEY, export_onnx

RECORDINGS = sorted((Path(__file__).parents[3] / "recordings").glob("*.wav"))


@dataclass
class Exported:
    """A model file, and the graph that it became."""

    model_file: ModelFile
    path: Path

    def __post_init__(self) -> None:
        self.session = onnxruntime.InferenceSession(self.path)
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        self.document = json.loads(self.metadata["kws"])

    @property
    def output_names(self) -> list[str]:
        return [output.name for output in self.session.get_outputs()]

    def scan(self, audio: np.ndarray, blocks: int = 1) -> dict[str, np.ndarray]:
        """Scores [B, F, ...] of whole frames of audio [B, n] in so many blocks, from silence on."""
        state = np.zeros((len(audio), self.document["state_size"]), np.float32)
        silence = np.zeros((len(audio), self.whole(self.document["context_samples"] + 320)))
        *_, state = self.session.run(None, {"audio": silence.astype(np.float32), "state": state})
        scores = []
        for block in np.array_split(audio.reshape(len(audio), -1, 320), blocks, axis=1):
            *outputs, state = self.session.run(
                None, {"audio": block.reshape(len(audio), -1), "state": state}
            )
            scores.append(outputs)
        joined = [np.concatenate(parts, axis=1) for parts in zip(*scores, strict=True)]
        return dict(zip(self.output_names, joined, strict=False))

    @staticmethod
    def whole(samples: int) -> int:
        return samples // 320 * 320


def assert_same(exported: Exported, audio: np.ndarray, blocks: int = 1) -> None:
    scores = exported.scan(audio, blocks)
    expected = scores_of_file(exported.model_file, audio)._asdict()
    for name in exported.output_names[:-1]:
        actual, wanted = scores[name], expected[name]
        if name == "phones":
            actual, wanted = np.exp(actual), np.exp(wanted)
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("random")
    model_file = read_model(make_model(folder, make_network(3, **BANDS, **WITH_PHONES)))
    export_onnx(model_file, folder / "deep" / "model.onnx")
    return Exported(model_file, folder / "deep" / "model.onnx")


@pytest.fixture(scope="module")
def welcome(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path, model_file = tmp_path_factory.mktemp("onnx") / "w.onnx", read_model(find_model("welcome"))
    export_onnx(model_file, path)
    return Exported(model_file, path)


@pytest.mark.parametrize("blocks", [1, 7])
@pytest.mark.parametrize("batch", [1, 3])
def test_random_network_gives_the_scores_of_the_kernel(
    random: Exported, batch: int, blocks: int
) -> None:
    audio = make_audio(2.0, batch=batch, seed=batch)
    assert random.scan(audio)["pooled"].std() > 0.01
    assert_same(random, audio, blocks)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_shipped_model_gives_the_scores_of_the_kernel(welcome: Exported, path: Path) -> None:
    samples = read(path)
    audio = samples[None, : welcome.whole(len(samples))]
    assert welcome.scan(audio)["pooled"].max() > 0.5
    assert_same(welcome, audio, blocks=5)


def test_verifier_gives_the_phones_of_the_model_file(welcome: Exported) -> None:
    graph = base64.b64decode(welcome.metadata[VERIFIER_KEY])
    session = onnxruntime.InferenceSession(graph)
    audio = read(RECORDINGS[0])[None, : 320 * 100]
    state = np.zeros((1, session.get_inputs()[1].shape[1]), np.float32)
    phones, _ = session.run(["phones", "new_state"], {"audio": audio, "state": state})
    network = NumpyNetwork(welcome.model_file.tensors_of("verifier"))
    expected, _ = network.run(audio, network.empty_state(1))
    np.testing.assert_allclose(np.exp(phones), np.exp(expected["phones"]), rtol=0, atol=1e-5)
    assert phones.shape[2] == len(welcome.document["verifier"]["phones"])


def test_metadata_is_the_document(welcome: Exported, random: Exported) -> None:
    for exported in (welcome, random):
        document = dict(exported.document)
        assert exported.session.get_inputs()[1].shape[1] == document.pop("state_size")
        assert document == exported.model_file.info.document
    assert VERIFIER_KEY not in random.metadata
    assert random.output_names == ["pooled", "frames", "boundaries", "phones", "new_state"]


def test_graphs_hold_nothing_of_the_machine(welcome: Exported) -> None:
    """The exporter notes where in which file each node comes from."""
    verifier = onnx.load_from_string(base64.b64decode(welcome.metadata[VERIFIER_KEY]))
    for model in (onnx.load(welcome.path), verifier):
        assert b"site-packages" not in model.SerializeToString()
        assert not any(node.metadata_props for node in model.graph.node)


def test_network_that_torch_does_not_run_is_refused(random: Exported, tmp_path: Path) -> None:
    window = np.linspace(0, 1, 400, dtype=np.float32)
    tensors = {**random.model_file.tensors, "network.frontend.window": window}
    with pytest.raises(ModelError, match=r"model\.kws: cannot become ONNX: the analysis window"):
        export_onnx(replace(random.model_file, tensors=tensors), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
