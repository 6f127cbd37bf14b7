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

from kws.cli.synth_commands import neighbours, synth
from kws.cli.training_commands import calibrate, complain, download, evaluate, train, warn
from kws.terminal.types import FILE, FOLDER, Range

if TYPE_CHECKING:
    from kws.runtime.spotter import Spotter


class _Remarks(logging.Handler):
    """What the library remarks: a warning on stderr, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() not in self._told:
            self._told.add(record.getMessage())
            warn(record.getMessage())


@contextmanager
def _remarking() -> Iterator[None]:
    logger, remarks = logging.getLogger("kws"), _Remarks()
    logger.addHandler(remarks)
    try:
        yield
    finally:
        logger.removeHandler(remarks)


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
            stdio.drop_output()
            raise click.ClickException(stdio.told(error) or str(error)) from error

    def invoke(self, ctx: click.Context) -> object:
        from kws.errors import KwsError
        from kws.terminal import stdio

        stdio.open_closed()
        stdio.take_any_text()
        try:
            with _remarking():
                return self._to_the_last_line(ctx)
        except click.ClickException as error:
            _escape(error)
            raise
        except KwsError as error:
            raise click.ClickException(stdio.escaped(str(error))) from error
        except OSError as error:
            sentence = stdio.told(error)
            if sentence is None:
                raise
            raise click.ClickException(stdio.escaped(sentence)) from error
        except KeyboardInterrupt:
            return ctx.exit(130)
        finally:
            stdio.drop_output()

    def _to_the_last_line(self, ctx: click.Context) -> object:
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
    from kws.terminal.stdio import escaped

    # click's types call it final; it is read when it is shown.
    error.message = escaped(error.message)  # type: ignore[misc]


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
_FORM = _options(
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
@_FORM
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

    options = detecting.Options(form, plot, save_clips, jobs, quiet, Selection(channel, track))
    outcome = detecting.run(spotter, paths, options, complain)
    failed = not outcome.events if quiet else outcome.faults > 0
    sys.exit(int(failed))


@main.command(
    epilog="Exit status: 0 the audio ended, 1 it broke off, 2 wrong usage, 130 stopped with Ctrl-C."
)
@click.argument("source", required=False, metavar="[FILE|-]")
@_MODEL
@_FORM
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

        click.echo("\n".join(map(stdio.escaped, microphone.devices())))
        return
    given = {
        "--input-device": input_device,
        "--rate": rate,
        "--format": encoding,
        "--realtime": realtime,
    }
    wrong = _misplaced(source, {**given, "--channel": channel, "--track": track})
    if wrong:
        raise click.UsageError(wrong)
    spotter = _load(model, threshold, false_alarms_per_hour, device)
    from kws.audio.recordings import Selection
    from kws.cli import streaming

    if source is None:
        heard = streaming.from_microphone(input_device, warn)
    elif source == "-":
        heard = streaming.from_pipe(rate or spotter.sample_rate, encoding or "s16le")
    else:
        heard = streaming.from_file(source, Selection(channel, track), realtime)
    streaming.run(spotter, heard, form)


def _misplaced(source: str | None, given: dict[str, object]) -> str | None:
    """Names an option that says nothing about this source."""
    kind = {None: "the microphone", "-": "raw audio on '-'"}.get(source, "a FILE")
    fitting = {None: ["--input-device"], "-": ["--rate", "--format"]}.get(
        source, ["--realtime", "--channel", "--track"]
    )
    return next(
        (
            f"{option} does not apply to {kind}."
            for option, value in given.items()
            if value and option not in fitting
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
    from kws.audio.folders import normalized, on_disk
    from kws.cli import recording
    from kws.synth import phrase as spelling
    from kws.terminal.stdio import escaped

    try:
        folder = spelling.folder_name(spelling.checked(phrase))  # as kws train --from-text names it
    except spelling.SynthError:
        folder = phrase.strip().replace(" ", "_")
    if any(not name.strip(" .") or set(name) & set("/\\") for name in (folder, speaker)):
        raise click.UsageError(
            "PHRASE and --speaker become names of files: neither may be empty or hold a slash."
        )
    place = on_disk(out / normalized(folder))
    wishes = recording.Options(
        phrase.strip(), place, count, seconds, normalized(speaker.strip()), input_device
    )
    kept = recording.run(wishes, _asked if sys.stdin.isatty() else None)
    click.echo(escaped(f"{len(kept)} kept in {kept[0].parent}") if kept else "nothing kept")


def _asked(question: str) -> str:
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
    from kws.runtime.model_file import find, open_session
    from kws.terminal.describe import describe

    click.echo(describe(open_session(find(model))[1]))


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
            click.echo(examine.lines(section))
    click.echo(examine.as_json(checks) if as_json else examine.summary(checks))
    sys.exit(int(any(check.fails for check in checks)))


for _command in (train, download, evaluate, calibrate, synth, neighbours):
    main.add_command(_command)
