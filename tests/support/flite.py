"""Sentences spoken by flite, for tests that need words at known places."""

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kws.audio import recordings


@cache
def speak(text: str, voice: str = "slt") -> np.ndarray:
    """Samples [n] at 16 kHz."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        return recordings.read(path)
