"""Festival: diphone and HTS voices."""

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

_LIST_VOICES_COMMAND = "(print (voice.list))"
VOICES = ("kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts")


def _settings(voice: str, rng: np.random.Generator) -> Settings:
    return {
        "voice": voice,
        "speed": draw_log_uniform(rng, *SPEED_RANGE),
        "size": draw_log_uniform(rng, 0.85, 1.18),
    }


def _speak(text: str, settings: Settings) -> tuple[np.ndarray, int]:
    stretch = float(settings["size"]) / float(settings["speed"])
    quoted = text.replace("\\", "").replace('"', "")
    with tempfile.TemporaryDirectory() as folder:
        script, path = Path(folder, "speak.scm"), Path(folder, "spoken.wav")
        script.write_text(
            f"(voice_{settings['voice']})\n(Parameter.set 'Duration_Stretch {stretch:.3f})\n"
            f'(utt.save.wave (utt.synth (Utterance Text "{quoted}")) "{path}" \'riff)\n'
        )
        run_program("festival", "--batch", str(script))
        return from_wav(path.read_bytes())


def _missing() -> str | None:
    requirement = find_missing_program("festival", "--batch", _LIST_VOICES_COMMAND)
    if requirement:
        return requirement
    listing = run_program("festival", "--batch", _LIST_VOICES_COMMAND)
    installed = set(listing.decode(errors="replace").strip(" ()\n").split())
    missing_voices = [voice for voice in VOICES if voice not in installed]
    return f"festival's voices {', '.join(missing_voices)}" if missing_voices else None


ENGINE = SpeechEngine(
    name="festival",
    share=0.04,
    licence="BSD-like",
    install=(
        "apt-get install festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts "
        "festlex-cmu festlex-poslex"
    ),
    missing=_missing,
    voices=lambda: VOICES,
    settings=_settings,
    speak=_speak,
)
