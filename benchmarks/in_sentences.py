"""How well detectors made from text hear their word in the middle of what people say.

    python benchmarks/in_sentences.py --data DATA --runs RUNS [--words city night]
        [--two-stage] [--init-from models/encoder.pt]
    python benchmarks/in_sentences.py --data DATA --runs RUNS --evaluate [--model WORD=FILE ...]
    python benchmarks/in_sentences.py --data DATA --runs RUNS --list-unheard FILE

The first form trains a detector of each word, but for those that RUNS holds; one that was stopped
is resumed. The second evaluates them, or other models. DATA holds `sentences`, a corpus with
transcripts (`kws.training.data.transcripts`); librispeech, honk and precise_community with the
transcripts SET.jsonl, as recipes/phone_recognizer/transcribe.py writes them; speech_commands and
wake_words; and esc10.

Eight words are to choose by. Four confirm what was chosen: --confirm takes them in place of the
eight. They are evaluated once, when all is chosen, and experiments/LOG.md notes it.

A sentence that holds one of the words is unheard: nothing may learn from it, whoever says it. The
third form lists these recordings, for the training of encoders and verifiers.

The place of each word is found by alignment; a sentence that does not fit its transcript is left
out. The word is found if an event lies there. Misses are counted at no more than 1 and 0.5 false
alarms per hour of sentences that do not hold the word: all of held-out speakers, and the unheard
ones of others. (The training chooses a detector's own threshold on half of the held-out speakers.)
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.accents import group_accent
from benchmarks.people import (
    FALSE_ALARMS_PER_HOUR,
    Alarms,
    add_training_options,
    run_name,
    train_detector,
)
from benchmarks.report import ROOT, write_report
from kws.errors import DataError
from kws.runtime.engine import Engine
from kws.runtime.spotter import Spotter
from kws.synth.pronunciation import phonemize
from kws.training.data.clips import find_clips
from kws.training.data.dataset import ClipDataset, load_clips
from kws.training.data.transcripts import Utterance, find_words, read_corpus
from kws.training.detection.from_text import SynthConfig
from kws.training.evaluate.calibration import lowest_threshold_within
from kws.training.evaluate.intervals import wilson
from kws.training.evaluate.metrics import CURVE_THRESHOLDS
from kws.training.evaluate.scoring import count_alarms, score_clips, score_word
from kws.training.evaluate.test_streams import embed_word
from kws.training.model.network import ScanningCNN
from kws.training.model.phone_set import to_phones
from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE
from kws.training.model.torch_engine import load_network
from kws.training.phones.alignment import AlignedWord, align_words
from kws.training.phones.places import compute_fit

# With the number of held-out speakers who say it, and of others.
WORDS_TO_CHOOSE_BY = (
    "world",  # 19, 43: one syllable, stressed
    "must",  # 18, 59: one syllable, mostly unstressed, never the last word
    "night",  # 16, 61: one syllable, three phones
    "city",  # 14, 32: stressed, unstressed; the most accents
    "something",  # 16, 48: stressed, half stressed
    "without",  # 12, 29: unstressed, stressed; a function word
    "returned",  # 13, 26: unstressed, stressed
    "alchemist",  # 14, 75: three syllables, the first one stressed
)
WORDS_TO_CONFIRM = (
    "heart",  # 15, 44: one syllable, stressed
    "always",  # 13, 54: stressed, half stressed; hardly any noise in its phones
    "before",  # 14, 63: unstressed, stressed; a function word
    "another",  # 10, 57: three syllables, the second one stressed
)
UNHEARD_WORDS = (*WORDS_TO_CHOOSE_BY, *WORDS_TO_CONFIRM, "welcome")
CORPUS = "sentences"
WITHOUT_SENTENCES = ("honk", "precise_community")
RECOGNISED_SETS = ("librispeech", *WITHOUT_SENTENCES)
SINGLE_WORDS = ("speech_commands", "wake_words")
MIN_FIT = 0.01  # mean confidence of a sentence's words: above it are nearly all right transcripts


@dataclass(frozen=True)
class Sentence:
    """What somebody says in a recording of the data set `source`, as people wrote it down or as a
    recogniser did."""

    utterance: Utterance
    source: str
    is_recognised: bool = False

    @cached_property
    def words(self) -> list[str]:
        return find_words(self.utterance.text)

    @property
    def is_held_out(self) -> bool:
        return self.utterance.split != "train"

    @cached_property
    def is_unheard(self) -> bool:
        return any(map(self.holds, UNHEARD_WORDS))

    @property
    def accent(self) -> str:
        return group_accent(self.utterance.accent)

    def can_test(self, word: str) -> bool:
        """Whether the word is said, in English, as people wrote it down."""
        return word in self.words and self.utterance.is_english and not self.is_recognised

    def holds(self, word: str) -> bool:
        """Whether one of its words is this one, or contains its phones: "tonight" does "night"."""
        return word in self.words or any(_phones(word) in _phones(each) for each in self.words)


@dataclass(frozen=True)
class SpokenWord:
    """A word in a sentence, and the highest threshold at which it is found there."""

    sentence: Sentence
    best_score: float


@dataclass(frozen=True)
class Outcome:
    """Whether the word in a sentence is missed at one threshold."""

    sentence: Sentence
    missed: bool


@dataclass(frozen=True)
class TestSpeech:
    """Sentences that nothing has learned from, each with its recording."""

    sentences: tuple[Sentence, ...]
    recordings: ClipDataset


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_training_options(parser)
    parser.add_argument("--words", nargs="+", help="some of the words (default: all)")
    parser.add_argument("--confirm", action="store_true", help="take the four words that confirm")
    parser.add_argument(
        "--model", nargs="+", default=[], metavar="WORD=FILE", help="evaluate these models"
    )
    parser.add_argument(
        "--list-unheard", type=Path, metavar="FILE", help="list what nothing may learn from"
    )
    parser.set_defaults(human=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    words = WORDS_TO_CONFIRM if args.confirm else WORDS_TO_CHOOSE_BY
    if unknown := set(args.words or words) - set(words):
        parser.error(f"--words: {', '.join(sorted(unknown))} is none of {', '.join(words)}")
    models = dict(each.partition("=")[::2] for each in args.model)
    if not args.confirm and not set(WORDS_TO_CONFIRM).isdisjoint(models):
        parser.error("--model: this word confirms; give --confirm, too")
    sentences = read_sentences(args.data)
    if args.list_unheard:
        list_unheard(sentences, args.data, args.list_unheard)
    elif args.evaluate:
        evaluate_models(args, sentences, models or find_runs(args, args.words or words))
    else:
        train_runs(args, sentences, args.words or words)


def read_corpus_sentences(data: Path) -> list[Sentence]:
    """The recordings with transcripts by people, each with the beginning of its folder's name as
    source."""
    corpus = data / CORPUS
    return [
        Sentence(each, each.path.relative_to(corpus).parts[0].partition("_")[0])
        for each in read_corpus(corpus, print)
    ]


def read_sentences(data: Path) -> list[Sentence]:
    """All recordings with transcripts."""
    sentences = read_corpus_sentences(data)
    for name in RECOGNISED_SETS:
        path = data / f"{name}.jsonl"
        if not path.exists():
            print(f"{path}: not there, {name} is not used")
            continue
        rows = map(json.loads, path.read_text().splitlines())
        texts = {row["file"]: " ".join(word for word, *_ in row["words"]) for row in rows}
        sentences += [
            Sentence(Utterance(clip.path, texts[clip.path.name], clip.speaker), name, True)
            for clip in find_clips(data / name)
            if clip.path.name in texts
        ]
    return sentences


def list_unheard(sentences: Iterable[Sentence], data: Path, path: Path) -> None:
    unheard = [each.utterance.path.relative_to(data) for each in sentences if each.is_unheard]
    path.write_text("".join(f"{each.as_posix()}\n" for each in unheard))


def train_runs(
    args: argparse.Namespace, sentences: Iterable[Sentence], words: Iterable[str]
) -> None:
    speech = args.runs / "speech"
    link_recordings((each for each in sentences if not each.is_unheard), speech)
    for word in words:
        path = run_path(args, word)
        if not path.exists():
            folders = [speech, *(args.data / name for name in SINGLE_WORDS)]
            train_detector(args, SynthConfig(word, args.synth_clips, args.seed), path, folders)


def run_path(args: argparse.Namespace, word: str) -> Path:
    return args.runs / f"{run_name(args, word)}.kws"


def link_recordings(sentences: Iterable[Sentence], folder: Path) -> None:
    """Makes a folder of links to recordings, with names that tell who speaks."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = {
        f"{each.speaker}_nohash_{each.path.name}": each.path.resolve()
        for each in (sentence.utterance for sentence in sentences)
    }
    for path in folder.iterdir():
        if path.name not in targets:
            path.unlink()
    for name, target in targets.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(target)


def find_runs(args: argparse.Namespace, words: Iterable[str]) -> dict[str, str]:
    """The model of each word. Exits where one is missing."""
    paths = {word: run_path(args, word) for word in words}
    missing = [str(path) for path in paths.values() if not path.exists()]
    if missing:
        raise SystemExit(f"{', '.join(missing)}: not there. Train without --evaluate first.")
    return {word: str(path) for word, path in paths.items()}


def evaluate_models(
    args: argparse.Namespace, sentences: Iterable[Sentence], models: Mapping[str, str]
) -> None:
    """Prints a line of JSON for the model of each word, and one for all; the report has them."""
    speech = read_test_speech(sentences)
    aligner = load_network(ROOT / "models" / PHONE_RECOGNIZER_FILE)
    rows = []
    all_outcomes: list[list[Outcome]] = [[] for _ in FALSE_ALARMS_PER_HOUR]
    for word, model in models.items():
        engine = Engine.load(model, verifier=not args.without_verifier)
        spotter = Spotter(engine, engine.info.events)
        spoken = score_spoken_words(spotter, word, speech, aligner)
        alarms = count_false_alarms(spotter, word, speech)
        own = int(np.searchsorted(CURVE_THRESHOLDS, spotter.events.threshold[0]))
        at_rates = [
            lowest_threshold_within(alarms.counts, rate * alarms.hours)
            for rate in FALSE_ALARMS_PER_HOUR
        ]
        row = {
            "word": word,
            "model": model,
            "hours": round(alarms.hours, 2),
            "own_threshold": describe(own, spoken, alarms),
            "at_rates": [
                {"false_alarms_per_hour": rate, **describe(at, spoken, alarms)}
                for rate, at in zip(FALSE_ALARMS_PER_HOUR, at_rates, strict=True)
            ],
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
        for outcomes, at in zip(all_outcomes, at_rates, strict=True):
            outcomes += find_outcomes(spoken, at)
    together = [
        {"false_alarms_per_hour": rate, "missed": break_down(outcomes)}
        for rate, outcomes in zip(FALSE_ALARMS_PER_HOUR, all_outcomes, strict=True)
    ]
    print(json.dumps({"together": together}))
    write_report({"words": rows, "together": together}, args.out)


def read_test_speech(sentences: Iterable[Sentence]) -> TestSpeech:
    """Running speech of held-out speakers, and what is unheard of others."""
    by_path = {
        each.utterance.path: each
        for each in sentences
        if (each.is_held_out or each.is_unheard) and each.source not in WITHOUT_SENTENCES
    }
    dataset = load_clips([each.utterance.clip for each in by_path.values()], warn=print)
    return TestSpeech(tuple(by_path[clip.path] for clip in dataset.clips), dataset)


def score_spoken_words(
    spotter: Spotter, word: str, speech: TestSpeech, aligner: ScanningCNN
) -> list[SpokenWord]:
    """The word in all sentences that can test it."""
    spoken = []
    for sentence, samples in zip(speech.sentences, speech.recordings, strict=True):
        if sentence.can_test(word):
            for place in find_places(word, sentence, samples, aligner):
                embedded = embed_word(samples, (place.start, place.end))
                scored = score_word(spotter, 0, embedded)
                spoken.append(SpokenWord(sentence, scored.best_score))
    return spoken


def find_places(
    word: str, sentence: Sentence, samples: np.ndarray, aligner: ScanningCNN
) -> list[AlignedWord]:
    """Where a word lies in a recording; nowhere, with a remark, if the transcript does not fit."""
    try:
        aligned = align_words(aligner, samples, sentence.words)
    except DataError as error:
        print(f"left out: {sentence.utterance.path}: {error}")
        return []
    if (fit := compute_fit(aligned)) < MIN_FIT:
        print(f"left out: {sentence.utterance.path}: fits its transcript by {fit:.3f}")
        return []
    return [each for each in aligned if each.text == word]


def count_false_alarms(spotter: Spotter, word: str, speech: TestSpeech) -> Alarms:
    """Events in all sentences that do not hold the word."""
    dataset = speech.recordings.select(
        {
            sentence.utterance.clip for sentence in speech.sentences if not sentence.holds(word)
        }.__contains__
    )
    counts = count_alarms(score_clips(spotter, dataset), spotter.words[0], CURVE_THRESHOLDS)
    return Alarms(counts, dataset.seconds / 3600)


def describe(at: int | None, spoken: Sequence[SpokenWord], alarms: Alarms) -> dict:
    """False alarms and misses at one of CURVE_THRESHOLDS, or above all of them (None)."""
    return {
        "threshold": None if at is None else CURVE_THRESHOLDS[at],
        "false_alarms": None if at is None else int(alarms.counts[at]),
        "missed": break_down(find_outcomes(spoken, at)),
    }


def find_outcomes(spoken: Iterable[SpokenWord], at: int | None) -> list[Outcome]:
    threshold = np.inf if at is None else CURVE_THRESHOLDS[at]
    return [Outcome(each.sentence, each.best_score < threshold) for each in spoken]


def break_down(outcomes: Sequence[Outcome]) -> dict:
    """Misses: all, of held-out speakers alone, by source, and by accent."""
    return {
        "all": count_misses(outcomes),
        "held_out": count_misses([each for each in outcomes if each.sentence.is_held_out]),
        "source": count_misses_by(outcomes, lambda sentence: sentence.source),
        "accent": count_misses_by(outcomes, lambda sentence: sentence.accent),
    }


def count_misses_by(
    outcomes: Iterable[Outcome], group: Callable[[Sentence], str]
) -> dict[str, dict]:
    grouped: dict[str, list[Outcome]] = {}
    for each in outcomes:
        grouped.setdefault(group(each.sentence), []).append(each)
    return {name: count_misses(grouped[name]) for name in sorted(grouped)}


def count_misses(outcomes: Sequence[Outcome]) -> dict:
    missed = sum(each.missed for each in outcomes)
    return {
        "words": len(outcomes),
        "speakers": len({each.sentence.utterance.speaker for each in outcomes}),
        "missed": missed,
        "rate": round(missed / len(outcomes), 4) if outcomes else None,
        "interval": [round(limit, 4) for limit in wilson(missed, len(outcomes))],
    }


@cache
def _phones(word: str) -> str:
    return to_phones(phonemize(word))


if __name__ == "__main__":
    main()
