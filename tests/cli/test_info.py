"""`kws info`: a model's description."""

from pathlib import Path

from click.testing import CliRunner

from kws.cli.main import main
from kws.runtime.spotter import Spotter


def test_info(model_path: Path) -> None:
    result = CliRunner().invoke(main, ["info", str(model_path)])
    assert (result.exit_code, result.stderr) == (0, "")
    for section in (
        "words",
        "parameters",
        "receptive field seconds",
        "events",
        "calibration",
        "training",
    ):
        assert any(line.strip().startswith(section) for line in result.stdout.splitlines()), section
    assert Spotter.load(model_path).words[0] in result.stdout
