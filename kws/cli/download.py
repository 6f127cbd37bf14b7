"""`kws download`: data sets to train on."""

from pathlib import Path

import click

from kws.cli import options
from kws.terminal.stdio import escape_control_chars
from kws.terminal.types import FOLDER


@click.command(
    epilog=(
        "Exit status: 0 done, 1 the download failed, 2 wrong usage, "
        + options.STOPPED
        + " (the same command resumes)."
    )
)
@click.argument("dataset", type=click.Choice(["speech-commands", "librispeech"]))
@click.option(
    "--version",
    type=click.Choice(["0.02", "0.01"]),
    default="0.02",
    show_default=True,
    help="Version of Speech Commands.",
)
@click.option(
    "--dir",
    "folder",
    type=FOLDER,
    default=Path("data"),
    show_default=True,
    help="Folder to download to.",
)
@click.option(
    "--mirror", metavar="URL", help="Folder on another server. The checksums stay the same."
)
def download(dataset: str, version: str, folder: Path, mirror: str | None) -> None:
    """Download a data set to train on.

    speech-commands: words of one second by many people, and noise (2.4 GB, unpacked about 3.5 GB),
    and the official test archive (0.1 GB); CC BY 4.0. librispeech: running speech for --negatives,
    5.4 hours by 40 people (the set dev-clean, 0.3 GB; CC BY 4.0).

    Downloads, verifies and unpacks it, and prints its folders. A stopped download resumes where it
    was; a complete one needs no network. The archives are kept in DIR.

    \b
    kws download speech-commands
    kws download speech-commands --version 0.01 --dir /data
    kws download librispeech
    """
    if options.given_option("--version") and dataset != "speech-commands":
        raise click.UsageError("--version is of speech-commands; librispeech has one alone.")
    if mirror and not mirror.startswith(("http://", "https://")):
        raise click.UsageError(f"--mirror {mirror}: a URL begins with http:// or https://.")
    with options.training_imports():
        from kws.training.data import download as downloads
    archives = (
        [downloads.LIBRISPEECH] if dataset == "librispeech" else downloads.SPEECH_COMMANDS[version]
    )
    for target in downloads.download(archives, folder, mirror):
        click.echo(escape_control_chars(str(target)))
