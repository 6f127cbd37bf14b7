"""From a phrase to folders of synthetic clips, and from folders to a model, with an engine that
hums."""

import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hummer import HUMMER
from sounds import RATE, quiet, tone

from kws.cli import train_run
from kws.errors import DataError
from kws.runtime.engine import Engine
from kws.synth.audio import write
from kws.synth.engines import flite
from kws.synth.engines.registry import EngineSelection
from kws.synth.render import read_manifest
from kws.training.data.keyword_data import OWN_RECORDINGS_SHARE, DataFolders, load_keyword_data
from kws.training.data.places import FILE_NAME, read_places, write_places
from kws.training.detection import from_text
from kws.training.detection.from_text import SynthConfig, synthesize_folders
from kws.training.detection.model_card import calibrate_network
from kws.training.fit.config import TrainConfig
from kws.training.model.network import NetworkConfig, ScanningCNN

ROOT = Path(__file__).parents[3]


@pytest.fixture
def hum(monkeypatch):
    """The only engine: it hums every text."""
    engine = replace(
        HUMMER,
        voices=lambda: [f"voice{i}" for i in range(40)],
        speak=lambda text, settings: (tone(0.4), RATE),
    )
    monkeypatch.setattr(
        from_text.registry, "select_engines", lambda **_: EngineSelection((engine,), ())
    )
    return engine


def build_folders(folder: Path, **changes: object) -> DataFolders:
    config = SynthConfig(**{"phrase": "Hey, you", "clips": 40, **changes})
    return synthesize_folders(config, DataFolders(folder, negatives=(Path("podcasts"),)))


@pytest.fixture(autouse=True)
def info_messages(caplog):
    caplog.set_level(logging.INFO, "kws")


def test_the_folders_hold_phrase_confusables_context_and_sentences(hum, tmp_path, caplog):
    folders = build_folders(tmp_path)
    assert folders.negatives == (tmp_path / "sentences", Path("podcasts"))
    assert len([*(folders.data / "hey_you").glob("*.wav")]) == 20
    assert len([*(folders.in_context[0] / "hey_you").glob("*.wav")]) == 20
    assert (folders.data / "hew").is_dir()
    assert not (folders.data / "hey_you_too").exists()
    assert {path.name for path in folders.in_context[0].iterdir()} == {
        "hey_you",
        "clips.csv",
        "places.csv",
    }
    assert any("edit it" in line for line in caplog.messages)
    assert len(read_manifest(folders.data)) == len([*folders.data.rglob("*.wav")])


def test_an_edited_list_is_followed_and_no_clip_is_made_twice(hum, tmp_path, caplog):
    build_folders(tmp_path)
    (tmp_path / "confusables.txt").write_text("hay\nhaiku\nmy own idea\n")
    caplog.clear()
    folders = build_folders(tmp_path)
    assert {clip.label for clip in folders.clips(folders.data)} == {
        "hey_you",
        "hay",
        "haiku",
        "my_own_idea",
    }
    assert [re.sub(r"\d+", "N", line) for line in caplog.messages] == [
        "synthesizing confusables: N clips",
        "synthesizing confusables in context: N clips",
    ]
    caplog.clear()
    build_folders(tmp_path)
    assert not caplog.messages


def test_clips_of_other_plans_in_the_folder_are_not_used(hum, tmp_path, caplog):
    first = build_folders(tmp_path)
    wanted = {clip.path for clip in first.clips(first.data)}
    other = build_folders(tmp_path, seed=1)
    assert not wanted & {clip.path for clip in other.clips(other.data)}
    caplog.clear()
    again = build_folders(tmp_path)
    assert {clip.path for clip in again.clips(again.data)} == wanted
    assert not caplog.messages


def test_a_confusable_with_the_folder_of_the_phrase_is_left_out(hum, tmp_path):
    folders = build_folders(tmp_path, phrase="we'll")
    assert {clip.label for clip in folders.clips(folders.data)} >= {"well", "deal"}
    assert {
        row["text"] for row in read_manifest(folders.data) if row["file"].startswith("well/")
    } == {"we'll"}


def test_sentences_with_the_phrase_are_no_negatives(hum, tmp_path):
    folders = build_folders(tmp_path, phrase="morning")
    texts = {row["text"] for row in read_manifest(folders.negatives[0])}
    assert texts
    assert not [text for text in texts if "morning" in text]


def test_a_list_with_the_phrase_itself_is_refused(hum, tmp_path):
    (tmp_path / "confusables.txt").write_text("Hey you!\n")
    with pytest.raises(DataError, match="lists 'hey you' itself"):
        build_folders(tmp_path)


def test_a_phrase_has_its_own_pronunciation_in_context_too(hum, tmp_path):
    folders = build_folders(tmp_path, phrase="tomato", phonemes=("T AH0 M EY1 T OW0",))
    settings = [json.loads(row["settings"]) for row in read_manifest(folders.in_context[0])]
    assert {each["phonemes"] for each in settings} == {"T AH0 M EY1 T OW0"}
    assert {each["phrase"] for each in settings} == {"tomato"}


def test_no_confusable_in_context_says_the_phrase(hum):
    config = SynthConfig("hey you", clips=4000)
    carriers = ["hey {}", "say {} again", "so, {}", "not {}"]
    clips = from_text._plan_confusables_in_context(config, ["you", "hey"], carriers, [hum])
    assert sorted(clip.text for clip in clips) == [
        "hey hey", "not hey", "not you", "say hey again", "say you again", "so, hey", "so, you",
    ]  # fmt: skip


@pytest.mark.flite
def test_the_phrase_in_context_is_found_where_it_is_said(tmp_path, monkeypatch):
    """Flite speaks it; in a longer sentence it begins and ends later."""
    monkeypatch.setattr(
        from_text.registry, "select_engines", lambda **_: EngineSelection((flite.ENGINE,), ())
    )
    (tmp_path / "confusables.txt").write_text("hay\n")
    folders = build_folders(tmp_path)
    places = read_places(folders.in_context[0])
    assert len([place for place in places.values() if place]) >= 15
    for row in read_manifest(folders.in_context[0]):
        place = places[row["file"]]
        if not place:
            continue
        assert 0.2 < place.end - place.start < 1.2
        texts = row["text"].split("hey you")
        pauses = place.start, float(row["seconds"]) - place.end
        for text, pause in zip(texts, pauses, strict=True):
            assert pause >= 0.1 * len(text.split())
            assert text or pause < 0.35
    # A table that is gone is made again, and clips in which the phrase was not found are left out.
    path = folders.in_context[0] / FILE_NAME
    table = path.read_bytes()
    path.unlink()
    build_folders(tmp_path)
    assert path.read_bytes() == table
    first = next(iter(places))
    write_places(folders.in_context[0], {**places, first: None})
    warnings: list[str] = []
    keyword_data = load_keyword_data(
        ["hey_you"],
        replace(folders, negatives=folders.negatives[:1]),
        max_word_seconds=2.3,
        warn=warnings.append,
    )
    assert any("are left out, as the word was not found" in text for text in warnings)
    word = next(each for each in keyword_data.words if each.in_context)
    assert len(word.dataset) >= 5
    assert first not in {f"hey_you/{clip.path.name}" for clip in word.dataset.clips}
    for clip, endpoints in zip(word.dataset.clips, word.endpoints, strict=True):
        assert tuple(endpoints) == places[f"hey_you/{clip.path.name}"]


def test_pronunciations_of_a_phrase():
    assert SynthConfig("Smart mirror!").pronunciations == ("smɑɹtmɪɹəɹ", "smɑtmɪɹə")
    assert SynthConfig("hello").pronunciations[0] == "həlO"
    assert SynthConfig("hello", phonemes=("HH EH1 L OW0", "w eh l")).pronunciations == (
        "hɛlO",
        "wɛl",
    )


def test_few_recordings_of_the_user_are_drawn_often(hum, tmp_path):
    folders = build_folders(tmp_path)
    for number in range(3):
        write(
            tmp_path / "own" / "hey_you" / f"me_nohash_{number}.wav",
            np.concatenate([quiet(0.3), tone(0.5), quiet(0.3)]),
        )
    write(tmp_path / "own" / "hey_you" / "me_nohash_long.wav", tone(20.0))
    warnings: list[str] = []
    own = replace(folders, negatives=folders.negatives[:1], own_recordings=(tmp_path / "own",))
    keyword_data = load_keyword_data(["hey_you"], own, max_word_seconds=2.3, warn=warnings.append)
    assert any("me_nohash_long.wav: 20.0 s of sound" in text for text in warnings)
    sampling_weight = [word.sampling_weight for word in keyword_data.words]
    assert sampling_weight[-1] / sum(sampling_weight) == pytest.approx(OWN_RECORDINGS_SHARE)
    assert len(keyword_data.words[-1].dataset) == 3


def test_confusables_do_not_count_as_ordinary_speech(hum, tmp_path):
    folders = build_folders(tmp_path)
    keyword_data = load_keyword_data(
        ["hey_you"],
        replace(folders, negatives=folders.negatives[:1]),
        max_word_seconds=2.3,
        warn=lambda text: None,
    )
    confusables = {clip.label for clip in folders.clips(folders.data)} - {"hey_you"}
    assert {clip.label for clip in keyword_data.heldout_confusables.clips} <= confusables
    assert not [
        dataset
        for dataset in keyword_data.heldout_negatives
        if confusables & {clip.label for clip in dataset.clips}
    ]
    # But the detector learns from them.
    assert confusables & {
        clip.label for source in keyword_data.negatives for clip in source.dataset.clips
    }
    network = ScanningCNN(NetworkConfig(("hey_you",), mels=12, channels=8, kernels=(5, 5)))
    torch.nn.init.zeros_(network.head.weight)  # which, at random, may be stronger than any bias
    result = calibrate_network(network, keyword_data, tmp_path / "scratch.kws", None)["confusables"]
    assert result["clips"] == len(keyword_data.heldout_confusables) > 0
    assert result["alarms"] == 0  # at a threshold of 0.9, of a network that learned nothing
    torch.nn.init.constant_(network.head.bias, 9.0)
    assert (
        calibrate_network(network, keyword_data, tmp_path / "scratch.kws", None)["confusables"][
            "alarms"
        ]
        == result["clips"]
    )


def test_recordings_of_another_word(hum, tmp_path):
    folders = build_folders(tmp_path)
    write(tmp_path / "own" / "other" / "me_nohash_0.wav", tone(0.5))
    with pytest.raises(DataError, match="no folder named after a word"):
        load_keyword_data(
            ["hey_you"],
            replace(folders, negatives=folders.negatives[:1], own_recordings=(tmp_path / "own",)),
            max_word_seconds=2.3,
            warn=lambda text: None,
        )


def test_from_a_phrase_to_a_model_and_a_page(hum, tmp_path, caplog):
    path = tmp_path / "hey_you.kws"
    train_run.run(
        train_run.TrainOptions(
            folders=DataFolders(tmp_path / "hey_you.synth"),
            speech=SynthConfig("Hey, you", clips=40),
            init_from=None,
            out=path,
            network_config=NetworkConfig(("hey_you",), mels=12, channels=8, kernels=(5, 5)),
            train_config=TrainConfig(epochs=1, steps_per_epoch=2, batch=4),
            verifier="auto",
            false_alarms_per_hour=0.5,
            device="cpu",
            resume=False,
            as_json=True,
        )
    )
    assert Engine.load(path).info.document["verifier"]["pronunciations"] == {"hey_you": ["hAju"]}
    page = path.with_suffix(".html")
    assert "hey_you" in page.read_text()
    assert caplog.messages[-1].startswith(f"{page}: ")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("welcome",), 2, "Give either --data DIR, or --from-text"),
        (("welcome", "--from-text", "--data", "."), 2, "Give either --data DIR, or --from-text"),
        (("one", "two", "--from-text"), 2, "one word or phrase"),
        (("one", "--data", ".", "--phonemes", "W AH1 N"), 2, "it needs --from-text"),
        (("42", "--from-text"), 1, "numbers as words"),
        (("привет", "--from-text"), 1, "cannot read"),
        (("welcome", "--from-text", "--phonemes", "w"), 1, "no vowel"),
        (
            ("welcome", "--from-text", "--negatives", "none"),
            1,
            "none: no such folder. Check the path of --negatives",
        ),
        (
            ("welcome", "--from-text", "--background", "none"),
            1,
            "none: no such folder. Check the path of --background",
        ),
        (
            ("welcome", "--from-text", "--recordings", "none"),
            1,
            "none: no such folder. Check the path of --recordings",
        ),
    ],
)
def test_wrong_options(arguments, status, message, tmp_path):
    command = [sys.executable, ROOT / "cli.py", "train", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not [*tmp_path.rglob("*.wav")]
