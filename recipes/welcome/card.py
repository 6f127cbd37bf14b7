"""The card of the shipped model: draws its DET curve, for docs/models/welcome.md, by the test part of
`evaluate.py`, and writes some points of it and the known weaknesses into the model file, where
`kws info` shows them.

    python recipes/welcome/card.py --data DATA --work WORK --out docs/models/welcome.png

DATA and WORK as for `train.py`. Misses of 400 clips against false alarms per hour of all real
speech, clean and in recorded noise.
"""

import argparse
import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from evaluate import negatives_of, noises_of, score_embedded, score_negatives
from train import WORD, read, unpack

from kws import Spotter
from kws.training.data.sources import aligned_word
from kws.training.evaluate.metrics import CURVE_THRESHOLDS
from kws.training.evaluate.scoring import count_alarms, count_hits, total_hours
from kws.training.model.document import copy_with_document

MODEL = pathlib.Path("models/welcome.onnx")
SNRS_DB = {"clean": None, "noise at 10 dB": 10.0}
POINTS = (0.1, 0.2, 0.3, 0.5, 0.9)  # thresholds that the file tells of, beside its own
WEAKNESSES = {
    "people": (
        "47 % of 95 recordings of 83 people are missed, most of them in sentences (measured "
        "elsewhere); it learned from voices alone"
    ),
    "false alarms": (
        "2.1 an hour in 17 h of English by people, 11 an hour in music (measured elsewhere)"
    ),
    "near words": (
        "'Wilkinson', 'falcon', 'locum', 'wilco', 'well, come in' and the like fire now and then"
    ),
    "longer words": "'welcomed' and 'unwelcome' nearly always fire",
    "voices": "deep ones that speak fast are heard worst, and festival's in noise",
    "telephones": (
        "with nothing above 4 kHz an earlier network missed up to a third of the clips of "
        "a deep voice"
    ),
    "days": "nothing is known of rates below one false alarm in some hours",
    "not measured": "children, far microphones",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    spotter = Spotter.load(MODEL)
    data = unpack(args.data, args.work / "data")
    (alarms, hours), misses = (
        alarms_per_hour(spotter, data),
        missed(spotter, data, args.work / "spoken" / "test"),
    )
    draw(args.out, spotter.events.threshold[0], alarms, hours, misses)
    judged = {
        "hours_of_other_speech": round(hours, 2),
        "det_curve": points(spotter.events.threshold[0], alarms, misses),
    }
    weaknesses = [{"where": where, "what": what} for where, what in WEAKNESSES.items()]
    copy_with_document(
        MODEL, {**spotter.info.document, "judged": judged, "weaknesses": weaknesses}, MODEL
    )


def alarms_per_hour(spotter: Spotter, data: pathlib.Path) -> tuple[np.ndarray, float]:
    """At each threshold of the curve, and the hours."""
    scored = score_negatives(spotter, negatives_of(data))
    recordings = [*scored[True], *scored[False]]
    hours = total_hours(recordings)
    return count_alarms(recordings, WORD, CURVE_THRESHOLDS) / hours, hours


def missed(spotter: Spotter, data: pathlib.Path, spoken: pathlib.Path) -> dict[str, np.ndarray]:
    """Share of the clips at each threshold of the curve, by the noise."""
    word = aligned_word(WORD, read(spoken / "word"))
    noises = noises_of(data)
    scored = {
        name: score_embedded(spotter, word, snr_db, noises) for name, snr_db in SNRS_DB.items()
    }
    return {
        name: 1 - count_hits(words, CURVE_THRESHOLDS) / len(words) for name, words in scored.items()
    }


def points(own: float, alarms: np.ndarray, misses: dict[str, np.ndarray]) -> list[dict]:
    """Some of the curve, the model's own threshold among them."""
    places = {
        threshold: int(np.searchsorted(CURVE_THRESHOLDS, threshold))
        for threshold in sorted((*POINTS, own))
    }
    return [
        {"threshold": threshold, "false_alarms_per_hour": round(float(alarms[at]), 3)}
        | {
            f"missed_{name}".replace(" ", "_"): round(float(share[at]), 4)
            for name, share in misses.items()
        }
        for threshold, at in places.items()
    ]


def draw(
    path: pathlib.Path, own: float, alarms: np.ndarray, hours: float, misses: dict[str, np.ndarray]
) -> None:
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    highest = int(np.argmax(alarms))  # at lower thresholds the score never falls to the release
    at = int(np.searchsorted(CURVE_THRESHOLDS, own))
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
