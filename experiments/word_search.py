"""How often the search for words in negatives finds them, and how often it finds them elsewhere.

    python experiments/word_search.py --data DATA [--split test] [--recognizer PT]

DATA/sentences is a corpus with transcripts. Of each length in phones, the words that most sentences
of the split's speakers hold are looked for in all its English sentences. A line for each length:
words, sentences that hold them, and for each log-likelihood ratio the fraction of these that is
found, and places an hour in sentences that do not hold the word. `MIN_LLR` and `MIN_PHONES` of
`kws.training.phones.word_search` allow about one such place an hour.
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kws.synth.carriers import holds
from kws.synth.confusables import pronunciations
from kws.training.data.dataset import load_clips
from kws.training.data.transcripts import find_words, read_corpus
from kws.training.model.phone_set import to_phones
from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE, shipped_checkpoint
from kws.training.phones.word_search import compute_llr, open_phone_engine, read_phones

THRESHOLDS = (-1.5, -1.25, -1.0, -0.75, -0.5, -0.25)
WORDS_OF_EACH_LENGTH = 8
MIN_SENTENCES = 3
GAP_FRAMES = 50


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="validation")
    parser.add_argument(
        "--recognizer", type=Path, default=shipped_checkpoint(PHONE_RECOGNIZER_FILE)
    )
    args = parser.parse_args()
    utterances = {
        each.clip: each.text
        for each in read_corpus(args.data / "sentences", print)
        if each.split == args.split and each.is_english
    }
    dataset = load_clips([*utterances], warn=print)
    texts = [" ".join(find_words(utterances[clip])) for clip in dataset.clips]
    engine = open_phone_engine(args.recognizer)
    log_probs = [read_phones(engine, wave) for wave in dataset]
    hours = dataset.seconds / 3600
    print(f"{len(texts)} sentences, {hours:.2f} h")
    for phones, words in sorted(choose_words(texts).items()):
        said, elsewhere = [], []
        for word in words:
            for_word = compare_word(word, texts, log_probs)
            said += for_word[0]
            elsewhere += for_word[1]
        cells = [
            f"{threshold}: {np.mean(np.array(said) >= threshold):4.0%} "
            f"{np.sum(np.array(elsewhere) >= threshold) / hours / len(words):5.1f}/h"
            for threshold in THRESHOLDS
        ]
        print(f"{phones:2} phones, {len(words)} words, {len(said):3} said | {' | '.join(cells)}")


def choose_words(texts: Iterable[str]) -> dict[int, list[str]]:
    """The most frequent words by their number of phones."""
    counts = Counter(word for text in texts for word in set(text.split()))
    words: dict[int, list[str]] = defaultdict(list)
    for word, count in counts.most_common():
        if word.isalpha() and count >= MIN_SENTENCES:
            length = min(len(to_phones(each)) for each in pronunciations(word))
            if length >= 4 and len(words[length]) < WORDS_OF_EACH_LENGTH:
                words[length].append(word)
    return words


def compare_word(
    word: str, texts: Sequence[str], log_probs: Sequence[np.ndarray]
) -> tuple[list[float], list[float]]:
    """The highest ratio in each sentence that has the word, and in each second of those that do not
    say it."""
    spelled = pronunciations(word)
    variants = {to_phones(each) for each in spelled}
    said, elsewhere = [], []
    for text, recognized in zip(texts, log_probs, strict=True):
        llr = np.max([compute_llr(recognized, each) for each in variants], axis=0)
        if word in text.split():
            said.append(float(llr.max()))
        elif not holds(text, word, spelled):
            elsewhere += [
                float(llr[at : at + GAP_FRAMES].max()) for at in range(0, len(llr), GAP_FRAMES)
            ]
    return said, elsewhere


if __name__ == "__main__":
    main()
