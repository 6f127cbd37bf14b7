"""What sounds like a phrase and is not it: its parts, words that share its sounds, its words in
another order.

Distances are weighted edit distances between sounds, as the letters of Kokoro's alphabet (one
letter for a sound, stress left out): two sounds that are often taken for each other cost less
than others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from kws.synth import pronunciation
from kws.synth.pronunciation import phonemize, strip_stress

PART, NEAR, SWAPPED, REPLACED, CONTAINING = "part", "near", "swapped", "replaced", "containing"
KINDS = {
    PART: "is said within the phrase",
    NEAR: "shares its sounds",
    SWAPPED: "has its words in another order",
    REPLACED: "has another word in place of one of its own",
    CONTAINING: "holds the whole phrase: neither to fire at nor to be silent at",
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
_SIMILAR_COST, _DIFFERENT_COST = 0.4, 1.0  # costs of taking one sound for another
MAX_NEAR_WORDS = 60
_MIN_PHONES = 2
_MAX_DISTANCE = 0.5  # of the longer one's sounds
_REPLACEMENTS_PER_WORD = 8  # of each word of a phrase


@dataclass(frozen=True)
class Confusable:
    """A text, why it is listed (one of KINDS), and its distance as a share of the longer one's
    sounds: 1 where it was not measured."""

    text: str
    kind: str
    distance: float


def find_confusables(
    phrase: str, pronunciations: Sequence[str] = (), max_near: int = MAX_NEAR_WORDS
) -> list[Confusable]:
    """Neighbours of a phrase, which is said as spelled unless pronunciations in Kokoro's alphabet
    are given.

    Parts, swapped words and containing words first, then the nearest words. Raises SynthError where
    hibari-tts is not installed.
    """
    pronunciation.require("finding neighbours")
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
    """The sounds of a phrase, without stress and pauses: as they are given in Kokoro's alphabet,
    else as Americans and Britons say it.

    Raises SynthError where the latter is to be looked up and hibari-tts is not installed.
    """
    if not target_phones:
        pronunciation.require("knowing how it is pronounced")
    variants = target_phones or [
        pronunciation.load_g2p(british)(phrase) for british in (False, True)
    ]
    return tuple(dict.fromkeys(map(strip_stress, variants)))


def explain_unknown_words(phrase: str) -> list[str]:
    """Remarks on words that are not in the dictionary, and so are said as by rule; none where there
    is no dictionary to look into."""
    if not pronunciation.is_installed():
        return []
    return [
        (
            f"'{word}' is not in the dictionary; by its spelling it is said '{phonemize(word)}'. "
            "If that is wrong, give --phonemes."
        )
        for word in phrase.split()
        if word not in pronunciation.load_vocabulary() and "." not in word  # letters are known
    ]


def _is_part(phones: str, target_phones: Sequence[str]) -> bool:
    return len(phones) >= _MIN_PHONES and any(phones in each for each in target_phones)


def _rank_by_distance(
    kind: str, words: dict[str, str], target_phones: Sequence[str], phrase_words: Sequence[str] = ()
) -> list[Confusable]:
    """One spelling for each sound, the phrase's own if it has one; the longest parts and the
    shortest containing words first."""
    confusables = [
        Confusable(word, kind, round(distance, 3))
        for word, distance in zip(
            words, _relative_distances(target_phones, words.values()), strict=True
        )
    ]
    return _drop_homophones(
        sorted(
            confusables, key=lambda each: (each.distance, each.text not in phrase_words, each.text)
        ),
        words,
    )


def _drop_homophones(confusables: Iterable[Confusable], words: dict[str, str]) -> list[Confusable]:
    """Of words that sound the same the first."""
    return list({words[each.text]: each for each in reversed(list(confusables))}.values())[::-1]


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
    """Each word of a phrase in turn is another, one of the nearest."""
    words, confusables = phrase.split(), []
    for position, word in enumerate(words if len(words) > 1 else []):
        word_phones = phonemize(word)
        others = {
            other: phones
            for other, phones in pronunciation.load_common_words().items()
            if word_phones not in phones
        }
        nearest = np.argsort(_relative_distances([word_phones], others.values()), kind="stable")[
            :_REPLACEMENTS_PER_WORD
        ]
        names = [*others]
        confusables += [
            " ".join([*words[:position], names[i], *words[position + 1 :]]) for i in nearest
        ]
    return [Confusable(text, REPLACED, 1.0) for text in confusables]


def _relative_distances(target_phones: Sequence[str], words: Iterable[str]) -> np.ndarray:
    """Distance of each word [n] to the nearest pronunciation, as a share of the longer
    one's sounds."""
    words = list(words)
    if not words:
        return np.zeros(0)
    return np.min(
        [
            _edit_distances(each, words) / np.maximum(len(each), [len(word) for word in words])
            for each in target_phones
        ],
        axis=0,
    )


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
    return (
        0.0
        if a == b
        else _SIMILAR_COST
        if any(a in group and b in group for group in _SIMILAR_PHONES)
        else _DIFFERENT_COST
    )
