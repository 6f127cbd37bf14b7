"""Torch runs a model file, with the scores of the kernel; no checkpoint is needed."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from factories import BANDS, WITH_PHONES, make_audio, make_model, make_network

from kws.errors import ModelError
from kws.runtime.engine import Engine, EngineStream
from kws.runtime.output import StepOutput
from kws.runtime.tensors import pack_tensors, unpack_tensors


def assert_close(actual: StepOutput, expected: StepOutput) -> None:
    for name in ("pooled", "frames", "boundaries"):
        np.testing.assert_allclose(
            getattr(actual, name), getattr(expected, name), rtol=0, atol=1e-4, err_msg=name
        )
    np.testing.assert_allclose(np.exp(actual.phones), np.exp(expected.phones), rtol=0, atol=1e-4)


@pytest.mark.parametrize("device", ["auto", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("changes", [{}, BANDS, WITH_PHONES], ids=str)
def test_torch_gives_the_scores_of_the_kernel(tmp_path: Path, device: str, changes: dict) -> None:
    path = make_model(tmp_path, make_network(2, **changes))
    audio = make_audio(2.0)[0]
    expected = Engine.load(path).open_stream().step(audio)
    assert expected.pooled.std() > 0.01
    stream = Engine.load(path, device).open_stream()
    pieces = [stream.step(piece)[:4] for piece in np.split(audio, [1000, 1001, 20_000])]
    assert_close(StepOutput(*map(np.concatenate, zip(*pieces, strict=True))), expected)


def test_shipped_model_runs_on_torch_with_its_verifier() -> None:
    audio = make_audio(2.0)[0]
    streams = [Engine.load("welcome", device).open_stream() for device in ("cpu", "auto")]
    expected, actual = (stream.step(audio) for stream in streams)
    assert_close(actual, expected)


def test_stream_that_was_sent_goes_on(tmp_path: Path) -> None:
    path = make_model(tmp_path, make_network(2))
    audio = make_audio(2.0)[0]
    stream = Engine.load(path, "auto").open_stream()
    stream.step(audio[:15_000])
    sent: EngineStream = pickle.loads(pickle.dumps(stream))
    ours, theirs = stream.step(audio[15_000:]), sent.step(audio[15_000:])
    for mine, other in zip(ours[:4], theirs[:4], strict=True):
        np.testing.assert_array_equal(mine, other)


def test_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^device 'tpu' is not available here\. Use one of: "):
        Engine.load("welcome", "tpu")


def test_network_that_torch_does_not_run_is_refused(tmp_path: Path) -> None:
    path = make_model(tmp_path, make_network())
    metadata, tensors, _ = unpack_tensors(path.read_bytes(), path)
    window = {"network.frontend.window": np.linspace(0, 1, 400, dtype=np.float32)}
    path.write_bytes(pack_tensors({**tensors, **window}, metadata))
    with pytest.raises(ModelError, match=r"model\.kws: torch cannot run it: the analysis window"):
        Engine.load(path, "auto")
