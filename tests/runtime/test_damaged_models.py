"""Damaged and hostile model files: each is refused with one clear line, by the kernel and by
NumPy."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from factories import BANDS, WITH_PHONES, make_audio, make_model, make_network, make_verifier

from kws import Spotter
from kws.errors import ModelError
from kws.runtime.engine import Engine
from kws.runtime.model_file import FORMAT, METADATA_KEY
from kws.runtime.numpy_network import SIZES
from kws.runtime.tensors import TensorFile, pack_tensors, unpack_tensors


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a verifier."""
    verifier = make_verifier({"word0": ("an", "na")}, "_an", **BANDS)
    folder, network = tmp_path_factory.mktemp("models"), make_network(**BANDS, **WITH_PHONES)
    return make_model(folder, network, verifier=verifier)


def refuse(path: Path, message: str) -> None:
    """Whether the file is refused with one clear line."""
    with pytest.raises(ModelError) as caught:
        Engine.load(path)
    text = str(caught.value)
    assert re.match(f"{re.escape(str(path))}: .*{message}", text), text
    assert "\n" not in text and re.search("rain it again|made by 'kws train'", text), text


def repack(header: object, body: bytes) -> bytes:
    """A file with this header and a right checksum, which takes the place of the old one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + body[:-4]
    return data + struct.pack("<I", crc32(data))


def split(data: bytes) -> tuple[dict, bytes]:
    """Header and body of a file."""
    (size,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def test_a_repacked_file_is_sound(runner: str, model: Path, tmp_path: Path) -> None:
    """What the tests below change is all that is wrong with their files."""
    path = tmp_path / "again.kws"
    path.write_bytes(repack(*split(model.read_bytes())))
    audio = make_audio(1.0)[0]
    expected = Engine.load(model).open_stream().step(audio)
    for values, others in zip(Engine.load(path).open_stream().step(audio), expected, strict=True):
        np.testing.assert_array_equal(values, others)


DAMAGED = "not a model file of kws, or a damaged one"
BAD_BYTES = {
    "text": lambda data: b"this is not a model",
    "long text": lambda data: b"this is not a model. " * 1000,
    "empty": lambda data: b"",
    "one byte": lambda data: b"\0",
    "zeros": lambda data: bytes(5000),
    "header alone": lambda data: data[: 8 + struct.unpack_from("<Q", data)[0]],
    "cut off in the length": lambda data: data[:5],
    "cut off in the header": lambda data: data[:100],
    "cut off in the weights": lambda data: data[: len(data) // 2],
    "cut off at the end": lambda data: data[:-1],
    "header too long": lambda data: struct.pack("<Q", 2**40) + data[8:],
    "header of the greatest length": lambda data: b"\xff" * 8 + data[8:],
    "header too short": lambda data: struct.pack("<Q", 50) + data[8:],
    "header is no JSON": lambda data: repack(b"{words: 1}", bytes(4)),
    "header is no text": lambda data: repack(b"\xff\xfe\x00\x01", bytes(4)),
    "header is nested deeply": lambda data: repack(b"[" * 100_000, bytes(4)),
    "header is a list": lambda data: repack([1, 2], bytes(4)),
    "header is a number": lambda data: repack(7, bytes(4)),
    "checksum wrong": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "a weight changed": lambda data: data[:-400] + bytes([data[-400] ^ 1]) + data[-399:],
    "something behind it": lambda data: data + b"more",
    "two files": lambda data: data + data,
}


@pytest.mark.parametrize("change", BAD_BYTES.values(), ids=list(BAD_BYTES))
def test_damaged_bytes_are_refused(runner: str, model: Path, tmp_path: Path, change) -> None:
    path = tmp_path / "bad.kws"
    path.write_bytes(change(model.read_bytes()))
    refuse(path, DAMAGED)


def test_an_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.onnx").write_bytes(b"\x08\x09")
    refuse(tmp_path / "old.onnx", r"an ONNX file; this kws reads \.kws files")
    (tmp_path / "renamed.kws").write_bytes(b"\x08\x09" * 100)
    refuse(tmp_path / "renamed.kws", DAMAGED)


BIAS = "network.head.bias"
BAD_HEADERS = {
    "no checksum": (lambda h: h.pop("checksum"), DAMAGED),
    "metadata is a list": (lambda h: h.update(__metadata__=["kws"]), DAMAGED),
    "metadata is nested": (lambda h: h.update(__metadata__={"kws": {"format": 6}}), DAMAGED),
    "tensor is a number": (lambda h: h.update({BIAS: 7}), DAMAGED),
    "tensor is nothing": (lambda h: h.update({BIAS: None}), DAMAGED),
    "tensor is empty": (lambda h: h.update({BIAS: {}}), DAMAGED),
    "unknown type": (lambda h: h[BIAS].update(dtype="F128"), DAMAGED),
    "type is a list": (lambda h: h[BIAS].update(dtype=["F32"]), DAMAGED),
    "no type": (lambda h: h[BIAS].pop("dtype"), DAMAGED),
    "no shape": (lambda h: h[BIAS].pop("shape"), DAMAGED),
    "shape is text": (lambda h: h[BIAS].update(shape="3"), DAMAGED),
    "shape is nested": (lambda h: h[BIAS].update(shape=[[3]]), DAMAGED),
    "shape of another length": (lambda h: h[BIAS].update(shape=[4]), DAMAGED),
    "shape is astronomic": (lambda h: h[BIAS].update(shape=[10**30]), DAMAGED),
    "shape is a fraction": (lambda h: h[BIAS].update(shape=[3.0]), DAMAGED),
    "no place": (lambda h: h[BIAS].pop("data_offsets"), DAMAGED),
    "place behind the end": (lambda h: h[BIAS].update(data_offsets=[10**9, 10**9 + 12]), DAMAGED),
    "place is astronomic": (lambda h: h[BIAS].update(data_offsets=[10**30, 10**30]), DAMAGED),
    "place from end to start": (lambda h: h[BIAS].update(data_offsets=[12, 0]), DAMAGED),
    "place is text": (lambda h: h[BIAS].update(data_offsets="ab"), DAMAGED),
    "place of three numbers": (lambda h: h[BIAS].update(data_offsets=[0, 6, 12]), DAMAGED),
    "no document": (lambda h: h.pop("__metadata__"), "a file of another program"),
    "another document": (lambda h: h.update(__metadata__={"stride": "32"}), "another program"),
}


@pytest.mark.parametrize(("change", "message"), BAD_HEADERS.values(), ids=list(BAD_HEADERS))
def test_hostile_headers_are_refused(
    runner: str, model: Path, tmp_path: Path, change, message: str
) -> None:
    header, body = split(model.read_bytes())
    change(header)
    path = tmp_path / "bad.kws"
    path.write_bytes(repack(header, body))
    refuse(path, message)


def test_tensors_that_nobody_asked_for_are_passed_over(
    runner: str, model: Path, tmp_path: Path
) -> None:
    content = unpack_tensors(model.read_bytes(), model)
    tensors = {**content.tensors, "network.extra": np.zeros((2, 2), np.float32)}
    (tmp_path / "more.kws").write_bytes(pack_tensors(tensors, content.metadata))
    assert Engine.load(tmp_path / "more.kws").info.words == ("word0",)


@pytest.fixture(scope="module")
def content(model: Path) -> TensorFile:
    return unpack_tensors(model.read_bytes(), model)


def check_tensors(
    folder: Path, content: TensorFile, tensors: dict[str, np.ndarray], message: str = ""
) -> None:
    """Whether a file with these tensors is refused."""
    path = folder / "bad.kws"
    path.write_bytes(pack_tensors(tensors, content.metadata))
    refuse(path, message)


# Any tensor may be changed so.
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shorter": lambda tensor: tensor[:-1],
    "longer": lambda tensor: np.concatenate([tensor, tensor]),
    "empty": lambda tensor: tensor[:0],
    "with one more dimension": lambda tensor: tensor[None],
    "a single number": lambda tensor: tensor.ravel()[0],
    "of another type": lambda tensor: tensor.astype(
        np.float32 if tensor.dtype == np.int32 else np.int32
    ),
    "of bytes without their step": lambda tensor: tensor.astype(np.int8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_no_tensor_may_be_changed(
    runner: str, content: TensorFile, tmp_path: Path, change: Callable
) -> None:
    for name, tensor in content.tensors.items():
        check_tensors(tmp_path, content, {**content.tensors, name: change(tensor)})


def test_no_tensor_may_be_missing(runner: str, content: TensorFile, tmp_path: Path) -> None:
    for name in content.tensors:
        others = {each: content.tensors[each] for each in content.tensors if each != name}
        check_tensors(tmp_path, content, others)


@pytest.mark.slow
def test_torch_refuses_what_the_others_refuse(content: TensorFile, tmp_path: Path) -> None:
    path = tmp_path / "bad.kws"
    for name, tensor in content.tensors.items():
        for new in ({}, {name: tensor[:-1]}, {name: tensor[None]}):
            others = {each: content.tensors[each] for each in content.tensors if each != name}
            path.write_bytes(pack_tensors({**others, **new}, content.metadata))
            with pytest.raises(ModelError, match=r"bad\.kws: .* damaged\. Copy or train it again"):
                Engine.load(path, "auto")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_weight_may_be_infinite_or_no_number(
    runner: str, content: TensorFile, tmp_path: Path, bad: float
) -> None:
    for name, tensor in content.tensors.items():
        if tensor.dtype == np.float32:
            damaged = tensor.copy()
            damaged.flat[-1] = bad
            check_tensors(tmp_path, content, {**content.tensors, name: damaged})


@pytest.mark.parametrize("part", ["network", "verifier"])
@pytest.mark.parametrize("value", [-1, 10**9, 2**31 - 1, -(2**31), None], ids=str)
def test_no_size_may_be_another(
    runner: str, content: TensorFile, tmp_path: Path, part: str, value: int | None
) -> None:
    """value: None stands for one more, which of some sizes is another sound network."""
    sizes = content.tensors[f"{part}.sizes"]
    others = ("pool_frames", "pooling") if value is None else ()
    unread = ("words",) if part == "verifier" and (value is None or value > 0) else ()
    for number, name in enumerate(SIZES):
        if name not in (*others, *unread):
            changed = sizes.copy()
            changed[number] = sizes[number] + 1 if value is None else value
            check_tensors(tmp_path, content, {**content.tensors, f"{part}.sizes": changed})


@pytest.mark.parametrize("scalars", [(0.0, 1.0), (-1e-7, 1.0), (1e-7, 0.0), (1e-7, -2.0)])
def test_a_floor_or_an_exponent_is_above_zero(
    runner: str, content: TensorFile, tmp_path: Path, scalars: tuple[float, float]
) -> None:
    for part in ("network", "verifier"):
        new = {f"{part}.scalars": np.array(scalars, np.float32)}
        check_tensors(tmp_path, content, {**content.tensors, **new})


BAD_VERIFIERS = {
    "a phone that the recognizer lacks": {"phone_numbers": [1, 2, 2, 3]},
    "a negative phone": {"phone_numbers": [1, 2, 2, -1]},
    "pronunciations that overlap": {"first_phone": [0, 3, 2]},
    "a pronunciation without phones": {"first_phone": [0, 0, 4]},
    "phones that belong to none": {"first_phone": [0, 2, 3]},
    "phones from before the first": {"first_phone": [1, 2, 4]},
    "phones from behind the last": {"first_phone": [0, 2, 99]},
    "words that overlap": {"first_pronunciation": [2, 0]},
    "pronunciations that belong to none": {"first_pronunciation": [0, 1]},
    "pronunciations from behind the last": {"first_pronunciation": [0, 3]},
    "a negative scale": {"fusion": [-1.0, -2.0, -3.0]},
    "a floor above the ceiling": {"fusion": [1.0, -3.0, -2.0]},
}


@pytest.mark.parametrize("changes", BAD_VERIFIERS.values(), ids=list(BAD_VERIFIERS))
def test_damaged_verifiers_are_refused(
    runner: str, content: TensorFile, tmp_path: Path, changes: dict[str, list]
) -> None:
    assert content.tensors["verifier.phone_numbers"].tolist() == [1, 2, 2, 1]
    assert content.tensors["verifier.first_phone"].tolist() == [0, 2, 4]
    assert content.tensors["verifier.first_pronunciation"].tolist() == [0, 2]
    new = {
        f"verifier.{name}": np.array(values, content.tensors[f"verifier.{name}"].dtype)
        for name, values in changes.items()
    }
    check_tensors(tmp_path, content, {**content.tensors, **new}, "verifier")


@pytest.mark.parametrize("words", [0, 2])
def test_a_verifier_of_other_words_is_refused(
    runner: str, content: TensorFile, tmp_path: Path, words: int
) -> None:
    starts = np.array([0, *[2] * words], np.int32)
    check_tensors(
        tmp_path, content, {**content.tensors, "verifier.first_pronunciation": starts}, "verifier"
    )


# Smaller weights


def smaller(tensors: dict[str, np.ndarray], kind: type) -> dict[str, np.ndarray]:
    """The tensors with weights of this type."""
    weights = {name: each for name, each in tensors.items() if name.endswith(".weight")}
    if kind is np.float16:
        return {**tensors, **{name: each.astype(np.float16) for name, each in weights.items()}}
    changed = dict(tensors)
    for name, weight in weights.items():
        steps = np.abs(weight.reshape(len(weight), -1)).max(axis=1) / 127 + np.float32(1e-9)
        rows = steps.reshape(-1, *[1] * (weight.ndim - 1))
        changed[name], changed[f"{name}.step"] = np.round(weight / rows).astype(np.int8), steps
    return changed


@pytest.mark.parametrize("kind", [np.float16, np.int8])
def test_smaller_weights_are_read(
    runner: str, model: Path, content: TensorFile, tmp_path: Path, kind: type
) -> None:
    path = tmp_path / "small.kws"
    path.write_bytes(pack_tensors(smaller(content.tensors, kind), content.metadata))
    audio = make_audio(2.0)[0]
    output = Engine.load(path).open_stream((0.0,)).step(audio)
    expected = Engine.load(model).open_stream((0.0,)).step(audio)
    assert path.stat().st_size < model.stat().st_size
    assert 1e-6 < np.abs(output.pooled - expected.pooled).max() < 0.2
    assert 1e-6 < np.abs(output.boundaries - expected.boundaries).mean() < 0.02


STEP = "network.stem.weight.step"
BAD_STEPS = {
    "missing": lambda steps: {},
    "too few": lambda steps: {STEP: steps[:-1]},
    "too many": lambda steps: {STEP: np.tile(steps, 1000)},
    "in a column": lambda steps: {STEP: steps[:, None]},
    "a single one": lambda steps: {STEP: steps[:1]},
    "of 16 bits": lambda steps: {STEP: steps.astype(np.float16)},
    "of 8 bits": lambda steps: {STEP: steps.astype(np.int8)},
    "no number": lambda steps: {STEP: steps * np.float32(np.nan)},
    "infinite": lambda steps: {STEP: steps + np.float32(np.inf)},
}


@pytest.mark.parametrize("change", BAD_STEPS.values(), ids=list(BAD_STEPS))
def test_damaged_steps_are_refused(
    runner: str, content: TensorFile, tmp_path: Path, change: Callable
) -> None:
    tensors = smaller(content.tensors, np.int8)
    steps = tensors.pop(STEP)
    check_tensors(tmp_path, content, {**tensors, **change(steps)})


def test_weights_so_large_that_scores_are_no_numbers_find_nothing(
    runner: str, content: TensorFile, tmp_path: Path
) -> None:
    path, large = tmp_path / "large.kws", {}
    for name, tensor in content.tensors.items():
        is_weight = name.startswith("network.blocks") and name.endswith(".weight")
        large[name] = np.full_like(tensor, 3e38) if is_weight else tensor
    path.write_bytes(pack_tensors(large, content.metadata))
    with np.errstate(all="ignore"):
        spotter = Spotter.load(path)
        assert np.isnan(spotter.scores(make_audio(1.0)[0]).pooled).any()
        assert list(spotter.detect(make_audio(1.0)[0])) == []


def test_an_infinite_half_is_refused(runner: str, content: TensorFile, tmp_path: Path) -> None:
    tensors = smaller(content.tensors, np.float16)
    tensors["network.stem.weight"][0, 0, 0] = np.inf
    check_tensors(tmp_path, content, tensors)


# The document

DESCRIPTION = "its description is damaged"
SETTINGS = "its event settings are unknown to this kws"
OTHER_NETWORK = "its network does not match its description"
BAD_TEXTS = {
    "no JSON": ("{words:", DESCRIPTION),
    "empty": ("", DESCRIPTION),
    "no format": ("{}", DESCRIPTION),
    "a list": ("[1]", DESCRIPTION),
    "text": ('"kws"', DESCRIPTION),
    "nothing": ("null", DESCRIPTION),
    "nested deeply": ("[" * 100_000, DESCRIPTION),
    "newer": (json.dumps({"format": FORMAT + 1}), f"format {FORMAT + 1}, this kws reads"),
    "older": (json.dumps({"format": 5}), f"model format 5, this kws reads format {FORMAT}"),
    "of lines": (json.dumps({"format": "6\n" * 99}), r"model format '6\\n"),
    "of a list": (json.dumps({"format": [6]}), r"model format \[6\]"),
    "of infinity": ('{"format": Infinity}', "model format inf"),
    "format alone": (json.dumps({"format": FORMAT}), "its description lacks words, sample_rate"),
}


@pytest.mark.parametrize(("text", "message"), BAD_TEXTS.values(), ids=list(BAD_TEXTS))
def test_what_is_no_document_is_refused(
    content: TensorFile, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "bad.kws"
    path.write_bytes(pack_tensors(content.tensors, {METADATA_KEY: text}))
    refuse(path, message)


BAD_DOCUMENTS = {
    "an unknown setting": (lambda d: d["events"].update(patience=3), SETTINGS),
    "no threshold": (lambda d: d["events"].pop("threshold"), SETTINGS),
    "settings are a list": (lambda d: d.update(events=[0.5]), SETTINGS),
    "settings are nothing": (lambda d: d.update(events=None), SETTINGS),
    "a threshold for all": (lambda d: d["events"].update(threshold=0.5), SETTINGS),
    "a word without a threshold": (lambda d: d["words"].append("x"), "1 thresholds for 2 words"),
    "no threshold for a word": (
        lambda d: d["events"].update(threshold=[]),
        "0 thresholds for 1 words",
    ),
    "a word that the network lacks": (
        lambda d: (d["words"].append("x"), d["events"]["threshold"].append(0.5)),
        OTHER_NETWORK,
    ),
    "frames of another length": (lambda d: d.update(frame_samples=160), OTHER_NETWORK),
    "other phones": (lambda d: d.update(phones="_ab"), OTHER_NETWORK),
    "no phones": (lambda d: d.pop("phones"), OTHER_NETWORK),
    **{
        f"{key} is {value!r}": (lambda d, key=key, value=value: d.update({key: value}), DESCRIPTION)
        for key, values in {
            "words": ("word0", 1, None, [1], [None], {"word0": 1}, []),
            "sample_rate": (8000, "16000", None, 0, -16_000, [16_000], float("nan")),
            "frame_samples": (0, -320, "320", None, 320.5, 10**30, [320]),
            "context_samples": (0, -1, "8000", None, 8000.5, 10**12, float("inf"), [8000]),
            "phones": (4, None, ["_", "a", "b", "c"]),
        }.items()
        for value in values
    },
    **{
        f"{key} is {value!r}": (
            lambda d, key=key, value=value: d["events"].update({key: value}),
            DESCRIPTION,
        )
        for key, values in {
            "threshold": (["0.5"], [None], [-0.1], [float("nan")], [float("inf")], [[0.5]], "x"),
            "release_ratio": (0, -0.5, 1.5, "0.5", None, float("nan"), [0.5]),
            "confirm_frames": (0, -3, "3", None, 2.5, 10**30),
            "refractory_frames": (-1, "20", None, 2.5, 10**30),
        }.items()
        for value in values
    },
}


@pytest.mark.parametrize(("change", "message"), BAD_DOCUMENTS.values(), ids=list(BAD_DOCUMENTS))
def test_hostile_documents_are_refused(
    content: TensorFile, tmp_path: Path, change: Callable, message: str
) -> None:
    document = json.loads(content.metadata[METADATA_KEY])
    change(document)
    path = tmp_path / "bad.kws"
    path.write_bytes(pack_tensors(content.tensors, {METADATA_KEY: json.dumps(document)}))
    refuse(path, message)


BAD_CALIBRATIONS = [
    7,
    [1.0],
    "much",
    {"hours": 1.0},
    {"rows": []},
    {"hours": "x", "rows": []},
    {"hours": None, "rows": []},
    {"hours": 1.0, "rows": 7},
    {"hours": 1.0, "rows": [7]},
    {"hours": 1.0, "rows": [{"word": "word0"}]},
    {"hours": 1.0, "rows": [{"word": "word0", "false_alarms_per_hour": "x", "threshold": 0.5}]},
    {"hours": 1.0, "rows": [{"word": "word0", "false_alarms_per_hour": 1.0, "threshold": None}]},
]


@pytest.mark.parametrize("calibration", BAD_CALIBRATIONS, ids=json.dumps)
def test_a_damaged_calibration_is_an_error_where_it_is_used(
    content: TensorFile, tmp_path: Path, calibration: object
) -> None:
    document = {**json.loads(content.metadata[METADATA_KEY]), "calibration": calibration}
    path = tmp_path / "bad.kws"
    path.write_bytes(pack_tensors(content.tensors, {METADATA_KEY: json.dumps(document)}))
    assert list(Spotter.load(path).detect(np.zeros(100, np.float32))) == []
    with pytest.raises(ModelError, match=r"bad\.kws: its calibration is damaged. Copy or train"):
        Spotter.load(path, false_alarms_per_hour=1.0)
