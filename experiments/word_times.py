"""Does forced alignment find the words of people where Whisper finds them, and does it tell another
transcript from the right one?

    python experiments/word_times.py --data DATA --whisper FILE

FILE has a line for each of some recordings of DATA/sentences, with the times of the words, as
recipes/phone_recognizer/transcribe.py writes them.
"""

import argparse
import json
import sys
from collections import defaultdict
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.in_sentences import read_corpus_sentences
from benchmarks.report import ROOT
from kws.audio import recordings
from kws.errors import DataError
from kws.training.data.transcripts import find_words
from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE
from kws.training.model.torch_engine import load_network
from kws.training.phones.alignment import AlignedWord, align_words
from kws.training.phones.places import compute_fit

TOLERANCES_SECONDS = (0.1, 0.2, 0.35)
PERCENTILES = (5, 25, 50, 75, 95)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--whisper", type=Path, required=True, help="words with times (.jsonl)")
    args = parser.parse_args()
    network = load_network(ROOT / "models" / PHONE_RECOGNIZER_FILE)
    rows = [json.loads(line) for line in args.whisper.read_text().splitlines()]
    by_name = {each.utterance.path.name: each for each in read_corpus_sentences(args.data)}
    sentences = [by_name[row["file"]] for row in rows]
    differences: dict[str, list[float]] = defaultdict(list)
    right_fits, wrong_fits = [], []
    for number, (sentence, row) in enumerate(zip(sentences, rows, strict=True)):
        samples = recordings.read(sentence.utterance.path)
        aligned = align_words(network, samples, sentence.words)
        for group in (sentence.source, "all"):
            differences[group] += compare_ends(aligned, row["words"])
        right_fits.append(compute_fit(aligned))
        other = sentences[number - 1].words[: len(sentence.words)]
        try:
            wrong_fits.append(compute_fit(align_words(network, samples, other)))
        except DataError:
            continue
    for group, seconds in differences.items():
        within = [np.mean(np.abs(seconds) < limit) for limit in TOLERANCES_SECONDS]
        print(group, len(seconds), np.round(within, 3), np.percentile(seconds, PERCENTILES))
    for name, fits in {"right": right_fits, "another": wrong_fits}.items():
        print(name, len(fits), np.percentile(fits, PERCENTILES).round(4))


def compare_ends(aligned: list[AlignedWord], heard: list[list]) -> list[float]:
    """How much later than by Whisper each word ends that both have, in seconds."""
    ends = [(words[0], end) for text, _, end, _ in heard if len(words := find_words(text)) == 1]
    matcher = SequenceMatcher(
        a=[each.text for each in aligned], b=[word for word, _ in ends], autojunk=False
    )
    return [
        aligned[block.a + offset].end - ends[block.b + offset][1]
        for block in matcher.get_matching_blocks()
        for offset in range(block.size)
    ]


if __name__ == "__main__":
    main()
