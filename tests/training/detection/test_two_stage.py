"""Two-stage training: its list belongs to the first stage, it resumes bit for bit, and the second
stage has fewer false alarms."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from radio import stem, write_radio
from shared_training import EpochLog

from kws import Spotter
from kws.audio import recordings
from kws.cli.main import main
from kws.errors import DataError
from kws.runtime.model_file import read_model
from kws.training.data.clips import Clip
from kws.training.data.keyword_data import DataFolders, KeywordData, load_keyword_data
from kws.training.detection import two_stage
from kws.training.detection.two_stage import (
    first_stage_path,
    hard_negatives_path,
    second_stage_config,
    train_two_stage,
)
from kws.training.fit.config import TrainConfig
from kws.training.fit.hard_negatives import MiningConfig, read_false_alarms
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig
from kws.training.model.pretrained import load_verifier

CPU = torch.device("cpu")
SMALL = NetworkConfig(("rise",), channels=8, kernels=(5, 5))
# The second stage has two epochs.
SHORT = TrainConfig(epochs=4, steps_per_epoch=1, batch=8, clip_seconds=1.2)
# The first stage has learned too little for high scores, and the second draws few clips.
NEARLY_ALL = MiningConfig(threshold=0.01, max_share=0.5, half_share_segments=1)


def load(tiny_model, **folders: tuple[Path, ...]) -> KeywordData:
    return load_keyword_data(
        ["rise"],
        DataFolders(tiny_model.data, **folders),
        max_word_seconds=2.3,
        warn=lambda text: None,
    )


def train(
    tiny_model, radio: Path, path: Path, train_config: TrainConfig = SHORT, **options: Any
) -> dict:
    options = {"mining": NEARLY_ALL, **options}
    keyword_data = load(tiny_model, hard_negatives=(radio,))
    return train_two_stage(
        keyword_data, SMALL, train_config, path, device=CPU, workers=0, **options
    )


@pytest.fixture(scope="module")
def whole(tiny_model, radio, tmp_path_factory) -> Path:
    """The model of an uninterrupted training."""
    path = tmp_path_factory.mktemp("whole") / "rise.kws"
    train(tiny_model, radio, path)
    return path


def copy_files(whole: Path, folder: Path) -> Path:
    shutil.copytree(whole.parent, folder, dirs_exist_ok=True)
    return folder / whole.name


def assert_same(path: Path, whole: Path) -> None:
    """The same list, and the same weights bit for bit."""
    assert hard_negatives_path(path).read_bytes() == hard_negatives_path(whole).read_bytes()
    for name in ("rise.first.pt", "rise.pt"):
        ours, theirs = checkpoint.load(path.with_name(name)), checkpoint.load(whole.with_name(name))
        assert ours["history"] == theirs["history"]
        for weights in ("network", "ema_network"):
            assert ours[weights].keys() == theirs[weights].keys()
            for key, tensor in ours[weights].items():
                assert torch.equal(tensor, theirs[weights][key])


def test_the_second_stage_is_shorter_and_slower():
    first = TrainConfig(epochs=30, learning_rate=3e-3)
    second = second_stage_config(first)
    assert second.epochs == 15
    assert second_stage_config(replace(first, epochs=1)).epochs == 1
    assert max(map(second.learning_rate_at, range(1500))) == pytest.approx(1e-3)


def test_training_again_gives_the_same_files(tiny_model, radio, whole, tmp_path):
    assert sorted(each.name for each in whole.parent.iterdir()) == [
        "rise.first.kws",
        "rise.first.pt",
        "rise.hard-negatives.csv",
        "rise.kws",
        "rise.pt",
    ]
    assert len(read_false_alarms(hard_negatives_path(whole)))
    hard_negatives_path(tmp_path / "rise.kws").write_text("of an earlier training")
    train(tiny_model, radio, tmp_path / "rise.kws")
    assert_same(tmp_path / "rise.kws", whole)


def test_alarms_that_a_verifier_rejects_are_mined_too(tiny_model, radio, whole, tmp_path):
    path, verifier = tmp_path / "rise.kws", load_verifier({"rise": ("ɹIz",)})
    train(tiny_model, radio, path, verifier_candidates=[verifier])
    assert_same(path, whole)
    for each in (first_stage_path(path), path):
        document = read_model(each).info.document
        assert document["verifier"]["pronunciations"] == {"rise": ["ɹIz"]}


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("stop_after", [2, None, 5], ids=["first stage", "scan", "second stage"])
def test_a_resumed_training_equals_an_uninterrupted_one(
    tiny_model, radio, whole, tmp_path, monkeypatch, stop_after
):
    path = tmp_path / "rise.kws"
    hard_negatives_path(path).write_text("of an earlier training")
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        if stop_after is None:
            patch.setattr(two_stage, "mine", interrupt)
        train(tiny_model, radio, path, progress=EpochLog(stop_after))
    train(tiny_model, radio, path, resume=True)
    assert_same(path, whole)


def test_a_resumed_second_stage_keeps_its_precision(tiny_model, radio, whole, tmp_path):
    path = tmp_path / "rise.kws"
    with pytest.raises(KeyboardInterrupt):
        train(tiny_model, radio, path, progress=EpochLog(stop_after=5))
    train(tiny_model, radio, path, replace(SHORT, mixed_precision=("cpu",)), resume=True)
    assert_same(path, whole)


def test_a_list_of_other_recordings_is_refused(tiny_model, radio, whole, tmp_path):
    path = copy_files(whole, tmp_path)
    more = tmp_path / "more" / radio.name
    shutil.copytree(radio, more)
    write_radio(more / f"{stem('train', 50)}.wav", [])
    with pytest.raises(DataError, match="is of other recordings than those of --hard-negatives"):
        train(tiny_model, more, path, resume=True)
    hard_negatives_path(path).unlink()
    train(tiny_model, more, path, resume=True)
    assert hard_negatives_path(path).exists()


def test_deleted_lines_are_not_learned_from(tiny_model, radio, whole, tmp_path):
    path = copy_files(whole, tmp_path)
    header, _, *rest = hard_negatives_path(path).read_text().splitlines()
    hard_negatives_path(path).write_text("\n".join([header, *rest]))
    progress = EpochLog()
    document = train(tiny_model, radio, path, resume=True, progress=progress)
    # The second stage alone is trained again.
    assert [metrics["epoch"] for metrics in progress.epochs] == [5, 6]
    assert document["hard_negatives"]["segments"] == len(rest)
    assert hard_negatives_path(path).read_text().splitlines() == [header, *rest]
    ours, theirs = (
        checkpoint.load(each.with_suffix(".pt"))["ema_network"] for each in (path, whole)
    )
    assert not all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_without_false_alarms_the_first_model_stays(tiny_model, tmp_path, caplog):
    caplog.set_level(logging.INFO, "kws")
    path = tmp_path / "rise.kws"
    write_radio(tmp_path / "radio" / f"{stem('train')}.wav", [])
    train(tiny_model, tmp_path / "radio", path, mining=MiningConfig(threshold=1.1))
    assert "no false alarms to learn from" in caplog.messages[-1]
    assert path.read_bytes() == first_stage_path(path).read_bytes()
    assert hard_negatives_path(path).read_text() == "file,seconds,word,score\n"


def highest_scores(model: Path, recording: Path, starts: list[float]) -> np.ndarray:
    """The highest score just after each of these times."""
    scores = Spotter.load(model).scores(recordings.read(recording))
    windows = [(scores.times > start) & (scores.times < start + 0.8) for start in starts]
    return np.array([scores.pooled[window].max() for window in windows])


def test_false_alarms_score_less_after_the_second_stage(
    tiny_model, false_alarms, tone_recording, tmp_path
):
    """The first stage is the tiny model, finished already. The word itself does not suffer."""
    path = tmp_path / "models" / "rise.kws"
    path.parent.mkdir()
    for suffix in (".pt", ".kws"):
        shutil.copy(tiny_model.path.with_suffix(suffix), first_stage_path(path).with_suffix(suffix))
    saved = checkpoint.load(tiny_model.path.with_suffix(".pt"))
    clips = tuple(Clip(each.file, "radio", each.file.stem) for each in false_alarms)
    document = train_two_stage(
        replace(load(tiny_model), hard_negatives=clips),
        NetworkConfig.from_dict(saved["network_config"]),
        TrainConfig(**saved["train_config"]),
        path,
        device=CPU,
        resume=True,
        mining=MiningConfig(half_share_segments=0),
        workers=0,
    )
    listed = read_false_alarms(hard_negatives_path(path))
    assert document["hard_negatives"]["segments"] == len(listed)
    starts = [2.0, 5.0, 8.0, 11.0]
    similar = write_radio(tmp_path / "similar.wav", starts, 15.0)
    before, after = (
        highest_scores(model, similar, starts) for model in (first_stage_path(path), path)
    )
    assert after.max() < before.min() - 0.05
    words = tone_recording(tmp_path / "words.wav", starts, seconds=15.0)
    assert (highest_scores(path, words, starts) > 0.7).all()


def test_mined_recordings_are_split_like_all_others(tiny_model, radio):
    without = load(tiny_model)
    keyword_data = load(tiny_model, hard_negatives=(radio, radio))
    assert sorted(clip.path.stem for clip in keyword_data.hard_negatives) == sorted(
        stem("train", number) for number in range(3)
    )
    assert (keyword_data.heldout_hours - without.heldout_hours) * 3600 == pytest.approx(90)
    heldout = keyword_data.heldout_negatives[len(without.heldout_negatives) :]
    assert [len(dataset) for dataset in heldout] == [2]  # a minute and the rest
    assert keyword_data.sources[-1] == {"folder": str(radio)}
    both = load(tiny_model, negatives=(radio,), hard_negatives=(radio,))
    assert both.heldout_hours == pytest.approx(keyword_data.heldout_hours)  # not counted twice


def kws_train(tiny_model, folder: Path, out: Path):
    quick = ("--epochs", "1", "--steps-per-epoch", "1", "--json")
    command = ["train", "rise", "--data", tiny_model.data, *quick]
    options = ["--hard-negatives-from", folder, "--out", out]
    return CliRunner().invoke(main, [str(each) for each in (*command, *options)])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "no such folder. Check the path of --hard-negatives-from"),
        ([], "no recordings in this directory"),
        (["test"], "nothing to mine; its recordings are of the words, or were held out"),
    ],
    ids=["missing", "empty", "all held out"],
)
def test_a_folder_that_cannot_be_mined_stops_the_command_at_once(
    tiny_model, tmp_path, files, message
):
    folder = tmp_path / "radio"
    if files is not None:
        folder.mkdir()
    for split in files or []:
        write_radio(folder / f"{stem(split)}.wav", [])
    result = kws_train(tiny_model, folder, tmp_path / "rise.kws")
    assert (result.exit_code, "Traceback" in result.stderr) == (1, False)
    assert message in result.stderr
    assert not (tmp_path / "rise.first.pt").exists()


def test_the_command_says_what_to_do_with_the_list(tiny_model, tmp_path):
    folder = tmp_path / "radio"
    write_radio(folder / f"{stem('train')}.wav", [2.0], 5.0)
    result = kws_train(tiny_model, folder, tmp_path / "rise.kws")
    assert result.exit_code == 0, result.stderr
    assert f"{hard_negatives_path(tmp_path / 'rise.kws')} lists them" in result.stderr
    assert "delete the line and run the same command with --resume" in result.stderr
    assert len(result.stdout.splitlines()) == 2


def test_recordings_that_all_cannot_be_read(tiny_model, tmp_path):
    folder = tmp_path / "radio"
    folder.mkdir()
    (folder / f"{stem('train')}.wav").write_bytes(b"no sound")
    result = kws_train(tiny_model, folder, tmp_path / "rise.kws")
    assert result.exit_code == 1
    assert "neither this nor any other recording of --hard-negatives-from" in result.stderr
