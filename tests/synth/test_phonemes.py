"""ARPAbet, as the engines write it."""

import pytest

from kws.errors import SynthError
from kws.synth import phonemes


class TestPhonemes:
    @pytest.mark.parametrize(
        ("given", "normalize"),
        [
            ("W EH1 L K AH0 M", "W EH1 L K AH0 M"),
            ("w eh1 l k ah0 m", "W EH1 L K AH0 M"),
            ("W EH L K AH M", "W EH1 L K AH0 M"),
            ("S N OW1 B OY2", "S N OW1 B OY2"),
        ],
    )
    def test_normalized(self, given, normalize):
        assert phonemes.normalize(given) == normalize

    @pytest.mark.parametrize("given", ["W EH1 Q", "welcome", "K1 AE", "K L", "", "EH3 N", "AE11 N"])
    def test_invalid_pronunciations(self, given):
        with pytest.raises(SynthError, match="CMU dictionary"):
            phonemes.normalize(given)

    @pytest.mark.parametrize(
        ("given", "kokoro", "espeak"),
        [
            ("W EH1 L K AH0 M", "wˈɛlkəm", "w'Elk@m"),
            ("S N OW1 B OY2", "snˈObˌY", "sn'oUb,OI"),
            ("B ER1 D", "bˈɜɹd", "b'3:d"),
            ("B AH1 T ER0", "bˈʌtəɹ", "b'Vt3"),
        ],
    )
    def test_the_alphabets_of_engines(self, given, kokoro, espeak):
        assert phonemes.to_kokoro(given) == kokoro
        assert phonemes.to_espeak(given) == espeak
