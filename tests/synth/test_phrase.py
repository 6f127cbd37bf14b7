"""Phrases that can be synthesized."""

import pytest

from kws.errors import SynthError
from kws.synth import phrase, pronunciation


class TestPhrase:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Welcome", "welcome"),
            ("  Hey,  You! ", "hey you"),
            ("café", "cafe"),
            ("don't stop", "don't stop"),
            ("rock 'n' roll", "rock n roll"),
            ("o’clock", "o'clock"),
            ("x-ray", "x ray"),
            ("ok", "ok"),
            ("hey AI", "hey A.I."),
            ("A.I.", "A.I."),
            ("u.s.a", "U.S.A."),
            ("AI", "A.I."),
            ("the TVs on", "the T.V.'s on"),
            ("AI's day", "A.I.'s day"),
            ("the LED lamp", "the L.E.D. lamp"),
            ("tell US", "tell U.S."),
            ("LED", "led"),
            ("IT", "it"),
            ("STOP", "stop"),
            ("HEY YOU", "hey you"),
            ("HEY AI", "hey A.I."),
            ("call NASA", "call nasa"),
            ("hey SNOWBOY", "hey snowboy"),
            ("ask BBC", "ask B.B.C."),
            ("what am I", "what am i"),
        ],
    )
    def test_phrases_are_normalized(self, text, expected):
        assert phrase.normalize(text) == expected
        assert phrase.normalize(expected) == expected

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "too short"),
            ("a", "too short"),
            ("?!", "too short"),
            ("' '", "too short"),
            ("route 66", "numbers as words"),
            ("привет", "cannot read"),
            ("小爱", "cannot read"),
            ("straße hæ", "cannot read æ"),
            ("one two three four five six seven eight nine ten eleven twelve", "12 words"),
        ],
    )
    def test_phrases_that_cannot_be_synthesized(self, text, complaint):
        with pytest.raises(SynthError, match=complaint):
            phrase.normalize(text)

    @pytest.mark.parametrize(
        ("text", "remarks"),
        [
            ("hey you", []),
            ("Hey You", []),
            ("hey A.I.", []),
            (
                "hey AI",
                ["'AI' is spoken letter by letter. For a word write ai, or give --phonemes."],
            ),
            (
                "LED",
                ["'LED' is spoken like any word. For letters write L.E.D., or give --phonemes."],
            ),
            (
                "NASA",
                ["'NASA' is spoken like any word. For letters write N.A.S.A., or give --phonemes."],
            ),
            (
                "HEY YOU",
                [
                    (
                        "'HEY', 'YOU' are spoken like any word. For letters write H.E.Y. "
                        "Y.O.U., or give --phonemes."
                    )
                ],
            ),
        ],
    )
    def test_words_in_capitals_are_explained(self, text, remarks):
        assert phrase.explain_capitals(text) == remarks

    @pytest.mark.parametrize("text", ["US", "LED", "IT", "hey AI", "the TVs", "HEY YOU", "NASA"])
    def test_the_other_spelling_has_the_other_pronunciation(self, text):
        (note,) = phrase.explain_capitals(text)
        other = note.split(" write ")[1].removesuffix(", or give --phonemes.")
        assert phrase.normalize(other) != phrase.normalize(text)
        assert not phrase.explain_capitals(other)

    def test_without_a_dictionary_capitals_within_a_phrase_are_letters(self, monkeypatch):
        monkeypatch.setattr(pronunciation, "is_installed", lambda: False)
        assert [phrase.normalize(text) for text in ("hey AI", "the US", "BBC", "STOP")] == [
            "hey A.I.",
            "the U.S.",
            "B.B.C.",
            "stop",
        ]

    def test_folder_names_have_no_blanks(self):
        assert phrase.folder_name("don't stop me") == "dont_stop_me"
        assert (
            phrase.folder_name(phrase.normalize("hey AI"))
            == phrase.folder_name(phrase.normalize("hey a.i."))
            == "hey_ai"
        )
