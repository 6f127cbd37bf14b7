"""Accents of English as replacements of phonemes, in Kokoro's alphabet.

Each is a rough sketch of how speakers of a language, or of a country, say English: its sounds in
place of those that it lacks. Rules apply one after the other.
"""

import re
from dataclasses import dataclass

_WORD_END = r"(?!\w)"


@dataclass(frozen=True)
class Accent:
    """british: whether it departs from British pronunciation, else from American. rules: regular
    expressions and what replaces them."""

    british: bool = False
    rules: tuple[tuple[str, str], ...] = ()

    def apply(self, phonemes: str) -> str:
        for pattern, replacement in self.rules:
            phonemes = re.sub(pattern, replacement, phonemes)
        return phonemes


ACCENTS = {
    "us": Accent(),
    "gb": Accent(british=True),
    "french": Accent(
        rules=(
            ("h", ""), ("θ", "s"), ("ð", "z"), ("ɪ", "i"), ("ʊ", "u"), ("ɹ", "ʁ"), ("ʧ", "ʃ"),
            ("ʤ", "ʒ"), ("A", "e"), ("O", "o"),
        )
    ),
    "german": Accent(
        rules=(
            ("θ", "s"), ("ð", "z"), ("w", "v"), ("ɹ", "ʁ"), ("æ", "ɛ"), ("A", "e"), ("O", "o"),
            ("b" + _WORD_END, "p"), ("d" + _WORD_END, "t"), ("ɡ" + _WORD_END, "k"),
            ("z" + _WORD_END, "s"), ("v" + _WORD_END, "f"), ("ʤ" + _WORD_END, "ʧ"),
        )
    ),
    "indian": Accent(
        british=True,
        rules=(
            ("t", "ʈ"), ("d", "ɖ"), ("θ", "t"), ("ð", "d"), ("[wv]", "ʋ"), ("ɹ", "ɾ"), ("A", "e"),
            ("[OQ]", "o"), ("ɒ", "ɔ"),
        ),
    ),
    "mandarin": Accent(
        rules=(
            ("θ", "s"), ("ð", "d"), ("v", "w"), ("z", "s"), ("ɪ", "i"), ("ʊ", "u"), ("æ", "ɛ"),
            ("ɹ", "ɻ"), ("ʤ" + _WORD_END, "ʧ"), ("ʒ", "ɻ"),
        )
    ),
    "south african": Accent(
        british=True,
        rules=(("ɛ", "e"), ("[aæ]", "ɛ"), ("ɪ", "ɨ"), ("I", "ɑ"), ("ɹ", "ɾ")),
    ),
    "spanish": Accent(
        rules=(
            ("h", "x"), ("θ", "t"), ("ð", "d"), ("ɪ", "i"), ("ʊ", "u"), ("[æʌɑ]", "a"), ("z", "s"),
            ("v", "b"), ("ʃ", "ʧ"), ("[ʤʒ]", "ʝ"), ("ɹ", "ɾ"), ("O", "o"),
        )
    ),
}  # fmt: skip
# Of Kokoro's clips; a quarter of its voices are of other languages, whatever the accent.
FOREIGN_FRACTION = 0.24
ACCENT_PROBABILITIES = {name: FOREIGN_FRACTION / (len(ACCENTS) - 2) for name in ACCENTS} | {
    "us": 0.48,
    "gb": 0.28,
}
