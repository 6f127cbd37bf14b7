"""Every script of benchmarks, recipes and experiments starts."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("benchmarks", "recipes", "experiments")
    for path in (ROOT / folder).rglob("*.py")
    if "__main__" in path.read_text()
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_the_command(script, tmp_path):
    command = [sys.executable, ROOT / script, "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"python {script}" in result.stdout
