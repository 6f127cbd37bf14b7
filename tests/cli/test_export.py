"""`kws export`: what it writes, and what it refuses."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result
from factories import make_model, make_network

from kws.cli.main import main
from kws.runtime.model_file import read_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path, make_network())


def kws_export(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def test_smaller_weights(model: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "new" / "small.kws", model.read_bytes()
    result = kws_export(model, "--weights", "int8", out)
    assert (result.exit_code, result.stderr, model.read_bytes()) == (0, "", before)
    assert read_model(out).info.document["weights"] == "int8"
    pattern = (
        rf"{re.escape(str(out))}: 0\.\d\d MB\. Its scores differ by up to 0\.\d{{4}} on noise; "
        r"its thresholds were calibrated for float32 weights\.\n"
    )
    assert re.fullmatch(pattern, result.stdout)
    assert len(out.read_bytes()) < len(before)


@pytest.mark.slow
def test_onnx_of_smaller_weights(model: Path, tmp_path: Path) -> None:
    small, out = tmp_path / "small.kws", tmp_path / "model.onnx"
    kws_export(model, "--weights", "float16", small)
    result = kws_export(small, "--onnx", out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(
        r".*model\.onnx: 0\.\d\d MB, gives the scores of .*small\.kws\n", result.stdout
    )
    (metadata,) = onnx.load(out).metadata_props
    assert '"weights": "float16"' in metadata.value


def test_both_at_once_are_refused_before_anything_is_written(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    result = kws_export(model, "--onnx", out, "--weights", "int8", tmp_path / "small.txt")
    assert result.exit_code == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        ("{model}", 2, "nothing to write. Give --onnx ONNX, or --weights TYPE KWS."),
        ("{model} --weights int8", 2, "requires 2 arguments"),
        ("{model} --weights int4 {dir}/a.kws", 2, "'int4' is not one of 'float16', 'int8'"),
        ("{model} --onnx", 2, "requires an argument"),
        ("--onnx {dir}/a.onnx", 2, "Missing argument 'MODEL'"),
        ("nobody --onnx {dir}/a.onnx", 1, "no model named 'nobody'"),
        ("{dir}/garbage.kws --onnx {dir}/a.onnx", 1, "not a model file of kws"),
        ("{model} --weights int8 {dir}/a.onnx", 1, "a file for --weights is named NAME.kws"),
        ("{model} --onnx {dir}/a.kws", 1, "a file for --onnx is named NAME.onnx"),
        ("{model} --weights int8 {model}", 1, "is the model itself"),
        ("{model} --weights int8 {dir}/link.kws", 1, "is the model itself"),
        ("{model} --weights int8 {dir}/garbage.kws/a.kws", 1, "cannot be written"),
        ("{model} --onnx {dir}/garbage.kws/a.onnx", 1, "cannot be written"),
        ("{model} --weights int8 {dir}", 2, "is a directory"),
        ("{model} --onnx https://example.org/a.onnx", 1, "https://example.org/a.onnx"),
    ],
)
def test_what_is_refused_in_one_line(
    model: Path, tmp_path: Path, arguments: str, exit_code: int, message: str
) -> None:
    (tmp_path / "garbage.kws").write_bytes(b"garbage" * 100)
    (tmp_path / "link.kws").symlink_to(model)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    words = arguments.format(model=model, dir=tmp_path).split()
    result = kws_export(*words)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    *_, line = result.stderr.splitlines()
    assert line.startswith("Error: ") and message in line
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_onnx_without_its_packages(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "kws.training.model.onnx_export", raising=False)
    result = kws_export(model, "--onnx", tmp_path / "a.onnx")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "this needs onnx, which is not installed" in result.stderr
    assert "pip install '.[train]'" in result.stderr


def test_smaller_weights_need_no_torch(model: Path, tmp_path: Path) -> None:
    shutil.copy(model, tmp_path / "a.kws")
    code = (
        "import sys; sys.modules['torch'] = None; from kws.cli.main import main; "
        "main(['export', 'a.kws', '--weights', 'int8', 'b.kws'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
