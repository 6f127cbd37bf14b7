"""Hard negatives: false alarms in long recordings are found, listed, cut out and drawn."""

from pathlib import Path

import numpy as np
import pytest
from radio import ALARM_STARTS, stem, write_radio
from sounds import RATE

from kws import Spotter
from kws.audio import recordings
from kws.errors import DataError
from kws.training.data.clips import Clip, find_clips
from kws.training.data.sources import NegativeSource
from kws.training.fit.hard_negatives import (
    SECONDS_BEFORE,
    FalseAlarm,
    MiningConfig,
    add_hard_negatives,
    cut_segments,
    mine,
    read_false_alarms,
    write_false_alarms,
)


def test_alarms_are_found_at_their_places(false_alarms):
    expected = sorted(
        (stem("train", number), start + 0.3)
        for number, starts in enumerate(ALARM_STARTS)
        for start in starts
    )
    found = sorted((each.file.stem, each.seconds) for each in false_alarms)
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert [end for _, end in found] == pytest.approx([end for _, end in expected], abs=0.25)
    scores = [each.score for each in false_alarms]
    assert scores == sorted(scores, reverse=True)


def test_only_the_highest_of_an_hour_are_kept(tiny_model, radio, false_alarms):
    clips = [clip for clip in find_clips(radio) if clip.split == "train"]
    spotter = Spotter.load(tiny_model.path)
    highest, seconds = mine(spotter, clips, MiningConfig(max_per_hour=2))
    assert highest == false_alarms[:2]
    assert seconds == pytest.approx(90, abs=0.1)


def test_recordings_that_cannot_be_read_are_skipped_with_a_warning(tiny_model, tmp_path, caplog):
    good, bad = (write_radio(tmp_path / f"{name}.wav", [2.0], 5.0) for name in ("good", "bad"))
    bad.write_bytes(good.read_bytes()[:50_000])
    clips = [Clip(path, "radio", path.stem) for path in (good, bad)]
    false_alarms, seconds = mine(Spotter.load(tiny_model.path), clips, MiningConfig(threshold=0.0))
    assert {each.file for each in false_alarms} == {good}
    assert seconds == pytest.approx(5.0)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"skipped: {bad}: only the first")


def test_segments_are_cut_around_the_alarms(false_alarms):
    dataset = cut_segments(false_alarms)
    for segment, false_alarm in zip(dataset, false_alarms, strict=True):
        start = round((false_alarm.seconds - SECONDS_BEFORE) * RATE)
        expected = recordings.read(false_alarm.file)[start : start + len(segment)]
        # The resampler starts within the recording: its first milliseconds differ a little.
        np.testing.assert_allclose(segment[:80], expected[:80], atol=0.01)
        np.testing.assert_allclose(segment[80:], expected[80:], atol=1 / 32768)
        assert len(segment) == pytest.approx(2.5 * RATE, abs=1)
        assert np.abs(segment).max() > 0.3


@pytest.mark.parametrize(
    ("seconds", "length"), [(0.5, 1.2), (29.9, 1.9)], ids=["at the beginning", "at the end"]
)
def test_segments_end_where_the_recording_does(tmp_path, seconds, length):
    path = write_radio(tmp_path / "a.wav", [])
    segment = cut_segments([FalseAlarm(path, seconds, "rise", 0.9)])[0]
    assert len(segment) == pytest.approx(length * RATE, abs=1)


def test_a_recording_that_became_shorter(tmp_path):
    path = write_radio(tmp_path / "a.wav", [], 5.0)
    with pytest.raises(DataError, match=r"ends before 60\.00 s"):
        cut_segments([FalseAlarm(path, 60.0, "rise", 0.9)])


def test_a_list_is_read_as_it_was_written(tmp_path):
    false_alarms = [
        FalseAlarm(Path("a, b.wav"), 1.25, "rise", 0.987),
        FalseAlarm(Path("ü/b.wav"), 0.0, "fall", 0.3),
        FalseAlarm(Path("a\rb\nc.wav"), 2.0, "rise", 0.5),
    ]
    path = tmp_path / "a.hard-negatives.csv"
    write_false_alarms(false_alarms, path)
    assert read_false_alarms(path) == false_alarms
    assert path.read_text("utf-8").splitlines()[0] == "file,seconds,word,score"


@pytest.mark.parametrize(
    "text",
    ["file;seconds;word;score\na;1;rise;1", "file,seconds,word,score\na.wav,soon,rise,1", "\0\n\0"],
    ids=["other separator", "no number", "no text"],
)
def test_another_file_is_refused_as_a_list(tmp_path, text):
    path = tmp_path / "a.hard-negatives.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="not a list of hard negatives"):
        read_false_alarms(path)


def test_few_hard_negatives_are_drawn_less_often(false_alarms):
    dataset, config = cut_segments(false_alarms), MiningConfig()
    sources = [NegativeSource(dataset, 1.0), NegativeSource(dataset, 3.0)]
    *_, hard_negatives = all_sources = add_hard_negatives(sources, dataset, config)
    share = hard_negatives.weight / sum(source.weight for source in all_sources)
    assert share == pytest.approx(config.max_share * 5 / (5 + config.half_share_segments))
