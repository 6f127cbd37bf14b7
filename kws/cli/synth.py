"""`kws synth`: synthetic clips of phrases."""

from pathlib import Path

import click

from kws.cli import options
from kws.synth import corpus
from kws.terminal.types import FILE, FOLDER


@click.command(
    epilog=(
        "Exit status: 0 done, 1 a phrase cannot be spoken, 2 wrong usage, "
        + options.STOPPED
        + " (the same command resumes)."
    )
)
@click.argument("phrases", nargs=-1, metavar="[PHRASE...]")
@click.option(
    "--list",
    "lists",
    type=FILE,
    multiple=True,
    help="File of phrases, as written by kws confusables. May be repeated.",
)
@click.option("--out", type=FOLDER, metavar="DIR", help="Folder: DIR/PHRASE/*.wav, DIR/clips.csv.")
@click.option(
    "--count",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Number of clips of each phrase.",
)
@options.SEED
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME",
    show_default="all that are installed",
    help="Speech engine to use. May be repeated.",
)
@options.PIPER_VOICES
@options.PHONEMES
@click.option(
    "--list-engines",
    is_flag=True,
    help="Print which engines are installed and what the others need, and exit.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def synth(
    phrases: tuple[str, ...],
    lists: tuple[Path, ...],
    out: Path | None,
    count: int,
    seed: int,
    engines: tuple[str, ...],
    piper_voices: tuple[str, ...],
    phonemes: tuple[str, ...],
    list_engines: bool,
    as_json: bool,
) -> None:
    """Synthesize clips of phrases in many voices, to train on.

    Uses the speech engines that are installed, offline. Clips are 16 kHz WAV files; clips.csv lists
    engine, voice and settings of each. Existing clips are kept: a stopped run resumes, and a higher
    --count adds clips.

    \b
    kws synth welcome --out clips --count 500
    kws synth "hey you" become "well come" --out clips
    kws synth tomato --phonemes "T AH0 M EY1 T OW0" --phonemes "T AH0 M AA1 T OW0" --out clips
    """
    if list_engines:
        click.echo(corpus.describe_engines(as_json))
        return
    if not (phrases or lists) or out is None:
        raise click.UsageError(
            "Give phrases and a folder for their clips: kws synth PHRASE... --out DIR."
        )
    if phonemes and (len(phrases) > 1 or lists):
        raise click.UsageError(
            "--phonemes is the pronunciation of one phrase. Give one phrase at a time."
        )
    corpus.run(
        corpus.SynthOptions(phrases, lists, out, count, seed, engines, piper_voices, phonemes),
        as_json,
    )
