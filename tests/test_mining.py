"""What fires is cut out of the negatives at the right place, and drawn from as often as wished."""

from pathlib import Path

import numpy as np
import pytest
from conftest import tone_word
from sounds import RATE, make_bank, quiet

from kws import Spotter
from kws.training.mining import AFTER_SECONDS, BEFORE_SECONDS, mine, with_mined
from kws.training.mixing import Source


def test_what_fires_is_cut_out(tiny_model):
    rng = np.random.default_rng(3)
    fires = np.concatenate([quiet(4), tone_word("rise", rng), quiet(1)])
    bank = make_bank(quiet(2), np.concatenate([quiet(1), tone_word("fall", rng), quiet(1)]), fires, quiet(1), label="talk")
    mined = mine(Spotter.load(tiny_model.path).engine, [bank])
    assert [clip.path for clip in mined.clips] == [Path("talk/s2_nohash_0.wav")]
    assert len(mined[0]) == round((BEFORE_SECONDS + AFTER_SECONDS) * RATE)
    loud = np.flatnonzero(np.abs(mined[0]) > 0.1) / RATE
    assert BEFORE_SECONDS - 0.7 < loud[0] < loud[-1] < BEFORE_SECONDS + AFTER_SECONDS


def test_share_of_the_mined():
    sources = (Source(make_bank(quiet(1)), 3.0), Source(make_bank(quiet(1)), 1.0))
    *before, mined = with_mined(sources, make_bank(quiet(1)), share=0.2)
    assert tuple(before) == sources
    assert mined.weight / sum(source.weight for source in (*before, mined)) == pytest.approx(0.2)


def test_nothing_mined_changes_nothing():
    sources = (Source(make_bank(quiet(1)), 3.0),)
    assert with_mined(sources, make_bank(), share=0.2) == sources
