"""A second opinion: the reader's likeness against brute force; the same scores for every way to cut
the audio."""

import itertools
import json
from dataclasses import astuple, replace

import numpy as np
import onnx
import pytest
import torch
from factories import make_audio, make_document, make_network

from kws.errors import ModelError
from kws.runtime import verifier
from kws.runtime.engine import Engine
from kws.runtime.model_file import FORMAT, METADATA_KEY, VERIFIER_KEY
from kws.runtime.verifier import GATE_SCORE, Fusion, compute_ctc_llr, fuse
from kws.training.evaluate.calibration import THRESHOLDS
from kws.training.model.document import copy_with_document
from kws.training.model.export import export
from kws.training.model.pretrained import VerifierSpec

PHONES = ("_", "a", "b", "n")
PRONUNCIATIONS = {"word0": ("ban", "an"), "word1": ()}


@pytest.fixture(scope="module")
def reading() -> VerifierSpec:
    network = make_network(len(PHONES), seed=7)
    network.config = replace(network.config, words=PHONES)
    return VerifierSpec(network, PRONUNCIATIONS)


@pytest.fixture(scope="module")
def model(tmp_path_factory, reading) -> str:
    network, path = make_network(2), tmp_path_factory.mktemp("models") / "reads.onnx"
    export(network, make_document(network), path, reading)
    return str(path)


def test_likeness_is_that_of_the_best_path_of_all(monkeypatch):
    monkeypatch.setattr(verifier, "CONTEXT_FRAMES", 6)
    monkeypatch.setattr(verifier, "END_TOLERANCE_FRAMES", 3)
    log_p = (
        torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
        .log_softmax(1)
        .numpy()
        .astype(np.float64)
    )
    for phones in ([1], [1, 2], [1, 1], [2, 1, 2]):
        expected = [
            best_path(log_p[at : at + 6], phones, end_tolerance=3) / len(phones) for at in range(3)
        ]
        np.testing.assert_allclose(compute_ctc_llr(log_p, phones), expected, atol=1e-12)


def best_path(log_p: np.ndarray, phones: list[int], end_tolerance: int) -> float:
    """By trying all stretches and all ways to name their frames."""
    loss = log_p - log_p.max(1, keepdims=True)
    best = -np.inf
    for first in range(len(loss)):
        for last in range(first, len(loss)):
            for path in (
                itertools.product(range(3), repeat=last - first + 1)
                if last >= len(loss) - end_tolerance
                else ()
            ):
                collapsed = [letter for letter, _ in itertools.groupby(path) if letter]
                if collapsed == phones and path[0] and path[-1]:
                    best = max(best, loss[np.arange(first, last + 1), path].sum())
    return best


def test_sounds_that_are_just_what_is_read_are_likeliest():
    log_p = np.full((verifier.CONTEXT_FRAMES + 4, 3), -9.0)
    log_p[:, 0] = -0.1
    log_p[80:83, 1] = log_p[86:90, 2] = 0.0
    llr = compute_ctc_llr(log_p, [1, 2])
    np.testing.assert_allclose(llr[:4], 0, atol=1e-12)
    assert (compute_ctc_llr(log_p, [2, 1]) < -1).all()


@pytest.mark.parametrize("fusion", [Fusion(2.0, -1.5, -3.0), Fusion(3.0, -2.5, -4.0)])
def test_a_score_is_weighed_by_its_odds(fusion):
    scale, ceiling, floor = astuple(fusion)
    scores, well_matched = np.array([0.0, 0.05, 0.5, 0.999, 1.0]), np.full(5, ceiling)
    np.testing.assert_array_equal(fuse(scores, well_matched, fusion), scores)
    # What is read better is not raised.
    np.testing.assert_array_equal(fuse(scores, well_matched + 1, fusion), scores)
    less, worst, nothing = fuse(
        np.array([0.5] * 3), np.array([ceiling - 0.25, floor, -np.inf]), fusion
    )
    assert less == pytest.approx(1 / (1 + np.exp(scale / 4)))
    assert worst == nothing == pytest.approx(1 / (1 + np.exp(scale * (ceiling - floor))))


def test_a_model_is_weighed_as_it_tells(reading, tmp_path, monkeypatch):
    monkeypatch.setattr(verifier, "GATE_SCORE", 0.0)
    network, audio, scores = make_network(2), make_audio(3.0), []
    for fusion in (Fusion(0.0, -1.5, -3.0), Fusion(2.0, 0.0, -3.0)):
        export(
            network,
            make_document(network),
            tmp_path / "reads.onnx",
            replace(reading, fusion=fusion),
        )
        engine = Engine.load(str(tmp_path / "reads.onnx"))
        scores.append(engine.step(audio, engine.initial_state())[0].pooled[..., 0])
    unweighted, rescored = scores
    assert (rescored <= unweighted + 1e-6).all()
    assert (rescored < unweighted - 1e-3).any()


def test_the_graph_reads_as_torch_does(model, reading):
    session, audio = Engine.load(model).verifier._session, make_audio(3.0)
    mine = session.run(
        ["phones"],
        {"audio": audio, "state": np.zeros((1, session.get_inputs()[1].shape[1]), np.float32)},
    )[0][0]
    config = reading.network.config
    frames = audio.shape[1] // config.frame_samples
    # So that the last frames end together.
    first = (audio.shape[1] - config.receptive_field_samples) % config.frame_samples
    with torch.no_grad():
        theirs = (
            reading.network.eval()(torch.from_numpy(audio[:, first:]))[0]
            .logits[0]
            .log_softmax(0)
            .T.numpy()
        )
    assert len(mine) == frames > len(theirs) > 50
    np.testing.assert_allclose(mine[-len(theirs) :], theirs, atol=1e-4)


@pytest.mark.parametrize("chunk_samples", [77, 320, 1280, 40_000])
def test_scores_are_the_same_for_every_way_to_cut_the_audio(model, monkeypatch, chunk_samples):
    monkeypatch.setattr(verifier, "GATE_SCORE", 0.0)  # asked at every frame
    engine = Engine.load(model)
    audio = np.concatenate([make_audio(4.0), make_audio(4.0, seed=5)])
    whole, _ = engine.step(audio, engine.initial_state(2))
    state, parts = engine.initial_state(2), []
    for at in range(0, audio.shape[1], chunk_samples):
        step, state = engine.step(audio[:, at : at + chunk_samples], state)
        parts.append(step)
    for mine, theirs in zip(zip(*parts, strict=True), whole, strict=True):
        np.testing.assert_allclose(np.concatenate(mine, axis=1), theirs, atol=1e-5)
    assert all(state.verifier_state.recognizer_states)  # what was read is gone on from
    without_verifier, _ = Engine.load(model, verifier=False).step(audio, engine.initial_state(2))
    # Of the word whose sounds are known.
    assert (np.abs(whole.pooled - without_verifier.pooled) > 1e-3)[..., 0].any()
    np.testing.assert_array_equal(whole.pooled[..., 1], without_verifier.pooled[..., 1])


def test_a_held_score_says_where_the_word_was(model, monkeypatch):
    """A frame that passes on the score of an earlier one passes on its place, too: start and end in
    the recording stay the same."""
    monkeypatch.setattr(verifier, "GATE_SCORE", 0.0)
    engine, audio = Engine.load(model), make_audio(4.0)
    recognizer_states, without_verifier = (
        each.step(audio, each.initial_state())[0]
        for each in (engine, Engine.load(model, verifier=False))
    )
    times = np.arange(recognizer_states.boundaries.shape[1]) * engine.info.frame_seconds
    starts, own = (
        times - each.boundaries[0, :, 0, 0] for each in (recognizer_states, without_verifier)
    )
    for frame in range(verifier.HOLD_FRAMES, len(times)):
        loudest = (
            frame
            - verifier.HOLD_FRAMES
            + 1
            + without_verifier.pooled[0, frame - verifier.HOLD_FRAMES + 1 : frame + 1, 0].argmax()
        )
        assert starts[frame] == pytest.approx(own[loudest], abs=1e-5)


def test_streams_of_a_batch_do_not_hear_each_other(model, monkeypatch):
    monkeypatch.setattr(verifier, "GATE_SCORE", 0.0)
    engine = Engine.load(model)
    first, second = make_audio(3.0), make_audio(3.0, seed=5)
    both, _ = engine.step(np.concatenate([first, second]), engine.initial_state(2))
    for row, audio in enumerate((first, second)):
        np.testing.assert_allclose(
            engine.step(audio, engine.initial_state())[0].pooled[0], both.pooled[row], atol=1e-5
        )


def test_low_scores_are_not_read(model, monkeypatch):
    engine = Engine.load(model)
    monkeypatch.setattr(verifier, "GATE_SCORE", 1.1)
    whole, _ = engine.step(make_audio(3.0), engine.initial_state())
    assert "_session" not in vars(engine.verifier)
    np.testing.assert_array_equal(
        whole.pooled,
        Engine.load(model, verifier=False).step(make_audio(3.0), engine.initial_state())[0].pooled,
    )
    assert min(THRESHOLDS) >= GATE_SCORE  # of those that a calibration knows, none is lower


def test_memory_may_be_used_again_after_a_step(model, monkeypatch):
    monkeypatch.setattr(verifier, "GATE_SCORE", 0.0)
    engine, audio = Engine.load(model), make_audio(2.0)
    expected, _ = engine.step(audio, engine.initial_state())
    buffer, state, parts = np.zeros((1, 700), np.float32), engine.initial_state(), []
    for at in range(0, audio.shape[1] - 699, 700):
        buffer[:] = audio[:, at : at + 700]
        step, state = engine.step(buffer, state)
        parts.append(step.pooled)
    verifier_state = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(
        verifier_state, expected.pooled[:, : verifier_state.shape[1]], atol=1e-5
    )


def test_calibrating_keeps_the_reader(model, tmp_path):
    out = tmp_path / "calibrated.onnx"
    copy_with_document(Engine.load(model).info.path, Engine.load(model).info.document, out)
    assert Engine.load(str(out)).verifier is not None
    assert Engine.load(str(out)).info.document["format"] == FORMAT


@pytest.mark.parametrize(
    "damage",
    [
        lambda document, graph: ({**document, "verifier": None}, graph),
        lambda document, graph: (document, None),
        lambda document, graph: (document, "no base64!"),
        lambda document, graph: (
            {
                **document,
                "verifier": {**document["verifier"], "pronunciations": {"word0": ["xyz"]}},
            },
            graph,
        ),
        lambda document, graph: ({**document, "verifier": {"phones": "_ab"}}, graph),
        lambda document, graph: (
            {**document, "verifier": {**document["verifier"], "fusion": None}},
            graph,
        ),
        lambda document, graph: (
            {**document, "verifier": {**document["verifier"], "fusion": {"scale": "much"}}},
            graph,
        ),
        lambda document, graph: (
            {**document, "verifier": {**document["verifier"], "fusion": {"mass": 1.0}}},
            graph,
        ),
    ],
)
def test_a_damaged_reader_is_told(model, tmp_path, damage):
    onnx_model = onnx.load(model)
    values = {each.key: each.value for each in onnx_model.metadata_props}
    document, graph = damage(json.loads(values[METADATA_KEY]), values[VERIFIER_KEY])
    onnx.helper.set_model_props(
        onnx_model,
        {METADATA_KEY: json.dumps(document)} | ({} if graph is None else {VERIFIER_KEY: graph}),
    )
    path = tmp_path / "damaged.onnx"
    path.write_bytes(onnx_model.SerializeToString())
    with pytest.raises(ModelError, match="its verifier is damaged"):
        Engine.load(str(path))
