"""BC-ResNet as its paper describes it, and the clips that it is trained on."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[2]))
from benchmarks.speech_commands import bc_resnet
from benchmarks.speech_commands.bc_resnet_network import (
    HOP_SAMPLES,
    MELS,
    SUB_BANDS,
    BCResNet,
    BroadcastedBlock,
    LogMelSpectrogram,
    SubSpectralNorm,
)
from benchmarks.speech_commands.classifiers import TrainingData
from kws.training.data.dataset import pack_clips
from kws.training.speech_commands.batches import ClassificationBatches
from kws.training.speech_commands.dataset import CLIP_SAMPLES, SILENCE, UNKNOWN, LabeledClips
from kws.training.speech_commands.protocols import Protocol
from kws.training.speech_commands.unknowns import SpeechClips

SAMPLE_RANGE = 10_000
REACH_FRAMES = 58  # of one output on each side: 2 of the stem, 2 + 4 + 16 + 32, 2 of the head
CLASSES = ("left", "right", UNKNOWN, SILENCE)
NO_DATA = TrainingData(other_speech=[], heldout_speech=[], background=[])


@pytest.fixture
def network() -> BCResNet:
    torch.manual_seed(0)
    return BCResNet(1, 4).eval()


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    rng = np.random.default_rng(0)
    labels = np.arange(12) % 4
    words = ("left", "right", "cat", "")
    clips = LabeledClips(
        rng.integers(-SAMPLE_RANGE, SAMPLE_RANGE, (12, CLIP_SAMPLES)).astype(np.int16),
        labels,
        tuple(f"speaker{i}" for i in range(12)),
        tuple(words[label] for label in labels),
    )
    return Protocol("any", CLASSES, clips, clips, clips, {}, pack_clips([], []), "any")


@pytest.mark.parametrize(
    ("width", "published", "rounding"),
    [
        (1, 9_200, 50),
        (2, 27_300, 50),
        (3, 54_200, 50),
        (6, 188_000, 500),
        (8, 321_000, 500),
    ],
)
def test_parameters_are_as_many_as_published_for_twelve_classes(width, published, rounding):
    assert abs(bc_resnet.count_parameters(BCResNet(width, 12)) - published) < rounding


@pytest.mark.parametrize("width", [1, 3])
def test_shapes_are_those_of_the_paper(width):
    network = BCResNet(width, 10)
    shapes = []
    x = network.stem(torch.randn(2, 1, MELS, 101))
    for block in (nn.Identity(), *network.blocks, network.head):
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [
        (16 * width, 20, 101),
        *[(8 * width, 20, 101)] * 2,
        *[(12 * width, 10, 101)] * 2,
        *[(16 * width, 5, 101)] * 4,
        *[(20 * width, 5, 101)] * 4,
        (32 * width, 1, 101),
    ]
    assert network(torch.randn(2, MELS, 101)).shape == (2, 10)


def test_each_sub_band_is_normalised_by_itself():
    x = torch.randn(6, 3, 20, 50)
    louder = x.clone()
    louder[:, :, 4:8] = 7 * louder[:, :, 4:8] + 3  # the second of five ranges of four bands
    norm = SubSpectralNorm(3)
    output = norm(x)
    ranges = output.unflatten(2, (SUB_BANDS, -1))
    torch.testing.assert_close(ranges.mean((0, 3, 4)), torch.zeros(3, SUB_BANDS))
    torch.testing.assert_close(
        ranges.var((0, 3, 4), correction=0), torch.ones(3, SUB_BANDS), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(norm(louder), output, atol=1e-3, rtol=0)


def silence_branches(block: BroadcastedBlock) -> None:
    nn.init.zeros_(block.frequency[1].norm.weight)
    nn.init.zeros_(block.time[3].weight)


def test_a_block_passes_its_input_on_and_a_transition_does_not():
    x = torch.randn(2, 8, 10, 30)
    normal, transition = BroadcastedBlock(8, 8, 1, 2), BroadcastedBlock(8, 12, 1, 2)
    for block in (normal, transition):
        silence_branches(block)
    torch.testing.assert_close(normal(x), x.relu())
    torch.testing.assert_close(transition(x), torch.zeros(2, 12, 10, 30))


def test_the_branch_along_time_adds_the_same_to_every_band():
    block = BroadcastedBlock(8, 12, 1, 2).eval()
    x = torch.randn(2, 8, 10, 30)
    by_band = block.frequency(block.projection(x))
    nn.init.constant_(block.time[1].bias, 50.0)  # so that nothing is below 0
    nn.init.uniform_(block.time[3].weight, 0.1, 0.2)
    added = block(x) - by_band
    torch.testing.assert_close(added, added[:, :, :1].expand_as(added), atol=1e-3, rtol=1e-4)
    assert added.std(-1).min() > 0


def test_later_energies_give_later_activations(network):
    log_mel, shift = torch.randn(1, MELS, 200), 7
    whole, later = network.features(log_mel), network.features(log_mel[..., shift:])
    inner = slice(REACH_FRAMES, -REACH_FRAMES)
    torch.testing.assert_close(later[..., inner], whole[..., shift:][..., inner])


def test_an_activation_depends_on_so_many_frames(network):
    log_mel = torch.randn(1, MELS, 201, requires_grad=True)
    network.features(log_mel)[..., 100].sum().backward()
    frames = log_mel.grad.abs().sum((0, 1)).nonzero().squeeze(1)
    assert (frames.min(), frames.max()) == (100 - REACH_FRAMES, 100 + REACH_FRAMES)


def test_features_follow_the_audio_in_time_and_level():
    audio = 0.1 * torch.randn(2, CLIP_SAMPLES)
    features = LogMelSpectrogram()
    log_mel, later = features(audio), features(audio.roll(5 * HOP_SAMPLES, 1))
    assert log_mel.shape == (2, MELS, 101)
    torch.testing.assert_close(later[..., 10:-10], log_mel[..., 5:-15], atol=1e-4, rtol=1e-4)
    louder = features(audio * 10)
    torch.testing.assert_close(louder, log_mel + 2 * np.log(10), atol=1e-2, rtol=0)


def test_a_run_sees_the_clips_that_a_classifier_of_kws_sees(protocol):
    config = replace(bc_resnet.make_train_config(epochs=1, seed=3), batch=16)
    ours = ClassificationBatches(
        protocol.train,
        CLASSES,
        protocol.noise,
        SpeechClips(),
        CLIP_SAMPLES + 9_000,
        replace(config, learning_rate=2e-3, weight_decay=0.05),
        lead=1_000,
        phone_ids={"left": [3, 4]},
    )
    theirs = bc_resnet.make_batches(protocol, NO_DATA, config)
    centre = 1_000 + 4_000
    for step in (0, 1, 50):
        one, other = ours[step], theirs[step]
        assert torch.equal(one.clips, other.clips)
        assert torch.equal(one.label, other.label)
        assert torch.equal(one.rate, other.rate)
        torch.testing.assert_close(one.start - centre, other.start, atol=1e-2, rtol=0)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_like_one_that_was_not(protocol, tmp_path, monkeypatch):
    config = replace(bc_resnet.make_train_config(2, seed=1), steps_per_epoch=2, batch=4)

    def train(name: str) -> torch.Tensor:
        run = bc_resnet.Run.begin_or_resume(tmp_path / name, 3, config, protocol, "cpu")
        bc_resnet.train(run, protocol, NO_DATA)
        return torch.cat([each.flatten() for each in run.network.parameters()])

    def save_and_stop(run: bc_resnet.Run) -> None:
        save(run)
        raise KeyboardInterrupt

    save = bc_resnet.Run.save
    with monkeypatch.context() as patch:
        patch.setattr(bc_resnet.Run, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train("stopped.pt")
    assert torch.equal(train("stopped.pt"), train("whole.pt"))
