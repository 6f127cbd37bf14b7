"""The command `kws`: a group that imports a command when it is called, and no other."""

import importlib
import os
import sys

import click

from kws.errors import KwsError
from kws.terminal import stdio
from kws.terminal.messages import show_messages

# The threads of NumPy's BLAS would cost a fifth of `kws detect` on a short recording, and the
# commands have no use for them. It reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Each command is the function of its name in `kws.cli.NAME`; beside it stands its line in help.
COMMANDS = {
    "calibrate": "Choose a model's thresholds on your own recordings.",
    "confusables": "List words and phrases that sound like a phrase.",
    "detect": "Detect words in recordings.",
    "doctor": "Check what works on this machine.",
    "download": "Download a data set to train on.",
    "evaluate": "Measure a model's misses and false alarms.",
    "export": "Write a model as ONNX, or with smaller weights.",
    "info": "Describe a model.",
    "record": "Record examples of your own word.",
    "speech-commands": "Train and evaluate classifiers of Speech Commands.",
    "stream": "Detect words in live audio.",
    "synth": "Synthesize clips of phrases in many voices, to train on.",
    "train": "Train a detector of one or several words.",
}


class _Commands(click.Group):
    """Imports commands lazily. Turns errors into one line on stderr and exit status 1, and Ctrl-C
    into exit status 130."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        return getattr(importlib.import_module(f"kws.cli.{name}"), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
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
        stdio.reopen_closed_streams()
        stdio.escape_unencodable()
        try:
            with show_messages():
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
        """Runs the command, and makes sure that its output is written."""
        try:
            result = super().invoke(ctx)
        except (SystemExit, click.exceptions.Exit):
            sys.stdout.flush()
            raise
        sys.stdout.flush()
        return result


def _escape(error: click.ClickException) -> None:
    """Escapes the control characters of names in the message."""
    # click's types call it final; it is read when it is shown.
    error.message = stdio.escape_control_chars(error.message)  # type: ignore[misc]


@click.group(name="kws", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kws", prog_name="kws")
def main() -> None:
    """Detect keywords in recordings and in live audio.

    \b
    kws detect meeting.flac
    kws stream
    """
