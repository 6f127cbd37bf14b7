"""What is said around a phrase."""

import pytest

from kws.synth.carriers import draw_carriers, holds, load_sentences
from kws.synth.confusables import pronunciations


def test_carriers_have_the_phrase_once_at_every_place():
    carriers = draw_carriers("hey rocket", 300, seed=0)
    assert len(set(carriers)) == 300
    assert all(carrier.count("{}") == 1 and carrier != "{}" for carrier in carriers)
    assert not [carrier for carrier in carriers if carrier.endswith((".", ","))]
    first = sum(carrier.startswith("{}") for carrier in carriers)
    last = sum(carrier.rstrip("?").endswith("{}") for carrier in carriers)
    assert min(first, last, 300 - first - last) > 50


def test_more_carriers_begin_with_the_same():
    assert draw_carriers("word", 40, seed=0) == draw_carriers("word", 80, seed=0)[:40]
    assert draw_carriers("word", 40, seed=0) != draw_carriers("word", 40, seed=1)


@pytest.mark.parametrize("phrase", ["morning", "night", "you", "the"])
def test_neither_carriers_nor_sentences_say_the_phrase(phrase):
    phones = pronunciations(phrase)
    texts = load_sentences(phrase, phones)
    texts += [carrier.format("zzz") for carrier in draw_carriers(phrase, 100, 0, phones)]
    assert len(texts) > 100
    assert not [text for text in texts if holds(text, phrase, phones)]


@pytest.mark.parametrize(
    ("text", "phrase", "is_held"),
    [
        ("Hey, you!", "hey you", True),
        ("They, you know, left.", "hey you", False),
        ("We leave tonight.", "night", True),
        ("I know.", "no", True),
        ("Nobody left.", "no", True),
        ("She is here.", "he", False),
    ],
)
def test_what_a_text_says(text, phrase, is_held):
    assert holds(text, phrase, pronunciations(phrase)) == is_held
