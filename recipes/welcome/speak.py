"""Speaks the clips that the shipped "welcome" model learns from and is judged by, with the engines
of `kws synth`.

    python recipes/welcome/speak.py --out SPOKEN          # what is there is not spoken again

Three parts that share no voice: `train`, `validation` (Piper joe and five Kokoro voices) and `test`
(festival and seven other Kokoro voices). Within a part every kind of phrase is spoken by the same
engines in the same proportions, so that "synthetic" never means "the word".
"""

import argparse
import json
import os
import pathlib
import tempfile

from kws.synth.corpus import progress
from kws.synth.engines import kokoro, registry
from kws.synth.plan import PlannedClip, plan_clips
from kws.synth.render import speak

PHRASES = json.loads((pathlib.Path(__file__).parent / "phrases.json").read_text())
HELD_OUT_VOICES = {
    "validation": ["af_bella", "am_adam", "bf_lily", "bm_lewis", "hf_beta"],
    "test": ["af_nova", "af_sky", "am_michael", "am_onyx", "bf_emma", "bm_daniel", "if_sara"],
}
ENGINES = {
    "train": ("kokoro", "flite", "espeak", "pico", "hibari"),
    "validation": ("kokoro", "piper"),
    "test": ("kokoro", "festival"),
}
CLIPS = {  # of each phrase of a kind
    "train": {"word": 1200, "spoken_in": 20, "neighbours": 20, "sentences": 6},
    "validation": {"word": 150, "spoken_in": 3, "neighbours": 2, "sentences": 1},
    "test": {"word": 400, "spoken_in": 8, "neighbours": 5, "sentences": 1, "containing": 20},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--part", choices=[*CLIPS], nargs="+", default=[*CLIPS])
    args = parser.parse_args()
    everyone = kokoro.voices_folder().resolve()
    for part in args.part:
        # Kokoro blends the voices that it finds: of other parts it must find none.
        with tempfile.TemporaryDirectory() as voices:
            link_voices(part, everyone, pathlib.Path(voices))
            os.environ["KWS_KOKORO_VOICES"] = voices
            speak_part(part, args.out / part)


def speak_part(part: str, folder: pathlib.Path) -> None:
    available = registry.found(ENGINES[part]).available
    for kind, count in CLIPS[part].items():
        clips: list[PlannedClip] = plan_clips(
            PHRASES[kind], count, available, seed=[*CLIPS].index(part)
        )
        print(f"{part}, {kind}: {len(clips)} clips", flush=True)
        for error_message in speak(
            clips, available, folder / kind, progress=progress
        ).error_messages:
            print(error_message)


def link_voices(part: str, source: pathlib.Path, target: pathlib.Path) -> None:
    held_out = {voice for voices in HELD_OUT_VOICES.values() for voice in voices}
    for path in source.glob("*.bin"):
        if (
            path.stem in HELD_OUT_VOICES[part]
            if part in HELD_OUT_VOICES
            else path.stem not in held_out
        ):
            (target / path.name).symlink_to(path)


if __name__ == "__main__":
    main()
