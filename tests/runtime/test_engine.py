"""What runs a model: the kernel, or NumPy where its library is missing. Both give the same scores,
however the samples of a stream are cut, copied and sent."""

import json
import logging
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy
from pathlib import Path

import numpy as np
import pytest
from factories import BANDS, WITH_PHONES, make_audio, make_model, make_network, make_verifier
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kws.audio.recordings import read
from kws.errors import ModelError
from kws.runtime import engine as engines
from kws.runtime.engine import Engine, EngineStream
from kws.runtime.kernel import KernelModel, library_path
from kws.runtime.output import StepOutput, concatenate_outputs
from kws.runtime.python_stream import PythonModel
from kws.runtime.spotter import Spotter

ROOT = Path(__file__).parents[2]
RECORDINGS = sorted((ROOT / "recordings").glob("*.wav"))
GATES = (0.3, 0.3)  # a fifth of the frames of `audio` are verified


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two words, of which the first is verified, and phones."""
    network = make_network(2, **BANDS, **WITH_PHONES)
    verifier = make_verifier({"word0": ("ban",)})
    return make_model(tmp_path_factory.mktemp("models"), network, verifier=verifier)


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """Six seconds in steps of 16 bits."""
    samples = np.clip(make_audio(6.0, seed=1)[0], -1, 1)
    return (np.round(samples * 32767) / 32768).astype(np.float32)


def assert_close(actual: StepOutput, expected: StepOutput) -> None:
    for name, values, others in zip(StepOutput._fields, actual, expected, strict=True):
        # Log probabilities may be large.
        tolerance = 1e-4 if name == "phones" else 1e-5
        np.testing.assert_allclose(values, others, rtol=0, atol=tolerance, err_msg=name)


def open_both(path: Path, gates: tuple[float, ...] | None = None) -> list[EngineStream]:
    """Streams of the kernel and of NumPy."""
    streams = [Engine.load(path).open_stream(gates)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "_has_kernel", lambda: False)
        streams.append(Engine.load(path).open_stream(gates))
    kinds = [type(stream._engine.runner) for stream in streams]
    assert kinds == [KernelModel, PythonModel]
    return streams


@pytest.mark.slow
@pytest.mark.parametrize("gates", [None, (0.01,)], ids=["default gate", "low gate"])
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_numpy_gives_the_scores_of_the_kernel(path: Path, gates: tuple[float, ...] | None) -> None:
    kernel, in_numpy = open_both(ROOT / "models" / "welcome.kws", gates)
    samples = read(path)
    assert_close(in_numpy.step(samples), kernel.step(samples))


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["gem", "max", "mean", "power", "none"])
@pytest.mark.parametrize("changes", [{}, BANDS, WITH_PHONES], ids=str)
def test_numpy_runs_every_kind_of_network(tmp_path: Path, changes: dict, pooling: str) -> None:
    network = make_network(3, seed=2, pooling=pooling, **changes)
    verifier = make_verifier({"word0": ("ban", "a"), "word2": ("nab",)}, **BANDS)
    audio, path = make_audio(3.0, seed=3)[0], make_model(tmp_path, network, verifier=verifier)
    unverified, ours = (stream.step(audio) for stream in open_both(path, (np.inf,) * 3))
    assert_close(ours, unverified)
    verified, ours = (stream.step(audio) for stream in open_both(path, (0.2,) * 3))
    # Of two scores that are equal but for rounding either one's place may be held.
    np.testing.assert_allclose(ours.pooled, verified.pooled, rtol=0, atol=1e-5)
    is_verified = np.abs(verified.pooled - unverified.pooled) > 1e-3
    assert is_verified.any(axis=0).tolist() == [True, False, True]


pieces = st.lists(st.one_of(st.integers(0, 400), st.integers(0, 20_000)), max_size=40)


@given(lengths=pieces, integers=st.booleans())
@settings(
    deadline=None,
    max_examples=15,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_pieces_give_the_same_scores(
    runner: str, model: Path, audio: np.ndarray, lengths: list[int], integers: bool
) -> None:
    samples = np.round(audio * 32768).astype(np.int16) if integers else audio
    expected = Engine.load(model).open_stream(GATES).step(audio)
    stream = Engine.load(model).open_stream(GATES)
    outputs = [stream.step(piece) for piece in np.split(samples, np.cumsum(lengths, dtype=int))]
    assert_close(concatenate_outputs(outputs), expected)


def test_int16_and_other_floats_are_the_same_samples(
    runner: str, model: Path, audio: np.ndarray
) -> None:
    engine = Engine.load(model)
    expected = engine.open_stream().step(audio)
    wide = np.stack([audio, -audio], axis=1)
    for samples in (
        np.round(audio * 32768).astype(np.int16),
        audio.astype(np.float64),
        wide[:, 0],  # not contiguous
    ):
        for values, others in zip(engine.open_stream().step(samples), expected, strict=True):
            np.testing.assert_array_equal(values, others)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.1e6, -1e30])
def test_invalid_samples_are_silence_and_counted(
    runner: str, model: Path, audio: np.ndarray, bad: float
) -> None:
    places = np.random.default_rng(0).integers(0, len(audio), 99)
    silenced, damaged = audio.copy(), audio.copy()
    silenced[places], damaged[places] = 0, bad
    stream, engine = Engine.load(model).open_stream(), Engine.load(model)
    outputs = [stream.step(piece) for piece in np.split(damaged, [1, 500, 30_000, 30_300])]
    expected = engine.open_stream().step(silenced)
    count = len(np.unique(places))
    assert_close(concatenate_outputs(outputs), expected._replace(invalid_samples=count))
    for output, piece in zip(outputs, np.split(damaged, [1, 500, 30_000, 30_300]), strict=True):
        assert output.invalid_samples == (piece == bad).sum() + np.isnan(piece).sum()
    loud = engine.open_stream().step(np.array([1e6, -1e6] * 500, np.float32))
    assert loud.invalid_samples == 0
    assert np.isfinite(loud.pooled).all()


@pytest.mark.parametrize("samples", [0, 1, 319, 320, 321, 641])
def test_outputs_have_the_shapes_of_their_frames(runner: str, model: Path, samples: int) -> None:
    frames = samples // 320
    output = Engine.load(model).open_stream().step(make_audio(1)[0, :samples])
    shapes = [array.shape for array in output[:4]]
    assert shapes == [(frames, 2), (frames, 2), (frames, 2, 2), (frames, 4)]
    assert {array.dtype for array in output[:4]} == {np.dtype(np.float32)}


def test_outputs_stay_when_the_stream_goes_on(runner: str, model: Path, audio: np.ndarray) -> None:
    stream = Engine.load(model).open_stream()
    first = stream.step(audio[:9600])
    kept = deepcopy(first)
    stream.step(audio[9600:19_200])
    for values, others in zip(first, kept, strict=True):
        np.testing.assert_array_equal(values, others)


@pytest.mark.parametrize("cut", [0, 100, 320, 40_000, 40_123])
def test_copies_and_sent_streams_go_on_by_themselves(
    runner: str, model: Path, audio: np.ndarray, cut: int
) -> None:
    stream = Engine.load(model).open_stream(GATES)
    stream.step(audio[:cut])
    others = [copy(stream), deepcopy(stream), pickle.loads(pickle.dumps(stream))]
    others.append(pickle.loads(pickle.dumps(others[-1])))  # sent on before it is used
    expected = stream.step(audio[cut:])
    for other in others:
        for values, theirs in zip(other.step(audio[cut:]), expected, strict=True):
            np.testing.assert_array_equal(values, theirs)


@pytest.mark.parametrize("hide_first", [True, False])
def test_a_stream_goes_on_only_where_the_same_engine_runs(
    model: Path, audio: np.ndarray, monkeypatch: pytest.MonkeyPatch, hide_first: bool
) -> None:
    monkeypatch.setattr(engines, "_has_kernel", lambda: not hide_first)
    stream = Engine.load(model).open_stream()
    stream.step(audio)
    sent = pickle.dumps(stream)
    monkeypatch.setattr(engines, "_has_kernel", lambda: hide_first)
    with pytest.raises(ModelError, match=r"this stream was saved .*\. Start a new one"):
        pickle.loads(sent).step(audio)


def test_many_streams_at_once_equal_each_alone(runner: str, model: Path, audio: np.ndarray) -> None:
    """Also those with different gates, invalid samples, nothing new, or in another order."""
    engine, rng = Engine.load(model), np.random.default_rng(5)
    audios = [np.roll(audio, 7000 * number) for number in range(5)]
    audios[1][::1000] = np.nan
    gates = [None, GATES, (0.0, 0.0), (np.inf, np.inf), GATES]
    streams = [engine.open_stream(each) for each in gates]
    outputs: list[list[StepOutput]] = [[] for _ in audios]
    places = np.zeros(5, int)
    while (places < len(audio)).any():
        chosen = rng.permutation(5)[: rng.integers(1, 6)]
        counts = rng.choice([0, 1, 160, 320, 2500, 9000], len(chosen))
        steps = engine.step_many(
            [streams[each] for each in chosen],
            [
                audios[each][places[each] : places[each] + n]
                for each, n in zip(chosen, counts, strict=True)
            ],
        )
        for each, n, output in zip(chosen, counts, steps, strict=True):
            places[each] += n
            outputs[each].append(output)
    for each, samples, gate in zip(outputs, audios, gates, strict=True):
        assert_close(concatenate_outputs(each), engine.open_stream(gate).step(samples))


def test_each_stream_needs_its_samples(runner: str, model: Path, audio: np.ndarray) -> None:
    engine = Engine.load(model)
    for streams, samples in ((2, 1), (1, 2)):
        with pytest.raises(ValueError, match="zip"):
            engine.step_many([engine.open_stream() for _ in range(streams)], [audio] * samples)


def test_streams_side_by_side_in_threads_equal_each_alone(
    runner: str, model: Path, audio: np.ndarray
) -> None:
    engine = Engine.load(model)
    audios = [np.roll(audio, 7000 * number) for number in range(8)]

    def run(samples: np.ndarray) -> StepOutput:
        stream = engine.open_stream(GATES)
        return concatenate_outputs(
            [stream.step(samples[at : at + 500]) for at in range(0, len(samples), 500)]
        )

    with ThreadPoolExecutor(8) as pool:
        for output, samples in zip(pool.map(run, audios), audios, strict=True):
            assert_close(output, engine.open_stream(GATES).step(samples))


# Without the library


def test_the_fallback_is_told_once(
    model: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("no such file")

    monkeypatch.setattr(engines, "load_library", fail)
    engines._tell_fallback.cache_clear()
    with caplog.at_level(logging.WARNING, "kws"):
        for _ in range(3):
            Engine.load(model).open_stream().step(np.zeros(500, np.float32))
    assert [record.getMessage() for record in caplog.records] == [
        "the kernel cannot be loaded (no such file). NumPy runs the network: the scores are the "
        "same, and take ten to twenty times as long."
    ]


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A copy of kws without the kernel's library."""
    leave_out = shutil.ignore_patterns("__pycache__", library_path().name)
    shutil.copytree(ROOT / "kws", tmp_path / "site" / "kws", ignore=leave_out)
    return tmp_path / "site"


def detect_elsewhere(installation: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    model = ROOT / "models" / "welcome.kws"
    line = [sys.executable, "-m", "kws", "detect", "--model", model, *arguments]
    return subprocess.run(
        [*map(str, line)], cwd=installation, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize("library", [None, b"", b"not a library"], ids=str)
def test_a_command_without_the_library_finds_the_same(
    installation: Path, library: bytes | None
) -> None:
    if library is not None:
        (installation / "kws" / "runtime" / library_path().name).write_bytes(library)
    done = detect_elsewhere(installation, "--json", *RECORDINGS)
    (told,) = done.stderr.splitlines()
    assert "the kernel cannot be loaded" in told and "NumPy runs the network" in told
    assert done.returncode == 0
    found = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [
        {"file": str(path), **vars(event)}
        for path in RECORDINGS
        for event in Spotter.load(ROOT / "models" / "welcome.kws").detect(path)
    ]
    assert len(found) == len(expected) > 5
    for one, other in zip(found, expected, strict=True):
        assert (one["file"], one["word"]) == (other["file"], other["word"])
        for key in ("start", "end", "peak", "score"):
            assert one[key] == pytest.approx(other[key], abs=1.1e-3 if key != "score" else 1.1e-4)
