"""The verifier: scores are held, gated, compared with phones and fused, the same for any chunks of
audio. The kernel and NumPy both follow a frame-by-frame reference."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import make_audio, make_model, make_network, make_verifier

from kws.runtime.ctc import compute_ctc_llr
from kws.runtime.engine import Engine
from kws.runtime.model_file import FORMAT, read_model
from kws.runtime.output import StepOutput, concatenate_outputs
from kws.runtime.verifier import (
    CONTEXT_FRAMES,
    END_TOLERANCE_FRAMES,
    GATE_SCORE,
    HOLD_FRAMES,
    Fusion,
    fuse,
)
from kws.training.evaluate.calibration import THRESHOLDS
from kws.training.model.document import copy_with_document
from kws.training.model.pretrained import VerifierSpec

PRONUNCIATIONS = {"word0": ("ban", "an"), "word1": ()}
EVERYTHING = (0.0, 0.0)  # gates
NOTHING = (np.inf, np.inf)


@pytest.fixture(scope="module")
def verifier_spec() -> VerifierSpec:
    return make_verifier(PRONUNCIATIONS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, verifier_spec: VerifierSpec) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return make_model(folder, make_network(2), verifier=verifier_spec)


def step(model: Path, audio: np.ndarray, gates: Sequence[float] | None = None) -> StepOutput:
    return Engine.load(model).open_stream(gates).step(audio)


def step_unverified(model: Path, audio: np.ndarray) -> StepOutput:
    return Engine.load(model, verifier=False).open_stream().step(audio)


@pytest.mark.parametrize("fusion", [Fusion(2.0, -1.5, -3.0), Fusion(3.0, -2.5, -4.0)])
def test_fusion_lowers_the_odds_of_a_score(fusion: Fusion) -> None:
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


def test_fusion_parameters_come_from_the_model_file(
    runner: str, verifier_spec: VerifierSpec, tmp_path: Path
) -> None:
    network, audio, scores = make_network(2), make_audio(3.0)[0], []
    for fusion in (Fusion(0.0, -1.5, -3.0), Fusion(2.0, 0.0, -3.0)):
        path = make_model(tmp_path, network, verifier=replace(verifier_spec, fusion=fusion))
        scores.append(step(path, audio, EVERYTHING).pooled[:, 0])
    unweighted, rescored = scores
    assert (rescored <= unweighted + 1e-6).all()
    assert (rescored < unweighted - 1e-3).any()


def recognize(verifier_spec: VerifierSpec, audio: np.ndarray, frame_samples: int) -> np.ndarray:
    """Log probabilities of the phones, by torch, of the frames in audio [F · frame_samples] and of
    the CONTEXT_FRAMES - 1 before them, which are silent as all that was before."""
    silence = np.zeros((CONTEXT_FRAMES + 300) * frame_samples, np.float32)
    before = torch.from_numpy(np.concatenate([silence, audio]))[None]
    with torch.no_grad():
        output, _ = verifier_spec.network(before, verifier_spec.network.initial_state())
    log_probs = output.logits[0].log_softmax(0).T.numpy()
    return log_probs[-(len(audio) // frame_samples + CONTEXT_FRAMES - 1) :]


@dataclass(frozen=True)
class Verified:
    """Scores [F] and boundaries [F, 2] of one word."""

    scores: np.ndarray
    boundaries: np.ndarray


def verify(
    model: Path, verifier_spec: VerifierSpec, audio: np.ndarray, word: int, gate: float
) -> Verified:
    """What the verifier is to give, frame by frame."""
    info, unverified = Engine.load(model).info, step_unverified(model, audio)
    scores, boundaries = unverified.pooled[:, word].copy(), unverified.boundaries[:, word].copy()
    phones = verifier_spec.network.config.words
    pronunciations = [[*map(phones.index, each)] for each in PRONUNCIATIONS[f"word{word}"]]
    log_probs = recognize(verifier_spec, audio, info.frame_samples)
    for frame in range(len(scores)):
        first = max(frame - HOLD_FRAMES + 1, 0)
        held = first + int(unverified.pooled[first : frame + 1, word].argmax())
        score = unverified.pooled[held, word]
        if score < gate or not pronunciations:
            continue
        context = log_probs[frame : frame + CONTEXT_FRAMES]
        ratios = [
            compute_ctc_llr(context, each, CONTEXT_FRAMES, END_TOLERANCE_FRAMES)
            for each in pronunciations
        ]
        scores[frame] = fuse(score[None], np.max(ratios, axis=0), verifier_spec.fusion)[0]
        age_seconds = (frame - held) * info.frame_seconds
        boundaries[frame] = unverified.boundaries[held, word] + age_seconds
    return Verified(scores, boundaries)


@pytest.mark.parametrize("gate", [0.0, GATE_SCORE, 0.45, np.inf])
def test_scores_and_boundaries_are_those_of_the_reference(
    runner: str, model: Path, verifier_spec: VerifierSpec, gate: float
) -> None:
    """A frame that holds the score of an earlier one holds its place in the recording, too. A word
    without pronunciations, here the second, is not verified."""
    audio = np.concatenate([make_audio(4.0)[0], make_audio(4.0, seed=5)[0]])
    audio = audio[: len(audio) // 320 * 320]
    output = step(model, audio, None if gate == GATE_SCORE else (gate, gate))
    unverified = step_unverified(model, audio)
    for word in range(2):
        expected = verify(model, verifier_spec, audio, word, gate)
        np.testing.assert_allclose(output.pooled[:, word], expected.scores, atol=1e-5)
        np.testing.assert_allclose(output.boundaries[:, word], expected.boundaries, atol=1e-5)
    is_verified = np.abs(output.pooled - unverified.pooled) > 1e-3
    assert is_verified.any(axis=0).tolist() == [gate < 1, False]
    np.testing.assert_array_equal(output.frames, unverified.frames)


def test_each_word_has_its_gate(runner: str, tmp_path: Path) -> None:
    verifier = make_verifier({"word0": ("ban",), "word1": ("nab",)})
    audio, path = make_audio(4.0)[0], make_model(tmp_path, make_network(2), verifier=verifier)
    both, first, second, none = (
        step(path, audio, gates).pooled
        for gates in (EVERYTHING, (0.0, np.inf), (np.inf, 0.0), NOTHING)
    )
    np.testing.assert_array_equal(first, np.stack([both[:, 0], none[:, 1]], axis=1))
    np.testing.assert_array_equal(second, np.stack([none[:, 0], both[:, 1]], axis=1))
    assert (np.abs(both - none).max(axis=0) > 1e-3).all()


@pytest.mark.parametrize("gates", [EVERYTHING, None, (0.6, 0.6)], ids=str)
@pytest.mark.parametrize("chunk_samples", [77, 320, 1280, 40_000])
def test_chunks_of_any_length_give_the_same_scores(
    runner: str, model: Path, chunk_samples: int, gates: Sequence[float] | None
) -> None:
    audio = np.concatenate([make_audio(4.0)[0], make_audio(4.0, seed=5)[0]])
    stream = Engine.load(model).open_stream(gates)
    chunks = concatenate_outputs(
        [stream.step(audio[at : at + chunk_samples]) for at in range(0, len(audio), chunk_samples)]
    )
    for values, expected in zip(chunks, step(model, audio, gates), strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("gap_seconds", [0.5, 1.9, 2.1, 4.0, 30.0])
def test_a_gap_between_high_scores_changes_no_score(
    runner: str, model: Path, verifier_spec: VerifierSpec, gap_seconds: float
) -> None:
    """Through a short gap the recognizer reads on, after a long one it begins anew."""
    gap = np.zeros(int(gap_seconds * 50) * 320, np.float32)
    sound = make_audio(1.0, seed=3)[0]
    audio, silent_score = np.concatenate([sound, gap, sound]), step(model, gap[:320]).pooled[0, 0]
    gate = silent_score + 0.1
    stream = Engine.load(model).open_stream((gate, gate))
    chunks = [stream.step(audio[at : at + 4000]) for at in range(0, len(audio), 4000)]
    expected = verify(model, verifier_spec, audio, 0, gate)
    actual = concatenate_outputs(chunks)
    np.testing.assert_allclose(actual.pooled[:, 0], expected.scores, atol=1e-5)
    np.testing.assert_allclose(actual.boundaries[:, 0], expected.boundaries, atol=1e-5)
    is_verified = np.abs(actual.pooled - step_unverified(model, audio).pooled)[:, 0] > 1e-4
    assert is_verified[:50].any() and is_verified[-50:].any()
    assert gap_seconds < 1 or not is_verified[75:-50].any()


def test_streams_are_independent(runner: str, model: Path) -> None:
    engine = Engine.load(model)
    audios = [make_audio(3.0, seed=seed)[0] for seed in (0, 5)]
    streams = [engine.open_stream(EVERYTHING) for _ in audios]
    pairs = [
        engine.step_many(streams, [audio[at : at + 1000] for audio in audios])
        for at in range(0, 48_000, 1000)
    ]
    for outputs, audio in zip(zip(*pairs, strict=True), audios, strict=True):
        expected = step(model, audio, EVERYTHING)
        np.testing.assert_allclose(concatenate_outputs(outputs).pooled, expected.pooled, atol=1e-5)


def test_low_scores_are_not_verified(runner: str, model: Path) -> None:
    audio = make_audio(3.0)[0]
    output, unverified = step(model, audio, NOTHING), step_unverified(model, audio)
    for values, expected in zip(output, unverified, strict=True):
        np.testing.assert_array_equal(values, expected)
    assert (np.abs(step(model, audio).pooled - unverified.pooled) > 1e-3).any()
    assert min(THRESHOLDS) >= GATE_SCORE  # no calibrated threshold is below the gate


def test_a_stream_needs_a_gate_for_each_word(runner: str, model: Path) -> None:
    for gates in ([0.5], [0.5] * 3, []):
        with pytest.raises(ValueError):
            Engine.load(model).open_stream(gates)


@pytest.mark.usefixtures("without_kernel")
def test_the_recognizer_reads_no_audio_twice(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In NumPy; the kernel's speed is measured in benchmarks/."""
    engine, audio, read = Engine.load(model), make_audio(8.0)[0], []
    recognizer = engine.runner.verifier.recognizer
    run = recognizer.run
    monkeypatch.setattr(
        recognizer, "run", lambda audio, state: (read.append(audio.shape[1]), run(audio, state))[1]
    )
    for gates, most_seconds in ((EVERYTHING, 8.0), (NOTHING, 0.0)):
        read.clear()
        stream = engine.open_stream(gates)
        for at in range(0, len(audio), 1280):
            stream.step(audio[at : at + 1280])
        context_seconds = CONTEXT_FRAMES * engine.info.frame_seconds + 1.0
        assert sum(read) / 16_000 <= most_seconds + context_seconds * (most_seconds > 0)
        assert bool(read) == (most_seconds > 0)


def test_the_caller_may_reuse_the_memory_of_the_audio(runner: str, model: Path) -> None:
    audio = make_audio(2.0)[0]
    expected = step(model, audio, EVERYTHING)
    buffer, stream = np.zeros(700, np.float32), Engine.load(model).open_stream(EVERYTHING)
    pooled = []
    for at in range(0, len(audio) - 699, 700):
        buffer[:] = audio[at : at + 700]
        pooled.append(stream.step(buffer).pooled)
        buffer[:] = np.nan
    actual = np.concatenate(pooled)
    np.testing.assert_allclose(actual, expected.pooled[: len(actual)], atol=1e-5)


def test_a_copy_with_another_description_keeps_the_verifier(
    runner: str, model: Path, tmp_path: Path
) -> None:
    info, audio, out = Engine.load(model).info, make_audio(2.0)[0], tmp_path / "calibrated.kws"
    copy_with_document(model, {**info.document, "weaknesses": ["many"]}, out)
    assert read_model(out).info.document["weaknesses"] == ["many"]
    assert read_model(out).info.document["format"] == FORMAT
    np.testing.assert_array_equal(step(out, audio).pooled, step(model, audio).pooled)
