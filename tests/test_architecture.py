"""The light install stays light: no module outside training loads torch and its like when it is
imported. Which room may import which stands in pyproject.toml, for `lint-imports`.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "torchaudio", "librosa", "onnx", "matplotlib", "numba", "scipy", "sklearn"}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


LIGHT = [
    name
    for name in map(module_of, sorted(ROOT.glob("kws/**/*.py")))
    if not name.startswith("kws.training")
    and not name.endswith(("_run", "_reporter"))  # the work of the training commands
]


def modules_after(statement: str) -> set[str]:
    """Modules that a fresh interpreter holds after a statement."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_light_modules_load_nothing_heavy():
    assert {"kws.cli.main", "kws.runtime.spotter", "kws.synth.plan"} <= set(LIGHT)
    assert not modules_after(f"import {', '.join(LIGHT)}") & HEAVY


def test_the_version_is_read_when_it_is_asked_for():
    assert "importlib.metadata" not in modules_after("import kws") - modules_after("pass")
    assert "importlib.metadata" in modules_after("import kws; kws.__version__")


def test_subprocess_check_would_notice():
    assert "onnx" in modules_after("import onnx")
