"""The torch engine runs the checkpoint beside a model file, with the same scores."""

import pickle
import shutil

import numpy as np
import pytest

from kws import Spotter
from kws.errors import ModelError
from kws.runtime.engine import Engine
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig, ScanningCNN


def test_the_checkpoint_of_another_model_is_refused(tiny_model, tmp_path):
    for suffix in (".kws", ".pt"):
        shutil.copy(tiny_model.path.with_suffix(suffix), tmp_path / f"a{suffix}")
    saved = checkpoint.load(tmp_path / "a.pt")
    other = ScanningCNN(NetworkConfig.from_dict({**saved["network_config"], "words": ["other"]}))
    checkpoint.save(
        {**saved, "network_config": other.config.to_dict(), "ema_network": other.state_dict()},
        tmp_path / "a.pt",
    )
    with pytest.raises(ModelError, match=r"the checkpoint of another model than a\.kws"):
        Engine.load(tmp_path / "a.kws", "auto")


@pytest.mark.parametrize(
    ("device", "tolerance"), [("auto", 1e-4), pytest.param("cuda", 1e-4, marks=pytest.mark.gpu)]
)
def test_torch_engine_gives_the_same_scores(tiny_model, device, tolerance):
    audio = (0.1 * np.random.default_rng(0).standard_normal((2, 20_000))).astype(np.float32)
    onnx = Spotter.load(tiny_model.path).engine
    torch_engine = Engine.load(tiny_model.path, device)
    sent = pickle.loads(pickle.dumps(torch_engine))
    ours, theirs, there = (
        engine.step(audio, engine.initial_state(2))[0] for engine in (onnx, torch_engine, sent)
    )
    for mine, other, again in zip(ours, theirs, there, strict=True):
        np.testing.assert_allclose(mine, other, atol=tolerance)
        np.testing.assert_array_equal(other, again)
