"""Synthesizes sentences, or nonsense phrases of three words, which the phone recogniser is trained
on beside recordings of people.

    python recipes/phone_recognizer/speak.py --out DATA/spoken_sentences --corpus DATA/sentences
    python recipes/phone_recognizer/speak.py --out DATA/spoken_nonsense [--phrases 400]

The sentences are those that the training speakers of a corpus say, in random order. Of nonsense,
half of the words are common ones (benchmarks/speech_commands/other_words.txt), half are drawn from
the pronouncing dictionary. The words that protocol pack-9-unseen holds out are not among them.
Every engine that is installed takes part. Kokoro speaks each phrase once; the other engines are ten
times as fast, and share four phrases of their own for each of Kokoro's. Clips that are there are
not made again.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.report import ROOT
from kws.synth.engines import registry
from kws.synth.plan import plan_clips
from kws.synth.pronunciation import load_common_words, phonemize
from kws.synth.render import speak
from kws.training.data.transcripts import read_corpus
from kws.training.speech_commands.protocols import HELD_OUT

OTHER_WORDS = ROOT / "benchmarks" / "speech_commands" / "other_words.txt"
SLOW_ENGINE = "kokoro"
FAST_PHRASES_PER_SLOW_PHRASE = 4
SENTENCE_WORDS = range(3, 15)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the clips")
    parser.add_argument("--corpus", type=Path, help="speak the sentences of this corpus")
    parser.add_argument("--phrases", type=int, default=400, help="phrases that Kokoro speaks")
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: one per core)")
    args = parser.parse_args()
    engines = registry.select_engines().available
    slow = [engine for engine in engines if engine.name == SLOW_ENGINE]
    fast = [engine for engine in engines if engine.name != SLOW_ENGINE]
    slow_count = args.phrases * len(slow)
    count = slow_count + FAST_PHRASES_PER_SLOW_PHRASE * args.phrases
    phrases = draw_sentences(args.corpus)[:count] if args.corpus else make_phrases(count)
    clips = []
    if fast:
        shares = np.array_split(phrases[slow_count:], len(fast))
        for engine, share in zip(fast, shares, strict=True):
            clips += plan_clips(share.tolist(), 1, [engine], seed=0)
    if slow:
        clips += plan_clips(phrases[:slow_count], 1, slow, seed=0)
    result = speak(clips, engines, args.out, jobs=args.jobs)
    print(f"{args.out}: {len(result.clips)} clips, {len(result.failed)} failed")
    for message in result.error_messages[:5]:
        print(f"  {message}")


def draw_sentences(corpus: Path) -> list[str]:
    """English sentences of training speakers, each once."""
    texts = {
        each.text
        for each in read_corpus(corpus, warn=print)
        if each.is_english and each.split == "train"
    }
    sentences = sorted(text for text in texts if len(text.split()) in SENTENCE_WORDS)
    return np.random.default_rng(0).permutation(sentences).tolist()


def make_phrases(count: int) -> list[str]:
    """Random phrases: a common word, a dictionary word, and one of either kind, in any order."""
    rng = np.random.default_rng(0)
    excluded = {phonemize(word) for word in HELD_OUT}
    common = [word for word in OTHER_WORDS.read_text().split() if phonemize(word) not in excluded]
    rare = sorted(
        word
        for word, phones in load_common_words().items()
        if 3 <= len(phones) <= 8 and phones not in excluded
    )
    phrases = []
    for _ in range(count):
        third = common if rng.random() < 0.5 else rare
        words = [str(rng.choice(each)) for each in (common, rare, third)]
        phrases.append(" ".join(rng.permutation(words)))
    return phrases


if __name__ == "__main__":
    main()
