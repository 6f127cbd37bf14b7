"""Hard negatives: what fires in long audio is found at its place, listed, cut out, and fires less
after a second round."""

import csv
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from click.testing import CliRunner
from shared_training import EpochLog

from kws import Spotter
from kws.audio import recordings
from kws.cli.main import main
from kws.errors import DataError
from kws.runtime.model_file import read_model
from kws.training.data.clips import Clip, find_clips
from kws.training.data.keyword_data import DataFolders, load_keyword_data
from kws.training.data.long_recordings import find_mining_clips
from kws.training.data.sources import NegativeSource
from kws.training.data.splits import assign_split
from kws.training.detection import two_stage
from kws.training.detection.two_stage import (
    first_stage_path,
    hard_negatives_path,
    second_stage_config,
    train_two_stage,
)
from kws.training.fit import hard_negatives
from kws.training.fit.config import TrainConfig
from kws.training.fit.hard_negatives import (
    FalseAlarm,
    add_hard_negatives,
    cut_segments,
    mine,
    read_false_alarms,
    write_false_alarms,
)
from kws.training.fit.progress import TrainingProgress
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig
from kws.training.model.pretrained import VerifierSpec, load_verifier

RATE = 16_000
CPU = torch.device("cpu")
SMALL = NetworkConfig(("rise",), channels=8, kernels=(5, 5))
# The second round has two epochs.
SHORT = TrainConfig(epochs=4, steps_per_epoch=1, batch=8, clip_seconds=1.2)
# Seconds at which something like the word begins.
PLACES = {"train0": [3.0, 15.0, 24.0], "train1": [8.0, 19.5], "train2": []}


def stem(part: str, number: int = 0) -> str:
    """The name of a file of this part."""
    return [f"radio{i}" for i in range(200) if assign_split(f"radio{i}") == part][number]


def like_the_word(rng: np.random.Generator) -> np.ndarray:
    """A low tone and then one a fifth above, where the word has an octave; 0.3 s."""
    time = np.arange(int(0.15 * RATE)) / RATE
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.01)
    return np.concatenate(
        [
            0.4 * np.sin(2 * np.pi * 600 * rng.uniform(0.97, 1.03) * ratio * time) * fade
            for ratio in (1, 1.5)
        ]
    )


def write_radio(
    path: Path, at_seconds: list[float], seconds: float = 30.0, rate: int = RATE
) -> Path:
    rng = np.random.default_rng(len(at_seconds))
    wave = 0.005 * rng.standard_normal(int(seconds * RATE))
    for at in at_seconds:
        like = like_the_word(rng)
        wave[int(at * RATE) :][: len(like)] += like
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave if rate == RATE else soxr.resample(wave, RATE, rate), rate)
    return path


@pytest.fixture(scope="module")
def radio(tmp_path_factory) -> Path:
    """Some recordings to mine, one at another rate, and one that is held out."""
    folder = tmp_path_factory.mktemp("radio")
    for number, (name, places) in enumerate(PLACES.items()):
        write_radio(
            folder / f"{stem('train', int(name[-1]))}.{('wav', 'flac', 'ogg')[number]}",
            places,
            rate=(RATE, 44_100, RATE)[number],
        )
    write_radio(folder / f"{stem('validation')}.wav", [5.0], 90.0)
    return folder


@pytest.fixture(scope="module")
def false_alarms(tiny_model, radio) -> list[FalseAlarm]:
    return mine(
        Spotter.load(tiny_model.path),
        find_mining_clips([radio], ["rise"], print)[0],
    )[0]


def test_what_sounds_like_the_word_is_found_at_its_place(radio, false_alarms):
    expected = [
        (stem("train", int(name[-1])), at + 0.3) for name, places in PLACES.items() for at in places
    ]
    found = sorted((false_alarm.file.stem, false_alarm.seconds) for false_alarm in false_alarms)
    assert [name for name, _ in found] == [name for name, _ in sorted(expected)]
    assert [at for _, at in found] == pytest.approx([at for _, at in sorted(expected)], abs=0.25)
    assert [false_alarm.score for false_alarm in false_alarms] == sorted(
        (false_alarm.score for false_alarm in false_alarms), reverse=True
    )


def test_stretches_are_cut_where_the_findings_are(radio, false_alarms):
    dataset = cut_segments(false_alarms)
    for number, false_alarm in enumerate(false_alarms):
        whole = recordings.read(false_alarm.file)
        start = round((false_alarm.seconds - hard_negatives.SECONDS_BEFORE) * RATE)
        np.testing.assert_allclose(
            dataset[number], whole[start : start + len(dataset[number])], atol=1 / 32768
        )
        assert len(dataset[number]) == pytest.approx(2.5 * RATE, abs=1)
        assert np.abs(dataset[number]).max() > 0.3


@pytest.mark.parametrize(
    ("at", "seconds"), [(0.5, 1.2), (29.9, 1.9)], ids=["at the beginning", "at the end"]
)
def test_stretches_end_where_the_recording_does(tmp_path, at, seconds):
    path = write_radio(tmp_path / "a.wav", [at] if at < 20 else [])
    assert len(cut_segments([FalseAlarm(path, at, "rise", 0.9)])[0]) == pytest.approx(
        seconds * RATE, abs=1
    )


def test_only_the_highest_of_an_hour_are_kept(tiny_model, radio, false_alarms, monkeypatch):
    monkeypatch.setattr(hard_negatives, "MAX_PER_HOUR", 2)
    clips = [clip for clip in find_clips(radio) if clip.split == "train"]
    found, seconds = mine(Spotter.load(tiny_model.path), clips)
    assert found == false_alarms[:2]
    assert seconds == pytest.approx(90, abs=0.1)


def test_list_reads_as_it_was_written(tmp_path):
    false_alarms = [
        FalseAlarm(Path("a, b.wav"), 1.25, "rise", 0.987),
        FalseAlarm(Path("ü/b.wav"), 0.0, "fall", 0.3),
    ]
    false_alarms.append(FalseAlarm(Path("a\rb\nc.wav"), 2.0, "rise", 0.5))
    write_false_alarms(false_alarms, tmp_path / "a.hard-negatives.csv")
    assert read_false_alarms(tmp_path / "a.hard-negatives.csv") == false_alarms
    assert (tmp_path / "a.hard-negatives.csv").read_text("utf-8").splitlines()[
        0
    ] == "file,seconds,word,score"


@pytest.mark.parametrize(
    "text",
    ["file;seconds;word;score\na;1;rise;1", "file,seconds,word,score\na.wav,soon,rise,1", "\0\n\0"],
)
def test_foreign_list_is_told(tmp_path, text):
    (tmp_path / "a.hard-negatives.csv").write_text(text)
    with pytest.raises(DataError, match="not a list of hard negatives"):
        read_false_alarms(tmp_path / "a.hard-negatives.csv")


def test_few_findings_are_drawn_less_often(false_alarms):
    dataset = cut_segments(false_alarms)
    few = add_hard_negatives([NegativeSource(dataset, 1.0), NegativeSource(dataset, 3.0)], dataset)
    assert few[-1].weight / sum(source.weight for source in few) == pytest.approx(
        hard_negatives.MAX_SHARE * 5 / (5 + hard_negatives.HALF_SHARE_SEGMENTS)
    )


def test_second_round_is_shorter_and_slower():
    train_config = TrainConfig(epochs=30, learning_rate=3e-3)
    assert (
        second_stage_config(train_config).epochs,
        second_stage_config(replace(train_config, epochs=1)).epochs,
    ) == (15, 1)
    assert max(
        second_stage_config(train_config).learning_rate_at(step) for step in range(1500)
    ) == pytest.approx(1e-3)


def train_rounds(
    tiny_model,
    radio: Path,
    path: Path,
    *,
    train_config: TrainConfig = SHORT,
    resume: bool = False,
    progress: TrainingProgress | None = None,
    verifier_candidates: Sequence[VerifierSpec | None] = (None,),
) -> dict:
    keyword_data = load_keyword_data(
        ["rise"],
        DataFolders(tiny_model.data, hard_negatives=(radio,)),
        max_word_seconds=2.3,
        warn=lambda text: None,
    )
    how = {
        "device": CPU,
        "progress": progress,
        "resume": resume,
        "verifier_candidates": verifier_candidates,
        "workers": 0,
    }
    return train_two_stage(keyword_data, SMALL, train_config, path, **how)


def mine_nearly_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        hard_negatives, "THRESHOLD", 0.01
    )  # it has learned too little to be sure of anything
    patch.setattr(
        hard_negatives, "MAX_SHARE", 0.5
    )  # and hears too few clips to hear one of these otherwise
    patch.setattr(hard_negatives, "HALF_SHARE_SEGMENTS", 1)


@pytest.fixture(scope="module")
def whole(tiny_model, radio, tmp_path_factory) -> Path:
    """A short run in two rounds that nobody interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        mine_nearly_all(patch)
        path = tmp_path_factory.mktemp("whole") / "rise.onnx"
        train_rounds(tiny_model, radio, path)
    return path


@pytest.fixture
def nearly_all_fires(monkeypatch):
    mine_nearly_all(monkeypatch)


def assert_same(path: Path, whole: Path) -> None:
    """The same list, and the same weights bit for bit."""
    assert hard_negatives_path(path).read_bytes() == hard_negatives_path(whole).read_bytes()
    for name in ("rise.first.pt", "rise.pt"):
        ours, theirs = checkpoint.load(path.with_name(name)), checkpoint.load(whole.with_name(name))
        assert ours["history"] == theirs["history"]
        for part in ("network", "ema_network"):
            assert ours[part].keys() == theirs[part].keys()
            assert all(torch.equal(tensor, theirs[part][key]) for key, tensor in ours[part].items())


def test_second_run_gives_the_same(tiny_model, radio, whole, nearly_all_fires, tmp_path):
    assert sorted(each.name for each in whole.parent.iterdir()) == [
        "rise.first.onnx",
        "rise.first.pt",
        "rise.hard-negatives.csv",
        "rise.onnx",
        "rise.pt",
    ]
    assert len(read_false_alarms(hard_negatives_path(whole)))
    hard_negatives_path(tmp_path / "rise.onnx").write_text("of an earlier run")
    train_rounds(tiny_model, radio, tmp_path / "rise.onnx")
    assert_same(tmp_path / "rise.onnx", whole)


def test_what_a_reader_would_have_refused_is_mined_all_the_same(
    tiny_model, radio, whole, nearly_all_fires, tmp_path
):
    path = tmp_path / "rise.onnx"
    train_rounds(tiny_model, radio, path, verifier_candidates=[load_verifier({"rise": ("ɹIz",)})])
    assert_same(path, whole)
    for each in (first_stage_path(path), path):
        assert read_model(each).info.document["verifier"]["pronunciations"] == {"rise": ["ɹIz"]}


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("stop_after", [2, None, 5], ids=["first stage", "scan", "second stage"])
def test_resumed_run_equals_uninterrupted_run(
    tiny_model, radio, whole, nearly_all_fires, tmp_path, monkeypatch, stop_after
):
    path = tmp_path / "rise.onnx"
    hard_negatives_path(path).write_text("of an earlier run")
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        if stop_after is None:
            patch.setattr(two_stage, "mine", interrupt)
        train_rounds(tiny_model, radio, path, progress=EpochLog(stop_after))
    train_rounds(tiny_model, radio, path, resume=True)
    assert_same(path, whole)


def test_second_round_goes_on_with_the_precision_it_began_with(
    tiny_model, radio, whole, nearly_all_fires, tmp_path
):
    path = tmp_path / "rise.onnx"
    with pytest.raises(KeyboardInterrupt):
        train_rounds(tiny_model, radio, path, progress=EpochLog(stop_after=5))
    train_rounds(
        tiny_model, radio, path, resume=True, train_config=replace(SHORT, mixed_precision=("cpu",))
    )
    assert_same(path, whole)


def test_another_recording_to_mine_is_noticed(tiny_model, radio, whole, tmp_path):
    path = tmp_path / "rise.onnx"
    for each in whole.parent.iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    more = tmp_path / "more" / radio.name
    shutil.copytree(radio, more)
    write_radio(more / f"{stem('train', 50)}.wav", [])
    with pytest.raises(
        DataError,
        match=r"rise\.hard-negatives\.csv: is of other recordings than those of --hard-negatives-from now",
    ):
        train_rounds(tiny_model, more, path, resume=True)
    hard_negatives_path(path).unlink()
    train_rounds(tiny_model, more, path, resume=True)
    assert hard_negatives_path(path).exists()


def test_deleted_lines_are_not_learned_from(tiny_model, radio, whole, nearly_all_fires, tmp_path):
    path = tmp_path / "rise.onnx"
    for each in whole.parent.iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    lines = hard_negatives_path(path).read_text().splitlines()
    hard_negatives_path(path).write_text("\n".join([lines[0], *lines[2:]]))
    progress = EpochLog()
    document = train_rounds(
        tiny_model,
        radio,
        path,
        resume=True,
        progress=progress,
    )
    # The second stage alone.
    assert [metrics["epoch"] for metrics in progress.epochs] == [5, 6]
    assert document["hard_negatives"]["segments"] == len(lines) - 2
    assert hard_negatives_path(path).read_text().splitlines() == [lines[0], *lines[2:]]
    assert not all(
        torch.equal(tensor, checkpoint.load(whole.with_suffix(".pt"))["ema_network"][key])
        for key, tensor in checkpoint.load(path.with_suffix(".pt"))["ema_network"].items()
    )


def test_nothing_found_leaves_the_first_model(tiny_model, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(hard_negatives, "THRESHOLD", 1.1)
    write_radio(tmp_path / "radio" / f"{stem('train')}.wav", [])
    caplog.set_level(logging.INFO, "kws")
    train_rounds(tiny_model, tmp_path / "radio", tmp_path / "rise.onnx")
    assert "no false alarms to learn from" in caplog.messages[-1]
    assert (tmp_path / "rise.onnx").read_bytes() == first_stage_path(
        tmp_path / "rise.onnx"
    ).read_bytes()
    assert hard_negatives_path(tmp_path / "rise.onnx").read_text() == "file,seconds,word,score\n"


def highest(model: Path, recording: Path, at_seconds: list[float]) -> np.ndarray:
    """The highest score just after each of these times."""
    scores = Spotter.load(model).scores(recordings.read(recording))
    return np.array(
        [scores.pooled[(scores.times > at) & (scores.times < at + 0.8)].max() for at in at_seconds]
    )


def test_what_was_mined_fires_less(tiny_model, false_alarms, tone_recording, tmp_path, monkeypatch):
    """The first round is the tiny model, whole already. The word itself does not suffer."""
    monkeypatch.setattr(
        hard_negatives, "HALF_SHARE_SEGMENTS", 0
    )  # a lesson of seconds must be a strong one
    path = tmp_path / "models" / "rise.onnx"
    path.parent.mkdir()
    for suffix in (".pt", ".onnx"):
        first_stage_path(path).with_suffix(suffix).write_bytes(
            tiny_model.path.with_suffix(suffix).read_bytes()
        )
    saved = checkpoint.load(tiny_model.path.with_suffix(".pt"))
    config, train_config = (
        NetworkConfig.from_dict(saved["network_config"]),
        TrainConfig(**saved["train_config"]),
    )
    keyword_data = load_keyword_data(
        ["rise"], DataFolders(tiny_model.data), max_word_seconds=2.3, warn=pytest.fail
    )
    keyword_data = replace(
        keyword_data,
        hard_negatives=tuple(
            Clip(false_alarm.file, "radio", false_alarm.file.stem) for false_alarm in false_alarms
        ),
    )
    document = train_two_stage(
        keyword_data,
        config,
        train_config,
        path,
        device=CPU,
        resume=True,
        workers=0,
    )
    assert document["hard_negatives"]["segments"] == len(
        read_false_alarms(hard_negatives_path(path))
    )
    places = [2.0, 5.0, 8.0, 11.0]
    new = write_radio(tmp_path / "new.wav", places, 15.0)
    before, after = (highest(model, new, places) for model in (first_stage_path(path), path))
    assert after.max() < before.min() - 0.05
    words = tone_recording(tmp_path / "words.wav", places, seconds=15.0)
    assert (highest(path, words, places) > 0.7).all()


def test_mined_recordings_are_split_as_all_are(tiny_model, radio, tmp_path):
    without = load_keyword_data(
        ["rise"], DataFolders(tiny_model.data), max_word_seconds=2.3, warn=pytest.fail
    )
    keyword_data = load_keyword_data(
        ["rise"],
        DataFolders(tiny_model.data, hard_negatives=(radio, radio)),
        max_word_seconds=2.3,
        warn=pytest.fail,
    )
    assert sorted(clip.path.stem for clip in keyword_data.hard_negatives) == sorted(
        stem("train", number) for number in range(3)
    )
    assert (keyword_data.heldout_hours - without.heldout_hours) * 3600 == pytest.approx(90)
    # A minute and the rest.
    assert [
        len(dataset) for dataset in keyword_data.heldout_negatives[len(without.heldout_negatives) :]
    ] == [2]
    assert keyword_data.sources[-1] == {"folder": str(radio)}
    both = load_keyword_data(
        ["rise"],
        DataFolders(tiny_model.data, negatives=(radio,), hard_negatives=(radio,)),
        max_word_seconds=2.3,
        warn=pytest.fail,
    )
    assert both.heldout_hours == pytest.approx(keyword_data.heldout_hours)  # not counted twice


def test_folder_named_after_the_word_is_not_mined(tiny_model, tmp_path):
    write_radio(tmp_path / "radio" / f"{stem('train')}.wav", [])
    write_radio(tmp_path / "rise" / f"{stem('train', 1)}.wav", [])
    notes: list[str] = []
    keyword_data = load_keyword_data(
        ["rise"],
        DataFolders(tiny_model.data, hard_negatives=(tmp_path,)),
        max_word_seconds=2.3,
        warn=notes.append,
    )
    assert [clip.label for clip in keyword_data.hard_negatives] == ["radio"]
    assert notes == ["1 recordings in folders named after a word are not mined."]


def kws_train(tiny_model, *args: str | Path):
    command = [
        "train",
        "rise",
        "--data",
        tiny_model.data,
        "--epochs",
        "1",
        "--steps-per-epoch",
        "1",
        *args,
    ]
    return CliRunner().invoke(main, [str(arg) for arg in command])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "no such folder. Check the path of --hard-negatives-from"),
        ([], "no recordings in this directory"),
        (["test"], "nothing to mine; its recordings are of the words, or were held out"),
    ],
    ids=["missing", "empty", "all held out"],
)
def test_folders_that_cannot_be_mined_are_told_at_once(tiny_model, tmp_path, files, message):
    folder = tmp_path / "radio"
    for part in files or []:
        write_radio(folder / f"{stem(part)}.wav", [])
    if files is not None:
        folder.mkdir(exist_ok=True)
    result = kws_train(tiny_model, "--hard-negatives-from", folder, "--out", tmp_path / "rise.onnx")
    assert (result.exit_code, "Traceback" in result.stderr) == (1, False)
    assert message in result.stderr
    assert not (tmp_path / "rise.first.pt").exists()


def test_recordings_that_cannot_be_read_are_named_and_left_out(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(hard_negatives, "THRESHOLD", 0.0)
    good, bad = (tmp_path / "radio" / f"{stem('train', number)}.wav" for number in range(2))
    write_radio(good, [2.0], 5.0)
    bad.write_bytes(good.read_bytes()[:50_000])
    result = kws_train(
        tiny_model,
        "--hard-negatives-from",
        tmp_path / "radio",
        "--out",
        tmp_path / "rise.onnx",
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    assert f"skipped: {bad}: only the first" in result.stderr
    assert "delete the line and run the same command with --resume" in result.stderr
    assert len(result.stdout.splitlines()) == 2
    with hard_negatives_path(tmp_path / "rise.onnx").open(newline="") as file:
        assert {row["file"] for row in csv.DictReader(file)} == {str(good)}


def test_nothing_that_can_be_read(tiny_model, tmp_path):
    bad = tmp_path / "radio" / f"{stem('train')}.wav"
    bad.parent.mkdir()
    bad.write_bytes(b"no sound")
    result = kws_train(
        tiny_model, "--hard-negatives-from", bad.parent, "--out", tmp_path / "rise.onnx"
    )
    assert result.exit_code == 1
    assert (
        "neither this nor any other recording of --hard-negatives-from can be read" in result.stderr
    )


def test_recording_that_went_away_is_told(tmp_path):
    path = write_radio(tmp_path / "a.wav", [], 5.0)
    with pytest.raises(DataError, match=r"ends before 60\.00 s"):
        cut_segments([FalseAlarm(path, 60.0, "rise", 0.9)])
