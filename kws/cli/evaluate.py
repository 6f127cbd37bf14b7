"""`kws evaluate`: misses and false alarms of a model."""

from pathlib import Path
from typing import Any

import click

from kws.cli import options
from kws.terminal.types import FILE, FOLDER, Range

_CLEAN = "clean"


class _Decibels(click.ParamType):
    """A signal-to-noise ratio in dB; None for "clean"."""

    name = "dB|clean"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value in (_CLEAN, None):
            return None
        try:
            snr_db = float(value)
        except ValueError:
            snr_db = float("nan")
        if not -40 <= snr_db <= 100:
            self.fail(f"'{value}' is neither 'clean' nor a number of dB from -40 to 100.", param)
        return snr_db


@click.command(
    epilog=(
        "Exit status: 0 done, 1 the model or the recordings cannot be used, 2 wrong usage, "
        + options.STOPPED
        + "."
    )
)
@click.argument("model")
@click.option(
    "--positives",
    type=FOLDER,
    required=True,
    help="Folder of clips of the words: DIR/WORD/*.wav, or DIR/*.wav for a single word.",
)
@click.option(
    "--negatives",
    type=FOLDER,
    multiple=True,
    help="Folder of recordings without the words, of any length. May be repeated.",
)
@click.option(
    "--background",
    type=FOLDER,
    multiple=True,
    show_default="pink noise",
    help="Folder of noise to mix in. May be repeated.",
)
@click.option(
    "--snr",
    "snrs_db",
    type=_Decibels(),
    multiple=True,
    default=(_CLEAN, "20", "10", "5", "0"),
    show_default=True,
    help="Signal-to-noise ratio of the test streams, in dB. May be repeated.",
)
@click.option(
    "--stream-seconds",
    type=Range(2, 600),
    default=10.0,
    show_default=True,
    help="Length of the test stream around a word, in seconds.",
)
@click.option(
    "--position",
    "positions",
    type=Range(0, 600),
    multiple=True,
    metavar="SECONDS",
    show_default="random",
    help="Time in the test stream at which a clip begins. May be repeated.",
)
@click.option(
    "--split",
    type=click.Choice(["all", "train", "validation", "test"]),
    default="all",
    show_default=True,
    help="Split of the speakers to evaluate on.",
)
@options.target_rate_option(multiple=True)
@options.SEED
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object. docs/reference/evaluation-json.md describes its keys.",
)
@click.option(
    "--html",
    type=FILE,
    metavar="FILE",
    help="Page to write, with curves, tables and the errors to listen to.",
)
def evaluate(
    model: str,
    positives: Path,
    negatives: tuple[Path, ...],
    background: tuple[Path, ...],
    snrs_db: tuple[float | None, ...],
    stream_seconds: float,
    positions: tuple[float, ...],
    split: str,
    false_alarms_per_hour: tuple[float, ...],
    seed: int,
    as_json: bool,
    html: Path | None,
) -> None:
    """Measure a model's misses and false alarms.

    Places clips of the words in noise at random times of longer streams, and runs the model on
    these streams and on the recordings without the words. Each figure comes with its 95 %
    confidence interval.

    \b
    kws evaluate welcome --positives recordings/ --negatives podcasts/ --html welcome.html
    kws evaluate models/yes.kws --positives speech_commands/ --split test \\
        --negatives radio/ --json | jq .results
    kws evaluate welcome --positives recordings/ --background kitchen/ --snr clean --snr 10
    kws evaluate welcome --positives recordings/ --stream-seconds 60 \\
        --position 0 --position 30 --position 58
    """
    if positions and max(positions) >= stream_seconds:
        raise click.UsageError(
            f"--position {max(positions):g}: the streams are {stream_seconds:g} s long. "
            "Make them longer with --stream-seconds."
        )
    with options.training_imports():
        from kws.cli import evaluate_run
        from kws.runtime.spotter import Spotter
    evaluate_options = evaluate_run.EvaluateOptions(
        positives,
        negatives,
        background,
        tuple(dict.fromkeys(snrs_db)),
        stream_seconds,
        tuple(dict.fromkeys(positions)),
        split,
        tuple(sorted(set(false_alarms_per_hour))),
        seed,
        as_json,
        html,
    )
    evaluate_run.run(Spotter.load(model), evaluate_options)
