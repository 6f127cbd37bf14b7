"""`kws confusables`: what sounds like a phrase."""

import logging

import click

from kws.cli import options
from kws.synth import corpus
from kws.synth import phrase as phrases
from kws.synth.confusables import MAX_NEAR_WORDS

logger = logging.getLogger("kws")


@click.command(
    epilog=(
        "Exit status: 0 done, 1 there is no dictionary, or the phrase cannot be spoken, "
        "2 wrong usage."
    )
)
@click.argument("phrase")
@options.PHONEMES
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=MAX_NEAR_WORDS,
    show_default=True,
    help="Highest number of words that share sounds with the phrase.",
)
def confusables(phrase: str, phonemes: tuple[str, ...], limit: int) -> None:
    """List words and phrases that sound like a phrase.

    Lists its parts, words that share its sounds, its words in another order and, as remarks, words
    that contain it. One line each: kind, text. Keep the list in a file, edit it, and synthesize it
    for a detector to train on.

    \b
    kws confusables welcome
    kws confusables snowboy > list.txt && kws synth snowboy --list list.txt --out clips
    """
    if not phonemes:
        for note in phrases.explain_capitals(phrase):
            logger.warning(note)
    click.echo(corpus.format_confusables(phrase, phonemes, limit))
