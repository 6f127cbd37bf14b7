"""Speak the clips that the shipped "welcome" model learns from and is judged by.

Three parts that share no voice: `train`, `validation` (Piper joe and five Kokoro voices) and `test` (festival and seven other Kokoro
voices). `wide` is more of `train`: deeper and higher, hurried and drawn out, each apart from the others, as people are. Within a part
every kind of phrase is spoken by the same engines in the same proportions, so that "synthetic" never means "the word".

    python benchmarks/welcome/speak.py --synth SYNTH.py --voices KOKORO_VOICES --out SPOKEN
"""

import argparse
import csv
import importlib.util
import json
import multiprocessing
import pathlib
import sys
import tempfile

import numpy as np

PHRASES = json.loads((pathlib.Path(__file__).parent / "phrases.json").read_text())
HELD_OUT_VOICES = {
    "validation": ["af_bella", "am_adam", "bf_lily", "bm_lewis", "hf_beta"],
    "test": ["af_nova", "af_sky", "am_michael", "am_onyx", "bf_emma", "bm_daniel", "if_sara"],
}
ENGINES = {
    "train": {"kokoro": 0.62, "flite": 0.12, "espeak": 0.10, "pico": 0.10, "hibari": 0.06},
    "validation": {"kokoro": 0.7, "piper": 0.3},
    "test": {"kokoro": 0.7, "festival": 0.3},
    "wide": {"kokoro": 1.0},
}
# Clips of each phrase of a kind.
CLIPS = {
    "train": {"word": 1800, "spoken_in": 25, "neighbours": 22, "sentences": 6},
    "validation": {"word": 150, "spoken_in": 3, "neighbours": 2, "sentences": 1},
    "test": {"word": 400, "spoken_in": 8, "neighbours": 5, "sentences": 1, "containing": 20},
    "wide": {"word": 1500, "spoken_in": 15, "neighbours": 20, "sentences": 2},
}
WIDE_SPEEDS = (0.85, 1.7)
WIDE_FORMANTS = (0.82, 1.22)  # times the voice's own: a larger or smaller speaker, at the same tempo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--synth", type=pathlib.Path, required=True, help="script that speaks one phrase (engines, plans, work)")
    parser.add_argument("--voices", type=pathlib.Path, required=True, help="folder of Kokoro style vectors (*.bin)")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--part", choices=[*CLIPS], help="only this part")
    args = parser.parse_args()
    for number, part in enumerate(CLIPS):
        if args.part in (None, part) and not (args.out / part / "clips.csv").exists():
            speak_part(part, number, args)


def speak_part(part: str, seed: int, args: argparse.Namespace) -> None:
    synth = load_script(args.synth)
    with tempfile.TemporaryDirectory() as voices:
        link_voices(part, args.voices, pathlib.Path(voices))
        synth.VOICES = voices
        jobs = plan(synth, part, np.random.default_rng(seed), args.out / part)
        synth.kokoro_files()
        rows = []
        with multiprocessing.get_context("fork").Pool(args.jobs, initializer=adopt, initargs=(synth,)) as pool:
            for done, (kind, new_rows) in enumerate(pool.imap_unordered(speak_job, jobs), 1):
                rows += [{"kind": kind, **row} for row in new_rows]
                if done % 20 == 0 or done == len(jobs):
                    print(f"{part}: {done}/{len(jobs)} jobs, {len(rows)} clips", file=sys.stderr, flush=True)
    write_table(args.out / part / "clips.csv", rows)


def load_script(path: pathlib.Path):
    spec = importlib.util.spec_from_file_location("synth", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def link_voices(part: str, source: pathlib.Path, target: pathlib.Path) -> None:
    held_out = {voice for voices in HELD_OUT_VOICES.values() for voice in voices}
    for path in source.resolve().glob("*.bin"):
        wanted = path.stem in HELD_OUT_VOICES[part] if part in HELD_OUT_VOICES else path.stem not in held_out
        if wanted:
            (target / path.name).symlink_to(path)


def plan(synth, part: str, rng: np.random.Generator, out: pathlib.Path) -> list[tuple]:
    """Jobs of at most eight clips: (kind, text, engine, [(path, settings), ...])."""
    jobs = []
    for kind, count in CLIPS[part].items():
        for text in PHRASES[kind]:
            folder = out / kind / slug(text)
            folder.mkdir(parents=True, exist_ok=True)
            engines = rng.choice([*ENGINES[part]], count, p=[*ENGINES[part].values()])
            for engine in sorted(set(engines)):
                draw = wide if part == "wide" else lambda settings, rng: settings
                settings = [draw(synth.ENGINES[engine][0](rng), rng) for _ in range(np.sum(engines == engine))]
                paths = [str(folder / f"{engine}_{i:04d}.wav") for i in np.flatnonzero(engines == engine)]
                clips = list(zip(paths, settings, strict=True))
                jobs += [(kind, text, str(engine), clips[i : i + 8]) for i in range(0, len(clips), 8)]
    return jobs


def wide(settings: dict, rng: np.random.Generator) -> dict:
    """A Kokoro plan with tempo and formants drawn from wider ranges."""
    speed, formants = (round(float(np.exp(rng.uniform(*np.log(span)))), 3) for span in (WIDE_SPEEDS, WIDE_FORMANTS))
    return {**settings, "speed": speed, "vtl": formants}


def adopt(synth) -> None:
    global SYNTH
    SYNTH = synth


def speak_job(job: tuple) -> tuple[str, list[dict]]:
    kind, text, engine, clips = job
    rows, _ = SYNTH.work((text, engine, clips))
    return kind, [{**row, "file": str(pathlib.Path(kind, slug(text), row["file"]))} for row in rows]


def slug(text: str) -> str:
    return "_".join("".join(c if c.isalnum() else " " for c in text.lower()).split())[:40]


def write_table(path: pathlib.Path, rows: list[dict]) -> None:
    columns = sorted({key for row in rows for key in row}, key=lambda key: (key not in ("file", "kind", "text", "engine", "voice"), key))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["file"]))


if __name__ == "__main__":
    main()
