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
from kws.synth.plan import PAUSE_PROBABILITY, PlannedClip, _allocate, file_under_word, plan_clips
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
