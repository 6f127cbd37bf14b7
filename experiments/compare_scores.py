"""Whether two checkouts give the same scores: run in each, then compare.

    python experiments/compare_scores.py write RECORDINGS... --out before.npz   # in the old one
    python experiments/compare_scores.py write RECORDINGS... --out after.npz
    python experiments/compare_scores.py compare before.npz after.npz

A recording is anything that `kws detect` reads. `write` uses the public API alone, so that this
file runs in older checkouts, too. `compare` prints one JSON object, and ends with 1 if a difference
is above 1e-6.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path.cwd()))

TOLERANCE = 1e-6


def write(recordings: list[Path], model: str, out: Path) -> None:
    """Pooled and frame scores of each recording, by its name."""
    import soundfile

    from kws import Spotter

    spotter = Spotter.load(model)
    scores: dict[str, Any] = {}  # arrays; savez has options of other types, too
    for path in recordings:
        samples, rate = soundfile.read(path, dtype="float32")
        if rate != spotter.sample_rate or samples.ndim != 1:
            sys.exit(f"{path}: give {spotter.sample_rate} Hz mono, which needs no conversion.")
        found = spotter.scores(samples)
        scores[path.name] = np.concatenate([found.pooled.ravel(), found.frames.ravel()])
    np.savez(out, **scores)


def compare(before: Path, after: Path) -> dict:
    """The largest difference, and whether all scores are the same bits."""
    old, new = np.load(before), np.load(after)
    if set(old) != set(new):
        sys.exit("the two files are of different recordings.")
    difference = max(float(np.abs(old[name] - new[name]).max(initial=0)) for name in old)
    return {
        "recordings": len(old.files),
        "scores": sum(old[name].size for name in old),
        "bit_equal": all(np.array_equal(old[name], new[name]) for name in old),
        "largest_difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("recordings", nargs="+", type=Path)
    writing.add_argument("--model", default="models/welcome.kws")
    writing.add_argument("--out", type=Path, required=True)
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    args = parser.parse_args()
    if args.command == "write":
        write(args.recordings, args.model, args.out)
        return
    result = compare(args.before, args.after)
    print(json.dumps(result))
    sys.exit(int(result["largest_difference"] > TOLERANCE))


if __name__ == "__main__":
    main()
