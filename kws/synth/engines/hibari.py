"""Hibari: one small voice."""

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from kws.synth.engines.base import SPEED_RANGE, Settings, SpeechEngine, draw_log_uniform

_RATE = 24_000


@cache
def _voice() -> Any:
    from hibari import Hibari

    return Hibari()


def _settings(voice: str, rng: np.random.Generator) -> Settings:
    return {
        "voice": voice,
        "speed": draw_log_uniform(rng, *SPEED_RANGE),
        "size": draw_log_uniform(rng, 0.8, 1.15),
        "seed": int(rng.integers(1 << 30)),
    }


def _speak(text: str, settings: Settings) -> tuple[np.ndarray, int]:
    speed = float(settings["speed"]) / float(settings["size"])
    return np.asarray(_voice()(text, speed=speed, seed=settings["seed"]), np.float32), _RATE


ENGINE = SpeechEngine(
    name="hibari",
    share=0.02,
    licence="Apache-2.0",
    install="pip install hibari-tts",
    missing=lambda: None if find_spec("hibari") else "the package hibari-tts",
    voices=lambda: ("heart",),
    settings=_settings,
    speak=_speak,
)
