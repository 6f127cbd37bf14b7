"""Model files: found by name or path, and never pickled. Their promises: thresholds by false
alarms."""

import ast
import re
from pathlib import Path

import pytest
from factories import make_document, make_model, make_network

from kws.errors import ModelError
from kws.runtime.model_file import ModelInfo, find_model, read_model
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name",
    [
        *("missing.kws", "missing/model", "folder.kws", "./missing", "missing.onnx", "folder.onnx"),
        *("x" * 300, f"{'x' * 300}.kws"),
    ],
)
def test_path_without_a_model_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for suffix in (".kws", ".onnx"):
        (tmp_path / f"folder{suffix}").mkdir()
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
        (tmp_path / "models" / f"{name}.kws").touch()
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
    assert find_model("models/mine.kws").resolve() == path
    assert find_model(path) == path
    assert read_model(find_model("mine")).info.words == ("word0",)


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
        Path("yes.kws"),
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
                r"yes\.kws: cannot promise 0\.1 false alarms per hour for 'yes': "
                r"2\.50 h of calibration show no fewer than 0\.5"
            ),
        ),
        (
            make_info(*ROWS, words=("no", "yes")),
            "for 'no': 2.50 h of calibration show no fewer than 0.2",
        ),
        (make_info(hours=0.05), "180 s of calibration show nothing of this word"),
        (
            make_info(*ROWS, words=("maybe",)),
            "for 'maybe': 2.50 h of calibration show nothing of this word",
        ),
        (
            ModelInfo(Path("yes.kws"), make_document(make_network())),
            "it was never calibrated",
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
