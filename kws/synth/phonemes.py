"""ARPAbet, the alphabet of the CMU dictionary ("W EH1 L K AH0 M"), and how the engines write it.

The digit behind a vowel is its stress: 1 primary, 2 secondary, 0 none.
"""

from kws.errors import SynthError

_KOKORO_SYMBOLS = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "W", "AY": "I", "EH": "ɛ", "ER": "ɜɹ",
    "EY": "A", "IH": "ɪ", "IY": "i", "OW": "O", "OY": "Y", "UH": "ʊ", "UW": "u", "B": "b",
    "CH": "ʧ", "D": "d", "DH": "ð", "F": "f", "G": "ɡ", "HH": "h", "JH": "ʤ", "K": "k",
    "L": "l", "M": "m", "N": "n", "NG": "ŋ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t",
    "TH": "θ", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
_ESPEAK_SYMBOLS = {
    "AA": "A:", "AE": "a", "AH": "V", "AO": "O:", "AW": "aU", "AY": "aI", "EH": "E", "ER": "3:",
    "EY": "eI", "IH": "I", "IY": "i:", "OW": "oU", "OY": "OI", "UH": "U", "UW": "u:", "B": "b",
    "CH": "tS", "D": "d", "DH": "D", "F": "f", "G": "g", "HH": "h", "JH": "dZ", "K": "k",
    "L": "l", "M": "m", "N": "n", "NG": "N", "P": "p", "R": "r", "S": "s", "SH": "S", "T": "t",
    "TH": "T", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "Z",
}  # fmt: skip
VOWELS = tuple(name for name in _KOKORO_SYMBOLS if name[0] in "AEIOU")
_KOKORO_STRESS, _ESPEAK_STRESS = ({"1": "ˈ", "2": "ˌ"}, {"1": "'", "2": ","})


def normalize(pronunciation: str) -> str:
    """ARPAbet in capitals, with one blank between the phonemes. A vowel without a digit is
    unstressed; if no vowel has a digit, the first one has the primary stress.

    Raises SynthError for unknown phonemes, and where there is no vowel.
    """
    phonemes = pronunciation.upper().split()
    for phoneme in phonemes:
        name = phoneme.rstrip("012")
        max_digits = 1 if name in VOWELS else 0
        if name not in _KOKORO_SYMBOLS or len(phoneme) - len(name) > max_digits:
            raise SynthError(
                f"'{phoneme}' is no phoneme of ARPAbet. "
                "Write as in the CMU dictionary: 'W EH1 L K AH0 M' is welcome."
            )
    if not any(phoneme[:2] in VOWELS for phoneme in phonemes):
        raise SynthError(
            f"'{pronunciation}' has no vowel, so nothing can be spoken. "
            "Write as in the CMU dictionary: 'W EH1 L K AH0 M'."
        )
    if not any(phoneme.endswith(("0", "1", "2")) for phoneme in phonemes):
        first = next(i for i, phoneme in enumerate(phonemes) if phoneme in VOWELS)
        phonemes[first] += "1"
    return " ".join(phoneme + "0" if phoneme in VOWELS else phoneme for phoneme in phonemes)


def to_kokoro(pronunciation: str) -> str:
    """The phonemes in Kokoro's alphabet."""
    reduced_vowels = {"AH0": "ə", "ER0": "əɹ"}
    return "".join(
        reduced_vowels.get(phoneme) or _transcribe(phoneme, _KOKORO_SYMBOLS, _KOKORO_STRESS)
        for phoneme in pronunciation.split()
    )


def to_espeak(pronunciation: str) -> str:
    """The phonemes as mnemonics of eSpeak, which it reads between [[ and ]]."""
    reduced_vowels = {"AH0": "@", "ER0": "3"}
    return "".join(
        reduced_vowels.get(phoneme) or _transcribe(phoneme, _ESPEAK_SYMBOLS, _ESPEAK_STRESS)
        for phoneme in pronunciation.split()
    )


def weaken_stress(kokoro_phonemes: str) -> str:
    """Phonemes in Kokoro's alphabet, with secondary stress in place of primary stress."""
    return kokoro_phonemes.replace("ˌ", "").replace("ˈ", "ˌ")


def _transcribe(phoneme: str, symbols: dict[str, str], stresses: dict[str, str]) -> str:
    return stresses.get(phoneme[-1], "") + symbols[phoneme.rstrip("012")]
