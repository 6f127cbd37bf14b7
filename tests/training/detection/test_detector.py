"""Training a detector end to end on tones: it detects them, and its model file describes it."""

from dataclasses import replace

import pytest
import torch

from kws import Spotter
from kws.training.data.keyword_data import DataFolders, KeywordData, load_keyword_data
from kws.training.detection.train import train
from kws.training.fit.config import TrainConfig
from kws.training.model.network import NetworkConfig

SMALL = NetworkConfig(("rise",), channels=8, kernels=(5, 5))
SHORT = TrainConfig(epochs=1, steps_per_epoch=3, batch=8, clip_seconds=1.2)
CPU = torch.device("cpu")


def load(tiny_model, *words: str) -> KeywordData:
    return load_keyword_data(
        words, DataFolders(tiny_model.data), max_word_seconds=2.3, warn=pytest.fail
    )


def test_the_word_is_detected_at_its_place(tiny_model, tone_recording, tmp_path):
    spotter = Spotter.load(tiny_model.path)
    starts = [1.0, 2.0, 3.5]
    ends = [start + 0.3 for start in starts]
    events = list(spotter.detect(tone_recording(tmp_path / "a.wav", starts)))
    assert [event.start for event in events] == pytest.approx(starts, abs=0.12)
    assert [event.end for event in events] == pytest.approx(ends, abs=0.12)


@pytest.mark.parametrize("word", ["fall", "flat"])
def test_other_tones_are_not_detected(tiny_model, tone_recording, tmp_path, word):
    recording = tone_recording(tmp_path / "a.wav", [1.0, 2.0, 3.5], word=word)
    assert list(Spotter.load(tiny_model.path).detect(recording)) == []


def test_loss_and_misses_fall(tiny_model):
    assert [metrics["epoch"] for metrics in tiny_model.epochs] == [1, 2, 3]
    assert tiny_model.epochs[-1]["loss"] < tiny_model.epochs[0]["loss"] / 2
    assert tiny_model.epochs[-1]["miss_rate"] < 0.1


def test_the_document_describes_the_network(tiny_model):
    document = tiny_model.document
    saved = torch.load(tiny_model.path.with_suffix(".pt"), weights_only=True)
    numbers = [each.numel() for each in saved["ema_network"].values() if each.is_floating_point()]
    assert document["words"] == ["rise"]
    assert document["parameters"] == sum(numbers) - running_statistics(document)
    assert 0 < document["latency_seconds"] < 0.4
    assert document["sources"] == [{"folder": str(tiny_model.data)}]
    assert document["calibration"]["clips"][0] > 0
    assert document["calibration"]["misses_measured_on"] == "held-out recordings, each word alone"
    assert document["calibration"]["target_false_alarms_per_hour"] == 0.5


def running_statistics(document: dict) -> int:
    """Numbers of the batch norms that are no parameters."""
    config = document["training"]["network_config"]
    convolutions = 1 + 2 * len(config["kernels"])
    return 2 * (config["mels"] + convolutions * config["channels"])


def test_the_document_tells_how_to_train_it_again(tiny_model):
    training = tiny_model.document["training"]
    saved = torch.load(tiny_model.path.with_suffix(".pt"), weights_only=True)
    assert training["command"]
    assert training["train_config"] == saved["train_config"]
    assert training["data_fingerprint"] == saved["fingerprint"]
    assert tiny_model.document["versions"]["torch"] == torch.__version__


def test_an_interrupted_calibration_leaves_no_model_file(tiny_model, tmp_path):
    unwritable = {"notes": object()}  # no JSON: fails at the very end
    with pytest.raises(TypeError):
        train(
            load(tiny_model, "rise"),
            SMALL,
            SHORT,
            tmp_path / "a.kws",
            device=CPU,
            workers=0,
            model_card=unwritable,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_several_words_in_one_model(tiny_model, tmp_path):
    config = replace(SMALL, words=("rise", "fall"))
    path = tmp_path / "both.kws"
    document = train(load(tiny_model, "rise", "fall"), config, SHORT, path, device=CPU, workers=0)
    assert document["words"] == ["rise", "fall"]
    assert len(document["events"]["threshold"]) == 2
    assert Spotter.load(path).words == ("rise", "fall")
