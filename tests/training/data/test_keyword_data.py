"""What `kws train` takes from folders: nothing that an example would cut off."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import write_tone_folder
from sounds import RATE, make_dataset, quiet, tone

from kws.errors import DataError
from kws.training.augment import mixer as mixing
from kws.training.augment.mixer import ExampleMixer, NegativeSource, aligned_word, unaligned_word
from kws.training.data.clips import assign_split
from kws.training.data.keyword_data import (
    MAX_SOUND_SECONDS,
    DataFolders,
    KeywordData,
    load_keyword_data,
)
from kws.training.fit.trainer import TrainConfig


def write(path: Path, *waves: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate(waves), RATE)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tone_folder(tmp_path / "data", 12)


def gathered(data: Path, *phrases: Path) -> tuple[KeywordData, list[str]]:
    warnings: list[str] = []
    return load_keyword_data(
        ["rise"], DataFolders(data, phrases=phrases), warn=warnings.append
    ), warnings


def clips(keyword_data: KeywordData) -> set[str]:
    return {
        clip.path.name
        for word in (*keyword_data.words, *keyword_data.heldout_words)
        for clip in word.dataset.clips
    }


@pytest.mark.parametrize("make", [aligned_word, unaligned_word])
@pytest.mark.parametrize("speed", [TrainConfig.speed_range[0], 1.0])
def test_the_longest_sound_is_never_cut_off(make, speed, monkeypatch):
    # An uneven tempo alone makes a sound longer or shorter than its speed does.
    monkeypatch.setattr(mixing, "TEMPO_DEVIATION", 0.0)
    seconds = MAX_SOUND_SECONDS - 0.01
    dataset = make_dataset(
        np.concatenate([quiet(0.1), tone(seconds), quiet(0.1)])
        if make is aligned_word
        else tone(seconds)
    )
    mixer = ExampleMixer(
        ["word"], [make("word", dataset)], [NegativeSource(make_dataset(quiet(1.0)), 1.0)], None,
        clip_seconds=TrainConfig.clip_seconds, earliest_end_seconds=1.0,
        positive_fraction=1.0, speed_range=(speed, speed),
    )  # fmt: skip
    lengths = []
    for seed in range(20):
        sounding = np.flatnonzero(np.abs(mixer.example(np.random.default_rng(seed))[0]) > 0.05)
        # Said twice
        lengths.append(
            (sounding[-1] - sounding[0]) / RATE if np.diff(sounding).max() < RATE // 2 else np.inf
        )
    assert min(lengths) == pytest.approx(seconds, abs=0.02)
    assert any(length == pytest.approx(seconds / speed, abs=0.02) for length in lengths)


def test_a_phrase_that_does_not_fit_is_named_and_left_out(data, tmp_path):
    folder = tmp_path / "phrases"
    write(folder / "rise" / "fits.wav", tone(MAX_SOUND_SECONDS - 0.05))
    write(folder / "rise" / "long.wav", tone(MAX_SOUND_SECONDS + 0.05))
    keyword_data, warnings = gathered(data, folder)
    assert "fits.wav" in clips(keyword_data) and "long.wav" not in clips(keyword_data)
    assert [text for text in warnings if "long.wav" in text] == [
        (
            f"left out: {folder / 'rise' / 'long.wav'}: 2.3 s of sound, at most 2.3 s fit into a "
            "training example. Cut it around the word."
        )
    ]


def test_phrases_of_which_none_fits(data, tmp_path):
    write(tmp_path / "phrases" / "rise" / "long.wav", tone(3.0))
    with pytest.raises(
        DataError, match=r"rise: no recordings of 2\.3 s or less\. Cut them around the word\."
    ):
        gathered(data, tmp_path / "phrases")


def test_of_a_word_the_sound_counts_and_not_the_silence_around_it(data):
    write(data / "rise" / "a_nohash_0.wav", quiet(2.0), tone(0.5), quiet(2.0))
    write(data / "rise" / "b_nohash_0.wav", tone(2.5))
    keyword_data, warnings = gathered(data)
    assert "a_nohash_0.wav" in clips(keyword_data) and "b_nohash_0.wav" not in clips(keyword_data)
    (told,) = (text for text in warnings if "left out" in text)
    assert told.startswith(
        f"left out: {data / 'rise' / 'b_nohash_0.wav'}: 2.5 s of sound, at most 2.3 s fit"
    )


@pytest.mark.parametrize(
    ("wave", "told"),
    [(np.zeros(RATE), "there is no sound in it"), (tone(0.01), "10 ms are too short for a word")],
)
def test_what_holds_no_word_is_not_learned_as_one(data, tmp_path, wave, told):
    """A microphone that was switched off, a file cut by mistake: else silence, or a click, would be
    the word."""
    write(tmp_path / "phrases" / "rise" / "good.wav", tone(0.5))
    own = tmp_path / "own" / "rise" / "good_too.wav"
    write(own, tone(0.5))
    bad = [
        folder / "rise" / "bad_nohash_0.wav"
        for folder in (data, tmp_path / "phrases", own.parent.parent)
    ]
    for path in bad:
        write(path, wave)
    warnings: list[str] = []
    folders = DataFolders(data, phrases=(tmp_path / "phrases",), recordings=(own.parent.parent,))
    keyword_data = load_keyword_data(["rise"], folders, warn=warnings.append)
    assert {"good.wav", "good_too.wav"} <= clips(keyword_data) and "bad_nohash_0.wav" not in clips(
        keyword_data
    )
    assert [text for text in warnings if "bad" in text] == [
        f"left out: {path}: {told}. Record it again." for path in bad
    ]


def test_hours_held_out_are_those_of_the_held_out_speech(data):
    heldout = next(name for name in map(str, range(1000)) if assign_split(name) == "validation")
    write(data / "fall" / f"{heldout}_nohash_0.wav", tone(1.5))
    keyword_data, _ = gathered(data)
    assert keyword_data.heldout_hours == pytest.approx(1.5 / 3600)


@pytest.mark.parametrize("option", ["negatives", "mine"])
def test_a_muted_microphone_is_not_held_out(data, tmp_path, option):
    names = [name for name in map(str, range(1000)) if assign_split(name) == "validation"]
    write(tmp_path / "room" / f"{names[0]}_nohash_0.wav", quiet(90.0))
    write(tmp_path / "room" / f"{names[1]}_nohash_0.wav", quiet(3.0), tone(2.0))
    write(tmp_path / "room" / "0_nohash_0.wav", tone(2.0))
    warnings: list[str] = []
    keyword_data = load_keyword_data(
        ["rise"], DataFolders(data, **{option: (tmp_path / "room",)}), warn=warnings.append
    )
    before = gathered(data)[0].heldout_hours
    assert keyword_data.heldout_hours - before == pytest.approx(5.0 / 3600)
    assert (
        f"left out: {tmp_path / 'room' / names[0]}_nohash_0.wav: there is no sound in it. "
        "Record it again."
    ) in warnings


def test_recordings_of_the_word_among_the_negatives_are_not_learned_as_something_else(
    data, tmp_path
):
    other = write_tone_folder(tmp_path / "other", 12)
    warnings: list[str] = []
    keyword_data = load_keyword_data(
        ["rise"], DataFolders(data, negatives=(other,)), warn=warnings.append
    )
    assert {clip.label for source in keyword_data.negatives for clip in source.dataset.clips} == {
        "fall",
        "flat",
        "_background_noise_",
    }
    assert any(f"{other}: 12 recordings in folders named after a word" in text for text in warnings)


def test_recordings_deeper_in_a_word_s_folder_are_not_learned_as_something_else(data):
    for folder in ("rise/anna", "sun_rise/anna", "fall/anna", "_background_noise_/rain"):
        write(
            data / folder / "one_nohash_0.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE)
        )
    warnings: list[str] = []
    keyword_data = load_keyword_data(["rise"], DataFolders(data), warn=warnings.append)
    deep = {
        clip.path.parent.parent.name
        for source in keyword_data.negatives
        for clip in source.dataset.clips
        if clip.path.stem == "one_nohash_0"
    }
    assert deep == {"fall"}
    assert "rain" in {clip.path.parent.name for clip in keyword_data.noises.clips}
    told = (
        f"{data}: 2 recordings in subfolders of a word's folder, or in folders that say more than "
        "it, are not used"
    )
    assert any(told in text for text in warnings)


def renamed(folder: Path, form: str) -> None:
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"{form.format(number)}.wav")


@pytest.mark.parametrize(
    "form",
    ["2022-01-{:02d}", "20240115-1203{:02d}-001", "{:02d}-01-2022", "2026-11-01_12-{:02d}-00"],
)
def test_recordings_named_by_dates_are_held_out_one_by_one(tmp_path, form):
    data = write_tone_folder(tmp_path / "many", 40)
    for word in ("rise", "fall", "flat"):
        renamed(data / word, form)
    warnings: list[str] = []
    keyword_data = load_keyword_data(["rise"], DataFolders(data), warn=warnings.append)
    assert not warnings
    assert 0 < len(keyword_data.heldout_words[0].dataset) < len(keyword_data.words[0].dataset)
    assert (
        0
        < sum(map(len, keyword_data.heldout_negatives))
        < sum(len(source.dataset) for source in keyword_data.negatives)
    )


def test_a_refusal_names_the_speaker_that_all_share(data):
    renamed(data / "rise", "19-198-{:04d}")
    warnings: list[str] = []
    keyword_data = load_keyword_data(["rise"], DataFolders(data), warn=warnings.append)
    assert len(warnings) == 1 and warnings[0].startswith(
        f"{keyword_data.notes[0]} All 12 are of speaker '19', as their names say (READER-"
    )
    held = next(name for name in map(str, range(100)) if assign_split(name) != "train")
    for word in ("fall", "flat"):
        renamed(data / word, f"{held}_nohash_{{:02d}}")
    shutil.rmtree(data / "_background_noise_")
    with pytest.raises(
        DataError,
        match=(
            f"all recordings of other sounds were held out .* of speaker '{held}', as "
            "their names say"
        ),
    ):
        load_keyword_data(["rise"], DataFolders(data), warn=warnings.append)


def test_a_word_is_no_other_speech_by_a_link_to_one_of_its_recordings(data, tmp_path):
    (tmp_path / "radio").mkdir()
    write(tmp_path / "radio" / "song.wav", tone(2.0))
    (tmp_path / "radio" / "x.wav").symlink_to(next((data / "rise").iterdir()))
    (tmp_path / "radio" / "more").symlink_to(data / "rise")
    keyword_data = load_keyword_data(
        ["rise"], DataFolders(data, negatives=(tmp_path / "radio",)), warn=lambda text: None
    )
    assert {clip.label for source in keyword_data.negatives for clip in source.dataset.clips} <= {
        "fall",
        "flat",
        "radio",
        "_background_noise_",
    }
    assert not any(
        clip.path.name == "x.wav"
        for source in keyword_data.negatives
        for clip in source.dataset.clips
    )
