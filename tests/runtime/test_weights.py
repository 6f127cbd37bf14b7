"""Model files with smaller weights: near the original, and the same for all that read them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kws.audio.recordings import read
from kws.runtime import engine
from kws.runtime.comparison import largest_difference, scores_of_file
from kws.runtime.model_file import ModelFile, find_model, parse_model, read_model
from kws.runtime.tensors import unpack_tensors
from kws.runtime.weights import WeightType, pack_with_weights

ROOT = Path(__file__).parents[2]
KINDS: list[WeightType] = ["float16", "int8"]


@pytest.fixture(scope="module")
def welcome() -> ModelFile:
    return read_model(find_model(ROOT / "models" / "welcome.kws"))


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    return read(ROOT / "recordings" / "absent.wav")[None]


def shrink(model_file: ModelFile, kind: WeightType) -> ModelFile:
    return parse_model(pack_with_weights(model_file, kind), Path("small.kws"))


@pytest.mark.parametrize(("kind", "share"), [("float16", 0.55), ("int8", 0.35)])
def test_file_is_smaller_and_says_so(welcome: ModelFile, kind: WeightType, share: float) -> None:
    small = shrink(welcome, kind)
    assert len(small.data) < share * len(welcome.data)
    assert small.info.document == {**welcome.info.document, "weights": kind}


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_and_filters_alone_are_smaller(welcome: ModelFile, kind: WeightType) -> None:
    stored = unpack_tensors(pack_with_weights(welcome, kind), Path("small.kws")).tensors
    types = {name: str(stored[name].dtype) for name in welcome.tensors}
    weights = {name for name in types if name.endswith(".weight")}
    filters = {name for name in weights if "depthwise" in name or "bands" in name}
    assert filters and {types[name] for name in filters} == {"float16"}
    assert {types[name] for name in weights - filters} == {kind}
    for name in welcome.tensors.keys() - weights:
        assert stored[name].dtype == welcome.tensors[name].dtype
        np.testing.assert_array_equal(stored[name], welcome.tensors[name])


def test_int8_is_within_half_a_step_of_its_row(welcome: ModelFile) -> None:
    name = "network.stem.weight"
    weight = welcome.tensors[name].copy()
    weight[0], weight[1, 0] = 0, 5  # a row without a largest number, and one with an odd one
    changed = replace(welcome, tensors={**welcome.tensors, name: weight})
    back = shrink(changed, "int8").tensors[name]
    step = np.abs(weight).max(axis=(1, 2)) / 127
    assert (np.abs(back - weight).max(axis=(1, 2)) <= step / 2 + 1e-6).all()
    assert not back[0].any()


@pytest.mark.parametrize(("kind", "tolerance"), [("float16", 0.005), ("int8", 0.05)])
def test_scores_differ_a_little(
    welcome: ModelFile, audio: np.ndarray, kind: WeightType, tolerance: float
) -> None:
    exact, near = (scores_of_file(each, audio) for each in (welcome, shrink(welcome, kind)))
    assert exact.pooled.max() > 0.5
    assert 0 < np.abs(exact.pooled - near.pooled).max() < tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_reads_what_the_kernel_reads(
    welcome: ModelFile, audio: np.ndarray, kind: WeightType, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = shrink(welcome, kind)
    usual = scores_of_file(small, audio)
    monkeypatch.setattr(engine, "_has_kernel", lambda: False)
    assert largest_difference(usual, scores_of_file(small, audio)) < 1e-4
