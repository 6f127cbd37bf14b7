"""SVOX Pico, by the package py-nanotts."""

from importlib.util import find_spec

import numpy as np

from kws.synth.audio import from_pcm
from kws.synth.engines.base import SPEED_RANGE, Settings, SpeechEngine, draw_log_uniform

_RATE = 16_000


def _settings(voice: str, rng: np.random.Generator) -> Settings:
    return {
        "voice": voice,
        "speed": draw_log_uniform(rng, *SPEED_RANGE),
        "pitch": draw_log_uniform(rng, 0.75, 1.3),
        "size": draw_log_uniform(rng, 0.82, 1.12),
    }


def _speak(text: str, settings: Settings) -> tuple[np.ndarray, int]:
    from py_nanotts import NanoTTS

    speed = float(settings["speed"]) / float(settings["size"])
    return from_pcm(
        NanoTTS().speak(
            text, voice=str(settings["voice"]), speed=speed, pitch=float(settings["pitch"])
        )
    ), _RATE


ENGINE = SpeechEngine(
    name="pico",
    share=0.08,
    licence="Apache-2.0",
    install="pip install py-nanotts",
    missing=lambda: None if find_spec("py_nanotts") else "the package py-nanotts",
    voices=lambda: ("en-US", "en-GB"),
    settings=_settings,
    speak=_speak,
)
