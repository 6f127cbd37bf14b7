"""A speech engine: how it may speak a phrase, and the speaking."""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kws.errors import SynthError

# Relative to an engine's own speed. People call a machine more slowly than engines speak: "snowboy"
# takes people 0.71 s, engines 0.58 s (medians).
SPEED_RANGE = (0.6, 1.25)
_MAX_MESSAGE_CHARS = 200
# How an engine speaks one clip, as the table of clips shows it; "voice" is always among them.
Settings = dict[str, str | int | float]


@dataclass(frozen=True)
class SpeechEngine:
    """A speech engine.

    share: of all clips, if all engines are installed
    install: the command that installs it
    missing(): what is not installed, or None
    voices(): names of its voices
    settings(voice, rng): random settings of one clip
    speak(text, settings): samples float32 [n] and their rate
    takes_phonemes: whether "phonemes" in the settings (ARPAbet) may replace the spelling of the
        text, or of "phrase" in it, and "stress" there be "own", as of the phrase alone, or "weak"
    prepare(): called once, before several processes speak
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
    """A random factor, uniform in its logarithm, with the three decimals of the table of clips."""
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))), 3)


def replace_phrase(text: str, settings: Settings, spelling: str) -> str:
    """The text with another spelling of the phrase in it; the whole text is one if none is
    named."""
    phrase = re.escape(str(settings.get("phrase", text)))
    return re.sub(rf"(?<!\w){phrase}(?!\w)", lambda _: spelling, text, count=1)


def run_program(*command: str) -> bytes:
    """Standard output of a program. Raises SynthError, with the last line on stderr, where it fails
    or cannot be started."""
    try:
        process = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise SynthError(
            f"{command[0]} cannot be started ({error.strerror}). Install it anew."
        ) from error
    if process.returncode:
        lines = process.stderr.decode(errors="replace").strip().splitlines()
        message = lines[-1][-_MAX_MESSAGE_CHARS:] if lines else "no message"
        raise SynthError(f"{command[0]} ended with status {process.returncode}: {message}")
    return process.stdout


def find_missing_program(name: str, *arguments: str) -> str | None:
    """What is missing if a program is not installed, or fails with these arguments."""
    if not shutil.which(name):
        return f"the program {name}"
    try:
        run_program(name, *arguments)
    except SynthError as error:
        return f"a program {name} that works ({str(error).rstrip('.')})"
    return None
