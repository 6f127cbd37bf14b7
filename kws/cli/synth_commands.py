"""The command of the synthesis wing. It only says what is wished; what is heavy is imported when
it runs."""

from pathlib import Path

import click

from kws.terminal.types import FILE, FOLDER


@click.command(
    epilog=(
        "Exit status: 0 done, 1 it cannot be spoken, 2 wrong usage, 130 stopped with Ctrl-C (the "
        "same command goes on)."
    )
)
@click.argument("phrases", nargs=-1, metavar="[PHRASE...]")
@click.option(
    "--list",
    "lists",
    type=FILE,
    multiple=True,
    help="File of phrases, as kws confusables writes it; edit it as you like.",
)
@click.option("--out", type=FOLDER, metavar="DIR", help="Folder: DIR/PHRASE/*.wav, DIR/clips.csv.")
@click.option(
    "--count", type=click.IntRange(1), default=100, show_default=True, help="Clips of each phrase."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The same seed gives the same plan.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME",
    help="Only these engines.  [default: all that are there]",
)
@click.option(
    "--piper-voice",
    "piper_voices",
    multiple=True,
    metavar="ONNX[#FIRST-LAST]",
    help="A Piper voice file, and which speakers.",
)
@click.option(
    "--phonemes",
    "pronunciations",
    multiple=True,
    metavar="ARPABET",
    help="Pronunciation: 'W EH1 L K AH0 M'. May be repeated.",
)
@click.option(
    "--list-engines", is_flag=True, help="Say which engines are there, and what the others need."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="What was done, or which engines are there, as one JSON object.",
)
def synth(
    phrases: tuple[str, ...],
    lists: tuple[Path, ...],
    out: Path | None,
    count: int,
    seed: int,
    engines: tuple[str, ...],
    piper_voices: tuple[str, ...],
    pronunciations: tuple[str, ...],
    list_engines: bool,
    as_json: bool,
) -> None:
    """Speak words in many voices, to train on.

    Uses whatever speech engines are installed, offline. Clips are 16 kHz WAV files; clips.csv says
    who spoke each, and how. What is there already is not spoken again, so a stopped run goes on
    where it was, and a higher --count adds to it.

    \b
    kws synth welcome --out spoken --count 500
    kws synth "hey you" become "well come" --out spoken
    kws synth tomato --phonemes "T AH0 M EY1 T OW0" --phonemes "T AH0 M AA1 T OW0" --out spoken
    """
    from kws.synth import corpus

    if list_engines:
        click.echo(corpus.describe_engines(as_json))
        return
    if not (phrases or lists) or out is None:
        raise click.UsageError(
            "Name what to say, and where to put it: kws synth PHRASE... --out DIR."
        )
    if pronunciations and (len(phrases) > 1 or lists):
        raise click.UsageError(
            "--phonemes is how one phrase is pronounced. Give one phrase at a time."
        )
    options = corpus.SynthOptions(
        phrases, lists, out, count, seed, engines, piper_voices, pronunciations
    )
    corpus.run(options, as_json, _warn)


@click.command(
    epilog=(
        "Exit status: 0 done, 1 there is no dictionary, or the phrase cannot be spoken, "
        "2 wrong usage."
    )
)
@click.argument("phrase")
@click.option(
    "--phonemes",
    "pronunciations",
    multiple=True,
    metavar="ARPABET",
    help="Pronunciation: 'W EH1 L K AH0 M'. May be repeated.",
)
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    help="Words that share sounds with it.",
)
def confusables(phrase: str, pronunciations: tuple[str, ...], limit: int) -> None:
    """List what sounds like a phrase and is not it.

    Its parts, words that share its sounds, its words in another order, and, apart, words that hold
    it whole. One line each: kind, text. Keep the list in a file, edit it, and have it spoken for a
    detector to learn from.

    \b
    kws confusables welcome
    kws confusables snowboy > list.txt && kws synth snowboy --list list.txt --out spoken
    """
    from kws.synth import corpus
    from kws.synth import phrase as spelling

    for note in spelling.explain_capitals(phrase) if not pronunciations else ():
        _warn(note)
    click.echo(corpus.format_confusables(phrase, pronunciations, limit))


def _warn(problem: object) -> None:
    from kws.terminal.progress import print_message

    print_message(f"Warning: {problem}")
