"""Does a test notice when a shipped value changes? Changes one at a time in a clone, and runs the
tests that should fail.

    python experiments/mutants.py

Prints one JSON object a mutant; ends with 1 if one survives.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from os import environ
from pathlib import Path

from kws.runtime.kernel import library_path

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = "tests/runtime/test_golden.py"
VERIFIER = "tests/runtime/test_verifier.py"
AUGMENT = "tests/training/augment"


@dataclass(frozen=True)
class Mutant:
    """A line of a file, what it becomes, and the tests that should notice."""

    file: str
    before: str
    after: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant("native/verifier.c", "#define HOLD_FRAMES 8", "#define HOLD_FRAMES 2", (GOLDEN,)),
    Mutant(
        "native/verifier.c",
        "#define END_TOLERANCE_FRAMES 25",
        "#define END_TOLERANCE_FRAMES 100",
        (GOLDEN,),
    ),
    Mutant("native/verifier.c", "DEFAULT_GATE 0.1f", "DEFAULT_GATE 0.3f", (VERIFIER,)),
    Mutant("kws/runtime/verifier.py", "GATE_SCORE = 0.1", "GATE_SCORE = 0.3", (VERIFIER,)),
    Mutant("kws/runtime/verifier.py", "fusion.scale * deficit", "0 * deficit", (VERIFIER,)),
    Mutant("kws/runtime/verifier.py", "HOLD_FRAMES = 8", "HOLD_FRAMES = 2", (VERIFIER,)),
    Mutant(
        "kws/runtime/verifier.py",
        "END_TOLERANCE_FRAMES = 25",
        "END_TOLERANCE_FRAMES = 100",
        ("tests/runtime/test_engine.py",),
    ),
    Mutant(
        "kws/runtime/stream.py",
        "FLUSH_SECONDS = 0.8",
        "FLUSH_SECONDS = 0.1",
        (GOLDEN, "tests/runtime/test_spotter.py"),
    ),
    Mutant(
        "kws/runtime/postprocess.py",
        "ratio = SAME_WORD_RATIO * self.release_ratio",
        "ratio = self.release_ratio",
        ("tests/runtime/test_gates.py",),
    ),
    Mutant(
        "kws/training/augment/config.py",
        "babble_fraction: float = 0.15",
        "babble_fraction: float = 0.0",
        (AUGMENT,),
    ),
    Mutant(
        "kws/training/augment/rooms.py",
        "microphone_deviation_db: float = 4.0",
        "microphone_deviation_db: float = 2.0",
        (AUGMENT,),
    ),
    Mutant(
        "kws/training/augment/rooms.py",
        "direct_to_reverberant_db: tuple[float, float] = (-3.0, 30.0)",
        "direct_to_reverberant_db: tuple[float, float] = (60.0, 90.0)",
        (AUGMENT,),
    ),
)


def survives(mutant: Mutant, clone: Path) -> bool:
    """Whether the tests pass in spite of the change. The file is as before afterwards."""
    path = clone / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.before) != 1:
        sys.exit(f"{mutant.file}: `{mutant.before}` does not stand there once; mend this script.")
    path.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
    build = [sys.executable, "native/build_kernel.py", f"kws/runtime/{library_path().name}"]
    subprocess.run(build, cwd=clone, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-m", "", *mutant.tests],
        cwd=clone,
        env=environ | {"PYTHONPATH": str(clone)},
        capture_output=True,
    )
    path.write_text(text, encoding="utf-8")
    if done.returncode not in (0, 1):  # neither passed nor failed
        sys.exit(f"{mutant.file}: pytest ended with {done.returncode}.")
    return done.returncode == 0


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "kws"
        subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
        for mutant in MUTANTS:
            is_survivor = survives(mutant, clone)
            survivors += is_survivor
            result = {"file": mutant.file, "value": mutant.after, "survives": is_survivor}
            print(json.dumps(result), flush=True)
    sys.exit(int(survivors > 0))


if __name__ == "__main__":
    main()
