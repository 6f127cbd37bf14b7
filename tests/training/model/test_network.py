"""The network: its features against librosa, and one path for whole clips, streams and batches."""

import json

import librosa
import numpy as np
import pytest
import torch
from factories import BANDS, WITH_PHONES, make_audio, make_config, make_network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kws.training.model.frontend import LogMel
from kws.training.model.network import NetworkConfig, Output, ScanningCNN, fold_batch_norms

FRAMES = 60
TOLERANCE = {"rtol": 0, "atol": 1e-5}
# Of a state, which holds activations of any size, here up to 15.
ROUNDING = {"rtol": 32 * torch.finfo(torch.float32).eps, "atol": 1e-5}


def tensor_audio(frames: int = FRAMES, *, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.from_numpy(make_audio(frames * 0.02, batch=batch, seed=seed))


@torch.no_grad()
def streamed(network: ScanningCNN, audio: Tensor, chunk_frames: list[int]) -> tuple[Output, Tensor]:
    """The whole audio in chunks of these numbers of frames; what they leave comes as one
    last chunk."""
    state, outputs, at = network.initial_state(len(audio)), [], 0
    total = audio.shape[1] // network.config.frame_samples
    for frames in [*chunk_frames, total]:
        end = min(at + frames, total)
        if end > at:
            output, state = network(
                audio[:, at * network.config.frame_samples : end * network.config.frame_samples],
                state,
            )
            outputs.append(output)
        at = end
    return Output(*(torch.cat(parts, dim=-1) for parts in zip(*outputs, strict=True))), state


@torch.no_grad()
def of_clip(network: ScanningCNN, audio: Tensor) -> Output:
    return network(audio)[0]


def assert_same(
    actual: Output, expected: Output, frames: slice = slice(None), **tolerance: float
) -> None:
    for name, a, b in zip(Output._fields, actual, expected, strict=True):
        torch.testing.assert_close(
            a,
            b[..., frames],
            **(tolerance or TOLERANCE),
            msg=lambda text, name=name: f"{name}: {text}",
        )


class TestLogMel:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"mels": 40},
            {"mels": 24, "low_hz": 0.0, "high_hz": 8000.0},
            {"mels": 64, "low_hz": 20.0, "high_hz": 7600.0},
        ],
        ids=["12 mels", "40 mels", "whole band", "64 mels"],
    )
    @pytest.mark.filterwarnings("ignore:Empty filters:UserWarning")
    def test_energies_are_those_of_librosa(self, changes):
        config = make_config(**changes)
        audio = np.random.default_rng(0).standard_normal((2, 16_000)).astype(np.float32) * [
            [0.5],
            [0.02],
        ]
        audio += 0.1 * np.sin(2 * np.pi * 1234.5 * np.arange(16_000) / 16_000)
        expected = librosa.feature.melspectrogram(
            y=audio, sr=16_000, n_fft=400, hop_length=160, window="hann", center=False, power=2.0,
            n_mels=config.mels, fmin=config.low_hz, fmax=config.high_hz,
        )  # fmt: skip
        for training in (True, False):  # the fast transform and the folded product
            features = LogMel(config).train(training)
            energies = (
                features(torch.from_numpy(audio).float()).double().exp().numpy() - config.log_floor
            )
            np.testing.assert_allclose(energies, expected, rtol=1e-4, atol=1e-7)

    @pytest.mark.parametrize("gain", [0.25, 2.0, 3.0, 100.0])
    def test_gain_adds_twice_its_logarithm_above_the_floor(self, gain):
        features = LogMel(make_config())
        audio = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
        quiet, loud = features(audio), features(gain * audio)
        above = torch.minimum(quiet, loud) > np.log(1e6 * features.floor)
        assert above.float().mean() > 0.3
        torch.testing.assert_close(
            (loud - quiet)[above],
            torch.full((int(above.sum()),), 2 * np.log(gain)),
            rtol=0,
            atol=1e-5,
        )

    def test_silence_is_the_floor_at_any_gain(self):
        features = LogMel(make_config())
        assert torch.equal(
            features(torch.zeros(1, 1000)), torch.full((1, 12, 4), features.floor).log()
        )

    @pytest.mark.parametrize("hops", [1, 2, 7])
    def test_a_shift_by_hops_shifts_the_frames(self, hops):
        features, audio = LogMel(make_config()), tensor_audio()
        torch.testing.assert_close(
            features(audio[:, hops * 160 :]), features(audio)[..., hops:], **TOLERANCE
        )

    @pytest.mark.parametrize(("samples", "frames"), [(400, 1), (559, 1), (560, 2), (16_000, 98)])
    def test_number_of_frames(self, samples, frames):
        assert LogMel(make_config())(torch.zeros(2, samples)).shape == (2, 12, frames)


class TestStreaming:
    @pytest.mark.parametrize(
        ("seed", "changes"),
        [
            (0, {"pooling": "gem"}),
            (1, {"pooling": "power"}),
            (2, {"pooling": "max"}),
            (0, BANDS),
            (0, WITH_PHONES),
        ],
        ids=str,
    )
    @given(chunks=st.lists(st.integers(1, 25), max_size=30))
    @settings(deadline=None, max_examples=15)
    def test_any_chunking_equals_the_whole(self, seed, changes, chunks):
        network = make_network(2, seed=seed, **changes)
        audio = tensor_audio(batch=2, seed=seed)
        whole, state = streamed(network, audio, [])
        parts, last_state = streamed(network, audio, chunks)
        assert_same(parts, whole)
        torch.testing.assert_close(last_state, state, **ROUNDING)

    def test_frame_by_frame_equals_the_whole_for_the_default_architecture(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = ScanningCNN(NetworkConfig(("word",))).eval()
        audio = tensor_audio(100)
        assert_same(streamed(network, audio, [1] * 100)[0], streamed(network, audio, [])[0])

    @pytest.mark.parametrize("words", [1, 3])
    def test_each_row_of_a_batch_is_scored_as_if_alone(self, words):
        network, audio = make_network(words), tensor_audio(batch=4)
        together, state = streamed(network, audio, [7])
        for row in range(4):
            alone, alone_state = streamed(network, audio[row : row + 1], [7])
            assert_same(Output(*(part[row : row + 1] for part in together)), alone)
            torch.testing.assert_close(state[row : row + 1], alone_state, **TOLERANCE)

    @pytest.mark.parametrize("frames", [1, 10, 100])
    def test_silence_in_front_only_shifts_the_scores(self, frames):
        network, audio = make_network(), tensor_audio()
        expected, _ = streamed(network, audio, [])
        later, _ = streamed(network, torch.cat([torch.zeros(1, frames * 320), audio], dim=1), [])
        assert_same(Output(*(part[..., frames:] for part in later)), expected)
        constant = later.pooled[..., :frames]
        torch.testing.assert_close(constant, constant[..., :1].expand_as(constant), **TOLERANCE)

    def test_silence_is_a_fixed_point(self):
        network = make_network()
        _, state = network(torch.zeros(3, 5 * 320), network.initial_state(3))
        torch.testing.assert_close(state, network.initial_state(3), **TOLERANCE)

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"kernels": (5, 3, 9), "pool_frames": 7, "stem_kernel": 3},
            BANDS,
            {"band_channels": 4, "mels": 13, "stem_kernel": 3},
        ],
        ids=["small", "other sizes", "bands", "an odd number of bands"],
    )
    @pytest.mark.parametrize("later", [0, 5])
    def test_frames_of_a_clip_are_those_of_the_stream_at_the_documented_place(self, changes, later):
        network, audio = make_network(2, **changes), tensor_audio(100)
        expected, _ = streamed(network, audio, [])
        # Of the stream's frames that a clip could give.
        first = -(-network.config.clip_frame_samples // 320) - 1 + later
        start = (first + 1) * 320 - network.config.clip_frame_samples
        assert start >= 0
        assert_same(of_clip(network, audio[:, start:]), expected, slice(first, None))

    @pytest.mark.parametrize(
        "changes",
        [{}, BANDS, {"band_channels": 4, "mels": 13}],
        ids=["small", "bands", "an odd number of bands"],
    )
    def test_size_of_the_state_is_that_of_the_layers_contexts(self, changes):
        network = make_network(3, **changes)
        assert network.initial_state(2).shape == (2, network.state_size)

    @pytest.mark.parametrize("samples", [1, 319, 321, 480])
    def test_a_chunk_that_ends_within_a_frame_is_refused(self, samples):
        network = make_network()
        with pytest.raises(ValueError, match=f"{samples} samples.*no multiple of 320"):
            network(torch.zeros(1, samples), network.initial_state())

    @pytest.mark.parametrize("seconds", [0.2449, 0.245, 0.265, 1.0])
    def test_number_of_frames_of_a_clip(self, seconds):
        network = make_network()
        samples = round(seconds * 16_000)
        frames = (samples - network.config.clip_frame_samples) // 320 + 1
        if frames < 1:
            with pytest.raises(ValueError, match=f"a clip has {samples} samples, fewer than"):
                of_clip(network, torch.zeros(1, samples))
        else:
            assert of_clip(network, torch.zeros(1, samples)).pooled.shape == (1, 1, frames)


class TestFolding:
    @pytest.mark.parametrize("changes", [{}, BANDS], ids=["small", "bands"])
    @pytest.mark.parametrize("seed", range(3))
    def test_folded_network_gives_the_same_scores(self, seed, changes):
        network, audio = make_network(2, seed=seed, **changes), tensor_audio(batch=2, seed=seed)
        folded = fold_batch_norms(network)
        assert_same(of_clip(folded, audio), of_clip(network, audio), rtol=1e-4, atol=1e-4)
        assert_same(
            streamed(folded, audio, [1, 20, 3])[0],
            streamed(network, audio, [])[0],
            rtol=1e-4,
            atol=1e-4,
        )

    @pytest.mark.parametrize("changes", [{}, BANDS], ids=["small", "bands"])
    def test_nothing_is_left_to_fold_and_the_original_is_untouched(self, changes):
        network = make_network(**changes)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        folded = fold_batch_norms(network)
        assert not any(isinstance(module, nn.BatchNorm1d) for module in folded.modules())
        assert before.keys() == network.state_dict().keys()
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())

    def test_batch_norms_matter_to_the_comparison(self):
        network, audio = make_network(), tensor_audio()
        plain = make_network()
        plain.blocks[0].depthwise.norm.reset_running_stats()
        assert (of_clip(network, audio).logits - of_clip(plain, audio).logits).abs().max() > 0.01


class TestReceptiveField:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"kernels": (7, 3)},
            {"stem_kernel": 3, "kernels": (3,), "pool_frames": 2},
            {"band_channels": 8},
        ],
        ids=["small", "long kernels", "short", "bands"],
    )
    @pytest.mark.parametrize("frame", [0, 2])
    def test_a_score_depends_on_exactly_the_samples_it_should(self, changes, frame):
        network = make_network(channels=32, **changes)
        config = network.config
        audio = torch.randn(
            1, 80 * 320, generator=torch.Generator().manual_seed(0)
        ).requires_grad_()
        output, _ = network(audio)
        end = config.clip_frame_samples + frame * config.frame_samples
        # The first sample of a window weighs nothing: there the Hann window is 0.
        assert support(output.logits[..., frame], audio) == (
            end - config.receptive_field_samples + 1,
            end - 1,
        )
        assert support(output.boundaries[..., frame], audio) == (
            end - config.receptive_field_samples + 1,
            end - 1,
        )
        assert support(output.pooled[..., frame], audio) == (
            end - config.clip_frame_samples + 1,
            end - 1,
        )

    @pytest.mark.parametrize(
        ("offset", "changes"),
        [(-1, False), (1, True), (-2 + 2960, True), (2960, False)],
        ids=["before", "first", "last", "after"],
    )
    def test_a_changed_sample_changes_the_score_only_from_inside(self, offset, changes):
        network, audio = make_network(channels=32), tensor_audio(80)
        assert network.config.receptive_field_samples == 2960
        first = network.config.clip_frame_samples - 2960
        changed = audio.clone()
        changed[:, first + offset] += 100.0
        same = torch.equal(
            of_clip(network, changed).logits[..., 0], of_clip(network, audio).logits[..., 0]
        )
        assert same is not changes


def support(score: Tensor, audio: Tensor) -> tuple[int, int]:
    """First and last sample that the score depends on."""
    (gradient,) = torch.autograd.grad(score.sum(), audio, retain_graph=True)
    indices = gradient[0].nonzero()
    return int(indices[0]), int(indices[-1])


class TestConfig:
    @pytest.mark.parametrize(
        "config",
        [
            NetworkConfig(("welcome",)),
            make_config(3, pooling="power"),
            make_config(kernels=(3,), low_hz=100.0, stride=4),
            make_config(**BANDS),
        ],
        ids=["default", "three words", "other", "bands"],
    )
    def test_survives_json(self, config):
        assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config

    def test_words_are_rare_at_first(self):
        network = ScanningCNN(make_config(3)).eval()
        assert of_clip(network, tensor_audio()).logits.sigmoid().median() < 0.2

    def test_output_shapes(self):
        output, state = streamed(make_network(3), tensor_audio(20, batch=2), [])
        assert [tuple(part.shape) for part in output] == [
            (2, 3, 20),
            (2, 3, 20),
            (2, 3, 2, 20),
            (2, 0, 20),
        ]
        assert state.shape[0] == 2
