"""Cuts LibriSpeech by what is said in it: single words, and stretches in which none of the seven
words of pack-9 is said.

    python recipes/phone_recognizer/transcribe.py --data DATA
    python benchmarks/speech_commands/cut.py --data DATA

Makes DATA/cut_words/WORD/*.wav, people's other words, of which Speech Commands has too few; left
out are words that the recogniser is not sure of, that last less than 0.2 s or more than 0.9 s, or
that sound like one of the seven. And DATA/without_words/*.wav, of a second or more, to learn from
and to count false alarms in: one of the seven, or "know", is said in 47 of the 250 readings. All
files are named READER-CHAPTER-NUMBER.wav.
"""

import argparse
import json
import pathlib
import re
from collections.abc import Iterator

import numpy as np
import soundfile

from kws.audio.recordings import SAMPLE_RATE
from kws.synth.pronunciation import phonemize
from kws.training.speech_commands.protocols import PACK_WORDS

MIN_PROBABILITY, MIN_WORD_SECONDS, MAX_WORD_SECONDS, MARGIN_SECONDS = (
    0.7,
    0.2,
    0.9,
    0.03,
)  # probability; seconds
MIN_SEGMENT_SECONDS = 1.0
# As the recogniser heard it: text, start, end (seconds), probability.
Word = tuple[str, float, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    args = parser.parse_args()
    excluded = {phonemize(word) for word in PACK_WORDS}
    for row in map(json.loads, (args.data / "librispeech.jsonl").read_text().splitlines()):
        path = next((args.data / "librispeech").rglob(row["file"]))
        samples, _ = soundfile.read(path, dtype="int16")
        words = [(re.sub(r"[^a-z]", "", text.lower()), *numbers) for text, *numbers in row["words"]]
        for number, (word, start, end, probability) in enumerate(words):
            if (
                word
                and probability > MIN_PROBABILITY
                and MIN_WORD_SECONDS < end - start < MAX_WORD_SECONDS
                and phonemize(word) not in excluded
            ):
                write(
                    args.data / "cut_words" / word,
                    path,
                    number,
                    samples,
                    start - MARGIN_SECONDS,
                    end + MARGIN_SECONDS,
                )
        for number, (start, end) in enumerate(
            find_segments(words, len(samples) / SAMPLE_RATE, excluded)
        ):
            write(args.data / "without_words", path, number, samples, start, end)


def find_segments(
    words: list[Word], seconds: float, excluded: set[str]
) -> Iterator[tuple[float, float]]:
    """Start and end of what lies between words that are barred, and nearest neighbours of them, as
    their times are not exact."""
    excluded_indices = [
        i for i, (word, *_) in enumerate(words) if word and phonemize(word) in excluded
    ]
    cuts = [
        (words[max(i - 1, 0)][1], words[min(i + 1, len(words) - 1)][2]) for i in excluded_indices
    ]
    for start, end in zip(
        [0.0, *(last for _, last in cuts)], [*(first for first, _ in cuts), seconds], strict=True
    ):
        if end - start > MIN_SEGMENT_SECONDS:
            yield start, end


def write(
    folder: pathlib.Path,
    recording: pathlib.Path,
    number: int,
    samples: np.ndarray,
    start: float,
    end: float,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    reader, chapter, _ = recording.stem.split("-")
    cut = samples[max(round(start * SAMPLE_RATE), 0) : round(end * SAMPLE_RATE)]
    soundfile.write(folder / f"{reader}-{chapter}-{number:04d}.wav", cut, SAMPLE_RATE)


if __name__ == "__main__":
    main()
