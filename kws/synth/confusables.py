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
from kws.synth.pronunciation import sounds, unstressed

PART, NEAR, SWAPPED, REPLACED, CONTAINING = "part", "near", "swapped", "replaced", "containing"
KINDS = {
    PART: "is said within the phrase",
    NEAR: "shares its sounds",
    SWAPPED: "has its words in another order",
    REPLACED: "has another word in place of one of its own",
    CONTAINING: "holds the whole phrase: neither to fire at nor to be silent at",
}
_ALIKE = (
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
_SIMILAR, _OTHER = 0.4, 1.0  # costs of taking one sound for another
_FEWEST_SOUNDS = 2
_FARTHEST = 0.5  # of the longer one's sounds
_REPLACEMENTS = 8  # of each word of a phrase


@dataclass(frozen=True)
class Neighbour:
    """A text, why it is listed (one of KINDS), and its distance as a share of the longer one's
    sounds: 1 where it was not measured."""

    text: str
    kind: str
    distance: float


def neighbours(
    phrase: str, pronunciations: Sequence[str] = (), most_near: int = 60
) -> list[Neighbour]:
    """Neighbours of a phrase, which is said as spelled unless pronunciations in Kokoro's alphabet
    are given.

    Parts, swapped words and containing words first, then the nearest words. Raises SynthError where
    hibari-tts is not installed.
    """
    pronunciation.need("finding neighbours")
    said = [unstressed(each) for each in pronunciations] or [sounds(phrase)]
    words = {
        word: plain
        for word, plain in pronunciation.common().items()
        if plain not in said and word != phrase
    }
    containing = {
        word: plain for word, plain in words.items() if any(each in plain for each in said)
    }
    parts = {word: plain for word, plain in words.items() if _is_part(plain, said)}
    rest = {
        word: plain for word, plain in words.items() if word not in parts and word not in containing
    }
    near = sorted(
        (distance, word)
        for word, distance in zip(rest, _distances(said, rest.values()), strict=True)
        if distance <= _FARTHEST
    )
    return [
        *_swapped(phrase),
        *_replaced(phrase),
        *_listed(PART, parts, said, own=phrase.split()),
        *_listed(CONTAINING, containing, said),
        *_one_of_each([Neighbour(word, NEAR, round(distance, 3)) for distance, word in near], rest)[
            :most_near
        ],
    ]


def pronunciations(phrase: str, said: Sequence[str] = ()) -> tuple[str, ...]:
    """The sounds of a phrase, without stress and pauses: as they are given in Kokoro's alphabet,
    else as Americans and Britons say it.

    Raises SynthError where the latter is to be looked up and hibari-tts is not installed.
    """
    if not said:
        pronunciation.need("knowing how it is pronounced")
    ways = said or [pronunciation.pronouncer(british)(phrase) for british in (False, True)]
    return tuple(dict.fromkeys(map(unstressed, ways)))


def guesses(phrase: str) -> list[str]:
    """Remarks on words that are not in the dictionary, and so are said as by rule; none where there
    is no dictionary to look into."""
    if not pronunciation.is_there():
        return []
    return [
        (
            f"'{word}' is not in the dictionary; by its spelling it is said '{sounds(word)}'. "
            "If that is wrong, give --phonemes."
        )
        for word in phrase.split()
        if word not in pronunciation.known() and "." not in word  # letters are known
    ]


def _is_part(plain: str, said: Sequence[str]) -> bool:
    return len(plain) >= _FEWEST_SOUNDS and any(plain in each for each in said)


def _listed(
    kind: str, words: dict[str, str], said: Sequence[str], own: Sequence[str] = ()
) -> list[Neighbour]:
    """One spelling for each sound, the phrase's own if it has one; the longest parts and the
    shortest containing words first."""
    found = [
        Neighbour(word, kind, round(distance, 3))
        for word, distance in zip(words, _distances(said, words.values()), strict=True)
    ]
    return _one_of_each(
        sorted(found, key=lambda each: (each.distance, each.text not in own, each.text)), words
    )


def _one_of_each(found: Iterable[Neighbour], words: dict[str, str]) -> list[Neighbour]:
    """Of words that sound the same the first."""
    return list({words[each.text]: each for each in reversed(list(found))}.values())[::-1]


def _swapped(phrase: str) -> list[Neighbour]:
    words = phrase.split()
    if len(words) < 2:
        return []
    orders = [words[::-1]] if len(words) > 3 else permutations(words)
    return [
        Neighbour(text, SWAPPED, 1.0)
        for text in dict.fromkeys(map(" ".join, orders))
        if text != phrase
    ]


def _replaced(phrase: str) -> list[Neighbour]:
    """Each word of a phrase in turn is another, one of the nearest."""
    words, found = phrase.split(), []
    for place, word in enumerate(words if len(words) > 1 else []):
        others = {
            other: plain
            for other, plain in pronunciation.common().items()
            if sounds(word) not in plain
        }
        nearest = np.argsort(_distances([sounds(word)], others.values()), kind="stable")[
            :_REPLACEMENTS
        ]
        names = [*others]
        found += [" ".join([*words[:place], names[i], *words[place + 1 :]]) for i in nearest]
    return [Neighbour(text, REPLACED, 1.0) for text in found]


def _distances(said: Sequence[str], words: Iterable[str]) -> np.ndarray:
    """Distance of each word [n] to the nearest pronunciation, as a share of the longer
    one's sounds."""
    words = list(words)
    if not words:
        return np.zeros(0)
    return np.min(
        [
            _edit_distances(each, words) / np.maximum(len(each), [len(word) for word in words])
            for each in said
        ],
        axis=0,
    )


def _edit_distances(said: str, words: Sequence[str]) -> np.ndarray:
    """Weighted edit distances [n] from one pronunciation to many, all at once (Wagner and
    Fischer, 1974)."""
    letters = sorted({*said, *"".join(words)})
    number = {letter: i for i, letter in enumerate(letters)}
    # [sounds of the phrase, letters]
    costs = np.array([[_cost(a, b) for b in letters] for a in said])
    longest = max(map(len, words))
    # [n, longest]
    coded = np.array(
        [[number[letter] for letter in word.ljust(longest, word[0])] for word in words]
    )
    row = np.tile(np.arange(longest + 1.0), (len(words), 1))
    for i, cost in enumerate(costs):
        new = np.empty_like(row)
        new[:, 0] = i + 1
        for j in range(longest):
            new[:, j + 1] = np.minimum(
                np.minimum(row[:, j + 1], new[:, j]) + 1, row[:, j] + cost[coded[:, j]]
            )
        row = new
    return row[np.arange(len(words)), [len(word) for word in words]]


def _cost(a: str, b: str) -> float:
    return (
        0.0
        if a == b
        else _SIMILAR
        if any(a in group and b in group for group in _ALIKE)
        else _OTHER
    )
