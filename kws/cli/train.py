"""`kws train`: a detector of words, from recordings or from text."""

from pathlib import Path

import click

from kws.cli import options
from kws.terminal.types import FOLDER
from kws.training.detection.from_text import SynthConfig
from kws.training.fit.config import TrainConfig

VERIFIER_CHOICES = ("auto", "on", "off")


@click.command(
    epilog=(
        "Exit status: 0 done, 1 the data cannot be used, 2 wrong usage, "
        + options.STOPPED
        + " (resume with --resume)."
    )
)
@click.argument("words", nargs=-1, metavar="[WORD...]")
@options.DATA
@click.option(
    "--from-text",
    is_flag=True,
    help="Synthesize the word and its confusables, in place of --data.",
)
@click.option(
    "--synth-clips",
    type=click.IntRange(10),
    default=SynthConfig.clips,
    show_default=True,
    help="Number of synthetic clips of the word, with --from-text.",
)
@options.PHONEMES
@options.PIPER_VOICES
@click.option(
    "--recordings",
    type=FOLDER,
    multiple=True,
    help="Folder of your own recordings, DIR/WORD/*.wav, however few. May be repeated.",
)
@click.option(
    "--negatives",
    type=FOLDER,
    multiple=True,
    help="Folder of recordings without the words, of any length. May be repeated.",
)
@options.BACKGROUND
@click.option(
    "--in-context",
    type=FOLDER,
    multiple=True,
    help="Folder of longer recordings with the word in them, DIR/WORD/*.wav. May be repeated.",
)
@click.option(
    "--corpus",
    "corpora",
    type=FOLDER,
    multiple=True,
    help="Folder of sentences with transcripts, as LibriSpeech has them or in a CSV with the "
    "columns file, speaker and text. English ones that hold a word teach it, those without it are "
    "negatives. May be repeated.",
)
@click.option(
    "--hard-negatives-from",
    type=FOLDER,
    multiple=True,
    show_default="with --from-text the --negatives and the --corpus",
    help="Folder of long recordings without the words. A second stage of training learns from "
    "false alarms in them. May be repeated.",
)
@click.option(
    "--verifier",
    type=click.Choice(VERIFIER_CHOICES),
    show_default="off; auto with --from-text",
    help="Second stage of detection that recognizes the phones of English words. 'auto' keeps it "
    "if it helps on held-out recordings.",
)
@options.target_rate_option()
@options.training_options(
    out="models/WORD.kws",
    init_from="the encoder that comes with kws, if the size is small",
    epochs=f"{TrainConfig.epochs}; {SynthConfig.epochs} with --from-text",
    steps_per_epoch=TrainConfig.steps_per_epoch,
    learning_rate=TrainConfig.learning_rate,
)
def train(
    words: tuple[str, ...],
    data: Path | None,
    from_text: bool,
    synth_clips: int,
    phonemes: tuple[str, ...],
    piper_voices: tuple[str, ...],
    recordings: tuple[Path, ...],
    negatives: tuple[Path, ...],
    background: tuple[Path, ...],
    in_context: tuple[Path, ...],
    corpora: tuple[Path, ...],
    hard_negatives_from: tuple[Path, ...],
    verifier: str | None,
    false_alarms_per_hour: float,
    size: str,
    init_from: str | None,
    out: Path | None,
    epochs: int | None,
    steps_per_epoch: int,
    accumulate: int | None,
    learning_rate: float,
    seed: int,
    device: str,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a detector of one or several words.

    All other words in --data are negative examples. Writes a model file, calibrated on held-out
    speakers, and a checkpoint beside it.

    With --hard-negatives-from, a second stage of half as many epochs trains on the false alarms of
    the first. NAME.hard-negatives.csv lists them, highest scores first. Listen to the first ones.
    Where the word is really said, delete the line and repeat the command with --resume.

    \b
    kws train marvin --data speech_commands/
    kws train yes no --data speech_commands/ --negatives podcasts/ --out models/answer.kws
    kws train marvin --data speech_commands/ --hard-negatives-from radio/
    kws train marvin --data speech_commands/ --verifier auto
    kws train marvin --data speech_commands/ --resume
    torchrun --nproc-per-node 2 -m kws train marvin --data speech_commands/

    With --from-text, the installed speech engines say the word and its confusables, into
    MODEL.synth/; edit confusables.txt there to change the list. Give real speech and noise too: a
    network trained on nothing else mistakes synthetic speech for the word. A page beside the model,
    NAME.html, shows its misses and false alarms on held-out data.

    \b
    kws train "hey you" --from-text --negatives podcasts/ --background noises/
    kws train "hey you" --from-text --negatives podcasts/ --recordings recordings/
    """
    _check_usage(words, data, from_text)
    with options.training_imports():
        from kws.audio.folders import sibling_path
        from kws.cli import train_run
        from kws.training import distributed
        from kws.training.data.keyword_data import DataFolders
        from kws.training.fit.config import bfloat16_devices
        from kws.training.model.network import SIZES, NetworkConfig
        from kws.training.model.pretrained import band_channels, resolve_checkpoint
    names = options.unique_words(words)
    speech = None
    if from_text:
        speech = SynthConfig(names[0], synth_clips, seed, phonemes, piper_voices)
        names = (speech.name,)
    out = out or options.default_model_path("_".join(names))
    encoder = resolve_checkpoint(init_from, size, from_text=from_text)
    train_run.run(
        train_run.TrainOptions(
            folders=DataFolders(
                data or sibling_path(out, ".synth"),
                negatives,
                background,
                in_context,
                hard_negatives_from,
                recordings,
                corpora=corpora,
            ),
            speech=speech,
            init_from=encoder,
            out=out,
            network_config=NetworkConfig(
                names, band_channels=band_channels(encoder), **SIZES[size]
            ),
            train_config=TrainConfig(
                epochs=epochs or (SynthConfig.epochs if from_text else TrainConfig.epochs),
                steps_per_epoch=steps_per_epoch,
                accumulate=accumulate or distributed.launched_world_size(),
                learning_rate=learning_rate,
                mixed_precision=bfloat16_devices(),
                seed=seed,
            ),
            verifier=verifier or ("auto" if from_text else "off"),
            false_alarms_per_hour=false_alarms_per_hour,
            device=device,
            resume=resume,
            as_json=as_json,
        )
    )


def _check_usage(words: tuple[str, ...], data: Path | None, from_text: bool) -> None:
    """Raises UsageError for options that do not go together."""
    if not words:
        raise click.UsageError("Name the words: kws train WORD... --data DIR.")
    if from_text == bool(data):
        raise click.UsageError("Give either --data DIR, or --from-text to synthesize the word.")
    if from_text and len(words) != 1:
        raise click.UsageError(
            "--from-text trains a detector of one word or phrase: kws train PHRASE --from-text."
        )
    misplaced = options.given_option("--synth-clips", "--phonemes", "--piper-voice")
    if misplaced and not from_text:
        raise click.UsageError(f"{misplaced} is an option of synthesis; it needs --from-text.")
