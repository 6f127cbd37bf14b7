"""Writes the model card of the shipped model: draws its DET curve for docs/models/welcome.md, and
writes points of the curve and the known weaknesses into the model file, for `kws info` to show.

    python recipes/welcome/card.py --data DATA --work WORK --out docs/models/welcome.png

DATA and WORK as for train.py. The curve is of the test split: misses of 400 clips, clean and in
recorded noise, against false alarms per hour of all speech without the word.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from kws import Spotter
from kws.training.data.sources import aligned_word
from kws.training.evaluate.metrics import CURVE_THRESHOLDS
from kws.training.evaluate.scoring import count_alarms, count_hits, total_hours
from kws.training.model.document import copy_with_document
from recipes.welcome.evaluate import read_noises, score_embedded, score_negatives
from recipes.welcome.train import WORD, read_clips, unpack

SNRS_DB = {"clean": None, "noise at 10 dB": 10.0}
COLOURS = ("#3b6fb6", "#d1495b")
POINTS = (0.1, 0.2, 0.3, 0.5, 0.9)  # thresholds in the model file, beside the model's own
WEAKNESSES = {
    "people": (
        "47 % of 95 recordings of 83 people are missed, most of them in sentences (measured "
        "elsewhere); it was trained on synthetic voices alone"
    ),
    "false alarms": (
        "2.1 an hour in 17 h of English by people, 11 an hour in music (measured elsewhere)"
    ),
    "near words": (
        "'Wilkinson', 'falcon', 'locum', 'wilco', 'well, come in' and the like fire now and then"
    ),
    "longer words": "'welcomed' and 'unwelcome' nearly always fire",
    "voices": "deep, fast ones are missed most, and festival's in noise",
    "telephones": (
        "with nothing above 4 kHz an earlier network missed up to a third of the clips of "
        "a deep voice"
    ),
    "days": "nothing is known of rates below one false alarm in some hours",
    "not measured": "children, far microphones",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder of intermediate files")
    parser.add_argument("--model", type=Path, default=Path("models/welcome.kws"))
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    args = parser.parse_args()
    spotter = Spotter.load(args.model)
    data = unpack(args.data, args.work / "data")
    seen, unseen = score_negatives(spotter, data)
    hours = total_hours([*seen, *unseen])
    alarms_per_hour = count_alarms([*seen, *unseen], WORD, CURVE_THRESHOLDS) / hours
    miss_rates = measure_miss_rates(spotter, data, args.work / "synth" / "test")
    own = spotter.events.threshold[0]
    draw(args.out, own, alarms_per_hour, hours, miss_rates)
    document = {
        **spotter.info.document,
        "judged": {
            "hours_of_other_speech": round(hours, 2),
            "det_curve": list_points(own, alarms_per_hour, miss_rates),
        },
        "weaknesses": [{"where": where, "what": what} for where, what in WEAKNESSES.items()],
    }
    copy_with_document(args.model, document, args.model)


def measure_miss_rates(spotter: Spotter, data: Path, synth: Path) -> dict[str, np.ndarray]:
    """Miss rates of the word [CURVE_THRESHOLDS] in each noise."""
    word, noises = aligned_word(WORD, read_clips(synth / "word")), read_noises(data)
    miss_rates = {}
    for name, snr_db in SNRS_DB.items():
        scored = score_embedded(spotter, word, snr_db, noises)
        miss_rates[name] = 1 - count_hits(scored, CURVE_THRESHOLDS) / len(scored)
    return miss_rates


def list_points(
    own: float, alarms_per_hour: np.ndarray, miss_rates: dict[str, np.ndarray]
) -> list[dict]:
    """Rows for some thresholds, the model's own among them."""
    rows = []
    for threshold in sorted((*POINTS, own)):
        at = int(np.searchsorted(CURVE_THRESHOLDS, threshold))
        row = {
            "threshold": threshold,
            "false_alarms_per_hour": round(float(alarms_per_hour[at]), 3),
        }
        for name, rates in miss_rates.items():
            row[f"missed_{name}".replace(" ", "_")] = round(float(rates[at]), 4)
        rows.append(row)
    return rows


def draw(
    path: Path,
    own: float,
    alarms_per_hour: np.ndarray,
    hours: float,
    miss_rates: dict[str, np.ndarray],
) -> None:
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    # At lower thresholds there are fewer events, as the score never falls to the release.
    first = int(np.argmax(alarms_per_hour))
    at = int(np.searchsorted(CURVE_THRESHOLDS, own))
    axes.axvline(1.0, color="#bbbbbb", linewidth=1)
    for (name, rates), colour in zip(miss_rates.items(), COLOURS, strict=True):
        axes.plot(alarms_per_hour[first:], rates[first:], color=colour, label=name)
        axes.plot(alarms_per_hour[at], rates[at], "o", clip_on=False, zorder=3, color=colour)
    axes.set_xscale("symlog", linthresh=1 / hours)  # has a place for 0
    axes.set_xlim(0, 60)
    axes.set_ylim(0, 0.1)
    axes.set_xticks([0, 0.2, 0.5, 1, 2, 5, 10, 20, 50])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel(f"false alarms per hour, of {hours:.2f} h")
    axes.set_ylabel("words missed")
    axes.grid(color="#dddddd", which="major")
    axes.legend(frameon=False, title="dot: default threshold")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
