"""What may be said around a phrase: templates, and pieces of ordinary sentences with the phrase at
any boundary between two words. A carrier is a text with {} in place of the phrase."""

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np

from kws.synth import pronunciation

TEMPLATE_FRACTION = 0.4  # of the carriers; the others are pieces of sentences
# Of a sentence, before the phrase and after it: more would lie outside of most training examples.
MAX_WORDS_BESIDE = 4


def load_sentences(phrase: str, phones: Sequence[str] = ()) -> list[str]:
    """Ordinary sentences in which a phrase is not said. phones: its pronunciations."""
    return [each for each in _read_lines("sentences.txt") if not holds(each, phrase, phones)]


def draw_carriers(phrase: str, count: int, seed: int, phones: Sequence[str] = ()) -> list[str]:
    """`count` different carriers, as far as there are so many, in which the phrase is not said but
    at its place. A higher count begins with the same carriers."""
    rng = np.random.default_rng(seed)
    templates = _read_lines("carriers.txt")
    sentences = load_sentences(phrase, phones)
    carriers: dict[str, None] = {}
    for _ in range(10 * count):  # some are drawn twice, or say the phrase
        if len(carriers) == count:
            break
        if rng.random() < TEMPLATE_FRACTION:
            carrier = str(rng.choice(templates))
        else:
            carrier = _draw_piece(str(rng.choice(sentences)).split(), rng)
        if carrier not in carriers and not _says_twice(carrier, phrase, phones):
            carriers[carrier] = None
    return [*carriers]


def holds(text: str, phrase: str, phones: Sequence[str] = ()) -> bool:
    """Whether a phrase is said in a text, as it is spelled or in one of its pronunciations: "night"
    is said in "tonight"."""
    if f" {_words(phrase)} " in f" {_words(text)} ":
        return True
    return bool(phones) and any(each in _phonemize(text) for each in phones)


def _draw_piece(words: list[str], rng: np.random.Generator) -> str:
    """A few words of a sentence with the phrase before, between or after them."""
    words_before: list[str] = []
    words_after: list[str] = []
    while not words_before and not words_after:
        at = int(rng.integers(len(words) + 1))
        before, after = rng.integers(MAX_WORDS_BESIDE + 1, size=2)
        words_before, words_after = words[max(at - before, 0) : at], words[at : at + after]
    words_before = [word.rstrip(".!?") for word in words_before]
    return " ".join([*words_before, "{}", *words_after]).rstrip(".,!")


def _says_twice(carrier: str, phrase: str, phones: Sequence[str]) -> bool:
    """Whether the words before the phrase, or those after it, say it."""
    return any(holds(part, phrase, phones) for part in carrier.split("{}") if part)


def _words(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text.lower()))


@cache
def _phonemize(text: str) -> str:
    return pronunciation.phonemize(text)


def _read_lines(name: str) -> list[str]:
    lines = (files("kws.synth") / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line]
