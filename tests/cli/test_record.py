"""`kws record`: which takes are kept, which are repeated and why, and what a person answers."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
from sounds import RATE, quiet, tone

from kws.cli import record
from kws.cli.record import MARGIN_SECONDS, RecordOptions, check_take
from kws.errors import AudioError, KwsError


def hiss(seconds: float, level: float = 1e-3) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(
        np.float32
    )


def around(
    word: np.ndarray, before: float = 0.8, after: float = 0.9, level: float = 1e-3
) -> np.ndarray:
    clean = np.concatenate([quiet(before), word, quiet(after)])
    return clean + hiss(len(clean) / RATE, level)


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        (around(tone(0.5)), None),
        (around(tone(0.5, amplitude=0.05)), None),
        (around(tone(0.5), before=0.2, after=0.2), None),
        (np.zeros(0, np.float32), "nothing was recorded"),
        (quiet(2.5), "nothing was recorded"),
        (around(tone(0.5, amplitude=0.004), level=1e-4), "too quiet"),
        (around(np.clip(tone(0.5, amplitude=3.0), -1, 1)), "clipped"),
        (around(tone(0.5), before=0.0), "cut off"),
        (around(tone(0.5), after=0.0), "cut off"),
        (around(tone(0.5, amplitude=0.2), level=0.08), "noise"),
        (around(tone(0.06)), "too short"),
        (around(tone(2.4), before=0.5, after=0.5), "too long"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_problems_of_takes(samples, problem):
    found = check_take(samples).problem
    assert found is None if problem is None else problem in found


FAINT, MODERATE = tone(0.5, amplitude=0.006), tone(0.5, amplitude=0.2)
FLATTENED = np.clip(tone(0.5, amplitude=3), -0.99, 0.99)


def with_peaks(count: int) -> np.ndarray:
    """A word with so many samples at full scale."""
    word = tone(0.5)
    word[100 : 100 + count] = 1.0
    return word


@pytest.mark.parametrize(
    ("good", "bad", "problem"),
    [
        (around(tone(0.5, amplitude=0.02)), around(FAINT, level=1e-4), "quiet"),
        (around(tone(0.5, amplitude=0.95)), around(FLATTENED), "clip"),
        (around(with_peaks(4)), around(with_peaks(20)), "clipped"),
        (around(MODERATE, level=0.03), around(MODERATE, level=0.045), "noise"),
        (around(tone(0.5), before=0.1), around(tone(0.5), before=0.03), "cut off"),
        (around(tone(0.5), after=0.1), around(tone(0.5), after=0.03), "cut off"),
        (around(tone(0.25)), around(tone(0.12)), "too short"),
        (around(tone(2.1)), around(tone(2.28)), "too long"),
    ],
    ids=["quiet", "loud", "peaks", "noise", "beginning", "end", "short", "long"],
)
def test_limits_between_good_and_bad_takes(good, bad, problem):
    assert check_take(good).problem is None
    assert problem in check_take(bad).problem


@pytest.mark.parametrize("before", [0.3, 0.8, 1.2])
def test_a_take_is_trimmed_to_the_word(before):
    take = check_take(around(tone(0.5), before=before))
    assert len(take.samples) / RATE == pytest.approx(0.5 + 2 * MARGIN_SECONDS, abs=0.03)
    loud = np.flatnonzero(np.abs(take.samples) > 0.1)
    assert loud[0] / RATE == pytest.approx(MARGIN_SECONDS, abs=0.02)


@pytest.fixture
def person(monkeypatch):
    """Records these takes in turn; returns the list of those that are played."""

    def say(*takes: np.ndarray) -> list[np.ndarray]:
        recorded, played = iter(takes), []
        monkeypatch.setattr(record, "_record_take", lambda options: next(recorded))
        monkeypatch.setattr(record, "play", played.append)
        return played

    return say


def options(folder, **changes: object) -> RecordOptions:
    usual = {
        "phrase": "hey you",
        "folder": folder / "hey_you",
        "count": 2,
        "seconds": 2.5,
        "speaker": "anna",
        "device": None,
    }
    return RecordOptions(**{**usual, **changes})


GOOD, BAD = around(tone(0.5)), quiet(2.5)


class TestAnswers:
    def test_without_a_terminal_the_good_ones_are_kept(self, person, tmp_path, capsys):
        person(BAD, GOOD, BAD, GOOD)
        kept = record.run(options(tmp_path), None)
        assert [path.relative_to(tmp_path).as_posix() for path in kept] == [
            "hey_you/anna_nohash_0.wav",
            "hey_you/anna_nohash_1.wav",
        ]
        assert capsys.readouterr().err.count("nothing was recorded") == 2
        assert {(info.samplerate, info.channels) for info in map(soundfile.info, kept)} == {
            (RATE, 1)
        }

    def test_more_are_added_to_those_that_are_there(self, person, tmp_path):
        for speaker, number in (("anna", 0), ("anna", 1), ("bob", 0)):
            person(GOOD)
            (kept,) = record.run(options(tmp_path, count=1, speaker=speaker), None)
            assert kept.name == f"{speaker}_nohash_{number}.wav"

    @pytest.mark.parametrize(
        ("answers", "takes", "kept", "played"),
        [
            (["", ""], 2, 2, 0),
            (["p", "K", "p", "p", "k"], 2, 2, 3),
            (["r", "k", "k"], 3, 2, 0),
            (["k", "q"], 2, 1, 0),
            (["what?", ""], 1, 1, 0),
        ],
    )
    def test_a_person_chooses(self, person, tmp_path, answers, takes, kept, played):
        played_takes = person(*[GOOD] * takes)
        answering = iter(answers)
        count = kept if "q" not in answers else 2
        assert (
            len(record.run(options(tmp_path, count=count), lambda question: next(answering)))
            == kept
        )
        assert len(played_takes) == played

    def test_a_bad_one_is_repeated_unless_a_person_wants_it(self, person, tmp_path):
        person(BAD, around(tone(0.06)))
        answering = iter(["", "k"])
        assert len(record.run(options(tmp_path, count=1), lambda question: next(answering))) == 1


def test_a_muted_microphone_ends_the_recording(person, tmp_path):
    person(*[BAD] * 5)
    with pytest.raises(
        AudioError, match="5 recordings one after the other cannot be used: nothing was recorded"
    ):
        record.run(options(tmp_path), None)


def test_without_a_loudspeaker_the_take_is_not_lost(person, tmp_path, monkeypatch, capsys):
    person(GOOD)

    def silent(samples: np.ndarray) -> None:
        raise AudioError("it cannot be played")

    monkeypatch.setattr(record, "play", silent)
    answering = iter(["p", "k"])
    assert len(record.run(options(tmp_path, count=1), lambda question: next(answering))) == 1
    assert "it cannot be played" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [("..",), ("",), ("42/43",), ("word", "--speaker", "../x"), ("word", "--speaker", " ")],
    ids=str,
)
def test_names_that_are_no_files(arguments, tmp_path):
    command = [sys.executable, "cli.py", "record", "--out", tmp_path / "mine", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, "become names of files" in done.stderr) == (2, True)


@pytest.mark.parametrize("speaker", ["a" * 250, "ü" * 125])
def test_a_name_that_is_too_long_fails_before_the_recording(person, tmp_path, speaker):
    person()
    with pytest.raises(KwsError, match="File name too long"):
        record.run(options(tmp_path, speaker=speaker), None)


def test_numbers_continue_in_another_form_of_unicode(person, tmp_path):
    for number in (0, 1):
        person(GOOD)
        (kept,) = record.run(options(tmp_path, count=1, speaker="zo\u00eb"), None)
        assert kept.name == f"zo\u00eb_nohash_{number}.wav"
        kept.rename(kept.with_name(f"zoe\u0308_nohash_{number}.wav"))


def test_a_place_that_cannot_be_written(person, tmp_path):
    (tmp_path / "hey_you").write_text("in the way")
    person(GOOD)
    with pytest.raises(KwsError, match="cannot be written"):
        record.run(options(tmp_path), None)
