"""Commands of the training wing. Like those of `cli` they only say what is wished; what is heavy is
imported when one runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from kws.errors import install_hint
from kws.terminal.types import FILE, FOLDER, Range

_PROTOCOL = click.option(
    "--protocol",
    type=click.Choice(["v2-12", "v1-12", "v2-35", "pack-9", "pack-9-unseen", "words"]),
    help="Sort clips as published; see docs/how-to/speech-commands.md.",
)


@contextmanager
def needs_training() -> Iterator[None]:
    """Around imports: what the light install lacks becomes one line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"this needs {error.name}, which is not installed. {install_hint('train')}"
        ) from error


def report_error(problem: object) -> None:
    """A fault on stderr, of which the exit status tells, too."""
    from kws.terminal.progress import print_message

    print_message(f"Error: {problem}")


def warn(problem: object) -> None:
    """What a person should know on stderr, though all went well."""
    from kws.terminal.progress import print_message

    print_message(f"Warning: {problem}")


def _check_options(
    words: tuple[str, ...],
    data: Path | None,
    from_text: bool,
    protocol: str | None,
    *,
    has_synth_options: bool,
    has_detector_options: bool,
) -> None:
    """Raises UsageError where the wishes of `train` do not go together. `has_synth_options`: something says
    how to speak; `has_detector_options`: something is wished for that only a detector has."""
    if bool(words) != (protocol in (None, "words")):
        raise click.UsageError(
            "Name the words: kws train WORD... --data DIR."
            if not words
            else f"Protocol {protocol} has its own words."
        )
    if protocol and not data:
        raise click.UsageError("A protocol needs --data DIR; kws download fetches it.")
    if from_text == bool(data):
        raise click.UsageError("Give either --data DIR, or --from-text to have the word spoken.")
    if from_text and (protocol or len(words) != 1):
        raise click.UsageError(
            "--from-text makes a detector for one word or phrase: kws train PHRASE --from-text."
        )
    if has_synth_options and not from_text:
        raise click.UsageError(
            "--synth-clips, --phonemes and --piper-voice say how to speak; they need --from-text."
        )
    if protocol and has_detector_options:
        raise click.UsageError(
            "--in-context, --recordings, --hard-negatives-from and --reader do not apply to a protocol."
        )


@click.command(
    epilog=(
        "Exit status: 0 done, 1 the data cannot be used, 2 wrong usage, 130 stopped with Ctrl-C "
        "(go on with --resume)."
    )
)
@click.argument("words", nargs=-1, metavar="[WORD...]")
@click.option(
    "--data",
    type=FOLDER,
    help="Folder in Speech Commands layout: DIR/WORD/*.wav, DIR/_background_noise_/.",
)
@click.option(
    "--from-text",
    is_flag=True,
    help="Instead of --data: speak the word, and what sounds like it (see kws synth).",
)
@click.option(
    "--synth-clips",
    type=click.IntRange(10),
    help="With --from-text: clips of the word.  [default: 800]",
)
@click.option(
    "--phonemes",
    multiple=True,
    metavar="ARPABET",
    help="With --from-text: pronunciation. May be repeated.",
)
@click.option(
    "--piper-voice",
    "piper_voices",
    multiple=True,
    metavar="ONNX[#FIRST-LAST]",
    help="With --from-text: a Piper voice file.",
)
@click.option(
    "--recordings",
    type=FOLDER,
    multiple=True,
    help="DIR/WORD/*.wav: your own, few as they may be (see kws record).",
)
@click.option(
    "--negatives",
    type=FOLDER,
    multiple=True,
    help="More recordings without the words, of any length.",
)
@click.option("--background", type=FOLDER, multiple=True, help="More noise to mix in.")
@click.option(
    "--in-context",
    type=FOLDER,
    multiple=True,
    help="DIR/WORD/*.wav: longer recordings with the word somewhere in them.",
)
@click.option(
    "--hard-negatives-from",
    type=FOLDER,
    multiple=True,
    help="Long recordings without the words: a second round learns from what fires in them.",
)
@_PROTOCOL
@click.option(
    "--size",
    type=click.Choice(["small", "large"]),
    default="small",
    show_default=True,
    help="Up to 100 000 or 400 000 parameters.",
)
@click.option(
    "--init-from",
    metavar="PT|none",
    help=(
        "Begin with the layers of a trained network of this size, whatever its words.  [default: "
        "of small detectors one in kws]"
    ),
)
@click.option(
    "--reader",
    is_flag=True,
    help="The words are English: let a network that reads confirm them, if that helps.",
)
@click.option("--out", type=FILE, metavar="ONNX", help="Model file.  [default: models/WORD.onnx]")
@click.option(
    "--pooling",
    type=click.Choice(["gem", "gem-fixed", "max", "mean", "power", "none"]),
    default="gem",
    show_default=True,
    help="How the scores of a word in successive frames become one.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help=(
        "Times the held-out recordings are heard.  [default: 20; of a protocol 40; "
        "with --from-text 12]"
    ),
)
@click.option(
    "--steps-per-epoch",
    type=click.IntRange(1),
    help="Steps per epoch.  [default: 400 of 32 mixed clips; of a protocol 100 of 128]",
)
@click.option(
    "--accumulate",
    type=click.IntRange(1),
    help="Batches in one step, shared by torchrun's processes.  [default: one for each]",
)
@click.option(
    "--learning-rate",
    type=Range(0, 1, min_open=True),
    help="The highest.  [default: 0.002; of a protocol 0.003, with a trunk 0.002]",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The same seed gives the same model.",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint beside the model file.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per epoch on standard output."
)
def train(
    words: tuple[str, ...],
    data: Path | None,
    from_text: bool,
    synth_clips: int | None,
    phonemes: tuple[str, ...],
    piper_voices: tuple[str, ...],
    recordings: tuple[Path, ...],
    negatives: tuple[Path, ...],
    background: tuple[Path, ...],
    in_context: tuple[Path, ...],
    hard_negatives_from: tuple[Path, ...],
    protocol: str | None,
    size: str,
    init_from: str | None,
    reader: bool,
    out: Path | None,
    pooling: str,
    epochs: int | None,
    steps_per_epoch: int | None,
    accumulate: int | None,
    learning_rate: float | None,
    seed: int,
    device: str,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a detector for one or several words.

    Everything in --data that is not one of the words is what they are told from. Writes a model
    file, calibrated on speakers that were held out, and a checkpoint beside it.

    With --hard-negatives-from, training has a second round, half as long as the first: the network listens to
    those recordings, of any length, and learns again from the few seconds around what fires. They
    are listed in NAME.hard-negatives.csv. Listen to the first ones: where the word is really said, delete
    the line and give the same command with --resume.

    \b
    kws train marvin --data speech_commands/
    kws train yes no --data speech_commands/ --negatives podcasts/ --out models/answer.onnx
    kws train marvin --data speech_commands/ --hard-negatives-from radio/ --hard-negatives-from living_room/
    kws train marvin --data speech_commands/ --reader
    kws train marvin --data speech_commands/ --resume
    torchrun --nproc-per-node 2 -m kws train marvin --data speech_commands/

    With --from-text nothing is recorded: installed speech engines say the word and its neighbours,
    into MODEL.synth/, where confusables.txt can be edited. Give real speech and noise, too: a
    network that heard nothing else takes synthetic speech for the word. What fires in the
    --negatives is mined, as by --hard-negatives-from, unless other recordings are given for it. A page beside the
    model, NAME.html, shows what it misses and where it fires, by what was held out.

    \b
    kws train "hey you" --from-text --negatives podcasts/ --background noises/
    kws train "hey you" --from-text --negatives podcasts/ --recordings recordings/

    With --protocol, train to sort clips of one second into classes, as published for Speech
    Commands (docs/how-to/speech-commands.md); recordings in --negatives are heard as unknown words.

    \b
    kws train --protocol v2-12 --data data/SpeechCommands/speech_commands_v0.02 --size large
    kws train yes no --protocol words --data speech_commands/ --negatives podcasts/
    """
    has_synth_options, has_detector_options = (
        bool(synth_clips or phonemes or piper_voices),
        bool(in_context or hard_negatives_from or recordings or reader),
    )
    _check_options(
        words,
        data,
        from_text,
        protocol,
        has_synth_options=has_synth_options,
        has_detector_options=has_detector_options,
    )
    with needs_training():
        from kws.audio.folders import append_suffix, normalize_name, sibling_path
        from kws.training import distributed
        from kws.training.data.keyword_data import DataFolders
        from kws.training.detection import command
        from kws.training.detection.from_text import SynthConfig
        from kws.training.fit.config import TrainConfig, bfloat16_devices
        from kws.training.model.network import SIZES, NetworkConfig
        from kws.training.model.pretrained import NO_CHECKPOINT, band_channels, resolve_checkpoint
        from kws.training.speech_commands import command as speech_commands
        from kws.training.speech_commands.config import ClassifierTrainConfig, default_learning_rate
    words = tuple(dict.fromkeys(map(normalize_name, words)))
    accumulate = accumulate or distributed.launched_world_size()
    # A published protocol means its own recordings and no others.
    init_checkpoint = resolve_checkpoint(
        init_from or (NO_CHECKPOINT if protocol else None), size, from_text=from_text
    )
    overrides = {
        "epochs": epochs or (SynthConfig.epochs if from_text else None),
        "steps_per_epoch": steps_per_epoch,
        "learning_rate": learning_rate
        or (default_learning_rate(init_checkpoint) if protocol else None),
    }
    settings: dict[str, Any] = {
        "accumulate": accumulate,
        "seed": seed,
        "mixed_precision": bfloat16_devices(),
        **{k: v for k, v in overrides.items() if v},
    }
    if protocol and data:
        # A detector of the same words is another model, and keeps its place.
        out = out or Path("models") / append_suffix("-".join([protocol, *words]), ".onnx")
        train_config = ClassifierTrainConfig(**settings)
        protocol_options = speech_commands.Options(
            protocol,
            data,
            words,
            negatives,
            background,
            size,
            pooling,
            init_checkpoint,
            train_config,
            out,
            device,
            resume,
        )
        command.train_protocol(protocol_options, as_json, warn)
        return
    speech = (
        SynthConfig(words[0], synth_clips or SynthConfig.clips, seed, phonemes, piper_voices)
        if from_text
        else None
    )
    names = (speech.name,) if speech else words
    out = out or Path("models") / append_suffix("_".join(names), ".onnx")
    folders = DataFolders(
        data or sibling_path(out, ".synth"),
        negatives,
        background,
        in_context,
        hard_negatives_from,
        recordings,
    )
    config = NetworkConfig(
        names, pooling=pooling, band_channels=band_channels(init_checkpoint), **SIZES[size]
    )
    command.run(
        command.Options(
            folders,
            speech,
            init_checkpoint,
            out,
            config,
            TrainConfig(**settings),
            reader,
            device,
            resume,
            as_json,
        ),
        warn,
    )


@click.command(
    epilog=(
        "Exit status: 0 done, 1 it cannot be had, 2 wrong usage, 130 stopped with Ctrl-C (the same "
        "command goes on)."
    )
)
@click.argument("dataset", type=click.Choice(["speech-commands", "librispeech"]))
@click.option(
    "--version", type=click.Choice(["0.02", "0.01"]), help="Of Speech Commands.  [default: 0.02]"
)
@click.option(
    "--dir", "folder", type=FOLDER, default=Path("data"), show_default=True, help="Where it goes."
)
@click.option(
    "--mirror",
    metavar="URL",
    help="Fetch from this folder on another server; what comes is checked all the same.",
)
def download(dataset: str, version: str | None, folder: Path, mirror: str | None) -> None:
    """Fetch a data set to train on.

    speech-commands: words of one second by many people, and noise (2.4 GB, unpacked about 3.5 GB),
    and the official test archive (0.1 GB); CC BY 4.0. librispeech: running speech for --negatives,
    5.4 hours by 40 people (the set dev-clean, 0.3 GB; CC BY 4.0).

    Fetches, checks and unpacks it, and prints its folders. A stopped download goes on where it was;
    what is there already needs no network. The archives are kept in DIR.

    \b
    kws download speech-commands
    kws download speech-commands --version 0.01 --dir /data
    kws download librispeech
    """
    if version and dataset != "speech-commands":
        raise click.UsageError("--version is of speech-commands; librispeech has one alone.")
    if mirror and not mirror.startswith(("http://", "https://")):
        raise click.UsageError(f"--mirror {mirror}: a URL begins with http:// or https://.")
    with needs_training():
        from kws.terminal.stdio import escape_control_chars
        from kws.training.data import download as downloading
    archives = (
        [downloading.LIBRISPEECH]
        if dataset == "librispeech"
        else downloading.SPEECH_COMMANDS[version or "0.02"]
    )
    for place in downloading.download(archives, folder, mirror):
        click.echo(escape_control_chars(str(place)))


class _Decibels(click.ParamType):
    """A signal-to-noise ratio in dB; None for "clean"."""

    name = "dB|clean"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        try:
            return None if value == "clean" else self._check_range(float(value))
        except ValueError:
            return self.fail(
                f"'{value}' is neither 'clean' nor a number of dB from -40 to 100.", param, ctx
            )

    @staticmethod
    def _check_range(snr_db: float) -> float:
        if not -40 <= snr_db <= 100:
            raise ValueError
        return snr_db


# What says something to `evaluate` there, or is refused below.
_WITH_PROTOCOL = ("model", "protocol", "data", "as_json", "positives")


@click.command(
    epilog=(
        "Exit status: 0 done, 1 the model or the recordings cannot be used, 2 wrong usage, 130 "
        "stopped with Ctrl-C."
    )
)
@click.argument("model")
@click.option(
    "--positives",
    type=FOLDER,
    help="DIR/WORD/*.wav: clips of the word; of a single word also DIR/*.wav.",
)
@click.option(
    "--negatives",
    type=FOLDER,
    multiple=True,
    help="Recordings without the words, of any length; the more hours the better.",
)
@_PROTOCOL
@click.option("--data", type=FOLDER, help="With --protocol: folder in Speech Commands layout.")
@click.option(
    "--background",
    type=FOLDER,
    multiple=True,
    help="Noise to lay the words in.  [default: pink noise]",
)
@click.option(
    "--snr",
    "snrs_db",
    type=_Decibels(),
    multiple=True,
    help="Level of the noise.  [default: clean 20 10 5 0]",
)
@click.option(
    "--stream-seconds",
    type=Range(2, 600),
    default=10.0,
    show_default=True,
    help="Length of the stream around a word.",
)
@click.option(
    "--position",
    "positions",
    type=Range(0, 600),
    multiple=True,
    metavar="SECONDS",
    help="Where in the stream a clip begins. May be repeated.  [default: anywhere]",
)
@click.option(
    "--split",
    type=click.Choice(["all", "train", "validation", "test"]),
    default="all",
    show_default=True,
    help="Which speakers.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The same seed gives the same streams.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object on standard output; docs/reference/evaluation-json.md lists its keys.",
)
@click.option(
    "--html",
    type=FILE,
    metavar="FILE",
    help="Write a page with curves, tables and the errors to listen to.",
)
def evaluate(
    model: str,
    positives: Path | None,
    negatives: tuple[Path, ...],
    protocol: str | None,
    data: Path | None,
    background: tuple[Path, ...],
    snrs_db: tuple[float | None, ...],
    stream_seconds: float,
    positions: tuple[float, ...],
    split: str,
    seed: int,
    as_json: bool,
    html: Path | None,
) -> None:
    """Measure how many words a model misses, and how often it fires for nothing.

    Lays clips of the word in noise somewhere in longer streams, lets the model hear them and hours
    without the word, and counts events, each word once. Every figure comes with a 95 % interval;
    what the hours cannot show is said to be unknown.

    \b
    kws evaluate welcome --positives recordings/ --negatives podcasts/ --html welcome.html
    kws evaluate models/yes.onnx --positives speech_commands/ --split test \\
        --negatives radio/ --json | jq .results
    kws evaluate welcome --positives recordings/ --background kitchen/ --snr clean --snr 10
    kws evaluate welcome --positives recordings/ --stream-seconds 60 \\
        --position 0 --position 30 --position 58

    With --protocol: how many test clips of a protocol of Speech Commands are sorted right.

    \b
    kws evaluate models/v2-12.onnx --protocol v2-12 --data data/SpeechCommands/speech_commands_v0.02
    """
    context = click.get_current_context()
    for parameter in context.command.params if protocol else []:
        if (
            parameter.name not in _WITH_PROTOCOL
            and context.get_parameter_source(parameter.name) != click.core.ParameterSource.DEFAULT
        ):
            raise click.UsageError(
                f"{parameter.opts[0]} does not apply to a protocol: its test clips are sorted one "
                "by one."
            )
    if (protocol is None) != (data is None) or (protocol is None) == (positives is None):
        raise click.UsageError("Give either --positives DIR, or --protocol NAME and --data DIR.")
    if protocol and data:
        with needs_training():
            from kws.terminal.progress import progress_bar
            from kws.training.speech_commands import command as speech_commands
        speech_commands.evaluate(
            model,
            protocol,
            data,
            as_json,
            warn,
            lambda items: progress_bar(items, "reading", unit="clip"),
        )
        return
    assert positives is not None  # checked above
    if positions and max(positions) >= stream_seconds:
        raise click.UsageError(
            f"--position {max(positions):g}: the streams are {stream_seconds:g} s long. "
            "Make them longer with --stream-seconds."
        )
    with needs_training():
        from kws.cli import evaluate_run
        from kws.runtime.spotter import Spotter
    snrs_db = tuple(dict.fromkeys(snrs_db)) or (None, 20.0, 10.0, 5.0, 0.0)
    options = evaluate_run.EvaluateOptions(
        positives,
        negatives,
        background,
        snrs_db,
        stream_seconds,
        tuple(dict.fromkeys(positions)),
        split,
        seed,
        as_json,
        html,
    )
    evaluate_run.run(Spotter.load(model), options, warn)


@click.command(
    epilog=(
        "Exit status: 0 done, 1 the model or the recordings cannot be used, 2 wrong usage, 130 "
        "stopped with Ctrl-C."
    )
)
@click.argument("model")
@click.option(
    "--negatives",
    type=FOLDER,
    multiple=True,
    required=True,
    help="Recordings without the words: your room, your radio.",
)
@click.option(
    "--positives",
    type=FOLDER,
    help="DIR/WORD/*.wav: clips of the word, to tell how many are missed.",
)
@click.option(
    "--out",
    type=FILE,
    metavar="ONNX",
    help="Model file to write, the checkpoint beside it.  [default: models/NAME-calibrated.onnx]",
)
def calibrate(
    model: str, negatives: tuple[Path, ...], positives: Path | None, out: Path | None
) -> None:
    """Choose a model's thresholds anew, by recordings of your own.

    Counts how often it fires in recordings without the words, and writes a copy of the model with
    the new table (false alarms per hour, threshold, misses) and new default thresholds. The network
    stays as it is.

    \b
    kws calibrate welcome --negatives my_kitchen/
    kws calibrate welcome --negatives my_kitchen/ --positives recordings/ --out models/kitchen.onnx
    kws stream --model kitchen --false-alarms-per-hour 0.5
    """
    with needs_training():
        from kws.cli import calibrate_run
        from kws.runtime.spotter import Spotter
    calibrate_run.run(Spotter.load(model), negatives, positives, out, warn)
