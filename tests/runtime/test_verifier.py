"""The verifier: scores are held, gated, compared with phones and fused, the same for any chunks of
audio."""

import json
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from factories import make_audio, make_document, make_network

from kws.errors import ModelError
from kws.runtime import verifier
from kws.runtime.engine import Engine
from kws.runtime.model_file import FORMAT, METADATA_KEY, VERIFIER_KEY
from kws.runtime.verifier import GATE_SCORE, Fusion, fuse
from kws.training.evaluate.calibration import THRESHOLDS
from kws.training.model.document import copy_with_document
from kws.training.model.export import export
from kws.training.model.pretrained import VerifierSpec

PHONES = ("_", "a", "b", "n")
PRONUNCIATIONS = {"word0": ("ban", "an"), "word1": ()}


@pytest.fixture(scope="module")
def verifier_spec() -> VerifierSpec:
    network = make_network(len(PHONES), seed=7)
    network.config = replace(network.config, words=PHONES)
    return VerifierSpec(network, PRONUNCIATIONS)


@pytest.fixture(scope="module")
def model(tmp_path_factory, verifier_spec) -> Path:
    network, path = make_network(2), tmp_path_factory.mktemp("models") / "model.onnx"
    export(network, make_document(network), path, verifier_spec)
    return path


@pytest.mark.parametrize("fusion", [Fusion(2.0, -1.5, -3.0), Fusion(3.0, -2.5, -4.0)])
def test_fusion_lowers_the_odds_of_a_score(fusion):
    scale, ceiling, floor = astuple(fusion)
    scores, well_matched = np.array([0.0, 0.05, 0.5, 0.999, 1.0]), np.full(5, ceiling)
    np.testing.assert_array_equal(fuse(scores, well_matched, fusion), scores)
    # A ratio above the ceiling does not raise a score.
    np.testing.assert_array_equal(fuse(scores, well_matched + 1, fusion), scores)
    less, worst, nothing = fuse(
        np.array([0.5] * 3), np.array([ceiling - 0.25, floor, -np.inf]), fusion
    )
    assert less == pytest.approx(1 / (1 + np.exp(scale / 4)))
    assert worst == nothing == pytest.approx(1 / (1 + np.exp(scale * (ceiling - floor))))


@pytest.mark.slow
def test_fusion_parameters_come_from_the_model_file(verifier_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(verifier, "GATE_SCORE", 0.0)
    network, audio, scores = make_network(2), make_audio(3.0), []
    for fusion in (Fusion(0.0, -1.5, -3.0), Fusion(2.0, 0.0, -3.0)):
        export(
            network,
            make_document(network),
            tmp_path / "model.onnx",
            replace(verifier_spec, fusion=fusion),
        )
        engine = Engine.load(tmp_path / "model.onnx")
        scores.append(engine.step(audio, engine.initial_state())[0].pooled[..., 0])
    unweighted, rescored = scores
    assert (rescored <= unweighted + 1e-6).all()
    assert (rescored < unweighted - 1e-3).any()


def test_recognizer_graph_equals_torch(model, verifier_spec):
    recognizer, audio = Engine.load(model).verifier.recognizer, make_audio(3.0)
    actual, _ = recognizer.run(audio[0], recognizer.initial_state())
    config = verifier_spec.network.config
    # So that the last frames end together.
    first = (audio.shape[1] - config.receptive_field_samples) % config.frame_samples
    with torch.no_grad():
        output, _ = verifier_spec.network.eval()(torch.from_numpy(audio[:, first:]))
    expected = output.logits[0].log_softmax(0).T.numpy()
    assert len(actual) == audio.shape[1] // config.frame_samples > len(expected) > 50
    np.testing.assert_allclose(actual[-len(expected) :], expected, atol=1e-4)


@pytest.mark.parametrize("chunk_samples", [77, 320, 1280, 40_000])
def test_chunks_of_any_length_give_the_same_scores(model, monkeypatch, chunk_samples):
    monkeypatch.setattr(verifier, "GATE_SCORE", 0.0)  # every frame is verified
    engine = Engine.load(model)
    audio = np.concatenate([make_audio(4.0), make_audio(4.0, seed=5)])
    whole, _ = engine.step(audio, engine.initial_state(2))
    state, parts = engine.initial_state(2), []
    for at in range(0, audio.shape[1], chunk_samples):
        step, state = engine.step(audio[:, at : at + chunk_samples], state)
        parts.append(step)
    for chunks, expected in zip(zip(*parts, strict=True), whole, strict=True):
        np.testing.assert_allclose(np.concatenate(chunks, axis=1), expected, atol=1e-5)
    assert all(state.verifier_state.phone_caches)  # the recognizer goes on from its last state
    without_verifier, _ = Engine.load(model, verifier=False).step(audio, engine.initial_state(2))
    # Of the word with known pronunciations only.
    assert (np.abs(whole.pooled - without_verifier.pooled) > 1e-3)[..., 0].any()
    np.testing.assert_array_equal(whole.pooled[..., 1], without_verifier.pooled[..., 1])


def test_a_held_score_keeps_its_boundaries(model, monkeypatch):
    """A frame that holds the score of an earlier one holds its start in the recording, too."""
    monkeypatch.setattr(verifier, "GATE_SCORE", 0.0)
    audio = make_audio(4.0)
    verified, unverified = (
        engine.step(audio, engine.initial_state())[0]
        for engine in (Engine.load(model), Engine.load(model, verifier=False))
    )
    times = np.arange(verified.boundaries.shape[1]) * Engine.load(model).info.frame_seconds
    held_starts = times - verified.boundaries[0, :, 0, 0]
    starts = times - unverified.boundaries[0, :, 0, 0]
    for frame in range(verifier.HOLD_FRAMES, len(times)):
        first = frame - verifier.HOLD_FRAMES + 1
        highest = first + unverified.pooled[0, first : frame + 1, 0].argmax()
        assert held_starts[frame] == pytest.approx(starts[highest], abs=1e-5)


def test_streams_of_a_batch_are_independent(model, monkeypatch):
    monkeypatch.setattr(verifier, "GATE_SCORE", 0.0)
    engine = Engine.load(model)
    first, second = make_audio(3.0), make_audio(3.0, seed=5)
    both, _ = engine.step(np.concatenate([first, second]), engine.initial_state(2))
    for row, audio in enumerate((first, second)):
        np.testing.assert_allclose(
            engine.step(audio, engine.initial_state())[0].pooled[0], both.pooled[row], atol=1e-5
        )


def test_low_scores_are_not_verified(model, monkeypatch):
    engine = Engine.load(model)
    monkeypatch.setattr(verifier, "GATE_SCORE", 1.1)
    whole, _ = engine.step(make_audio(3.0), engine.initial_state())
    assert "session" not in vars(engine.verifier.recognizer)
    np.testing.assert_array_equal(
        whole.pooled,
        Engine.load(model, verifier=False).step(make_audio(3.0), engine.initial_state())[0].pooled,
    )
    assert min(THRESHOLDS) >= GATE_SCORE  # no calibrated threshold is below the gate


def test_the_caller_may_reuse_the_memory_of_the_audio(model, monkeypatch):
    monkeypatch.setattr(verifier, "GATE_SCORE", 0.0)
    engine, audio = Engine.load(model), make_audio(2.0)
    expected, _ = engine.step(audio, engine.initial_state())
    buffer, state, parts = np.zeros((1, 700), np.float32), engine.initial_state(), []
    for at in range(0, audio.shape[1] - 699, 700):
        buffer[:] = audio[:, at : at + 700]
        step, state = engine.step(buffer, state)
        parts.append(step.pooled)
    actual = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(actual, expected.pooled[:, : actual.shape[1]], atol=1e-5)


def test_a_copy_with_another_description_keeps_the_verifier(model, tmp_path):
    out = tmp_path / "calibrated.onnx"
    copy_with_document(Engine.load(model).info.path, Engine.load(model).info.document, out)
    assert Engine.load(str(out)).verifier is not None
    assert Engine.load(str(out)).info.document["format"] == FORMAT


@pytest.mark.parametrize(
    ("changes", "graph"),
    [
        ({"fusion": None}, ...),
        ({"fusion": {"scale": "much"}}, ...),
        ({"fusion": {"mass": 1.0}}, ...),
        ({"pronunciations": {"word0": ["xyz"]}}, ...),
        ({"pronunciations": None}, ...),
        (None, ...),
        ({}, None),
        ({}, "no base64!"),
    ],
)
def test_a_damaged_verifier_is_refused(model, tmp_path, changes, graph):
    """changes: to its description, None where there is none. graph: ... leaves it as it is."""
    onnx_model = onnx.load(model)
    metadata = {each.key: each.value for each in onnx_model.metadata_props}
    document = json.loads(metadata[METADATA_KEY])
    document["verifier"] = None if changes is None else {**document["verifier"], **changes}
    metadata[METADATA_KEY] = json.dumps(document)
    if graph is None:
        del metadata[VERIFIER_KEY]
    elif graph is not ...:
        metadata[VERIFIER_KEY] = graph
    onnx.helper.set_model_props(onnx_model, metadata)
    path = tmp_path / "damaged.onnx"
    path.write_bytes(onnx_model.SerializeToString())
    with pytest.raises(ModelError, match="its verifier is damaged"):
        Engine.load(path)
