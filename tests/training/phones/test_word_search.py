"""The search for words by phones, with the network that comes with kws, in synthesized speech."""

import numpy as np
import pytest
from flite import speak
from sounds import RATE, quiet

from kws.runtime.engine import Engine
from kws.synth.confusables import pronunciations
from kws.training.model.phone_set import to_phones
from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE, shipped_checkpoint
from kws.training.phones.word_search import (
    MIN_PHONES,
    WordSearch,
    compute_llr,
    min_llr,
    open_phone_engine,
    read_phones,
)

pytestmark = pytest.mark.flite
WITH_WORD = ("I bought a new computer for my brother", "hey computer", "computer")
WITHOUT_WORD = ("I bought a new umbrella for my brother", "the committee was in trouble", "hey you")


@pytest.fixture(scope="module")
def engine() -> Engine:
    recognizer = shipped_checkpoint(PHONE_RECOGNIZER_FILE)
    assert recognizer
    return open_phone_engine(recognizer)


def make_search(engine: Engine, *words: str) -> WordSearch:
    return WordSearch(engine, {word: tuple(map(to_phones, pronunciations(word))) for word in words})


@pytest.mark.parametrize("voice", ["slt", "rms"])
def test_a_word_is_found_where_it_is_said(engine: Engine, voice: str):
    search = make_search(engine, "computer")
    for text in WITH_WORD:
        (said,) = search.find(speak(text, voice))
        assert said.word == "computer" and said.llr <= 0
    assert not any(search.find(speak(text, voice)) for text in WITHOUT_WORD)


def test_each_place_of_a_long_recording_is_found(engine: Engine):
    ends, parts, seconds = [], [], 0.0
    for text in (*WITHOUT_WORD, "computer", *WITHOUT_WORD, "computer", *WITHOUT_WORD):
        parts += [speak(text), quiet(0.5)]
        seconds += (len(parts[-2]) + len(parts[-1])) / RATE
        if text == "computer":
            ends.append(seconds - 0.5)
    found = make_search(engine, "computer").find(np.concatenate(parts))
    assert [each.end for each in found] == pytest.approx(ends, abs=0.5)


def test_the_level_does_not_matter(engine: Engine):
    search = make_search(engine, "computer")
    samples = speak("computer")
    assert search.find(samples / 500) == search.find(samples)


def test_several_words_are_told_apart(engine: Engine):
    search = make_search(engine, "computer", "tomorrow")
    samples = np.concatenate([speak("tomorrow"), quiet(2.0), speak("computer")])
    assert {each.word: each.end > 2 for each in search.find(samples)} == {
        "tomorrow": False,
        "computer": True,
    }


def test_short_words_are_not_looked_for(engine: Engine):
    search = make_search(engine, "hey", "computer")
    assert search.unsought == ("hey",)
    assert [each.word for each in search.find(speak("hey computer"))] == ["computer"]


def test_what_is_no_speech_holds_no_word(engine: Engine):
    search = make_search(engine, "computer")
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    for samples in (np.zeros(0, np.float32), quiet(0.01), quiet(3.0), noise):
        assert search.find(samples) == []


def test_longer_words_need_less_certainty():
    limits = [min_llr(phones) for phones in range(1, 12)]
    assert limits == sorted(limits, reverse=True)
    assert np.isinf(min_llr(MIN_PHONES - 1)) and np.isfinite(min_llr(MIN_PHONES))


def test_any_length_is_compared_frame_by_frame(engine: Engine):
    """Blocks change nothing: what is compared before a pause is as without what follows."""
    phones = read_phones(engine, speak("computer"))
    many = np.concatenate([phones] * 8)
    llr = compute_llr(many, "kəmpjuɾəɹ")
    assert llr.shape == (len(many),)
    assert llr[: len(phones)] == pytest.approx(compute_llr(phones, "kəmpjuɾəɹ"))
