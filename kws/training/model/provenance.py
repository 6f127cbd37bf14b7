"""How a checkpoint or a model was made: by which command, with which versions of what matters."""

import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from kws.training import distributed

PACKAGES = ("kws", "torchaudio", "numpy")


def reproduce_command() -> str:
    """The command that would make it again, from the same folder."""
    program = [Path(sys.argv[0]).name]
    if program[0] in ("kws", "cli.py", "__main__.py"):
        process_count = distributed.launched_world_size()
        launcher = ["torchrun", "--nproc-per-node", str(process_count), "-m"]
        program = [*launcher, "kws"] if process_count > 1 else ["kws"]
    return shlex.join([*program, *sys.argv[1:]])


def versions() -> dict[str, str]:
    packages = {name: version(name) for name in PACKAGES}
    # torch's own version names the build, too.
    return {"python": platform.python_version(), **packages, "torch": str(torch.__version__)}
