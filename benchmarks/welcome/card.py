"""Draws the DET curve of the shipped model for its card, docs/welcome.md, by the test part of `evaluate.py`.

    python benchmarks/welcome/card.py --data DATA --work WORK --out docs/welcome.png

DATA and WORK as for `train.py`. Misses of 400 clips against false alarms per hour of all real speech, clean and in recorded noise.
"""

import argparse
import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from evaluate import listened, negatives_of, noises_of, placed
from train import WORD, read, unpack

from kws import Spotter
from kws.training.evaluation import CURVE
from kws.training.matching import alarm_counts, hits
from kws.training.mixing import placed_word

SNRS_DB = {"clean": None, "noise at 10 dB": 10.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    spotter = Spotter.load("models/welcome.onnx")
    data = unpack(args.data, args.work / "data")
    draw(args.out, spotter.events.threshold[0], *alarms_per_hour(spotter, data), missed(spotter, data, args.work / "spoken" / "test"))


def alarms_per_hour(spotter: Spotter, data: pathlib.Path) -> tuple[np.ndarray, float]:
    """At each threshold of the curve, and the hours."""
    negatives = negatives_of(data)
    counts = [alarm_counts(heard.pooled[:, 0], CURVE, spotter.events) for heard in listened(spotter.engine, negatives).values()]
    hours = sum(bank.seconds for banks in negatives.values() for bank in banks) / 3600
    return sum(counts) / hours, hours


def missed(spotter: Spotter, data: pathlib.Path, spoken: pathlib.Path) -> dict[str, np.ndarray]:
    """Share of the clips at each threshold of the curve, by the noise."""
    word = placed_word(WORD, read(spoken / "word"))
    noises = noises_of(data)
    made = {name: placed(spotter.engine, word, snr_db, noises) for name, snr_db in SNRS_DB.items()}
    return {name: 1 - np.mean([hits(trial, 0, CURVE, spotter.events) for trial in some], axis=0) for name, some in made.items()}


def draw(path: pathlib.Path, own: float, alarms: np.ndarray, hours: float, misses: dict[str, np.ndarray]) -> None:
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    highest = int(np.argmax(alarms))  # at lower thresholds the score never falls to the release
    at = int(np.searchsorted(CURVE, own))
    axes.axvline(1.0, color="#bbbbbb", linewidth=1)
    for (name, share), colour in zip(misses.items(), ("#3b6fb6", "#d1495b"), strict=True):
        axes.plot(alarms[highest:], share[highest:], color=colour, label=name)
        axes.plot(alarms[at], share[at], "o", clip_on=False, zorder=3, color=colour)
    axes.set_xscale("symlog", linthresh=1 / hours)  # none at all has a place, too
    axes.set_xlim(0, 60)
    axes.set_ylim(0, 0.1)
    axes.set_xticks([0, 0.2, 0.5, 1, 2, 5, 10, 20, 50])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel(f"false alarms per hour, of {hours:.2f} h")
    axes.set_ylabel("words missed")
    axes.grid(color="#dddddd", which="major")
    axes.legend(frameon=False, title="dot: as it comes")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
