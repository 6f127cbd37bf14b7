"""Speak common words that are none of those in Speech Commands: unknown words to learn from where a data set has few.

    python benchmarks/speech_commands/speak.py --synth SYNTH.py --voices KOKORO_VOICES --out SPOKEN

The words stand in other_words.txt: no word of Speech Commands, no homophone of one. Makes OUT/WORD/WORD_nohash_ENGINE_N.wav; as these
names go a word takes the place of a speaker, so that those held out are unknown words. A word whose folder is there is not spoken again.
"""

import argparse
import importlib.util
import multiprocessing
import pathlib

import numpy as np
from tqdm import tqdm

WORDS = (pathlib.Path(__file__).parent / "other_words.txt").read_text().split()
CLIPS = {"flite": 2, "pico": 2, "espeak": 1}  # of each word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--synth", type=pathlib.Path, required=True, help="script that speaks one phrase (engines, plans, work)")
    parser.add_argument("--voices", type=pathlib.Path, required=True, help="folder of Kokoro style vectors (*.bin)")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    words = [(number, word, args.out) for number, word in enumerate(WORDS) if not (args.out / word).exists()]
    with multiprocessing.get_context("fork").Pool(args.jobs, initializer=adopt, initargs=(args.synth, args.voices)) as pool:
        for _ in tqdm(pool.imap_unordered(speak_word, words), total=len(words), unit="word"):
            pass


def adopt(script: pathlib.Path, voices: pathlib.Path) -> None:
    global SYNTH
    spec = importlib.util.spec_from_file_location("synth", script)
    SYNTH = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(SYNTH)
    SYNTH.VOICES = str(voices)


def speak_word(job: tuple[int, str, pathlib.Path]) -> None:
    number, word, out = job
    rng, unfinished = np.random.default_rng(number), out / f".{word}"
    unfinished.mkdir(parents=True, exist_ok=True)
    for engine, count in CLIPS.items():
        clips = [(str(unfinished / f"{word}_nohash_{engine}_{i}.wav"), SYNTH.ENGINES[engine][0](rng)) for i in range(count)]
        SYNTH.work((word, engine, clips))
    unfinished.rename(out / word)


if __name__ == "__main__":
    main()
