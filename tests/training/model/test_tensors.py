"""What a network becomes in a model file, torch reads back: the same scores."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from factories import BANDS, make_audio, make_network
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kws.runtime.numpy_network import SIZES
from kws.runtime.verifier import Fusion
from kws.training.model.network import ScanningCNN, Scores, fold_batch_norms
from kws.training.model.pooling import POOLINGS
from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE, shipped_checkpoint
from kws.training.model.tensors import network_from_tensors, network_tensors, verifier_tensors
from kws.training.model.torch_engine import load_network

Tensors = dict[str, np.ndarray]
CONFIGS = st.fixed_dictionaries(
    {
        "words": st.integers(1, 3),
        "mels": st.integers(9, 40),
        "channels": st.integers(3, 40),
        "stem_kernel": st.integers(4, 7),
        "stride": st.integers(1, 3),
        "band_channels": st.sampled_from([0, 3, 8]),
        "kernels": st.lists(st.integers(2, 9), min_size=1, max_size=4).map(tuple),
        "pooling": st.sampled_from([*POOLINGS]),
        "pool_frames": st.integers(2, 8),
        "phones": st.sampled_from(["", "_abc"]),
        "window_samples": st.sampled_from([320, 400]),
        "log_floor": st.sampled_from([1e-7, 1e-4]),
    }
)


def without_prefix(tensors: Tensors) -> Tensors:
    return {name.split(".", 1)[1]: tensor for name, tensor in tensors.items()}


def scores_of(network: ScanningCNN) -> Scores:
    audio = torch.from_numpy(make_audio(1.5, batch=2, seed=3))
    audio = audio[
        :, : audio.shape[1] // network.config.frame_samples * network.config.frame_samples
    ]
    with torch.no_grad():
        scores = network(audio, network.initial_state(2))[0].frames_first()
    return scores._replace(phones=scores.phones.exp())


@settings(deadline=None, max_examples=20, phases=[Phase.generate])
@given(CONFIGS, st.integers(0, 99))
def test_network_read_back_gives_the_same_scores(config: dict, seed: int) -> None:
    network = make_network(seed=seed, **config)
    again = network_from_tensors(without_prefix(network_tensors(network)))
    assert not again.training
    for one, other in zip(scores_of(again), scores_of(fold_batch_norms(network)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=3e-5)


def test_phone_recognizer_read_back_gives_the_same_phones() -> None:
    path = shipped_checkpoint(PHONE_RECOGNIZER_FILE)
    assert path is not None
    recognizer = load_network(path)
    tensors = verifier_tensors(recognizer, [[[1, 2]]], Fusion(3.0, -2.5, -4.0))
    again = network_from_tensors(without_prefix(tensors))
    one, other = (scores_of(each).frames for each in (again, recognizer))
    assert other.std() > 0.01
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_reading_leaves_the_random_numbers_of_training() -> None:
    tensors = without_prefix(network_tensors(make_network()))
    before = torch.get_rng_state()
    network_from_tensors(tensors)
    assert torch.equal(torch.get_rng_state(), before)


def with_size(name: str, value: int) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        sizes = tensors["sizes"].copy()
        sizes[SIZES.index(name)] = value
        return {**tensors, "sizes": sizes}

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(with_size(name, 2**31 - 1) for name in ("channels", "mels", "blocks", "pool_frames")),
        *(with_size(name, -1) for name in ("channels", "hop_samples", "words", "pooling")),
        *(with_size(name, 0) for name in ("channels", "hop_samples", "stride", "mels")),
        with_size("residuals", 2),
        with_size("channels", 13),
        with_size("words", 2),
        lambda t: {name: each for name, each in t.items() if name != "stem.bias"},
        lambda t: {name: each for name, each in t.items() if name != "scalars"},
        lambda t: {**t, "frontend.window": np.arange(400, dtype=np.float32)},
        lambda t: {**t, "frontend.mel": t["frontend.mel"][:-1]},
        lambda t: {**t, "bands.1.weight": t["bands.1.weight"][:, :, 0]},
        lambda t: {**t, "blocks.0.pointwise.weight": t["blocks.0.pointwise.weight"][0]},
        lambda t: {**t, "blocks.0.depthwise.weight": t["blocks.0.depthwise.weight"][0]},
        lambda t: {**t, "sizes": t["sizes"][:-1]},
        lambda t: {},
    ],
)
def test_damaged_tensors_are_refused(change: Callable[[Tensors], Tensors]) -> None:
    tensors = without_prefix(network_tensors(make_network(**BANDS)))
    with pytest.raises((LookupError, ValueError)):
        network_from_tensors(change(tensors))
