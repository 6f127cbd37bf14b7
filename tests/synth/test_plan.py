"""Who speaks which clip."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hummer import HUMMER
from hypothesis import given
from hypothesis import strategies as st

from kws.errors import SynthError
from kws.synth import phrase
from kws.synth.plan import (
    PAUSE_PROBABILITY,
    STRESS_PROBABILITIES,
    PlannedClip,
    Sentence,
    _allocate,
    file_under_word,
    plan_clips,
    plan_sentences,
)
from kws.training.data.splits import parse_speaker

OTHER = replace(HUMMER, name="other", share=0.1, voices=lambda: ("one",), takes_phonemes=False)


def clips_of(*texts: str, count: int = 3) -> list[PlannedClip]:
    return plan_clips(texts, count, [HUMMER], 0)


class TestPlan:
    def test_shares_and_voices(self):
        clips = plan_clips(["hey you"], 400, [HUMMER, OTHER], seed=0)
        assert Counter(clip.engine for clip in clips) == {"hummer": 300, "other": 100}
        assert {
            Counter(clip.settings["voice"] for clip in clips)[voice]
            for voice in ("low", "high", "odd")
        } == {100}
        assert len({clip.file for clip in clips}) == 400
        assert {clip.file.parent for clip in clips} == {Path("hey_you")}

    def test_same_seed_same_plan(self):
        assert plan_clips(["word"], 20, [HUMMER], 3) == plan_clips(["word"], 20, [HUMMER], 3)
        assert plan_clips(["word"], 20, [HUMMER], 3) != plan_clips(["word"], 20, [HUMMER], 4)

    @given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.integers(1, 60))
    def test_more_clips_take_from_no_engine(self, shares, count):
        fewer, more = (np.array(_allocate(number, shares)) for number in (count, count + 1))
        assert fewer.sum() == count
        assert more.sum() == count + 1
        assert (more >= fewer).all()
        np.testing.assert_allclose(fewer, np.array(shares) / sum(shares) * count, atol=2.0)

    def test_more_clips_and_more_phrases_leave_the_others_as_they_were(self):
        few = plan_clips(["word"], 40, [HUMMER, OTHER], 0)
        assert set(map(str, few)) < set(map(str, plan_clips(["word"], 80, [HUMMER, OTHER], 0)))
        assert set(map(str, few)) < set(
            map(str, plan_clips(["before", "word"], 40, [HUMMER, OTHER], 0))
        )

    def test_pronunciations_take_turns_by_engines_that_take_them(self):
        clips = plan_clips(["word"], 40, [HUMMER, OTHER], 0, ["W ER1 D", "W AO1 D"])
        assert Counter(clip.settings["phonemes"] for clip in clips) == {
            "W ER1 D": 20,
            "W AO1 D": 20,
        }
        assert not {clip.file for clip in clips} & {
            clip.file for clip in plan_clips(["word"], 40, [HUMMER], 0)
        }
        with pytest.raises(SynthError, match="takes a pronunciation"):
            plan_clips(["word"], 40, [OTHER], 0, ["W ER1 D"])

    @pytest.mark.parametrize("letter", ["v", "ü"])
    def test_long_names_of_voices_fit_and_stay_apart(self, letter):
        names = [letter * (250 // len(letter.encode())) + end for end in ("a", "b")]
        engine = replace(HUMMER, voices=lambda: names)
        clips = plan_clips(["hey you"], 40, [engine], 0)
        clips += [file_under_word(clip, "word") for clip in clips]
        assert len({clip.file for clip in clips}) == 80
        assert all(len(os.fsencode(clip.file.name)) <= 255 for clip in clips)
        assert len({parse_speaker(clip.file) for clip in clips}) == len(names)

    def test_letters_are_given_to_the_engines_as_letters(self):
        texts = {clip.text for clip in plan_clips([phrase.normalize("hey AI")], 40, [HUMMER], 0)}
        assert texts == {"hey A.I.", "hey, A.I."}

    def test_some_pause_between_two_words(self):
        expected = Counter(
            clip.text for clip in plan_clips(["hey you there"], 400, [HUMMER, OTHER], 0)
        )
        assert set(expected) == {"hey you there", "hey, you there", "hey you, there"}
        assert (400 - expected["hey you there"]) / 400 == pytest.approx(PAUSE_PROBABILITY, abs=0.06)
        assert {clip.text for clip in plan_clips(["word"], 40, [HUMMER], 0)} == {"word"}

    def test_training_sees_voices_as_speakers(self):
        from kws.training.data.splits import parse_speaker

        speakers = {
            parse_speaker(clip.file) for clip in plan_clips(["word"], 40, [HUMMER, OTHER], 0)
        }
        assert speakers == {"hummer-low", "hummer-high", "hummer-odd", "other-one"}


class TestSentences:
    SENTENCES = tuple(Sentence(f"number {i} is a word", "word") for i in range(400))

    def test_engines_and_voices_by_their_shares(self):
        clips = plan_sentences(self.SENTENCES, [HUMMER, OTHER], seed=0)
        assert [clip.text for clip in clips] == [each.text for each in self.SENTENCES]
        assert len({clip.file for clip in clips}) == 400
        engines = Counter(clip.engine for clip in clips)
        assert engines["hummer"] == pytest.approx(300, abs=40)
        voices = Counter(str(clip.settings["voice"]) for clip in clips if clip.engine == "hummer")
        assert min(voices.values()) > 60

    def test_other_sentences_change_no_clip(self):
        clips = plan_sentences(self.SENTENCES[:40], [HUMMER, OTHER], seed=0)
        assert clips[::-1] == plan_sentences(self.SENTENCES[39::-1], [HUMMER, OTHER], seed=0)
        assert clips != plan_sentences(self.SENTENCES[:40], [HUMMER, OTHER], seed=1)

    def test_a_sentence_may_be_said_again_in_another_way(self):
        first, second = plan_sentences(self.SENTENCES[:1] * 2, [HUMMER], seed=0)
        assert (first.text, first.file.parent) == (second.text, second.file.parent)
        assert first.file != second.file and first.settings != second.settings

    def test_the_phrase_is_stressed_in_each_way_by_engines_that_can(self):
        clips = plan_sentences(self.SENTENCES, [HUMMER, OTHER], seed=0)
        able = [clip.settings for clip in clips if clip.engine == "hummer"]
        assert {each["phrase"] for each in able} == {"word"}
        for stress, probability in STRESS_PROBABILITIES.items():
            share = sum(each["stress"] == stress for each in able) / len(able)
            assert share == pytest.approx(probability, abs=0.08)
        assert not [c for c in clips if c.engine == "other" and "stress" in c.settings]
        assert "stress" not in plan_sentences([Sentence("a word")], [HUMMER], seed=0)[0].settings

    def test_its_pronunciations_are_said_by_engines_that_take_them(self):
        clips = plan_sentences(self.SENTENCES, [HUMMER, OTHER], 0, ["W ER1 D", "W AO1 D"])
        assert {clip.engine for clip in clips} == {"hummer"}
        spoken = Counter(clip.settings["phonemes"] for clip in clips)
        assert min(spoken["W ER1 D"], spoken["W AO1 D"]) > 150
        with pytest.raises(SynthError, match="takes a pronunciation"):
            plan_sentences(self.SENTENCES, [OTHER], 0, ["W ER1 D"])
