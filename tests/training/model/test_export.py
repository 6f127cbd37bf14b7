"""The model file gives torch's scores; one that would not is never left behind."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import BANDS, WITH_PHONES, make_document, make_model, make_network

from kws.errors import KwsError, ModelError
from kws.runtime import engine
from kws.runtime.model_file import METADATA_KEY, read_model
from kws.runtime.tensors import TensorFile, unpack_tensors
from kws.runtime.verifier import Fusion
from kws.training.model.document import copy_with_document
from kws.training.model.export import TOLERANCE, check_against_torch, export
from kws.training.model.network import ScanningCNN
from kws.training.model.pooling import POOLINGS
from kws.training.model.pretrained import VerifierSpec


@pytest.fixture(params=["kernel", "numpy"])
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file is run by: the kernel of this installation, or numpy as without one."""
    if request.param == "numpy":
        monkeypatch.setattr(engine, "_has_kernel", lambda: False)


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (1, {}),
        *((3, {"pooling": name}) for name in POOLINGS),
        *((3, changes) for changes in (BANDS, {**BANDS, "mels": 13}, WITH_PHONES)),
    ],
    ids=str,
)
def test_model_file_equals_torch(words, changes, tmp_path):
    network = make_network(words, **changes)
    path = make_model(tmp_path, network)
    assert check_against_torch(network, read_model(path)) < TOLERANCE / 10


def test_model_file_carries_its_document(tmp_path):
    network, path = make_network(3), tmp_path / "deep" / "folder" / "model.kws"
    document = {**make_document(network, 0.75), "notes": "ünïcode", "sources": [{"licence": "CC0"}]}
    export(network, document, path)
    assert read_document(path) == json.loads(json.dumps(document))


def test_model_file_carries_its_verifier(tmp_path):
    """Phones are numbers in the order of the recognizer's; words without a pronunciation have an
    empty range."""
    recognizer = make_network(4, channels=16)  # whose words are four phones
    _, a, b, c = recognizer.config.words
    fusion = Fusion(scale=3.0, ceiling=-2.5, floor=-4.0)
    pronunciations = {"word0": ((a, b), (c,)), "word2": ((b, b, c),)}
    network, path = make_network(3), tmp_path / "model.kws"
    spec = VerifierSpec(recognizer, pronunciations, fusion, ({"licence": "CC0"},))
    export(network, make_document(network), path, spec)
    tensors = read(path).tensors
    assert tensors["verifier.first_pronunciation"].tolist() == [0, 2, 2, 3]
    assert tensors["verifier.first_phone"].tolist() == [0, 2, 3, 6]
    assert tensors["verifier.phone_numbers"].tolist() == [1, 2, 3, 2, 2, 3]
    assert tensors["verifier.fusion"].tolist() == [3.0, -2.5, -4.0]
    described = read_document(path)["verifier"]
    assert described["sources"] == [{"licence": "CC0"}]
    assert described["pronunciations"] == {"word0": [[a, b], [c]], "word2": [[b, b, c]]}
    assert check_against_torch(network, read_model(path)) <= TOLERANCE


def test_copy_with_another_document_has_the_same_tensors(tmp_path):
    source, out = make_model(tmp_path, make_network()), tmp_path / "copy.kws"
    source.with_suffix(".pt").write_bytes(b"its checkpoint")
    copy_with_document(source, {**read_document(source), "notes": "ünïcode"}, out)
    assert read_document(out) == {**read_document(source), "notes": "ünïcode"}
    before, after = (read(path).tensors for path in (source, out))
    assert before.keys() == after.keys() and len(before) > 5
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert out.with_suffix(".pt").read_bytes() == b"its checkpoint"


def test_export_is_quiet(tmp_path, capfd):
    make_model(tmp_path, make_network())
    assert capfd.readouterr() == ("", "")


def test_export_leaves_the_network_as_it_was(tmp_path):
    network = make_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    make_model(tmp_path, network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@torch.no_grad()
def scale_boundaries(network: ScanningCNN) -> None:
    """Seconds in the hundred thousands, which single precision does not resolve to 1e-4."""
    network.head.weight[1:] *= 1e6


@torch.no_grad()
def break_boundaries(network: ScanningCNN) -> None:
    network.head.weight[1] = float("nan")


@torch.no_grad()
def overflow_logits(network: ScanningCNN) -> None:
    network.head.bias[0] = float("inf")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (scale_boundaries, "differs from torch"),
        (break_boundaries, "training has diverged"),
        (overflow_logits, "training has diverged"),
    ],
)
@pytest.mark.parametrize("earlier", [False, True], ids=["new", "over an earlier model"])
def test_network_that_diverged_is_refused(spoil, message, earlier, tmp_path):
    path, network = tmp_path / "model.kws", make_network()
    if earlier:
        make_model(tmp_path, network)
    content = path.read_bytes() if earlier else None
    spoil(network)
    with pytest.raises(ModelError, match=message):
        export(network, make_document(network), path)
    assert [each.name for each in tmp_path.iterdir()] == (["model.kws"] if earlier else [])
    assert content is None or path.read_bytes() == content


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
    "name",
    [
        "input_norm.running_mean",
        "stem.conv.weight",
        "blocks.0.depthwise.norm.weight",
        "blocks.1.pointwise.conv.weight",
        "head.bias",
        "pooling.free",
        "bands.downsampling.0.conv.weight",
        "bands.downsampling.1.norm.bias",
        "bands.residual.2.norm.running_var",
    ],
)
def test_check_sees_a_change_in_any_layer(name, tmp_path):
    network = make_network(**BANDS if name.startswith("bands.") else {})
    path = make_model(tmp_path, network)
    with torch.no_grad():
        network.state_dict()[name].view(-1)[0] += 0.3
    with pytest.raises(ModelError, match="differs from torch"):
        check_against_torch(network, read_model(path))


@pytest.mark.parametrize(
    "place",
    ["file/model.kws", "file/deep/model.kws", "folder.kws"],
    ids=["under a file", "far under a file", "onto a folder"],
)
def test_place_that_cannot_be_written(place, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder.kws").mkdir()
    path: Path = tmp_path / place
    with pytest.raises(KwsError, match=r"(model|folder)\.kws: cannot be written"):
        make_model(path.parent, make_network(), path.stem)
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["file", "folder.kws"]


def read(path: Path) -> TensorFile:
    return unpack_tensors(path.read_bytes(), path)


def read_document(path: Path) -> dict:
    return json.loads(read(path).metadata[METADATA_KEY])
