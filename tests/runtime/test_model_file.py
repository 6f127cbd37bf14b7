"""Model files: found by name or path, refused with one clear line when they are anything else, and
never pickled."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from factories import make_document, make_model, make_network
from onnx import TensorProto, helper

from kws.errors import ModelError
from kws.runtime.model_file import FORMAT, METADATA_KEY, ModelInfo, find_model, read_model
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD
from kws.training.model.export import OPSET

ROOT = Path(__file__).parents[2]


def onnx_model(metadata: dict[str, str]) -> bytes:
    """A model that is not ours: its output is its input."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "other", values[:1], values[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata)
    return model.SerializeToString()


BAD_FILES = {
    "garbage": (b"\x00\x01garbage" * 50, "not an ONNX model, or a damaged one"),
    "text": (b"this is not a model", "not an ONNX model, or a damaged one"),
    "empty": (b"", "not an ONNX model, or a damaged one"),
    "truncated": (onnx_model({})[:40], "not an ONNX model, or a damaged one"),
    "another program's": (
        onnx_model({}),
        "an ONNX model of another program; kws needs a file made by 'kws train'",
    ),
    "another program's with metadata": (
        onnx_model({"stride": "32"}),
        "an ONNX model of another program",
    ),
    "newer format": (
        onnx_model({METADATA_KEY: json.dumps({"format": FORMAT + 1})}),
        f"model format {FORMAT + 1}, this kws reads format {FORMAT}",
    ),
    "older format": (onnx_model({METADATA_KEY: json.dumps({"format": 0})}), "model format 0"),
    "no format": (onnx_model({METADATA_KEY: "{}"}), "its description is damaged"),
    "document is no JSON": (onnx_model({METADATA_KEY: "{words:"}), "its description is damaged"),
    "document is a list": (onnx_model({METADATA_KEY: "[1]"}), "its description is damaged"),
    "document is text": (onnx_model({METADATA_KEY: '"kws"'}), "its description is damaged"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=list(BAD_FILES))
def test_bad_model_file_is_refused(content, message, tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"^{re.escape(str(path))}: .*{message}") as caught:
        read_model(find_model(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_truncated_model_of_ours_is_refused(fraction, tmp_path):
    path = make_model(tmp_path, make_network())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(ModelError, match="damaged"):
        read_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda document: document["events"].update(patience=3),
            "its event settings are unknown to this kws",
        ),
        (
            lambda document: document["events"].pop("threshold"),
            "its event settings are unknown to this kws",
        ),
        (
            lambda document: document.update(events=[0.5]),
            "its event settings are unknown to this kws",
        ),
        (lambda document: document["words"].append("another"), "1 thresholds for 2 words"),
        (
            lambda document: document.update(state_size=7),
            "its graph does not match its description",
        ),
        (
            lambda document: (
                document["words"].append("another"),
                document["events"]["threshold"].append(0.5),
            ),
            "its graph does not match its description",
        ),
    ],
    ids=[
        "unknown setting",
        "no threshold",
        "settings are a list",
        "words without threshold",
        "state",
        "words",
    ],
)
def test_document_that_does_not_fit_is_refused(change, message, tmp_path):
    path = make_model(tmp_path, make_network())
    model = onnx.load(path)
    document = json.loads(model.metadata_props[0].value)
    change(document)
    model.metadata_props[0].value = json.dumps(document)
    onnx.save(model, path)
    with pytest.raises(ModelError, match=f"^{re.escape(str(path))}: .*{message}"):
        read_model(path)


@pytest.mark.parametrize(
    "name",
    ["missing.onnx", "missing/model", "folder.onnx", "./missing", "x" * 300, f"{'x' * 300}.onnx"],
)
def test_path_without_a_model_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelError) as caught:
        find_model(name)
    assert str(Path(name)) in str(caught.value)


def test_folder_that_is_opened_as_a_model(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        read_model(tmp_path)


def test_unknown_name_lists_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("zebra", "apple"):
        (tmp_path / "models" / f"{name}.onnx").touch()
    with pytest.raises(
        ModelError,
        match=r"no model named 'nothing'. Known: .*Train one with: kws train nothing --data DIR",
    ) as caught:
        find_model("nothing")
    known = re.search(r"Known: (.*?)\. ", str(caught.value))[1].split(", ")
    assert {"apple", "zebra"} <= set(known)
    assert known == sorted(known)


def test_name_is_looked_up_in_the_models_of_this_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    path = make_model(tmp_path / "models", make_network(), "mine")
    assert find_model("mine").resolve() == path
    assert find_model("models/mine.onnx").resolve() == path
    assert find_model(path) == path
    assert read_model(find_model("mine")).info.words == ("word0",)


@pytest.mark.slow
def test_graph_takes_any_batch_and_length(tmp_path):
    model_file = read_model(make_model(tmp_path, make_network(2)))
    for batch, frames in ((1, 1), (3, 7)):
        inputs = {
            "audio": np.zeros((batch, 320 * frames), np.float32),
            "state": np.zeros((batch, model_file.info.state_size), np.float32),
        }
        shapes = [
            part.shape
            for part in model_file.session.run(
                ["pooled", "frames", "boundaries", "new_state"], inputs
            )
        ]
        assert shapes == [
            (batch, frames, 2),
            (batch, frames, 2),
            (batch, frames, 2, 2),
            (batch, model_file.info.state_size),
        ]


def test_file_holds_nothing_but_standard_operators(tmp_path):
    model = onnx.load(make_model(tmp_path, make_network()))
    assert {(each.domain, each.version) for each in model.opset_import} == {("", OPSET)}
    assert [each.key for each in model.metadata_props] == [METADATA_KEY]


def make_info(
    *rows: tuple[str, float, float], words: tuple[str, ...] = ("yes",), hours: float = 2.5
) -> ModelInfo:
    table = [
        {"word": word, "false_alarms_per_hour": rate, "threshold": threshold}
        for word, rate, threshold in rows
    ]
    document = make_document(make_network())
    events = {
        **document["events"],
        "threshold": [UNREACHABLE_THRESHOLD if word.startswith("_") else 0.5 for word in words],
    }
    calibration = {"hours": hours, "rows": table}
    return ModelInfo(
        Path("yes.onnx"),
        {**document, "words": list(words), "events": events, "calibration": calibration},
    )


ROWS = [
    ("yes", 5.0, 0.6),
    ("yes", 0.5, 0.9),
    ("yes", 1.0, 0.8),
    ("no", 0.2, 0.7),
    ("no", 10.0, 0.4),
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (0.5, (0.9, 0.7)),
        (0.99, (0.9, 0.7)),
        (1.0, (0.8, 0.7)),
        (4.9, (0.8, 0.7)),
        (5.0, (0.6, 0.7)),
        (1000.0, (0.6, 0.4)),
    ],
    ids=[
        "lowest row",
        "just below a row",
        "a row",
        "between rows",
        "highest row",
        "above all rows",
    ],
)
def test_threshold_is_of_the_row_that_keeps_the_promise(wanted, expected):
    assert make_info(*ROWS, words=("yes", "no")).thresholds_for(wanted) == expected


def test_what_never_fires_needs_no_promise():
    assert make_info(*ROWS, words=("yes", "_unknown_", "no")).thresholds_for(1.0) == (
        0.8,
        UNREACHABLE_THRESHOLD,
        0.7,
    )


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (
            make_info(*ROWS),
            (
                r"yes\.onnx: cannot promise 0\.1 false alarms per hour for 'yes': its lowest row "
                r"is 0\.5 per hour \(2\.5 h of audio\)"
            ),
        ),
        (make_info(*ROWS, words=("no", "yes")), "for 'no': its lowest row is 0.2 per hour"),
        (make_info(hours=0.05), r"its calibration has no row for this word \(0\.1 h of audio\)"),
        (
            make_info(*ROWS, words=("maybe",)),
            "for 'maybe': its calibration has no row for this word",
        ),
        (
            ModelInfo(Path("yes.onnx"), make_document(make_network())),
            r"never calibrated \(0\.0 h of audio\)",
        ),
    ],
    ids=[
        "below the lowest row",
        "of another word",
        "no rows",
        "no rows of this word",
        "no calibration",
    ],
)
def test_promise_that_the_calibration_does_not_bear_is_refused(info, message):
    with pytest.raises(ModelError, match=f"{message}.*Ask for more, or set --threshold"):
        info.thresholds_for(0.1)


SOURCES = sorted([*ROOT.glob("kws/**/*.py"), *ROOT.glob("*.py")])


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_nothing_is_ever_unpickled(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {
        "pickle",
        "cPickle",
        "dill",
        "cloudpickle",
        "joblib",
        "shelve",
        "marshal",
    }
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert options.get("allow_pickle", "False") == "False", f"line {call.lineno}: allow_pickle"
        if ast.unparse(call.func) in ("torch.load", "load_state_dict_from_url"):
            assert options.get("weights_only") == "True", (
                f"line {call.lineno}: torch.load without weights_only=True"
            )
