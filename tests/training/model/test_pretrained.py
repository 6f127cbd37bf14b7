"""A new network on the layers of another."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from factories import make_audio, make_config, make_document, make_network

from kws.errors import DataError, ModelError
from kws.runtime import verifier
from kws.runtime.ctc import compute_ctc_llr
from kws.training.model import checkpoint, pretrained
from kws.training.model.export import export
from kws.training.model.network import SIZES, NetworkConfig
from kws.training.model.phone_set import PHONES
from kws.training.model.pretrained import init_from_pretrained
from kws.training.model.torch_engine import load_network

RECORDINGS = Path(__file__).parents[3] / "recordings"


@pytest.fixture
def trained(tmp_path):
    network = make_network(3)
    path = tmp_path / "trained.pt"
    checkpoint.save(
        {"network_config": network.config.to_dict(), "ema_network": network.state_dict()}, path
    )
    return network, path


def features(network, audio):
    """The input of the head."""
    inputs = []
    handle = network.head.register_forward_hook(
        lambda module, arguments, output: inputs.append(arguments[0])
    )
    with torch.no_grad():
        network(audio)
    handle.remove()
    return inputs[0]


def test_layers_are_taken_over_and_the_head_is_new(trained):
    source, path = trained
    config = make_config(1, pool_frames=6, pooling="max")
    network, same, other = (init_from_pretrained(config, path, seed=seed) for seed in (0, 0, 1))
    audio = torch.from_numpy(make_audio(2.0))
    torch.testing.assert_close(features(network.eval(), audio), features(source, audio))
    assert network.head.weight.shape[0] == 3
    assert torch.equal(network.head.weight, same.head.weight)
    assert not torch.equal(network.head.weight, other.head.weight)


def test_the_global_random_state_is_left_alone(trained):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    init_from_pretrained(make_config(1), trained[1], seed=0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 16},
        {"kernels": (3, 7)},
        {"kernels": (3,)},
        {"kernels": (3, 5, 3)},
        {"mels": 16},
    ],
    ids=str,
)
def test_another_size_is_refused(trained, changes):
    with pytest.raises(DataError, match="another size"):
        init_from_pretrained(make_config(1, **changes), trained[1], seed=0)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "not.pt").write_text("hello")
    with pytest.raises(ModelError):
        init_from_pretrained(make_config(1), tmp_path / "not.pt", seed=0)


@pytest.mark.parametrize(
    ("requested", "size", "from_text", "expected"),
    [
        (None, "small", True, "encoder.pt"),
        (None, "small", False, "encoder_conv2d.pt"),
        (None, "large", False, None),
        ("none", "small", False, None),
        ("own/other.pt", "large", True, "other.pt"),
    ],
    ids=["from text", "recorded", "shipped fits small only", "none", "own"],
)
def test_the_checkpoint_that_training_starts_from(requested, size, from_text, expected):
    path = pretrained.resolve_checkpoint(requested, size, from_text=from_text)
    assert (path and path.name) == expected


@pytest.mark.parametrize("name", [pretrained.ENCODER_FILE, pretrained.ENCODER_CONV2D_FILE])
def test_a_shipped_encoder_fits_small_networks(name):
    path = pretrained.shipped_checkpoint(name)
    config = NetworkConfig(
        ("word",), band_channels=pretrained.band_channels(path), **SIZES["small"]
    )
    assert init_from_pretrained(config, path, seed=0).config == config


def test_shipped_checkpoints_name_their_sources():
    encoders = [
        pretrained.model_card(pretrained.shipped_checkpoint(name))["encoder"]["sources"]
        for name in (pretrained.ENCODER_FILE, pretrained.ENCODER_CONV2D_FILE)
    ]
    for sources in (*encoders, pretrained.load_verifier({"word": ["wɜɹd"]}).sources):
        assert sources
        assert all(source["name"] and source["licence"] for source in sources)


def test_verifier_leaves_out_what_nobody_says_in_its_two_seconds(tmp_path):
    longest, too_long = PHONES[0] * 64, PHONES[0] * 65
    spec = pretrained.load_verifier({"word0": [longest, too_long, ""]})
    assert spec.pronunciations == {"word0": (longest,)}
    network = make_network()
    export(network, make_document(network), tmp_path / "model.kws", spec)  # the kernel opens it


@pytest.mark.parametrize("name", ["early.wav", "late.wav", "twice.wav", "noise.wav"])
def test_the_shipped_phone_recogniser_recognises_the_word(name):
    """The word is likelier than phrases that are not in the recordings."""
    network = load_network(pretrained.shipped_checkpoint(pretrained.PHONE_RECOGNIZER_FILE)).eval()
    audio, rate = soundfile.read(RECORDINGS / name, dtype="float32")
    with torch.no_grad():
        logits = network(torch.from_numpy(np.pad(audio, (2 * rate, rate)))[None])[0].logits[0]
    phones = logits.log_softmax(0).T.numpy()
    welcome, *others = (
        compute_ctc_llr(
            phones,
            [PHONES.index(phone) + 1 for phone in word],
            verifier.CONTEXT_FRAMES,
            verifier.END_TOLERANCE_FRAMES,
        ).max()
        for word in ("wɛlkəm", "snObY", "vjuɡlæs", "smɑɹtmɪɹəɹ")
    )
    assert welcome > pretrained.DEFAULT_FUSION.ceiling
    assert welcome > max(others) + 1
