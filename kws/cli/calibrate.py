"""`kws calibrate`: thresholds for a room."""

from pathlib import Path

import click

from kws.cli import options
from kws.terminal.types import FILE, FOLDER


@click.command(
    epilog=(
        "Exit status: 0 done, 1 the model or the recordings cannot be used, 2 wrong usage, "
        + options.STOPPED
        + "."
    )
)
@click.argument("model")
@click.option(
    "--negatives",
    type=FOLDER,
    multiple=True,
    required=True,
    help="Folder of recordings without the words, such as your room or your radio. "
    "May be repeated.",
)
@click.option(
    "--positives",
    type=FOLDER,
    help="Folder of clips of the words, DIR/WORD/*.wav, to measure the miss rate.",
)
@options.target_rate_option()
@click.option(
    "--out",
    type=FILE,
    metavar="KWS",
    show_default="models/NAME-calibrated.kws",
    help="Model file to write. Its checkpoint is copied beside it.",
)
def calibrate(
    model: str,
    negatives: tuple[Path, ...],
    positives: Path | None,
    false_alarms_per_hour: float,
    out: Path | None,
) -> None:
    """Choose a model's thresholds on your own recordings.

    Counts false alarms in recordings without the words, and writes a copy of the model with a new
    calibration table (false alarms per hour, threshold, misses) and new default thresholds. The
    network stays the same.

    \b
    kws calibrate welcome --negatives my_kitchen/
    kws calibrate welcome --negatives my_kitchen/ --positives recordings/ --out models/kitchen.kws
    kws calibrate welcome --negatives my_kitchen/ --false-alarms-per-hour 0.1
    """
    with options.training_imports():
        from kws.cli import calibrate_run
        from kws.runtime.spotter import Spotter
    calibrate_run.run(Spotter.load(model), negatives, positives, false_alarms_per_hour, out)
