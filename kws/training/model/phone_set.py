"""The phones that networks recognise: one letter each, without stress, as
`kws.synth.confusables.pronunciations` writes them."""

BLANK = "_"  # of CTC: no phone begins here
PHONES = "bdfhijklmnpstuvwzæðŋɑɔəɛɜɡɪɹʃʊʌʒʤʧθAIOWYᵊᵻɾ"
_MERGED = {"T": "ɾ", "ɒ": "ɑ", "a": "æ", "e": "ɛ", "r": "ɹ", "g": "ɡ", "Q": "O"}


def to_phones(phonemes: str) -> str:
    """A transcription in PHONES only: similar phones are merged, all other symbols removed."""
    merged = (_MERGED.get(symbol, symbol) for symbol in phonemes)
    return "".join(symbol for symbol in merged if symbol in PHONES)
