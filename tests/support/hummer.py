"""A speech engine that hums, and fails on some texts."""

import numpy as np
from sounds import quiet, tone

from kws.audio.recordings import SAMPLE_RATE
from kws.errors import SynthError
from kws.synth.engines.base import Settings, SpeechEngine, draw_log_uniform


def hum(text: str, settings: Settings) -> tuple[np.ndarray, int]:
    """An engine that hums as long as the text is."""
    if "x" in text:
        raise SynthError("cannot say x")
    if "q" in text:
        return quiet(0.5), SAMPLE_RATE
    if "crash" in text:
        raise ValueError("a bug in the engine")
    return tone(0.1 * len(text), float(settings["pitch_hz"])), SAMPLE_RATE


HUMMER = SpeechEngine(
    name="hummer",
    share=0.3,
    licence="CC0",
    install="",
    missing=lambda: None,
    voices=lambda: ("low", "high", "odd"),
    settings=lambda voice, rng: {
        "voice": voice,
        "pitch_hz": int(rng.integers(200, 400)),
        "size": draw_log_uniform(rng, 0.9, 1.1),
    },
    speak=hum,
    takes_phonemes=True,
)
