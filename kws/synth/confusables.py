"""Confusables of a phrase: its parts, words with similar phones, its words in another order.

Distances are weighted edit distances between phone strings in Kokoro's alphabet, one letter per
phone, without stress. Similar phones cost less than others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from kws.synth import pronunciation
from kws.synth.pronunciation import phonemize, strip_stress

PART, NEAR, SWAPPED, REPLACED, CONTAINING = "part", "near", "swapped", "replaced", "containing"
KINDS = {
    PART: "is spoken within the phrase",
    NEAR: "shares phones with the phrase",
    SWAPPED: "has the words of the phrase in another order",
    REPLACED: "has another word in place of one of the phrase",
    CONTAINING: "contains the whole phrase; neither a positive nor a negative example",
}
_SIMILAR_PHONES = (
    "iɪᵻ",
    "ɛæA",
    "ɑɔʌɒ",
    "əʌɪᵻᵊ",
    "ʊuO",
    "ɜə",
    "IA",
    "WO",
    "pbm",
    "tdnTɾ",
    "kɡŋ",
    "fvθð",
    "szʃʒ",
    "ʧʤʃʒ",
    "lɹw",
    "ji",
)
_SIMILAR_COST, _DIFFERENT_COST = 0.4, 1.0  # of a substitution
MAX_NEAR_WORDS = 60
_MIN_PHONES = 2
_MAX_DISTANCE = 0.5  # relative, see `Confusable`
_REPLACEMENTS_PER_WORD = 8


@dataclass(frozen=True)
class Confusable:
    """A text, why it is listed (one of KINDS), and its distance: edit distance divided by the
    number of phones of the longer text, 1 where it is not computed."""

    text: str
    kind: str
    distance: float


def find_confusables(
    phrase: str, pronunciations: Sequence[str] = (), max_near: int = MAX_NEAR_WORDS
) -> list[Confusable]:
    """Confusables of a phrase; its nearest words come last, at most `max_near` of them.

    pronunciations: of the phrase, in Kokoro's alphabet; without any it is pronounced as spelled.
    Raises SynthError where hibari-tts is not installed.
    """
    pronunciation.require("finding confusables")
    target_phones = [strip_stress(each) for each in pronunciations] or [phonemize(phrase)]
    words = {
        word: phones
        for word, phones in pronunciation.load_common_words().items()
        if phones not in target_phones and word != phrase
    }
    containing = {
        word: phones
        for word, phones in words.items()
        if any(each in phones for each in target_phones)
    }
    parts = {word: phones for word, phones in words.items() if _is_part(phones, target_phones)}
    rest = {
        word: phones
        for word, phones in words.items()
        if word not in parts and word not in containing
    }
    near = sorted(
        (distance, word)
        for word, distance in zip(
            rest, _relative_distances(target_phones, rest.values()), strict=True
        )
        if distance <= _MAX_DISTANCE
    )
    return [
        *_reorder_words(phrase),
        *_replace_words(phrase),
        *_rank_by_distance(PART, parts, target_phones, phrase_words=phrase.split()),
        *_rank_by_distance(CONTAINING, containing, target_phones),
        *_drop_homophones(
            [Confusable(word, NEAR, round(distance, 3)) for distance, word in near], rest
        )[:max_near],
    ]


def pronunciations(phrase: str, target_phones: Sequence[str] = ()) -> tuple[str, ...]:
    """The phones of a phrase, without stress and pauses: those that are given in Kokoro's alphabet,
    else the American and the British pronunciation.

    Raises SynthError where the latter are needed and hibari-tts is not installed.
    """
    variants = list(target_phones)
    if not variants:
        pronunciation.require("pronouncing a phrase")
        variants = [pronunciation.load_g2p(british)(phrase) for british in (False, True)]
    return tuple(dict.fromkeys(map(strip_stress, variants)))


def explain_unknown_words(phrase: str) -> list[str]:
    """A remark on each word that is not in the dictionary and is pronounced by rule; none where no
    dictionary is installed."""
    if not pronunciation.is_installed():
        return []
    vocabulary = pronunciation.load_vocabulary()
    return [
        f"'{word}' is not in the dictionary; by rule it is pronounced '{phonemize(word)}'. "
        "If that is wrong, give --phonemes."
        for word in phrase.split()
        if word not in vocabulary and "." not in word  # A.I. is spelled out
    ]


def _is_part(phones: str, target_phones: Sequence[str]) -> bool:
    return len(phones) >= _MIN_PHONES and any(phones in each for each in target_phones)


def _rank_by_distance(
    kind: str, words: dict[str, str], target_phones: Sequence[str], phrase_words: Sequence[str] = ()
) -> list[Confusable]:
    """Words by their distance: the longest parts and the shortest containing words first. Of
    homophones one is kept, the phrase's own if there is one."""
    distances = _relative_distances(target_phones, words.values())
    confusables = [
        Confusable(word, kind, round(distance, 3))
        for word, distance in zip(words, distances, strict=True)
    ]
    confusables.sort(key=lambda each: (each.distance, each.text not in phrase_words, each.text))
    return _drop_homophones(confusables, words)


def _drop_homophones(confusables: Iterable[Confusable], words: dict[str, str]) -> list[Confusable]:
    """The first of words with the same phones."""
    first_by_phones: dict[str, Confusable] = {}
    for each in confusables:
        first_by_phones.setdefault(words[each.text], each)
    return [*first_by_phones.values()]


def _reorder_words(phrase: str) -> list[Confusable]:
    words = phrase.split()
    if len(words) < 2:
        return []
    orders = [words[::-1]] if len(words) > 3 else permutations(words)
    return [
        Confusable(text, SWAPPED, 1.0)
        for text in dict.fromkeys(map(" ".join, orders))
        if text != phrase
    ]


def _replace_words(phrase: str) -> list[Confusable]:
    """The phrase with each of its words in turn replaced by the nearest other words."""
    words = phrase.split()
    if len(words) < 2:
        return []
    confusables = []
    for position, word in enumerate(words):
        for other in _nearest_words(phonemize(word), _REPLACEMENTS_PER_WORD):
            text = " ".join([*words[:position], other, *words[position + 1 :]])
            confusables.append(Confusable(text, REPLACED, 1.0))
    return confusables


def _nearest_words(target_phones: str, count: int) -> list[str]:
    """The common words nearest to a pronunciation that do not contain it."""
    words = {
        word: phones
        for word, phones in pronunciation.load_common_words().items()
        if target_phones not in phones
    }
    order = np.argsort(_relative_distances([target_phones], words.values()), kind="stable")
    names = [*words]
    return [names[i] for i in order[:count]]


def _relative_distances(target_phones: Sequence[str], words: Iterable[str]) -> np.ndarray:
    """Relative distance of each word [n], as phones, to the nearest pronunciation."""
    words = list(words)
    if not words:
        return np.zeros(0)
    lengths = [len(word) for word in words]
    distances = [
        _edit_distances(each, words) / np.maximum(len(each), lengths) for each in target_phones
    ]
    return np.min(distances, axis=0)


def _edit_distances(target_phones: str, words: Sequence[str]) -> np.ndarray:
    """Weighted edit distances [n] from one pronunciation to many, all at once (Wagner and
    Fischer, 1974)."""
    characters = np.array(words)  # padded with NUL to the longest word
    codes = characters.view(np.uint32).reshape(len(words), -1)
    symbols, encoded = np.unique(codes.T, return_inverse=True)
    encoded = encoded.reshape(codes.T.shape)  # [longest, n]
    # [phones of the target, symbols]
    costs = np.array([[_cost(a, chr(b)) for b in symbols] for a in target_phones])
    row = np.tile(np.arange(len(encoded) + 1.0)[:, None], (1, len(words)))  # [longest + 1, n]
    for i, cost in enumerate(costs):
        new = np.empty_like(row)
        new[0] = i + 1
        for j, symbol in enumerate(encoded):
            new[j + 1] = np.minimum(np.minimum(row[j + 1], new[j]) + 1, row[j] + cost[symbol])
        row = new
    return row[[len(word) for word in words], np.arange(len(words))]


def _cost(a: str, b: str) -> float:
    if a == b:
        return 0.0
    is_similar = any(a in group and b in group for group in _SIMILAR_PHONES)
    return _SIMILAR_COST if is_similar else _DIFFERENT_COST
