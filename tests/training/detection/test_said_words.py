"""Negatives in which a word is said, in synthesized speech: what is left out of them, what remains,
and what is told."""

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
from flite import speak
from sounds import RATE, make_dataset, quiet, tone

from kws.errors import DataError
from kws.synth.confusables import pronunciations
from kws.training.data.dataset import ClipDataset, pack_clips
from kws.training.data.keyword_data import KeywordData
from kws.training.data.sources import NegativeSource, aligned_word
from kws.training.detection.said_words import (
    MIN_SECONDS,
    SECONDS_LEFT_OUT_AFTER,
    SECONDS_LEFT_OUT_BEFORE,
    SaidWordFilter,
)
from kws.training.fit.hard_negatives import SECONDS_BEFORE, FalseAlarm
from kws.training.model.phone_set import to_phones
from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE, shipped_checkpoint
from kws.training.phones.word_search import WordSearch, open_phone_engine

pytestmark = pytest.mark.flite
OTHER_TEXT = "people looked for a new house in every city"


@pytest.fixture(scope="module")
def search() -> WordSearch:
    recognizer = shipped_checkpoint(PHONE_RECOGNIZER_FILE)
    assert recognizer
    phones = [to_phones(each) for each in pronunciations("computer")]
    return WordSearch(open_phone_engine(recognizer), {"computer": phones})


def make_data(negatives: ClipDataset, heldout: ClipDataset | None = None) -> KeywordData:
    word = aligned_word("computer", make_dataset(speak("computer")))
    return KeywordData(
        names=("computer",),
        words=(word,),
        negatives=(NegativeSource(negatives, 1.0),),
        noises=make_dataset(),
        heldout_words=(word,),
        heldout_negatives=(heldout or make_dataset(),),
    )


def read_list(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_clips_with_the_word_are_left_out_and_listed(search, tmp_path, caplog):
    mixed = make_dataset(speak(OTHER_TEXT), speak("hey computer"), tone(1.0), label="other")
    heldout = make_dataset(speak("hey computer"), speak(OTHER_TEXT), label="heldout")
    path = tmp_path / "said.csv"
    with caplog.at_level(logging.WARNING):
        cleaned = SaidWordFilter(search, path).clean(make_data(mixed, heldout))
    assert [clip.speaker for clip in cleaned.negatives[0].dataset.clips] == ["s0", "s2"]
    assert [clip.speaker for clip in cleaned.heldout_negatives[0].clips] == ["s1"]
    assert len(cleaned.words[0].dataset) == 1
    rows = read_list(path)
    assert [row["file"] for row in rows] == ["heldout/s0_nohash_0.wav", "other/s1_nohash_0.wav"]
    assert all(row["word"] == "computer" and float(row["llr"]) <= 0 for row in rows)
    assert cleaned.said_in == {Path(row["file"]) for row in rows}
    (line,) = caplog.messages
    assert line.startswith("'computer' is said among the negatives, at 2 places of 2 recordings")
    assert str(path) in line


def test_the_rest_of_a_long_recording_is_kept(search, tmp_path):
    other = np.concatenate([speak(OTHER_TEXT)] * 4)
    spoken = speak("computer")
    end = (len(other) + len(spoken)) / RATE
    recording = np.concatenate([other, spoken, other])
    cleaned = SaidWordFilter(search, tmp_path / "said.csv").clean(
        make_data(make_dataset(recording))
    )
    (row,) = read_list(tmp_path / "said.csv")
    said = float(row["seconds"])
    assert said == pytest.approx(end, abs=0.5)
    dataset = cleaned.negatives[0].dataset
    assert [len(piece) / RATE for piece in dataset] == pytest.approx(
        [said - SECONDS_LEFT_OUT_BEFORE, len(recording) / RATE - said - SECONDS_LEFT_OUT_AFTER],
        abs=0.01,
    )
    assert not any(search.find(piece) for piece in dataset)
    assert set(dataset.clips) == {make_dataset(recording).clips[0]}


def test_segments_of_a_recording_tell_the_time_in_it(search, tmp_path):
    segments = [speak(OTHER_TEXT), speak("hey computer")]
    (clip,) = make_dataset(segments[0]).clips
    waves = [np.round(wave * 32767).astype(np.int16) for wave in segments]
    heldout = pack_clips([clip, clip], waves)
    data = make_data(make_dataset(speak(OTHER_TEXT)), heldout)
    SaidWordFilter(search, tmp_path / "said.csv").clean(data)
    (row,) = read_list(tmp_path / "said.csv")
    assert float(row["seconds"]) == pytest.approx(sum(map(len, segments)) / RATE, abs=0.6)


def test_what_is_left_beside_a_word_is_no_crumb(search, tmp_path):
    recording = np.concatenate([quiet(SECONDS_LEFT_OUT_BEFORE), speak("computer"), quiet(2.5)])
    data = make_data(make_dataset(recording, speak(OTHER_TEXT)))
    cleaned = SaidWordFilter(search, tmp_path / "said.csv").clean(data)
    pieces = list(cleaned.negatives[0].dataset)
    assert all(len(piece) >= MIN_SECONDS * RATE for piece in pieces)
    assert len(pieces) == 1


def test_the_word_in_all_negatives(search, tmp_path):
    path = tmp_path / "said.csv"
    with pytest.raises(DataError, match=r"said\.csv: lists 'computer' in all negatives\."):
        SaidWordFilter(search, path).clean(make_data(make_dataset(speak("hey computer"))))
    assert len(read_list(path)) == 1


def test_negatives_without_the_word_are_as_before(search, tmp_path, caplog):
    path = tmp_path / "said.csv"
    path.write_text("of an earlier training")
    data = make_data(make_dataset(speak(OTHER_TEXT)))
    with caplog.at_level(logging.WARNING):
        cleaned = SaidWordFilter(search, path).clean(data)
    assert cleaned.fingerprint() == data.fingerprint()
    assert not path.exists() and not caplog.messages


def test_synthesized_clips_are_not_looked_through(search, tmp_path):
    data = make_data(make_dataset(speak("hey computer"), label="spoken"))
    cleaned = SaidWordFilter(search, tmp_path / "said.csv", known=Path("spoken")).clean(data)
    assert cleaned.fingerprint() == data.fingerprint()


def test_false_alarms_that_are_none_join_the_list(search, tmp_path, caplog):
    path = tmp_path / "said.csv"
    said_words = SaidWordFilter(search, path)
    said_words.clean(make_data(make_dataset(speak(OTHER_TEXT), speak("hey computer"))))
    false_alarms = [FalseAlarm(Path(f"radio{i}.wav"), 60.0, "computer", 0.9) for i in range(3)]
    texts = ("computer", OTHER_TEXT, "what a new computer")
    segments = make_dataset(*(np.concatenate([quiet(0.5), speak(text)]) for text in texts))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        kept = said_words.clean_segments(segments, false_alarms)
    assert [clip.speaker for clip in kept.clips] == ["s1"]
    rows = read_list(path)
    assert len(rows) == 3
    mined = {row["file"]: float(row["seconds"]) for row in rows if "radio" in row["file"]}
    end = 60.0 - SECONDS_BEFORE + len(segments[0]) / RATE
    assert mined["radio0.wav"] == pytest.approx(end, abs=0.5) and "radio2.wav" in mined
    assert "'computer' is said among the false alarms, at 2 places" in caplog.text


def test_a_word_too_short_to_look_for_is_told(tmp_path, caplog):
    recognizer = shipped_checkpoint(PHONE_RECOGNIZER_FILE)
    assert recognizer
    search = WordSearch(open_phone_engine(recognizer), {"no": ("nO",)})
    with caplog.at_level(logging.INFO):
        SaidWordFilter(search, tmp_path / "said.csv")
    assert "'no' has fewer than 5 phones" in caplog.text
