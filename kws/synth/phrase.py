"""What can be asked for: a word or a few, in Latin letters."""

import hashlib
import re
import unicodedata

from kws.synth.engine import SynthError

MOST_WORDS = 5  # longer ones last longer than the network hears at once
FEWEST_LETTERS = 2
_LONGEST_NAME = 60


def checked(text: str) -> str:
    """The phrase as it is spoken: lower case, accents and punctuation dropped, one blank between words.

    Raises SynthError for what no English voice says as it is written, and for what is too short or too long to be listened for.
    """
    plain = unicodedata.normalize("NFKD", text).replace("’", "'").casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    if re.search(r"\d", plain):
        raise SynthError(f"'{text}': write numbers as words, as they are to be spoken.")
    foreign = sorted({letter for letter in plain if letter.isalpha() and not letter.isascii()})
    if foreign:
        raise SynthError(
            f"'{text}': the voices speak English and cannot read {', '.join(foreign)}. Write it as it sounds, in Latin letters."
        )
    words = re.sub(r"[^a-z']+", " ", plain).replace(" '", " ").replace("' ", " ").strip(" '").split()
    if len("".join(words)) < FEWEST_LETTERS:
        raise SynthError(f"'{text}': too short to be told from the rest of speech. Take a word of two syllables or more.")
    if len(words) > MOST_WORDS:
        raise SynthError(f"'{text}': {len(words)} words; a detector hears {MOST_WORDS} at most. Take a shorter phrase.")
    return " ".join(words)


def folder_name(text: str) -> str:
    """The name of the folder and of the word: hey_you for "hey you"; of long sentences the beginning and a hash."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower().replace("'", "")).strip("_")
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"
