"""Reading training data from folders: what is used, what is left out, and what is held out."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import RATE, make_dataset, quiet, tone
from tones import write_tone_folder

from kws.errors import DataError
from kws.training.augment.mixer import ExampleMixer, MixConfig
from kws.training.data.keyword_data import DataFolders, KeywordData, load_keyword_data
from kws.training.data.sources import NegativeSource, aligned_word, unaligned_word
from kws.training.data.splits import assign_split
from kws.training.fit.config import TrainConfig

MAX_WORD_SECONDS = TrainConfig().max_word_seconds


def write(path: Path, *waves: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate(waves), RATE)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tone_folder(tmp_path / "data", 12)


def load(folders: DataFolders | Path) -> tuple[KeywordData, list[str]]:
    """Data of "rise", and the warnings on the way."""
    if isinstance(folders, Path):
        folders = DataFolders(folders)
    warnings: list[str] = []
    keyword_data = load_keyword_data(
        ["rise"], folders, max_word_seconds=MAX_WORD_SECONDS, warn=warnings.append
    )
    return keyword_data, warnings


def clips(keyword_data: KeywordData) -> set[str]:
    return {
        clip.path.name
        for word in (*keyword_data.words, *keyword_data.heldout_words)
        for clip in word.dataset.clips
    }


@pytest.mark.parametrize("make", [aligned_word, unaligned_word])
@pytest.mark.parametrize(
    "train_config",
    [TrainConfig(), TrainConfig(clip_seconds=1.6, speed_range=(0.9, 1.1))],
    ids=["default", "shorter"],
)
@pytest.mark.parametrize("slowest", [True, False])
def test_the_longest_word_is_never_cut_off(make, train_config, slowest):
    speed = train_config.speed_range[0] if slowest else 1.0
    # An uneven tempo alone would make a sound longer or shorter than its speed does.
    mix = MixConfig(positive_fraction=1.0, speed_range=(speed, speed), tempo_deviation=0.0)
    seconds = train_config.max_word_seconds - 0.01
    margin = quiet(0.1 if make is aligned_word else 0.0)
    dataset = make_dataset(np.concatenate([margin, tone(seconds), margin]))
    mixer = ExampleMixer(
        ["word"], [make("word", dataset)], [NegativeSource(make_dataset(quiet(1.0)), 1.0)], None,
        clip_seconds=train_config.clip_seconds, earliest_end_seconds=1.0, config=mix,
    )  # fmt: skip
    lengths = []
    for seed in range(20):
        loud = np.flatnonzero(np.abs(mixer.example(np.random.default_rng(seed)).audio) > 0.05)
        is_repeated = np.diff(loud).max() >= RATE // 2
        lengths.append(np.inf if is_repeated else (loud[-1] - loud[0]) / RATE)
    assert min(lengths) == pytest.approx(seconds, abs=0.02)
    assert any(length == pytest.approx(seconds / speed, abs=0.02) for length in lengths)


def test_a_recording_in_context_that_is_too_long_is_named_and_left_out(data, tmp_path):
    folder = tmp_path / "in_context"
    write(folder / "rise" / "fits.wav", tone(MAX_WORD_SECONDS - 0.05))
    write(folder / "rise" / "long.wav", tone(MAX_WORD_SECONDS + 0.05))
    keyword_data, warnings = load(DataFolders(data, in_context=(folder,)))
    assert "fits.wav" in clips(keyword_data) and "long.wav" not in clips(keyword_data)
    assert [text for text in warnings if "long.wav" in text] == [
        (
            f"left out: {folder / 'rise' / 'long.wav'}: 2.3 s of sound, at most 2.3 s fit into a "
            "training example. Cut it around the word."
        )
    ]


def test_recordings_in_context_that_are_all_too_long(data, tmp_path):
    write(tmp_path / "in_context" / "rise" / "long.wav", tone(3.0))
    with pytest.raises(
        DataError, match=r"rise: no recordings of 2\.3 s or less\. Cut them around the word\."
    ):
        load(DataFolders(data, in_context=(tmp_path / "in_context",)))


def test_silence_around_a_word_does_not_count(data):
    write(data / "rise" / "a_nohash_0.wav", quiet(2.0), tone(0.5), quiet(2.0))
    write(data / "rise" / "b_nohash_0.wav", tone(2.5))
    keyword_data, warnings = load(data)
    assert "a_nohash_0.wav" in clips(keyword_data) and "b_nohash_0.wav" not in clips(keyword_data)
    (warning,) = (text for text in warnings if "left out" in text)
    assert warning.startswith(
        f"left out: {data / 'rise' / 'b_nohash_0.wav'}: 2.5 s of sound, at most 2.3 s fit"
    )


@pytest.mark.parametrize(
    ("wave", "problem"),
    [(np.zeros(RATE), "there is no sound in it"), (tone(0.01), "10 ms are too short for a word")],
)
def test_silent_and_tiny_clips_are_left_out(data, tmp_path, wave, problem):
    """A microphone that was switched off, or a file cut by mistake: training would take silence, or
    a click, for the word."""
    write(tmp_path / "in_context" / "rise" / "good.wav", tone(0.5))
    own = tmp_path / "own" / "rise" / "good_too.wav"
    write(own, tone(0.5))
    bad = [
        folder / "rise" / "bad_nohash_0.wav"
        for folder in (data, tmp_path / "in_context", own.parent.parent)
    ]
    for path in bad:
        write(path, wave)
    folders = DataFolders(
        data, in_context=(tmp_path / "in_context",), own_recordings=(own.parent.parent,)
    )
    keyword_data, warnings = load(folders)
    assert {"good.wav", "good_too.wav"} <= clips(keyword_data) and "bad_nohash_0.wav" not in clips(
        keyword_data
    )
    assert [text for text in warnings if "bad" in text] == [
        f"left out: {path}: {problem}. Record it again." for path in bad
    ]


def test_heldout_hours(data):
    heldout = next(name for name in map(str, range(1000)) if assign_split(name) == "validation")
    write(data / "fall" / f"{heldout}_nohash_0.wav", tone(1.5))
    keyword_data, _ = load(data)
    assert keyword_data.heldout_hours == pytest.approx(1.5 / 3600)


@pytest.mark.parametrize("option", ["negatives", "hard_negatives"])
def test_a_muted_microphone_is_not_held_out(data, tmp_path, option):
    names = [name for name in map(str, range(1000)) if assign_split(name) == "validation"]
    write(tmp_path / "room" / f"{names[0]}_nohash_0.wav", quiet(90.0))
    write(tmp_path / "room" / f"{names[1]}_nohash_0.wav", quiet(3.0), tone(2.0))
    write(tmp_path / "room" / "0_nohash_0.wav", tone(2.0))
    keyword_data, warnings = load(DataFolders(data, **{option: (tmp_path / "room",)}))
    before = load(data)[0].heldout_hours
    assert keyword_data.heldout_hours - before == pytest.approx(5.0 / 3600)
    assert (
        f"left out: {tmp_path / 'room' / names[0]}_nohash_0.wav: there is no sound in it. "
        "Record it again."
    ) in warnings


def test_negatives_are_held_out_whole_and_data_leaves_a_part_for_tests(data, tmp_path):
    for folder in (data / "fall", tmp_path / "talk", tmp_path / "talk" / "Dance Music"):
        for split in ("train", "validation", "test"):
            speaker = next(name for name in map(str, range(1000)) if assign_split(name) == split)
            write(folder / f"{speaker}_nohash_99.wav", tone(1.5))
    keyword_data, _ = load(DataFolders(data, negatives=(tmp_path / "talk",)))
    heldout = [clip for dataset in keyword_data.heldout_negatives for clip in dataset.clips]
    splits = {
        folder: {clip.split for clip in heldout if clip.label == folder}
        for folder in ("fall", "talk", "Dance Music")
    }
    assert splits["fall"] == {"validation"}
    assert splits["talk"] == splits["Dance Music"] == {"validation", "test"}
    assert {clip.kind for clip in heldout if clip.label == "Dance Music"} == {"music"}
    assert {clip.kind for clip in heldout if clip.label == "talk"} == {"speech"}


def write_speakers(folder: Path, splits: dict[str, int]) -> None:
    """One recording by each of so many speakers of these splits."""
    for split, count in splits.items():
        names = (name for name in map(str, range(10_000)) if assign_split(name) == split)
        for _ in range(count):
            write(folder / f"{next(names)}_nohash_0.wav", tone(0.5))


@pytest.mark.parametrize(
    ("own", "in_context", "expected", "own_in_training"),
    [
        ({"train": 3, "test": 5, "validation": 5}, {}, "your own recordings", 3),
        ({"train": 3, "test": 9}, {}, "the word alone", 12),
        ({"test": 12}, {}, "the word alone", 12),
        ({"train": 3}, {"train": 1, "test": 10}, "the word inside sentences", 3),
        ({}, {"train": 1, "test": 9}, "the word alone", 0),
    ],
    ids=["own", "too few own", "all own", "sentences", "too few sentences"],
)
def test_misses_are_measured_on_what_stands_best_for_people(
    data, tmp_path, own, in_context, expected, own_in_training
):
    write_speakers(tmp_path / "own" / "rise", own)
    write_speakers(data.parent / "in_context" / "rise", in_context)
    write_speakers(data / "rise", {"train": 1, "validation": 1})
    keyword_data, _ = load(
        DataFolders(
            data,
            own_recordings=(tmp_path / "own",) if own else (),
            in_context=(data.parent / "in_context",) if in_context else (),
            confusables=True,
        )
    )
    assert expected in keyword_data.miss_clips.description
    trained = [clip for word in keyword_data.words for clip in word.dataset.clips]
    judged = [clip for word in keyword_data.miss_clips.words for clip in word.dataset.clips]
    assert judged and not set(judged) & set(trained)
    assert sum((tmp_path / "own") in clip.path.parents for clip in trained) == own_in_training


def test_recordings_of_the_word_are_no_negatives(data, tmp_path):
    other = write_tone_folder(tmp_path / "other", 12)
    keyword_data, warnings = load(DataFolders(data, negatives=(other,)))
    assert {clip.label for source in keyword_data.negatives for clip in source.dataset.clips} == {
        "fall",
        "flat",
        "_background_noise_",
    }
    assert any(f"{other}: 12 recordings in folders named after a word" in text for text in warnings)


def test_subfolders_of_a_word_are_no_negatives(data):
    for folder in ("rise/anna", "sun_rise/anna", "fall/anna", "_background_noise_/rain"):
        write(
            data / folder / "one_nohash_0.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE)
        )
    keyword_data, warnings = load(data)
    nested = {
        clip.path.parent.parent.name
        for source in keyword_data.negatives
        for clip in source.dataset.clips
        if clip.path.stem == "one_nohash_0"
    }
    assert nested == {"fall"}
    assert "rain" in {clip.path.parent.name for clip in keyword_data.noises.clips}
    message = (
        f"{data}: 2 recordings in subfolders of a word's folder, or in folders that say more than "
        "it, are not used"
    )
    assert any(message in text for text in warnings)


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
    keyword_data, warnings = load(data)
    assert not warnings
    assert 0 < len(keyword_data.heldout_words[0].dataset) < len(keyword_data.words[0].dataset)
    assert (
        0
        < sum(map(len, keyword_data.heldout_negatives))
        < sum(len(source.dataset) for source in keyword_data.negatives)
    )


def test_messages_name_the_only_speaker(data):
    renamed(data / "rise", "19-198-{:04d}")
    keyword_data, warnings = load(data)
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
        load(data)


def test_links_to_recordings_of_the_word_are_no_negatives(data, tmp_path):
    (tmp_path / "radio").mkdir()
    write(tmp_path / "radio" / "song.wav", tone(2.0))
    (tmp_path / "radio" / "x.wav").symlink_to(next((data / "rise").iterdir()))
    (tmp_path / "radio" / "more").symlink_to(data / "rise")
    keyword_data, _ = load(DataFolders(data, negatives=(tmp_path / "radio",)))
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


@pytest.mark.parametrize(
    ("word", "clips", "message"),
    [
        ("hello", 12, "no clips of 'hello'. Words there: fall, flat, rise"),
        ("rise", 5, "5 clips, need at least 10"),
    ],
    ids=["word without clips", "too few clips"],
)
def test_too_few_clips_of_a_word(tmp_path, word, clips, message):
    folders = DataFolders(write_tone_folder(tmp_path / "data", clips))
    with pytest.raises(DataError, match=message):
        load_keyword_data([word], folders, max_word_seconds=MAX_WORD_SECONDS, warn=pytest.fail)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_recordings_of_one_speaker_are_used_for_everything_with_a_warning(data, split):
    speaker = name_speaker(data / "rise", split)
    keyword_data, warnings = load(data)
    words = (*keyword_data.words, *keyword_data.heldout_words)
    assert [len(word.dataset) for word in words] == [12, 12]
    assert keyword_data.notes == (
        "'rise' has too few speakers to hold some out: its miss rates are of clips "
        "it learned from.",
    )
    assert warnings == [
        f"{keyword_data.notes[0]} All 12 are of speaker '{speaker}', as their names say "
        f"(SPEAKER_nohash_N: {speaker}_nohash_0.wav)."
    ]


def name_speaker(folder: Path, split: str) -> str:
    """Renames all recordings to those of one speaker of this split."""
    speaker = next(name for name in map(str, range(1000)) if assign_split(name) == split)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(path.with_name(f"{speaker}_nohash_{number}.wav"))
    return speaker


def test_negatives_that_are_all_held_out(data):
    for word in ("fall", "flat"):
        name_speaker(data / word, "test")
    with pytest.raises(DataError, match="were held out"):
        load(data)


def test_a_word_without_other_speech(data):
    for word in ("fall", "flat"):
        shutil.rmtree(data / word)
    with pytest.raises(DataError, match="nothing but rise"):
        load(data)
