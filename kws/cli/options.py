"""Options that several commands share, and checks that click does not make."""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kws.errors import install_hint
from kws.terminal.types import FILE, FOLDER, Range

if TYPE_CHECKING:
    from kws.runtime.spotter import Spotter

Command = TypeVar("Command", bound=Callable)

STOPPED = "130 stopped with Ctrl-C"


# The kernel takes 64, with those that stand for unknown words and for silence.
MAX_WORDS = 62


def combine(*options: Callable) -> Callable[[Command], Command]:
    """One decorator for several options, in the order in which help shows them."""
    return lambda command: functools.reduce(
        lambda inner, option: option(inner), reversed(options), command
    )


MODEL = combine(
    click.option(
        "--model", default="welcome", show_default=True, help="Model name, or path of a model file."
    ),
    click.option(
        "--threshold",
        type=Range(0, 1, min_open=True),
        help="Detection threshold (0-1). Overrides the model's default.",
    ),
    click.option(
        "--false-alarms-per-hour",
        type=Range(0),
        help="Highest rate of false alarms. Takes the threshold from the model's calibration.",
    ),
    click.option(
        "--device",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        show_default=True,
        help="Device that runs the model.",
    ),
)
OUTPUT_FORMAT = combine(
    click.option(
        "--json",
        "output_format",
        flag_value="json",
        default="text",
        help="Print JSON Lines: file, word, start, end, peak, score.",
    ),
    click.option(
        "--csv",
        "output_format",
        flag_value="csv",
        default="text",
        help="Print CSV with a header.",
    ),
    click.option(
        "--labels",
        "output_format",
        flag_value="labels",
        default="text",
        help="Print an Audacity label track.",
    ),
)
CHANNEL = combine(
    click.option(
        "--channel",
        type=click.IntRange(1),
        show_default="mean of all",
        help="Channel to listen to, counted from 1.",
    ),
    click.option(
        "--track",
        type=click.IntRange(1),
        show_default="first",
        help="Audio track to listen to, counted from 1.",
    ),
)
INPUT_DEVICE = click.option(
    "--input-device",
    metavar="NAME",
    help="Microphone, by its name or a part of it.",
    show_default="the system's",
)
SEED = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of all random numbers.",
)
PHONEMES = click.option(
    "--phonemes",
    multiple=True,
    metavar="ARPABET",
    help="Pronunciation, such as 'W EH1 L K AH0 M'. May be repeated.",
)
PIPER_VOICES = click.option(
    "--piper-voice",
    "piper_voices",
    multiple=True,
    metavar="ONNX[#FIRST-LAST]",
    help="Piper voice file, with the range of speakers to use. May be repeated.",
)
BACKGROUND = click.option(
    "--background", type=FOLDER, multiple=True, help="Folder of noise to mix in. May be repeated."
)
PROTOCOL = click.option(
    "--protocol",
    type=click.Choice(
        ["v2-12", "v1-12", "v2-35", "sc-8", "mini-8", "pack-9", "pack-9-unseen", "custom"]
    ),
    required=True,
    help="Classification protocol. docs/how-to/speech-commands.md describes them.",
)


def target_rate_option(multiple: bool = False) -> Callable[[Command], Command]:
    """The rate of false alarms at a threshold that the command chooses; several rates."""
    help_text = "False alarms per hour at the default threshold."
    if multiple:
        help_text = "Rate at which to tell threshold and misses. May be repeated."
    return click.option(
        "--false-alarms-per-hour",
        type=Range(0, min_open=True),
        multiple=multiple,
        default=(0.1, 0.5, 1.0) if multiple else 0.5,
        show_default=True,
        help=help_text,
    )


DATA_HELP = "Folder in Speech Commands layout: DIR/WORD/*.wav, DIR/_background_noise_/."
DATA = click.option("--data", type=FOLDER, help=DATA_HELP)
PARTS_OF_DATA = click.option(
    "--data",
    type=FOLDER,
    multiple=True,
    required=True,
    help=f"{DATA_HELP} May be repeated, for parts of a data set.",
)


def _default(value: float | str) -> dict[str, Any]:
    """A default value; or one that depends on other options, described in words."""
    if isinstance(value, str):
        return {"show_default": value}
    return {"default": value, "show_default": True}


def training_options(
    *, out: str, init_from: str, epochs: int | str, steps_per_epoch: int, learning_rate: float | str
) -> Callable[[Command], Command]:
    """The options of every training, with these defaults."""
    return combine(
        click.option(
            "--size",
            type=click.Choice(["small", "large"]),
            default="small",
            show_default=True,
            help="Network size: up to 100 000 or 400 000 parameters.",
        ),
        click.option(
            "--init-from",
            metavar="PT|none",
            show_default=init_from,
            help="Checkpoint of the same size whose encoder the training starts from.",
        ),
        click.option("--out", type=FILE, metavar="KWS", show_default=out, help="Model file."),
        click.option(
            "--epochs",
            type=click.IntRange(1),
            **_default(epochs),
            help="Number of epochs. The network is validated after each.",
        ),
        click.option(
            "--steps-per-epoch",
            type=click.IntRange(1),
            **_default(steps_per_epoch),
            help="Number of steps per epoch.",
        ),
        click.option(
            "--accumulate",
            type=click.IntRange(1),
            show_default="number of processes",
            help="Micro-batches per step, shared by the processes of torchrun.",
        ),
        click.option(
            "--learning-rate",
            type=Range(0, 1, min_open=True),
            **_default(learning_rate),
            help="Highest learning rate.",
        ),
        SEED,
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda", "mps"]),
            default="auto",
            show_default=True,
            help="Device to train on.",
        ),
        click.option(
            "--resume", is_flag=True, help="Resume from the checkpoint beside the model file."
        ),
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            help="Print one JSON object per epoch on standard output.",
        ),
    )


def load_spotter(
    model: str, threshold: float | None, false_alarms_per_hour: float | None, device: str
) -> "Spotter":
    """The model that the options MODEL choose."""
    from kws.runtime.spotter import Spotter

    if threshold is not None and false_alarms_per_hour is not None:
        raise click.UsageError("--threshold and --false-alarms-per-hour exclude each other.")
    return Spotter.load(
        model, device, threshold=threshold, false_alarms_per_hour=false_alarms_per_hour
    )


def given_option(*names: str) -> str | None:
    """The first of these options that the command line gives, as in "--seed"."""
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.opts[0] in names and source == click.core.ParameterSource.COMMANDLINE:
            return parameter.opts[0]
    return None


@contextmanager
def training_imports() -> Iterator[None]:
    """Around imports: a package that the light installation lacks becomes one line that says what
    to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"this needs {error.name}, which is not installed. {install_hint('train')}"
        ) from error


def unique_words(words: Iterable[str]) -> tuple[str, ...]:
    """Each word once, in the form of Unicode that names are compared in. Raises UsageError for more
    than a model can have."""
    from kws.audio.folders import normalize_name

    unique = tuple(dict.fromkeys(map(normalize_name, words)))
    if len(unique) > MAX_WORDS:
        raise click.UsageError(f"{len(unique)} words. A model has {MAX_WORDS} at most.")
    return unique


def default_model_path(name: str) -> Path:
    """models/NAME.kws; a name that is too long for a file is shortened."""
    from kws.audio.folders import append_suffix

    return Path("models") / append_suffix(name, ".kws")
