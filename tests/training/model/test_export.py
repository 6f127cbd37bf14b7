"""The model file gives torch's scores, whole, in chunks and in batches; one that would not is never
left behind."""

from pathlib import Path

import numpy as np
import pytest
import torch
from factories import BANDS, WITH_PHONES, make_audio, make_document, make_model, make_network
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.errors import ModelError
from kws.runtime.engine import Engine, EngineState, StepOutput
from kws.training.model.export import TOLERANCE, check_against_torch, export
from kws.training.model.network import ScanningCNN
from kws.training.model.pooling import POOLINGS


def run(
    engine: Engine, audio: np.ndarray, chunk_samples: list[int]
) -> tuple[StepOutput, EngineState]:
    """All of audio [B, N] in chunks of these lengths and a last one of the rest."""
    state, steps = engine.initial_state(len(audio)), []
    for part in np.split(
        audio, np.minimum(np.cumsum(chunk_samples, dtype=int), audio.shape[1]), axis=1
    ):
        step, state = engine.step(part, state)
        steps.append(step)
    return StepOutput(*(np.concatenate(parts, axis=1) for parts in zip(*steps, strict=True))), state


def assert_same(actual: StepOutput, expected: StepOutput, tolerance: float = 1e-5) -> None:
    for name, a, b in zip(StepOutput._fields, actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Engine:
    return Engine.load(str(make_model(tmp_path_factory.mktemp("models"), make_network(2))))


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (1, {}),
        *((3, {"pooling": name}) for name in POOLINGS),
        *((3, changes) for changes in (BANDS, {**BANDS, "mels": 13}, WITH_PHONES)),
    ],
    ids=str,
)
def test_model_file_equals_torch(words, changes, tmp_path):
    network = make_network(words, **changes)
    path = make_model(tmp_path, network)
    assert check_against_torch(network, path) <= TOLERANCE
    audio = make_audio(2.0, batch=2, seed=5)
    with torch.no_grad():
        output, _ = network(torch.from_numpy(audio), network.initial_state(2))
    parts = (
        output.pooled.exp().mT,
        output.logits.sigmoid().mT,
        output.boundaries.permute(0, 3, 1, 2),
        output.phones.log_softmax(1).mT,
    )
    expected = StepOutput(*(part.numpy() for part in parts))
    engine = Engine.load(str(path))
    assert expected.pooled.std() > 0.01  # there is something to compare
    assert_same(engine.step(audio, engine.initial_state(2))[0], expected, 1e-4)
    whole, last = run(engine, audio, [])
    parts, last_of_parts = run(engine, audio, [1, 0, 319, 320, 321, 0, 1, 1, 1281, 4000, 77] * 2)
    assert_same(parts, whole)
    np.testing.assert_allclose(last_of_parts.network_state, last.network_state, rtol=0, atol=1e-5)


@given(
    chunks=st.lists(st.one_of(st.integers(0, 3), st.integers(0, 6000)), max_size=30),
    samples=st.integers(0, 16_000),
)
@settings(deadline=None, max_examples=40)
def test_any_chunking_equals_the_whole(engine, chunks, samples):
    audio = make_audio(1.0, seed=1)[:, :samples]
    whole, _ = run(engine, audio, [])
    assert whole.pooled.shape == (1, samples // 320, 2)
    parts, state = run(engine, audio, chunks)
    assert_same(parts, whole)
    assert np.array_equal(state.pending_samples, audio[:, samples - samples % 320 :])


def test_sample_by_sample_equals_the_whole(engine):
    audio = make_audio(0.1, seed=2)
    assert_same(run(engine, audio, [1] * 1600)[0], run(engine, audio, [])[0])


def test_streams_stepped_as_a_batch_equal_single_streams(engine):
    audio = make_audio(1.0, batch=5, seed=3)
    together, state = run(engine, audio, [1000, 7, 5000])
    for row in range(5):
        alone, alone_state = run(engine, audio[row : row + 1], [9000])
        assert_same(StepOutput(*(part[row : row + 1] for part in together)), alone)
        np.testing.assert_allclose(
            state.network_state[row : row + 1], alone_state.network_state, rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("batch", [1, 3])
def test_samples_short_of_a_frame_wait(engine, batch):
    step, state = engine.step(np.ones((batch, 319), np.float32), engine.initial_state(batch))
    assert [part.shape for part in step] == [
        (batch, 0, 2),
        (batch, 0, 2),
        (batch, 0, 2, 2),
        (batch, 0, 0),
    ]
    assert state.pending_samples.shape == (batch, 319)
    step, state = engine.step(np.ones((batch, 1), np.float32), state)
    assert [part.shape for part in step] == [
        (batch, 1, 2),
        (batch, 1, 2),
        (batch, 1, 2, 2),
        (batch, 1, 0),
    ]
    assert state.pending_samples.shape == (batch, 0)


def test_a_step_leaves_the_state_it_began_from(engine):
    before = engine.initial_state()
    network_state = before.network_state.copy()
    first, _ = engine.step(make_audio(0.5), before)
    assert np.array_equal(before.network_state, network_state)
    assert_same(engine.step(make_audio(0.5), before)[0], first, 0)


def test_silence_is_what_endless_zeros_leave(engine):
    _, state = engine.step(np.zeros((1, 320 * 40), np.float32), engine.initial_state())
    np.testing.assert_allclose(
        state.network_state, engine.initial_state().network_state, rtol=0, atol=1e-5
    )


def test_model_file_carries_its_document(tmp_path):
    network = make_network(3)
    document = {**make_document(network, 0.75), "notes": "ünïcode", "sources": [{"licence": "CC0"}]}
    export(network, document, tmp_path / "deep" / "folder" / "model.onnx")
    info = Engine.load(str(tmp_path / "deep" / "folder" / "model.onnx")).info
    assert info.document == {**document, "events": {**document["events"], "threshold": [0.75] * 3}}
    assert info.words == ("word0", "word1", "word2")
    assert info.events.threshold == (0.75,) * 3
    assert info.frame_seconds == 0.02


def test_the_exporter_is_quiet(tmp_path, capfd):
    make_model(tmp_path, make_network(channels=13))  # an architecture that no other test exports
    assert capfd.readouterr() == ("", "")


def test_export_leaves_the_network_as_it_was(tmp_path):
    network = make_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    make_model(tmp_path, network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@torch.no_grad()
def scale_boundaries(network: ScanningCNN) -> None:
    """Seconds in the hundred thousands, which single precision does not resolve to 1e-4."""
    network.head.weight[1:] *= 1e6


@torch.no_grad()
def break_boundaries(network: ScanningCNN) -> None:
    network.head.weight[1] = float("nan")


@torch.no_grad()
def break_logits(network: ScanningCNN) -> None:
    network.head.bias[0] = float("nan")


@pytest.mark.parametrize(
    "spoil",
    [scale_boundaries, break_boundaries, break_logits],
    ids=["beyond precision", "NaN boundaries", "NaN logits"],
)
@pytest.mark.parametrize("earlier", [False, True], ids=["new", "over an earlier model"])
def test_graph_that_differs_is_refused(spoil, earlier, tmp_path):
    path, network = tmp_path / "model.onnx", make_network()
    if earlier:
        make_model(tmp_path, network)
    content = path.read_bytes() if earlier else None
    spoil(network)
    with pytest.raises(ModelError, match="differs from torch"):
        export(network, make_document(network), path)
    assert [each.name for each in tmp_path.iterdir()] == (["model.onnx"] if earlier else [])
    assert content is None or path.read_bytes() == content


@pytest.mark.parametrize(
    "name",
    [
        "input_norm.running_mean",
        "stem.conv.weight",
        "blocks.0.depthwise.norm.weight",
        "blocks.1.pointwise.conv.weight",
        "head.bias",
        "pooling.free",
        "bands.downsampling.0.conv.weight",
        "bands.downsampling.1.norm.bias",
        "bands.residual.2.norm.running_var",
    ],
)
def test_check_sees_a_change_in_any_layer(name, tmp_path):
    network = make_network(**BANDS if name.startswith("bands.") else {})
    path = make_model(tmp_path, network)
    with torch.no_grad():
        network.state_dict()[name].view(-1)[0] += 0.3
    with pytest.raises(ModelError, match="differs from torch"):
        check_against_torch(network, path)


@pytest.mark.parametrize(
    "place",
    ["file/model.onnx", "file/deep/model.onnx", "folder.onnx"],
    ids=["under a file", "far under a file", "onto a folder"],
)
def test_place_that_cannot_be_written(place, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder.onnx").mkdir()
    path: Path = tmp_path / place
    with pytest.raises(
        ModelError, match=r"model\.onnx: cannot be written|folder\.onnx: cannot be written"
    ):
        make_model(path.parent, make_network(), path.stem)
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["file", "folder.onnx"]
