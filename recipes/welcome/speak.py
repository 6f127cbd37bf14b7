"""Synthesizes the clips that the shipped model "welcome" is trained and evaluated on.

    python recipes/welcome/speak.py --out SYNTH

Uses the engines of `kws synth`. The splits share no voice: `train`, `validation` (Piper's joe and
five voices of Kokoro) and `test` (festival and seven other voices of Kokoro). Within a split the
same engines speak every kind of phrase in the same proportions, so that synthetic speech as such
says nothing. Clips that are there are not made again.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from kws.synth.engines import kokoro, registry
from kws.synth.plan import plan_clips
from kws.synth.render import speak

PHRASES = json.loads((Path(__file__).parent / "phrases.json").read_text())
HELD_OUT_VOICES = {
    "validation": ("af_bella", "am_adam", "bf_lily", "bm_lewis", "hf_beta"),
    "test": ("af_nova", "af_sky", "am_michael", "am_onyx", "bf_emma", "bm_daniel", "if_sara"),
}
ENGINES = {
    "train": ("kokoro", "flite", "espeak", "pico", "hibari"),
    "validation": ("kokoro", "piper"),
    "test": ("kokoro", "festival"),
}
CLIPS = {  # of each phrase of a kind
    "train": {"word": 1200, "in_context": 20, "confusables": 20, "sentences": 6},
    "validation": {"word": 150, "in_context": 3, "confusables": 2, "sentences": 1},
    "test": {"word": 400, "in_context": 8, "confusables": 5, "sentences": 1, "containing": 20},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the clips")
    parser.add_argument("--split", choices=CLIPS, nargs="+", default=list(CLIPS))
    args = parser.parse_args()
    all_voices = kokoro.voices_folder().resolve()
    for split in args.split:
        # Kokoro blends all voices that it finds: it must find those of the split alone.
        with tempfile.TemporaryDirectory() as folder:
            link_voices(split, all_voices, Path(folder))
            os.environ["KWS_KOKORO_VOICES"] = folder
            synthesize_split(split, args.out / split)


def synthesize_split(split: str, folder: Path) -> None:
    engines = registry.select_engines(ENGINES[split]).available
    seed = list(CLIPS).index(split)
    for kind, count in CLIPS[split].items():
        clips = plan_clips(PHRASES[kind], count, engines, seed=seed)
        print(f"{split}, {kind}: {len(clips)} clips", flush=True)
        result = speak(clips, engines, folder / kind)
        for message in result.error_messages:
            print(message)


def link_voices(split: str, source: Path, target: Path) -> None:
    """Links the voices of a split: those that are held out for it, or for none."""
    held_out = {voice for voices in HELD_OUT_VOICES.values() for voice in voices}
    for path in source.glob("*.bin"):
        own = HELD_OUT_VOICES.get(split)
        if path.stem in own if own else path.stem not in held_out:
            (target / path.name).symlink_to(path)


if __name__ == "__main__":
    main()
