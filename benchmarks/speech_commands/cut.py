"""Cuts LibriSpeech by its transcripts: into single words, and into segments without the seven words
of pack-9.

    python recipes/phone_recognizer/transcribe.py --data DATA
    python benchmarks/speech_commands/cut.py --data DATA

Writes DATA/cut_words/WORD/*.wav: words by other speakers than those of Speech Commands. Words are
left out where the recogniser is not sure, that last less than 0.2 s or more than 0.9 s, or that
sound like one of the seven. Writes DATA/without_words/*.wav: segments of a second or more, to train
on and to count false alarms in. 47 of the 250 readings hold one of the seven, or "know". All files
are named READER-CHAPTER-NUMBER.wav.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from kws.audio.recordings import SAMPLE_RATE
from kws.synth.pronunciation import phonemize
from kws.training.speech_commands.protocols import PACK_WORDS

MIN_PROBABILITY = 0.7
MIN_WORD_SECONDS, MAX_WORD_SECONDS = 0.2, 0.9
MARGIN_SECONDS = 0.03
MIN_SEGMENT_SECONDS = 1.0


@dataclass(frozen=True)
class Word:
    """A word as the recogniser transcribed it, in lower case; times in seconds."""

    text: str
    start: float
    end: float
    probability: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    excluded = {phonemize(word) for word in PACK_WORDS}
    for line in (args.data / "librispeech.jsonl").read_text().splitlines():
        transcript = json.loads(line)
        path = next((args.data / "librispeech").rglob(transcript["file"]))
        samples, _ = soundfile.read(path, dtype="int16")
        words = [
            Word(re.sub(r"[^a-z]", "", text.lower()), start, end, probability)
            for text, start, end, probability in transcript["words"]
        ]
        for number, word in enumerate(words):
            if is_clear(word) and phonemize(word.text) not in excluded:
                start, end = word.start - MARGIN_SECONDS, word.end + MARGIN_SECONDS
                write(args.data / "cut_words" / word.text, path, number, samples, start, end)
        seconds = len(samples) / SAMPLE_RATE
        for number, (start, end) in enumerate(find_segments(words, seconds, excluded)):
            write(args.data / "without_words", path, number, samples, start, end)


def is_clear(word: Word) -> bool:
    seconds = word.end - word.start
    is_sure = word.probability > MIN_PROBABILITY
    return bool(word.text) and is_sure and MIN_WORD_SECONDS < seconds < MAX_WORD_SECONDS


def find_segments(
    words: list[Word], seconds: float, excluded: set[str]
) -> Iterator[tuple[float, float]]:
    """Start and end of the segments between excluded words, in seconds. The words next to an
    excluded one are left out too, as their times are not exact."""
    start = 0.0
    for i, word in enumerate(words):
        if word.text and phonemize(word.text) in excluded:
            end = words[max(i - 1, 0)].start
            if end - start > MIN_SEGMENT_SECONDS:
                yield start, end
            start = words[min(i + 1, len(words) - 1)].end
    if seconds - start > MIN_SEGMENT_SECONDS:
        yield start, seconds


def write(
    folder: Path, recording: Path, number: int, samples: np.ndarray, start: float, end: float
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    reader, chapter, _ = recording.stem.split("-")
    cut = samples[max(round(start * SAMPLE_RATE), 0) : round(end * SAMPLE_RATE)]
    soundfile.write(folder / f"{reader}-{chapter}-{number:04d}.wav", cut, SAMPLE_RATE)


if __name__ == "__main__":
    main()
