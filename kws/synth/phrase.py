"""What can be asked for: a word or a few, in Latin letters."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from kws.synth import pronunciation
from kws.synth.engines.base import SynthError

MOST_WORDS = 5  # longer ones last longer than the network hears at once
FEWEST_LETTERS = 2
_LONGEST_NAME = 60
_LONGEST_SPELLED = 4  # letters: longer words in capitals are meant to be loud
_LETTERS_WITH_POINTS = r"(?<![A-Za-z.'])[A-Za-z](?:\.[A-Za-z])+(?:\.'s)?\.?(?![A-Za-z'])"
_CAPITALS = re.compile(r"(?P<letters>[A-Z]{2,})(?P<end>'?s)?")  # TVs, AI's


def checked(text: str) -> str:
    """The phrase as it is spoken: small letters, accents and punctuation dropped, one blank between
    words. What is said letter by letter stands in capitals with points, A.I., as all engines read
    it: what is written so, and words in capitals (see `remarks`).

    Raises SynthError for what no English voice says as it is written, and for what is too short or
    too long to be listened for.
    """
    plain = _plain(text)
    if re.search(r"\d", plain):
        raise SynthError(f"'{text}': write numbers as words, as they are to be spoken.")
    foreign = sorted({letter for letter in plain if letter.isalpha() and not letter.isascii()})
    if foreign:
        raise SynthError(
            f"'{text}': the voices speak English and cannot read {', '.join(foreign)}. "
            "Write it as it sounds, in Latin letters."
        )
    words = [_spoken(word, _all_in_capitals(plain)) for word in _words(plain)]
    if sum(letter.isalpha() for letter in "".join(words)) < FEWEST_LETTERS:
        raise SynthError(
            f"'{text}': too short to be told from the rest of speech. "
            "Take a word of two syllables or more."
        )
    if len(words) > MOST_WORDS:
        raise SynthError(
            f"'{text}': {len(words)} words; a detector hears {MOST_WORDS} at most. "
            "Take a shorter phrase."
        )
    return " ".join(words)


def remarks(text: str) -> list[str]:
    """How words in capitals are spoken, and how to have them spoken in another way."""
    plain = _plain(text)
    capitals = [word for word in _words(plain) if _CAPITALS.fullmatch(word)]
    letters = [word for word in capitals if "." in _spoken(word, _all_in_capitals(plain))]
    words = [word for word in capitals if word not in letters]
    told = (
        [
            (
                f"{_quoted(letters)} spoken letter by letter. "
                f"For a word write {' '.join(letters).lower()}"
            )
        ]
        if letters
        else []
    )
    told += (
        [
            (
                f"{_quoted(words)} spoken like any word. "
                f"For letters write {' '.join(map(_dotted, words))}"
            )
        ]
        if words
        else []
    )
    return [f"{sentence}, or give --phonemes." for sentence in told]


def _plain(text: str) -> str:
    """Without accents, in letters of the alphabet as far as there are such."""
    decomposed = unicodedata.normalize("NFKD", text).replace("’", "'")
    return "".join(
        each if each.isascii() else each.casefold()
        for each in decomposed
        if not unicodedata.combining(each)
    )


def _words(plain: str) -> list[str]:
    found = (word.strip("'") for word in re.findall(rf"{_LETTERS_WITH_POINTS}|[A-Za-z']+", plain))
    return [word for word in found if word]


def _spoken(word: str, all_in_capitals: bool) -> str:
    if "." in word:
        letters, _, end = word.partition("'")
        return _dotted(letters.replace(".", "").upper() + (end and "'s"))
    capitals = _CAPITALS.fullmatch(word)
    return (
        _dotted(word)
        if capitals and _is_spelled(capitals["letters"], all_in_capitals)
        else word.lower()
    )


def _dotted(word: str) -> str:
    """AI as A.I., TVs as T.V.'s, which all engines say alike."""
    letters = word.removesuffix("s").removesuffix("'")
    return "".join(f"{letter}." for letter in letters) + ("'s" if word.endswith("s") else "")


def _all_in_capitals(plain: str) -> bool:
    """Whether capitals say nothing, as all is written in them."""
    return all("." in word or word.isupper() for word in _words(plain))


def _is_spelled(word: str, all_in_capitals: bool) -> bool:
    """Whether a word in capitals is said letter by letter: where it has no vowel, or is short and
    no acronym that the dictionary knows as a word (NASA). Where all is in capitals, it must be no
    other word of the dictionary either."""
    if not set(word) & set("AEIOUY"):
        return True
    if len(word) > _LONGEST_SPELLED or _is_said_as_a_word(word):
        return False
    return not all_in_capitals or (
        pronunciation.is_there() and word.lower() not in pronunciation.ordinary()
    )


def _is_said_as_a_word(capitals: str) -> bool:
    said = pronunciation.entries().get(capitals) if pronunciation.is_there() else None
    return isinstance(said, str) and pronunciation.unstressed(said) != pronunciation.sounds(
        _dotted(capitals)
    )


def _quoted(words: Sequence[str]) -> str:
    quoted = ", ".join(f"'{word}'" for word in words)
    return f"{quoted} {'is' if len(words) == 1 else 'are'}"


def folder_name(text: str) -> str:
    """The name of the folder and of the word: hey_you for "hey you", hey_ai for "hey A.I."; of long
    sentences the beginning and a hash."""
    name = re.sub(r"[^a-z0-9]+", "_", re.sub(r"['.]", "", text.lower())).strip("_")
    return (
        name
        if len(name) <= _LONGEST_NAME
        else f"{name[:_LONGEST_NAME]}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    )
