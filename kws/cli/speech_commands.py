"""`kws speech-commands`: classifiers, by the protocols of Speech Commands."""

from pathlib import Path

import click

from kws.cli import options
from kws.terminal.types import FOLDER
from kws.training.speech_commands.config import ClassifierTrainConfig, default_learning_rate

CUSTOM = "custom"


@click.group()
def speech_commands() -> None:
    """Train and evaluate classifiers of Speech Commands.

    A classifier assigns one class to each clip of one second, by a published protocol, or by the
    protocol 'custom' for words of your own.

    \b
    kws speech-commands train --protocol v2-12 --data data/SpeechCommands/speech_commands_v0.02
    """


@speech_commands.command(
    epilog=(
        "Exit status: 0 done, 1 the data cannot be used, 2 wrong usage, "
        + options.STOPPED
        + " (resume with --resume)."
    )
)
@click.argument("words", nargs=-1, metavar="[WORD...]")
@options.PROTOCOL
@options.PARTS_OF_DATA
@click.option(
    "--negatives",
    type=FOLDER,
    multiple=True,
    help="Folder of recordings without the words, which become unknown words. May be repeated.",
)
@options.BACKGROUND
@options.training_options(
    out="models/PROTOCOL.kws",
    init_from="none",
    epochs=ClassifierTrainConfig.epochs,
    steps_per_epoch=ClassifierTrainConfig.steps_per_epoch,
    learning_rate=(
        f"{default_learning_rate(None):g}; {default_learning_rate(Path()):g} with --init-from"
    ),
)
def train(
    words: tuple[str, ...],
    protocol: str,
    data: tuple[Path, ...],
    negatives: tuple[Path, ...],
    background: tuple[Path, ...],
    size: str,
    init_from: str | None,
    out: Path | None,
    epochs: int,
    steps_per_epoch: int,
    accumulate: int | None,
    learning_rate: float | None,
    seed: int,
    device: str,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a classifier of clips.

    Writes a model file and a checkpoint beside it. WORDs are for the protocol 'custom' alone.

    \b
    kws speech-commands train --protocol v2-12 --data data/SpeechCommands/speech_commands_v0.02
    kws speech-commands train yes no --protocol custom --data speech_commands/ --negatives podcasts/
    """
    if bool(words) != (protocol == CUSTOM):
        raise click.UsageError(
            f"Protocol {protocol} has its own words."
            if words
            else "Name the words: kws speech-commands train WORD... --protocol custom --data DIR."
        )
    with options.training_imports():
        from kws.cli import speech_commands_run
        from kws.training import distributed
        from kws.training.fit.config import bfloat16_devices
        from kws.training.model.pretrained import NO_CHECKPOINT, resolve_checkpoint
    words = options.unique_words(words)
    encoder = resolve_checkpoint(init_from or NO_CHECKPOINT, size, from_text=False)
    speech_commands_run.train(
        speech_commands_run.TrainOptions(
            protocol=protocol,
            data=data,
            words=words,
            other_speech=negatives,
            background=background,
            size=size,
            init_from=encoder,
            train_config=ClassifierTrainConfig(
                epochs=epochs,
                steps_per_epoch=steps_per_epoch,
                accumulate=accumulate or distributed.launched_world_size(),
                learning_rate=learning_rate or default_learning_rate(encoder),
                mixed_precision=bfloat16_devices(),
                seed=seed,
            ),
            # A detector of the same words keeps its own name.
            out=out or options.default_model_path("-".join([protocol, *words])),
            device=device,
            resume=resume,
            as_json=as_json,
        )
    )


@speech_commands.command(
    epilog=(
        "Exit status: 0 done, 1 the model or the clips cannot be used, 2 wrong usage, "
        + options.STOPPED
        + "."
    )
)
@click.argument("model")
@options.PROTOCOL
@options.PARTS_OF_DATA
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def evaluate(model: str, protocol: str, data: tuple[Path, ...], as_json: bool) -> None:
    """Measure a classifier's accuracy on the test clips of a protocol.

    \b
    kws speech-commands evaluate models/v2-12.kws --protocol v2-12 \\
        --data data/SpeechCommands/speech_commands_v0.02
    """
    with options.training_imports():
        from kws.cli import speech_commands_run
    speech_commands_run.evaluate(model, protocol, data, as_json)
