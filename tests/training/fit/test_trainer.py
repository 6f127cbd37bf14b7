"""Training end to end on tones: it learns, it resumes bit for bit, it says what is wrong with
its data."""

import contextlib
import itertools
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_tone_folder
from shared_training import EpochLog

from kws import Spotter
from kws.errors import DataError, KwsError, ModelError
from kws.runtime.engine import Engine
from kws.training.augment.rooms import make_rooms
from kws.training.data.keyword_data import DataFolders, KeywordData, load_keyword_data
from kws.training.data.splits import assign_split
from kws.training.detection.objective import DetectionObjective
from kws.training.detection.train import make_mixer, train
from kws.training.fit.config import TrainConfig, bfloat16_devices
from kws.training.fit.state import TrainState
from kws.training.fit.trainer import fit
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig, ScanningCNN

SMALL = NetworkConfig(("rise",), channels=8, kernels=(5, 5))
SHORT = TrainConfig(epochs=4, steps_per_epoch=3, batch=8, clip_seconds=1.2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def keyword_data(tiny_model) -> KeywordData:
    return load_keyword_data(
        ["rise"], DataFolders(tiny_model.data), max_word_seconds=2.3, warn=lambda text: None
    )


def objective(keyword_data: KeywordData) -> DetectionObjective:
    return DetectionObjective(SMALL, torch.from_numpy(make_rooms(None)), SHORT.snr_db)


def run_to(
    epochs: int,
    keyword_data: KeywordData,
    path: Path,
    resume: bool = False,
    train_config: TrainConfig = SHORT,
) -> TrainState:
    """Trains until this many epochs are done, of a run planned for all of them."""
    run = TrainState(SMALL, train_config, CPU, keyword_data.fingerprint())
    if resume:
        run.restore(path)
    with contextlib.suppress(KeyboardInterrupt):
        fit(
            run,
            make_mixer(keyword_data, SMALL, SHORT),
            objective(keyword_data),
            path=path,
            validate=lambda network: {},
            progress=EpochLog(stop_after=epochs),
            workers=0,
        )
    return run


def test_tones_are_learnt(tiny_model, tone_recording, tmp_path):
    spotter = Spotter.load(tiny_model.path)
    times = [1.0, 2.0, 3.5]
    events = list(spotter.detect(tone_recording(tmp_path / "a.wav", times)))
    assert [event.start for event in events] == pytest.approx(times, abs=0.12)
    assert [event.end for event in events] == pytest.approx(
        [time + 0.3 for time in times], abs=0.12
    )


@pytest.mark.parametrize("word", ["fall", "flat"])
def test_other_tones_are_not_the_word(tiny_model, tone_recording, tmp_path, word):
    recording = tone_recording(tmp_path / "a.wav", [1.0, 2.0, 3.5], word=word)
    assert list(Spotter.load(tiny_model.path).detect(recording)) == []


def test_validation_of_the_last_epoch(tiny_model):
    assert [entry["epoch"] for entry in tiny_model.epochs] == [1, 2, 3]
    assert tiny_model.epochs[-1]["loss"] < tiny_model.epochs[0]["loss"] / 2
    assert tiny_model.epochs[-1]["miss_rate"] < 0.1


def test_document_tells_all(tiny_model):
    document = tiny_model.document
    assert document["words"] == ["rise"]
    assert document["parameters"] == sum(
        p.numel()
        for p in torch.load(tiny_model.path.with_suffix(".pt"), weights_only=True)[
            "ema_network"
        ].values()
        if p.is_floating_point()
    ) - norms(document)
    assert 0 < document["latency_seconds"] < 0.4
    assert document["sources"] == [{"folder": str(tiny_model.data)}]
    assert document["calibration"]["clips"][0] > 0


def test_document_says_what_would_make_it_again(tiny_model):
    training = tiny_model.document["training"]
    saved = torch.load(tiny_model.path.with_suffix(".pt"), weights_only=True)
    assert training["command"]
    assert training["train_config"] == saved["train_config"]
    assert training["data_fingerprint"] == saved["fingerprint"]
    assert tiny_model.document["versions"]["torch"] == torch.__version__


def norms(document: dict) -> int:
    """Numbers of the running statistics, which are no parameters."""
    config = document["training"]["network_config"]
    convolutions = 1 + 2 * len(config["kernels"])
    return 2 * (config["mels"] + convolutions * config["channels"])


def test_the_checkpoint_of_another_model_is_refused(tiny_model, tmp_path):
    for suffix in (".onnx", ".pt"):
        shutil.copy(tiny_model.path.with_suffix(suffix), tmp_path / f"a{suffix}")
    saved = checkpoint.load(tmp_path / "a.pt")
    other = ScanningCNN(NetworkConfig.from_dict({**saved["network_config"], "words": ["other"]}))
    checkpoint.save(
        {**saved, "network_config": other.config.to_dict(), "ema_network": other.state_dict()},
        tmp_path / "a.pt",
    )
    with pytest.raises(ModelError, match=r"the checkpoint of another model than a\.onnx"):
        Engine.load(tmp_path / "a.onnx", "auto")


@pytest.mark.parametrize(
    ("device", "tolerance"), [("auto", 1e-4), pytest.param("cuda", 1e-4, marks=pytest.mark.gpu)]
)
def test_torch_engine_gives_the_same_scores(tiny_model, device, tolerance):
    audio = (0.1 * np.random.default_rng(0).standard_normal((2, 20_000))).astype(np.float32)
    onnx = Spotter.load(tiny_model.path).engine
    torch_engine = Engine.load(tiny_model.path, device)
    sent = pickle.loads(pickle.dumps(torch_engine))
    ours, theirs, there = (
        engine.step(audio, engine.initial_state(2))[0] for engine in (onnx, torch_engine, sent)
    )
    for mine, other, again in zip(ours, theirs, there, strict=True):
        np.testing.assert_allclose(mine, other, atol=tolerance)
        np.testing.assert_array_equal(other, again)


@pytest.mark.parametrize("precision", [(), ("cpu",)], ids=["float32", "bfloat16"])
def test_resumed_run_equals_uninterrupted_run(keyword_data, tmp_path, precision):
    """On another machine, too, which would have chosen the default."""
    train_config = replace(SHORT, mixed_precision=precision)
    whole = run_to(4, keyword_data, tmp_path / "whole.pt", train_config=train_config)
    run_to(2, keyword_data, tmp_path / "parts.pt", train_config=train_config)
    parts = run_to(4, keyword_data, tmp_path / "parts.pt", resume=True)
    assert parts.train_config == train_config
    assert parts.history == whole.history
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, parts.network.state_dict()[name]), name
    for name, tensor in whole.ema_network.state_dict().items():
        assert torch.equal(tensor, parts.ema_network.state_dict()[name]), name


@pytest.mark.parametrize(
    ("capabilities", "devices"),
    [
        ({"avx512_bf16": True}, ("cuda", "cpu")),
        ({"avx512_bf16": False}, ("cuda",)),
        ({"neon": True}, ("cuda",)),
    ],
    ids=["with bfloat16", "without", "another kind of CPU"],
)
def test_bfloat16_where_it_is_faster(monkeypatch, capabilities, devices):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert bfloat16_devices() == devices


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda config, train_config, data: (replace(config, channels=16), train_config, data),
            r"another network \(channels \d+, now 16\)",
        ),
        (
            lambda config, train_config, data: (config, replace(train_config, seed=1), data),
            r"other training settings \(seed 0, now 1\)",
        ),
        (lambda config, train_config, data: (config, train_config, "changed"), "other data"),
    ],
    ids=["network", "train_config", "data"],
)
def test_resume_refuses_what_would_not_go_on_as_it_began(keyword_data, tmp_path, change, what):
    run_to(1, keyword_data, tmp_path / "a.pt")
    with pytest.raises(DataError, match=what):
        TrainState(
            *change(SMALL, SHORT, keyword_data.fingerprint())[:2],
            CPU,
            change(SMALL, SHORT, keyword_data.fingerprint())[2],
        ).restore(tmp_path / "a.pt")


def test_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(keyword_data, tmp_path):
    run = run_to(1, keyword_data, tmp_path / "a.pt")
    with torch.no_grad():
        run.network.head.weight.fill_(float("nan"))
    with pytest.raises(
        KwsError, match="the loss became nan at step 3; the checkpoint of epoch 1 was saved before"
    ):
        fit(
            run,
            make_mixer(keyword_data, SMALL, SHORT),
            objective(keyword_data),
            path=tmp_path / "a.pt",
            validate=lambda network: {},
            workers=0,
        )
    assert len(checkpoint.load(tmp_path / "a.pt")["history"]) == 1


class InfiniteGradient(DetectionObjective):
    """The loss is finite; the slope of the square root is not."""

    def loss(self, network, prepared):
        weight = network.head.weight
        return super().loss(network, prepared) + (weight - weight.detach()).abs().sqrt().sum()


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(
    keyword_data, tmp_path, epochs
):
    run = (
        run_to(epochs, keyword_data, tmp_path / "a.pt")
        if epochs
        else TrainState(SMALL, SHORT, CPU, keyword_data.fingerprint())
    )
    before = {name: tensor.clone() for name, tensor in run.network.named_parameters()}
    kept = "the checkpoint of epoch 1 was saved before" if epochs else "nothing was saved yet"
    with pytest.raises(KwsError, match=f"the gradient became nan at step {3 * epochs}; {kept}"):
        fit(
            run,
            make_mixer(keyword_data, SMALL, SHORT),
            InfiniteGradient(SMALL, torch.from_numpy(make_rooms(None)), SHORT.snr_db),
            path=tmp_path / "a.pt",
            validate=lambda network: {},
            workers=0,
        )
    assert all(torch.equal(before[name], tensor) for name, tensor in run.network.named_parameters())


def test_a_checkpoint_says_how_it_was_made(keyword_data, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kws", "train", "two words"])
    run_to(1, keyword_data, tmp_path / "a.pt")
    made = checkpoint.load(tmp_path / "a.pt")["provenance"]
    assert made["command"] == "kws train 'two words'"
    assert made["versions"]["torch"] == torch.__version__ and made["versions"].keys() >= {
        "kws",
        "python",
        "numpy",
    }


def test_a_model_without_thresholds_of_its_own_is_never_there(keyword_data, tmp_path):
    """Calibration takes minutes: whatever stops it, the model of this name is the one before,
    or none."""
    model_card = {"notes": object()}  # what no document can hold stops it at its very end
    with pytest.raises(TypeError):
        train(
            keyword_data,
            SMALL,
            replace(SHORT, epochs=1),
            tmp_path / "a.onnx",
            device=CPU,
            workers=0,
            model_card=model_card,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_several_words_in_one_model(tiny_model, tmp_path):
    keyword_data = load_keyword_data(
        ["rise", "fall"], DataFolders(tiny_model.data), max_word_seconds=2.3, warn=lambda text: None
    )
    config = replace(SMALL, words=("rise", "fall"))
    document = train(
        keyword_data,
        config,
        replace(SHORT, epochs=1),
        tmp_path / "both.onnx",
        device=CPU,
        workers=0,
    )
    assert document["words"] == ["rise", "fall"]
    assert len(document["events"]["threshold"]) == 2
    assert Spotter.load(tmp_path / "both.onnx").words == ("rise", "fall")


def test_learning_rate_warms_up_and_falls_to_nothing():
    train_config = TrainConfig(epochs=10, steps_per_epoch=10, warmup=0.1, learning_rate=1.0)
    rates = [train_config.learning_rate_at(step) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] < 0.01


@pytest.mark.parametrize(
    ("names", "clips", "message"),
    [
        (["hello"], 12, "no clips of 'hello'. Words there: fall, flat, rise"),
        (["rise"], 5, "5 clips, need at least 10"),
    ],
    ids=["word without clips", "too few clips"],
)
def test_unusable_data(tmp_path, names, clips, message):
    with pytest.raises(DataError, match=message):
        load_keyword_data(
            names,
            DataFolders(write_tone_folder(tmp_path / "data", clips)),
            max_word_seconds=2.3,
            warn=lambda text: None,
        )


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_one_speaker_is_learned_from_and_said_so(tmp_path, part):
    data = write_tone_folder(tmp_path / "data", 12)
    speaker = next(name for name in map(str, range(1000)) if assign_split(name) == part)
    for number, path in enumerate(sorted((data / "rise").iterdir())):
        path.rename(path.with_name(f"{speaker}_nohash_{number}.wav"))
    notes: list[str] = []
    keyword_data = load_keyword_data(
        ["rise"], DataFolders(data), max_word_seconds=2.3, warn=notes.append
    )
    assert [len(word.dataset) for word in (*keyword_data.words, *keyword_data.heldout_words)] == [
        12,
        12,
    ]
    assert keyword_data.notes == (
        "'rise' has too few speakers to hold some out: its miss rates are of clips "
        "it learned from.",
    )
    assert notes == [
        (
            f"{keyword_data.notes[0]} All 12 are of speaker '{speaker}', as their names say "
            f"(SPEAKER_nohash_N: {speaker}_nohash_0.wav)."
        )
    ]


def test_negatives_that_are_all_held_out(tmp_path):
    data = write_tone_folder(tmp_path / "data", 12)
    heldout = next(name for name in map(str, range(1000)) if assign_split(name) == "test")
    for number, path in enumerate(
        path for word in ("fall", "flat") for path in sorted((data / word).iterdir())
    ):
        path.rename(path.with_name(f"{heldout}_nohash_{number}.wav"))
    with pytest.raises(DataError, match="were held out"):
        load_keyword_data(["rise"], DataFolders(data), max_word_seconds=2.3, warn=lambda text: None)


def test_word_alone_is_not_enough(tmp_path):
    data = write_tone_folder(tmp_path / "data", 12)
    for other in ("fall", "flat"):
        for path in (data / other).iterdir():
            path.unlink()
    with pytest.raises(DataError, match="nothing but rise"):
        load_keyword_data(["rise"], DataFolders(data), max_word_seconds=2.3, warn=lambda text: None)
