"""Commands of the training wing. Like those of `cli` they only say what is wished; what is heavy is imported when one runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@contextmanager
def needs_training() -> Iterator[None]:
    """Around imports: what the light install lacks becomes one line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.ClickException(f"this needs {error.name}, which is not installed. Install it with: pip install 'kws[train]'") from error


def complain(problem: object) -> None:
    """A warning on stderr."""
    click.echo(f"Error: {problem}", err=True)


@click.command(epilog="Exit status: 0 done, 1 the data cannot be used, 2 wrong usage, 130 stopped with Ctrl-C (go on with --resume).")
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@click.option("--data", type=_FOLDER, required=True, help="Folder in Speech Commands layout: DIR/WORD/*.wav, DIR/_background_noise_/.")
@click.option("--negatives", type=_FOLDER, multiple=True, help="More recordings without the words, of any length.")
@click.option("--background", type=_FOLDER, multiple=True, help="More noise to mix in.")
@click.option("--phrases", type=_FOLDER, multiple=True, help="DIR/WORD/*.wav: longer recordings with the word somewhere in them.")
@click.option("--out", type=_FILE, metavar="ONNX", help="Model file.  [default: models/WORD.onnx]")
@click.option("--pooling", type=click.Choice(["gem", "max", "mean", "power"]), default="gem", show_default=True, help="Pooling head.")
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True, help="Times the held-out recordings are heard.")
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True, help="Batches of 128 mixed clips per epoch.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=3e-3, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed gives the same model.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint beside the model file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per epoch on standard output.")
def train(
    words: tuple[str, ...],
    data: Path,
    negatives: tuple[Path, ...],
    background: tuple[Path, ...],
    phrases: tuple[Path, ...],
    out: Path | None,
    pooling: str,
    epochs: int,
    steps: int,
    learning_rate: float,
    seed: int,
    device: str,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a detector for one or several words.

    Everything in --data that is not one of the words is what they are told from. Writes a model file, calibrated on speakers
    that were held out, and a checkpoint beside it.

    \b
    kws train marvin --data speech_commands/
    kws train yes no --data speech_commands/ --negatives podcasts/ --out models/answer.onnx
    kws train marvin --data speech_commands/ --resume
    """
    with needs_training():
        from kws.training import command
        from kws.training.fit import Recipe
        from kws.training.material import Folders
        from kws.training.network import NetworkConfig
    folders = Folders(data, negatives, background, phrases)
    config = NetworkConfig(tuple(dict.fromkeys(words)), pooling=pooling)
    recipe = Recipe(epochs=epochs, steps_per_epoch=steps, learning_rate=learning_rate, seed=seed)
    command.run(command.Options(folders, out, config, recipe, device, resume, as_json), complain)


@click.command(epilog="Exit status: 0 done, 1 it cannot be had, 2 wrong usage, 130 stopped with Ctrl-C (the same command goes on).")
@click.argument("dataset", type=click.Choice(["speech-commands"]))
@click.option("--version", type=click.Choice(["0.02", "0.01"]), default="0.02", show_default=True, help="Of the data set.")
@click.option("--dir", "folder", type=_FOLDER, default=Path("data"), show_default=True, help="Where it goes.")
@click.option("--mirror", metavar="URL", help="Fetch from this folder on another server; what comes is checked all the same.")
def download(dataset: str, version: str, folder: Path, mirror: str | None) -> None:
    """Fetch a data set to train on.

    Fetches, checks and unpacks the recordings (2.4 GB, unpacked about 3.5 GB) and the official test archive (0.1 GB), and prints
    their folders. A stopped download goes on where it was; what is there already needs no network. The archives are kept in DIR.

    \b
    kws download speech-commands
    kws download speech-commands --version 0.01 --dir /data
    """
    with needs_training():
        from kws.training import download as downloading
    for place in downloading.run(version, folder, mirror or downloading.SERVER):
        click.echo(place)
