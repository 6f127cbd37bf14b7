"""The argument for scanning: one pass is a window classifier slid along, cheaper; and it finds a
word wherever it stands."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from factories import BANDS, WITH_PHONES, make_audio, make_config, make_network
from torch import Tensor, nn

from kws.training.model.network import NetworkConfig, Output, ScanningCNN

EXACT = {"rtol": 0, "atol": 1e-6}
LARGER = {"mels": 40, "channels": 48, "kernels": (7, 9, 11)}


def load_page() -> ModuleType:
    """The script behind docs/explanation/scanning.md."""
    spec = importlib.util.spec_from_file_location(
        "scanning", Path(__file__).parents[3] / "docs" / "explanation" / "scanning.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


scanning = load_page()


@torch.no_grad()
def scores(network: ScanningCNN, audio: np.ndarray) -> tuple[Tensor, Tensor]:
    """Frame and pooled probabilities of a clip."""
    return probabilities(network(torch.from_numpy(audio))[0])


def probabilities(output: Output) -> tuple[Tensor, Tensor]:
    return output.logits.sigmoid(), output.pooled.exp()


class TestOnePass:
    @pytest.mark.parametrize(
        "changes",
        [{}, {"pooling": "max"}, {"pooling": "mean"}, {"pooling": "power"}, LARGER],
        ids=str,
    )
    def test_equals_the_slid_window_classifier(self, changes):
        network, audio = make_network(2, **changes), make_audio(3.0)
        frames, pooled = scores(network, audio)
        slid_frames, slid_pooled = probabilities(
            scanning.slide(network, torch.from_numpy(audio), batch=50)
        )
        assert pooled.std() > 0.05
        torch.testing.assert_close(slid_frames, frames, **EXACT)
        torch.testing.assert_close(slid_pooled, pooled, **EXACT)

    @pytest.mark.parametrize("frames", [1, 2, 9, 40])
    def test_shifted_input_gives_shifted_scores(self, frames):
        network, audio = make_network(2), make_audio(3.0)
        for later, expected in zip(
            scores(network, audio[:, frames * 320 :]), scores(network, audio), strict=True
        ):
            torch.testing.assert_close(later, expected[..., frames:], **EXACT)

    @pytest.mark.parametrize("now", [1, 20, 99])
    def test_the_future_changes_nothing(self, now):
        network, audio = make_network(2, **WITH_PHONES), torch.from_numpy(make_audio(2.0))
        other = audio.clone()
        other[:, now * 320 :] += 0.1
        with torch.no_grad():
            outputs = [network(each, network.initial_state())[0] for each in (audio, other)]
        for one, another in zip(*outputs, strict=True):
            assert torch.equal(one[..., :now], another[..., :now])
            assert not torch.equal(one[..., now], another[..., now])

    @pytest.mark.parametrize("seed", [0, 2, 5])
    def test_score_of_a_clip_is_the_same_wherever_the_word_stands(self, seed):
        network, word = make_network(seed=seed), make_audio(0.4, seed=seed)
        lead = network.config.clip_frame_samples

        def clip_score(quiet_frames: int, seconds: float = 4.0) -> float:
            clip = np.zeros((1, round(seconds * 16_000)), np.float32)
            clip[:, lead + quiet_frames * 320 :][:, : word.shape[1]] = word
            return scores(network, clip)[1].max().item()

        nothing = scores(network, np.zeros((1, 64_000), np.float32))[1].max().item()
        assert clip_score(0) > nothing + 0.1
        assert [clip_score(at) for at in (1, 30, 77, 150)] == pytest.approx(
            [clip_score(0)] * 4, abs=1e-6
        )
        assert clip_score(5, seconds=9.0) == pytest.approx(clip_score(5), abs=1e-6)


@pytest.mark.parametrize(
    ("config", "slid_frames"),
    [
        (
            NetworkConfig(("word",)),
            {"head": 5, "block, kernel 15": 5, "block, kernel 13": 19, "stem": 67},
        ),
        (make_config(3), {"head": 4, "block, kernel 5": 4, "block, kernel 3": 8}),
        (make_config(mels=13, **BANDS), {"head": 4, "stem": 10}),
    ],
    ids=["default", "small", "bands"],
)
def test_a_slid_window_computes_each_layer_s_frames_again(config, slid_frames):
    ratios = {layer.name: layer.ratio for layer in scanning.costs(config)}
    assert {name: ratios[name] for name in slid_frames} == pytest.approx(slid_frames)


def test_one_pass_is_far_cheaper_than_slid_windows():
    assert scanning.total_cost(scanning.costs(NetworkConfig(("word",)))).ratio >= 20


# The word stands near the middle of the clip in training, and then elsewhere. Small, to be learned
# in seconds.
EXPERIMENT = scanning.Experiment(
    clip_seconds=2.6,
    trained_starts=(1.2, 1.4),
    starts=(0.75, 0.9, 1.05, 1.25, 1.35, 1.55, 1.7, 1.9),
    trials=12,
    steps=100,
    batch=16,
)
CONFIG = NetworkConfig(("word",), mels=24, channels=24, kernels=(7, 9, 11), pooling="max")


def trained(model: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return scanning.train(model(), EXPERIMENT)


@pytest.fixture(scope="module")
def scan() -> nn.Module:
    return trained(lambda: scanning.Scan(CONFIG))


@pytest.fixture(scope="module")
def whole_clip() -> nn.Module:
    return trained(lambda: scanning.WholeClip(CONFIG, EXPERIMENT.clip_seconds))


def share_found(model: nn.Module, syllables: str) -> np.ndarray:
    """Share of clips, by start, that score at least one half."""
    return (scanning.scores_by_start(model, syllables, EXPERIMENT) >= 0.5).mean(1)


class TestMovedWord:
    def test_scan_finds_it_at_every_place_and_nothing_else(self, scan):
        assert share_found(scan, "AB").min() >= 0.9
        assert share_found(scan, "BA").max() <= 0.1

    def test_whole_clip_model_finds_it_only_where_it_was_trained(self, whole_clip):
        word, other, here = (
            share_found(whole_clip, "AB"),
            share_found(whole_clip, "BA"),
            EXPERIMENT.is_trained,
        )
        assert word[here].min() >= 0.9
        assert other[here].max() <= 0.1
        assert word[~here].mean() <= 0.7
