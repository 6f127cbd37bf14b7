"""What a speech engine is: how it may say a phrase, and the saying."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kws.errors import KwsError

# Times an engine's own. People call a machine more slowly than engines speak: "snowboy" takes
# people 0.71 s, engines 0.58 s (medians).
SPEED_RANGE = (0.6, 1.25)
_MAX_MESSAGE_LENGTH = 200  # letters
# Of one clip, as they stand in the table; "voice" is always among them.
Settings = dict[str, str | int | float]


class SynthError(KwsError):
    """Nothing can be spoken: what is asked for, or what is missing, is said."""


@dataclass(frozen=True)
class SpeechEngine:
    """One way to speak.

    share: of the clips, where all engines are there. missing(): what is not installed, None if all
    is. voices(): who may speak. settings(voice, rng): how one clip may be spoken. speak(text,
    settings): samples float32 [n] and their rate. phonetic: whether it takes a pronunciation
    ("phonemes" in settings, ARPAbet) in place of the spelling. prepare(): what is done once, before
    clips are spoken side by side.
    """

    name: str
    share: float
    licence: str
    install: str
    missing: Callable[[], str | None]
    voices: Callable[[], Sequence[str]]
    settings: Callable[[str, np.random.Generator], Settings]
    speak: Callable[[str, Settings], tuple[np.ndarray, int]]
    takes_phonemes: bool = False
    prepare: Callable[[], object] = lambda: None


def draw_log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A factor between two, as often below one as above where they are each other's inverse; three
    digits, as in the table."""
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))), 3)


def run_program(*command: str) -> bytes:
    """Standard output of a program. Raises SynthError with the last that it said, or where it
    cannot be started."""
    try:
        process = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise SynthError(
            f"{command[0]} cannot be started ({error.strerror}). Install it anew."
        ) from error
    if process.returncode:
        last_lines = process.stderr.decode(errors="replace").strip().splitlines()[-1:] or [
            "it says nothing"
        ]
        raise SynthError(
            f"{command[0]} ended with status {process.returncode}: {last_lines[0][-_MAX_MESSAGE_LENGTH:]}"
        )
    return process.stdout


def find_missing_program(name: str, *arguments: str) -> str | None:
    """What is missing where a program is not there, or does not even run with some arguments that
    ask for nothing."""
    if not shutil.which(name):
        return f"the program {name}"
    try:
        run_program(name, *arguments)
    except SynthError as error:
        return f"a program {name} that works ({str(error).rstrip('.')})"
    return None
