"""How a checkpoint or a model was made: by which command, with which versions of what matters."""

import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("kws", "torchaudio", "numpy", "onnxruntime")


def command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    packages = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages, "torch": str(torch.__version__)}  # which tells the kind of build, too
