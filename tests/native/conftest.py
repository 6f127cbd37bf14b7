"""The kernel that the build compiles, and a model with a verifier."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kws.runtime.verifier import Fusion
from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE, shipped_checkpoint
from kws.training.model.tensors import network_tensors, verifier_tensors
from kws.training.model.torch_engine import load_network

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel, as the build compiles it."""
    path = tmp_path_factory.mktemp("kernel") / "kernel.so"
    subprocess.run([sys.executable, ROOT / "native" / "build_kernel.py", path], check=True)
    return path


@pytest.fixture(scope="session")
def verified_tensors() -> dict[str, np.ndarray]:
    """The shipped detector, with the shipped phone recognizer as its verifier."""
    path = shipped_checkpoint(PHONE_RECOGNIZER_FILE)
    assert path is not None
    recognizer = load_network(path)
    pronunciation = [recognizer.config.words.index(phone) for phone in "wɛlkəm"]
    network = load_network(ROOT / "models" / "welcome.pt")
    fusion = Fusion(scale=3.0, ceiling=-2.5, floor=-4.0)
    return network_tensors(network) | verifier_tensors(recognizer, [[pronunciation]], fusion)
