"""Phrases that can be synthesized: one word or a few, in Latin letters."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from kws.errors import SynthError
from kws.synth import pronunciation

MAX_WORDS = 5  # longer phrases exceed the receptive field of the network
MIN_LETTERS = 2
_MAX_NAME_CHARS = 60
_MAX_SPELLED_LETTERS = 4  # longer words in capitals are emphasis, not abbreviations
_DOTTED_LETTERS = r"(?<![A-Za-z.'])[A-Za-z](?:\.[A-Za-z])+(?:\.'s)?\.?(?![A-Za-z'])"
_CAPITALIZED_WORD = re.compile(r"(?P<letters>[A-Z]{2,})(?P<end>'?s)?")  # TVs, AI's


def normalize(text: str) -> str:
    """The phrase as it is spoken: lower case, without accents and punctuation, one blank between
    words. Abbreviations are written A.I., as all engines read them letter by letter; some words in
    capitals count as abbreviations (see `explain_capitals`).

    Raises SynthError for text that English voices cannot read, and for a phrase that is too short
    or too long to be detected.
    """
    plain = _strip_accents(text)
    if re.search(r"\d", plain):
        raise SynthError(f"'{text}': write numbers as words, as they are to be spoken.")
    foreign_letters = sorted(
        {letter for letter in plain if letter.isalpha() and not letter.isascii()}
    )
    if foreign_letters:
        raise SynthError(
            f"'{text}': the voices speak English and cannot read {', '.join(foreign_letters)}. "
            "Write it as it sounds, in Latin letters."
        )
    words = [_normalize_word(word, _is_all_capitals(plain)) for word in _split_words(plain)]
    if sum(letter.isalpha() for letter in "".join(words)) < MIN_LETTERS:
        raise SynthError(
            f"'{text}': too short to be detected reliably. Take a word of two syllables or more."
        )
    if len(words) > MAX_WORDS:
        raise SynthError(
            f"'{text}': {len(words)} words; a detector takes {MAX_WORDS} at most. "
            "Take a shorter phrase."
        )
    return " ".join(words)


def explain_capitals(text: str) -> list[str]:
    """Remarks on how words in capitals are spoken, and how to change that."""
    plain = _strip_accents(text)
    capitals = [word for word in _split_words(plain) if _CAPITALIZED_WORD.fullmatch(word)]
    letters = [word for word in capitals if "." in _normalize_word(word, _is_all_capitals(plain))]
    words = [word for word in capitals if word not in letters]
    remarks = []
    if letters:
        remarks.append(
            f"{_quote_words(letters)} spoken letter by letter. "
            f"For a word write {' '.join(letters).lower()}, or give --phonemes."
        )
    if words:
        remarks.append(
            f"{_quote_words(words)} spoken like any word. "
            f"For letters write {' '.join(map(_dot_letters, words))}, or give --phonemes."
        )
    return remarks


def _strip_accents(text: str) -> str:
    """Without accents, in ASCII letters as far as possible."""
    decomposed = unicodedata.normalize("NFKD", text).replace("’", "'")
    return "".join(
        character if character.isascii() else character.casefold()
        for character in decomposed
        if not unicodedata.combining(character)
    )


def _split_words(plain: str) -> list[str]:
    candidates = (word.strip("'") for word in re.findall(rf"{_DOTTED_LETTERS}|[A-Za-z']+", plain))
    return [word for word in candidates if word]


def _normalize_word(word: str, is_all_capitals: bool) -> str:
    if "." in word:
        letters, _, end = word.partition("'")
        return _dot_letters(letters.replace(".", "").upper() + (end and "'s"))
    capitals = _CAPITALIZED_WORD.fullmatch(word)
    return (
        _dot_letters(word)
        if capitals and _is_spelled_out(capitals["letters"], is_all_capitals)
        else word.lower()
    )


def _dot_letters(word: str) -> str:
    """AI as A.I., TVs as T.V.'s, which all engines speak alike."""
    letters = word.removesuffix("s").removesuffix("'")
    return "".join(f"{letter}." for letter in letters) + ("'s" if word.endswith("s") else "")


def _is_all_capitals(plain: str) -> bool:
    """Whether all words are in capitals, so that capitals mean nothing."""
    return all("." in word or word.isupper() for word in _split_words(plain))


def _is_spelled_out(word: str, is_all_capitals: bool) -> bool:
    """Whether a word in capitals is spoken letter by letter: it has no vowel; or it is short and no
    acronym that the dictionary pronounces as a word (NASA). If the whole phrase is in capitals, it
    must not be another word of the dictionary either."""
    if not set(word) & set("AEIOUY"):
        return True
    if len(word) > _MAX_SPELLED_LETTERS or _is_pronounced_as_word(word):
        return False
    return not is_all_capitals or (
        pronunciation.is_installed() and word.lower() not in pronunciation.load_non_acronyms()
    )


def _is_pronounced_as_word(capitals: str) -> bool:
    if not pronunciation.is_installed():
        return False
    entry = pronunciation.load_entries().get(capitals)
    spelled_out = pronunciation.phonemize(_dot_letters(capitals))
    return isinstance(entry, str) and pronunciation.strip_stress(entry) != spelled_out


def _quote_words(words: Sequence[str]) -> str:
    quoted = ", ".join(f"'{word}'" for word in words)
    return f"{quoted} {'is' if len(words) == 1 else 'are'}"


def folder_name(text: str) -> str:
    """The name of the folder of clips, and of the word: hey_you for "hey you", hey_ai for
    "hey A.I."; long names are cut and get a digest."""
    name = re.sub(r"[^a-z0-9]+", "_", re.sub(r"['.]", "", text.lower())).strip("_")
    if len(name) <= _MAX_NAME_CHARS:
        return name
    return f"{name[:_MAX_NAME_CHARS]}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"
