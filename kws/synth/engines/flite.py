"""Flite: small concatenative voices."""

import tempfile
from pathlib import Path

import numpy as np

from kws.synth.audio import from_wav
from kws.synth.engines.base import (
    SPEED_RANGE,
    Settings,
    SpeechEngine,
    draw_log_uniform,
    find_missing_program,
    run_program,
)

PITCHES_HZ = {"slt": 170, "rms": 100, "awb": 120, "kal16": 105}


def _settings(voice: str, rng: np.random.Generator) -> Settings:
    return {
        "voice": voice,
        "speed": draw_log_uniform(rng, *SPEED_RANGE),
        "pitch_hz": round(PITCHES_HZ[voice] * float(np.exp(rng.normal(0, 0.15)))),
        "pitch_range_hz": int(rng.integers(8, 35)),
        "size": draw_log_uniform(rng, 0.86, 1.17),
    }


def _speak(text: str, settings: Settings) -> tuple[np.ndarray, int]:
    # `postprocess` raises the pitch and shortens the clip by `size`; this undoes both.
    size = float(settings["size"])
    features = {
        "duration_stretch": size / float(settings["speed"]),
        "int_f0_target_mean": float(settings["pitch_hz"]) / size,
        "int_f0_target_stddev": settings["pitch_range_hz"],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "spoken.wav")
        options = [
            part for name, value in features.items() for part in ("--setf", f"{name}={value}")
        ]
        run_program(
            "flite", "-voice", str(settings["voice"]), *options, "-t", text, "-o", str(path)
        )
        return from_wav(path.read_bytes())


ENGINE = SpeechEngine(
    name="flite",
    share=0.10,
    licence="BSD-like",
    install="apt-get install flite",
    missing=lambda: find_missing_program("flite", "-lv"),
    voices=lambda: list(PITCHES_HZ),
    settings=_settings,
    speak=_speak,
)
