"""The command `kws`. Commands say what is wished; all work is done in the package, which is
imported only when a command runs."""

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kws.cli.synth_commands import confusables, synth
from kws.cli.training_commands import calibrate, download, evaluate, report_error, train, warn
from kws.terminal.types import FILE, FOLDER, Range

if TYPE_CHECKING:
    from kws.runtime.spotter import Spotter


class _MessageHandler(logging.Handler):
    """Prints messages of the library on stderr, each warning once."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._shown_warnings: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno < logging.WARNING:
            from kws.terminal.progress import print_message

            print_message(message)
        elif message not in self._shown_warnings:
            self._shown_warnings.add(message)
            warn(message)


@contextmanager
def _show_messages() -> Iterator[None]:
    logger, handler = logging.getLogger("kws"), _MessageHandler()
    level_before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level_before)


class _Commands(click.Group):
    """The one place where our errors become one line on stderr and exit status 1, and Ctrl-C exit
    status 130."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        from kws.terminal import stdio

        try:
            return super().parse_args(ctx, args)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.ClickException as error:
            _escape(error)
            raise
        except OSError as error:  # of --help, which is printed here
            stdio.discard_unwritten_output()
            raise click.ClickException(stdio.describe_os_error(error) or str(error)) from error

    def invoke(self, ctx: click.Context) -> object:
        from kws.errors import KwsError
        from kws.terminal import stdio

        stdio.reopen_closed_streams()
        stdio.escape_unencodable()
        try:
            with _show_messages():
                return self._invoke_and_flush(ctx)
        except click.ClickException as error:
            _escape(error)
            raise
        except KwsError as error:
            raise click.ClickException(stdio.escape_control_chars(str(error))) from error
        except OSError as error:
            sentence = stdio.describe_os_error(error)
            if sentence is None:
                raise
            raise click.ClickException(stdio.escape_control_chars(sentence)) from error
        except KeyboardInterrupt:
            return ctx.exit(130)
        finally:
            stdio.discard_unwritten_output()

    def _invoke_and_flush(self, ctx: click.Context) -> object:
        """All that a command does, and that its output is written."""
        try:
            result = super().invoke(ctx)
        except (SystemExit, click.exceptions.Exit):
            sys.stdout.flush()
            raise
        sys.stdout.flush()
        return result


def _escape(error: click.ClickException) -> None:
    """Writes out the control characters of names in the message."""
    from kws.terminal.stdio import escape_control_chars

    # click's types call it final; it is read when it is shown.
    error.message = escape_control_chars(error.message)  # type: ignore[misc]


def _options(*options: Callable) -> Callable[[Callable], Callable]:
    """Options that several commands share, in the order in which help shows them."""
    return lambda command: functools.reduce(
        lambda inner, option: option(inner), reversed(options), command
    )


_MODEL = _options(
    click.option(
        "--model",
        default="welcome",
        show_default=True,
        help="Name of a model, or path of a model file.",
    ),
    click.option(
        "--threshold",
        type=Range(0, 1, min_open=True),
        help="Score from which a word counts, not the model's own.",
    ),
    click.option(
        "--false-alarms-per-hour",
        type=Range(0),
        help="The threshold that gave each word at most this many in calibration.",
    ),
    click.option(
        "--device",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        show_default=True,
        help="Where the model runs.",
    ),
)
_OUTPUT_FORMAT = _options(
    click.option(
        "--json",
        "form",
        flag_value="json",
        default="text",
        help="JSON Lines: file, word, start, end, peak, score.",
    ),
    click.option("--csv", "form", flag_value="csv", default="text", help="CSV with a header."),
    click.option(
        "--labels", "form", flag_value="labels", default="text", help="Audacity label track."
    ),
)
_SELECTION = _options(
    click.option(
        "--channel",
        type=click.IntRange(1),
        help="Hear this channel alone, counted from 1.  [default: the mean of all]",
    ),
    click.option(
        "--track",
        type=click.IntRange(1),
        help="Hear this audio track, counted from 1.  [default: the first]",
    ),
)


def _load(
    model: str, threshold: float | None, false_alarms_per_hour: float | None, device: str
) -> "Spotter":
    from kws.runtime.spotter import Spotter

    if threshold is not None and false_alarms_per_hour is not None:
        raise click.UsageError("--threshold and --false-alarms-per-hour exclude each other.")
    return Spotter.load(
        model, device, threshold=threshold, false_alarms_per_hour=false_alarms_per_hour
    )


@click.group(name="kws", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kws", prog_name="kws")
def main() -> None:
    """Hear one word, wherever it is said: in recordings and in live audio.

    \b
    kws detect meeting.flac
    kws stream
    """


@main.command(
    epilog=(
        "Exit status: 0 done, 1 a recording could not be read (the others were) or something not "
        "written, 2 wrong usage."
    )
)
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|-...")
@_MODEL
@_OUTPUT_FORMAT
@_SELECTION
@click.option(
    "--plot", type=FILE, metavar="PNG", help="Draw waveform, log-mel, score and events to this PNG."
)
@click.option(
    "--save-clips",
    type=FOLDER,
    metavar="DIR",
    help="Save the audio around each event in this folder.",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Recordings heard at once."
)
@click.option(
    "-q", "quiet", is_flag=True, help="Print nothing; exit status 0 if a word was found, 1 if not."
)
def detect(
    paths: tuple[str, ...],
    model: str,
    threshold: float | None,
    false_alarms_per_hour: float | None,
    device: str,
    form: str,
    channel: int | None,
    track: int | None,
    plot: Path | None,
    save_clips: Path | None,
    jobs: int,
    quiet: bool,
) -> None:
    """Find the word in recordings.

    Prints file, word, start, end (seconds) and score of each event. A folder stands for all
    recordings below it, '-' for a recording on standard input.

    \b
    kws detect meeting.flac
    kws detect recordings/ --json | jq .start
    kws detect talk.mp3 --plot talk.png --save-clips clips/
    curl -s https://example.org/talk.ogg | kws detect -
    """
    if paths.count("-") > 1:
        raise click.UsageError("'-' is standard input, which can be heard once; give it once.")
    # is_dir raises for very long names.
    if (plot or form == "labels") and (len(paths) > 1 or os.path.isdir(paths[0])):  # noqa: PTH112
        raise click.UsageError("--plot and --labels describe one recording; give one FILE.")
    spotter = _load(model, threshold, false_alarms_per_hour, device)
    from kws.audio.recordings import Selection
    from kws.cli import detecting

    options = detecting.DetectOptions(
        form, plot, save_clips, jobs, quiet, Selection(channel, track)
    )
    outcome = detecting.run(spotter, paths, options, report_error)
    failed = not outcome.events if quiet else outcome.errors > 0
    sys.exit(int(failed))


@main.command(
    epilog="Exit status: 0 the audio ended, 1 it broke off, 2 wrong usage, 130 stopped with Ctrl-C."
)
@click.argument("source", required=False, metavar="[FILE|-]")
@_MODEL
@_OUTPUT_FORMAT
@_SELECTION
@click.option("--list-devices", is_flag=True, help="Print the microphones and stop.")
@click.option("--input-device", help="Microphone, by its name or a part of it.")
@click.option(
    "--rate",
    type=click.IntRange(1_000, 1_000_000),
    help="Samples per second of raw audio on '-'.  [default: 16000]",
)
@click.option(
    "--format",
    "encoding",
    type=click.Choice(["s16le", "f32le"]),
    help="Sample format of raw audio on '-'.  [default: s16le]",
)
@click.option("--realtime", is_flag=True, help="Play FILE at the pace it was spoken.")
def stream(
    source: str | None,
    model: str,
    threshold: float | None,
    false_alarms_per_hour: float | None,
    device: str,
    form: str,
    channel: int | None,
    track: int | None,
    list_devices: bool,
    input_device: str | None,
    rate: int | None,
    encoding: str | None,
    realtime: bool,
) -> None:
    """Listen to live audio.

    Prints each event as it happens. Without an argument the microphone is heard; '-' is raw mono
    audio from a pipe; a FILE is heard as if it were live.

    \b
    kws stream
    arecord -q -t raw -f S16_LE -r 16000 | kws stream -
    kws stream talk.wav --realtime
    """
    if list_devices:
        from kws.audio import microphone
        from kws.terminal import stdio

        click.echo("\n".join(map(stdio.escape_control_chars, microphone.list_devices())))
        return
    option_values = {
        "--input-device": input_device,
        "--rate": rate,
        "--format": encoding,
        "--realtime": realtime,
    }
    usage_error = _find_misplaced_option(
        source, {**option_values, "--channel": channel, "--track": track}
    )
    if usage_error:
        raise click.UsageError(usage_error)
    spotter = _load(model, threshold, false_alarms_per_hour, device)
    from kws.audio.recordings import Selection
    from kws.cli import streaming

    if source is None:
        live_source = streaming.from_microphone(input_device, warn)
    elif source == "-":
        live_source = streaming.from_pipe(rate or spotter.sample_rate, encoding or "s16le")
    else:
        live_source = streaming.from_file(source, Selection(channel, track), realtime)
    streaming.run(spotter, live_source, form)


def _find_misplaced_option(source: str | None, option_values: dict[str, object]) -> str | None:
    """Names an option that says nothing about this source."""
    kind = {None: "the microphone", "-": "raw audio on '-'"}.get(source, "a FILE")
    allowed = {None: ["--input-device"], "-": ["--rate", "--format"]}.get(
        source, ["--realtime", "--channel", "--track"]
    )
    return next(
        (
            f"{option} does not apply to {kind}."
            for option, value in option_values.items()
            if value and option not in allowed
        ),
        None,
    )


@main.command(
    epilog=(
        "Exit status: 0 done, 1 there is no microphone, or nothing can be written, 2 wrong usage, "
        "130 stopped with Ctrl-C."
    )
)
@click.argument("phrase")
@click.option(
    "--out",
    type=FOLDER,
    default=Path("recordings"),
    show_default=True,
    help="Folder: DIR/PHRASE/SPEAKER_nohash_N.wav.",
)
@click.option(
    "--count",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Good examples to record.",
)
@click.option(
    "--seconds",
    type=Range(0.5, 10),
    default=2.5,
    show_default=True,
    help="Length of a recording, before trimming.",
)
@click.option(
    "--speaker",
    default="me",
    show_default=True,
    help="Who speaks; training tells people apart by this name.",
)
@click.option("--input-device", metavar="NAME", help="Microphone whose name contains this.")
def record(
    phrase: str, out: Path, count: int, seconds: float, speaker: str, input_device: str | None
) -> None:
    """Record examples of your own word.

    Counts down, records, trims to the word and says what is wrong: too quiet, clipped, cut off. At
    a terminal each example can be heard and repeated; elsewhere the good ones are kept. More of
    them are added to those that are there.

    \b
    kws record "hey you"
    kws record welcome --count 5 --speaker anna
    """
    from kws.audio.folders import find_on_disk, normalize_name
    from kws.cli import recording
    from kws.synth import phrase as spelling
    from kws.terminal.stdio import escape_control_chars

    try:
        folder = spelling.folder_name(
            spelling.normalize(phrase)
        )  # as kws train --from-text names it
    except spelling.SynthError:
        folder = phrase.strip().replace(" ", "_")
    if any(not name.strip(" .") or set(name) & set("/\\") for name in (folder, speaker)):
        raise click.UsageError(
            "PHRASE and --speaker become names of files: neither may be empty or hold a slash."
        )
    phrase_folder = find_on_disk(out / normalize_name(folder))
    record_options = recording.RecordOptions(
        phrase.strip(), phrase_folder, count, seconds, normalize_name(speaker.strip()), input_device
    )
    saved_paths = recording.run(record_options, _ask if sys.stdin.isatty() else None)
    click.echo(
        escape_control_chars(f"{len(saved_paths)} kept in {saved_paths[0].parent}")
        if saved_paths
        else "nothing kept"
    )


def _ask(question: str) -> str:
    try:
        return click.prompt(question, default="", show_default=False, prompt_suffix="", err=True)
    except click.Abort:  # Ctrl-C or Ctrl-D
        raise KeyboardInterrupt from None


@main.command()
@click.argument("model", default="welcome")
def info(model: str) -> None:
    """Describe a model.

    Prints words, sizes, latency, thresholds, training sources and licences.

    \b
    kws info
    kws info models/yes.onnx
    """
    from kws.runtime.model_file import find_model, read_model
    from kws.terminal.describe import describe

    click.echo(describe(read_model(find_model(model)).info))


@main.command(
    epilog="Exit status: 0 kws works here, 1 something that it needs does not, 2 wrong usage."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One object: works; checks: section, name, needed, status, detail, remedy.",
)
def doctor(as_json: bool) -> None:
    """Say what works on this machine, what is missing, and what brings it.

    Everything is tried: packages are imported, a tone is written in each format and read again, the
    microphone is heard for a moment, models run, speech engines say a word. Nothing is kept.

    \b
    kws doctor
    kws doctor --json | jq '.checks[] | select(.status != "works")'
    """
    from kws.doctor import examine

    checks = []
    for section in examine.run():
        checks += section
        if not as_json:
            click.echo(examine.format_section(section))
    click.echo(examine.as_json(checks) if as_json else examine.summary(checks))
    sys.exit(int(any(check.fails for check in checks)))


for _command in (train, download, evaluate, calibrate, synth, confusables):
    main.add_command(_command)
