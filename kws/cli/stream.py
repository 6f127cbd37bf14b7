"""`kws stream`: words in live audio."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import click
import numpy as np

from kws.audio import recordings
from kws.audio.addresses import reject_url
from kws.audio.folders import find_on_disk
from kws.cli import options
from kws.errors import AudioError
from kws.runtime.postprocess import Detection
from kws.runtime.spotter import Spotter
from kws.terminal.interrupts import Interrupts
from kws.terminal.meter import Meter
from kws.terminal.printers import EventWriter
from kws.terminal.stdio import escape_control_chars, to_printable

STANDARD_INPUT, MICROPHONE = "-", "microphone"
BLOCK_SECONDS = 0.08
_PIPE_COMMAND = f"ffmpeg -v error -i - -f s16le -ac 1 -ar {recordings.SAMPLE_RATE} - | kws stream -"
# Which options belong to one kind of source alone.
_SOURCE_OPTIONS = {
    "the microphone": ("--input-device",),
    "raw audio on '-'": ("--rate", "--format"),
    "a FILE": ("--realtime", "--channel", "--track"),
}

logger = logging.getLogger("kws")


@click.command(
    epilog=(
        "Exit status: 0 the audio ended, 1 it broke off, 2 wrong usage, " + options.STOPPED + "."
    )
)
@click.argument("source", required=False, metavar="[FILE|-]")
@options.MODEL
@options.OUTPUT_FORMAT
@options.CHANNEL
@click.option("--list-devices", is_flag=True, help="Print the names of the microphones and exit.")
@options.INPUT_DEVICE
@click.option(
    "--rate",
    type=click.IntRange(1_000, 1_000_000),
    default=recordings.SAMPLE_RATE,
    show_default=True,
    help="Sample rate of raw audio on '-', in Hz.",
)
@click.option(
    "--format",
    "encoding",
    type=click.Choice(["s16le", "f32le"]),
    default="s16le",
    show_default=True,
    help="Sample format of raw audio on '-'.",
)
@click.option("--realtime", is_flag=True, help="Read FILE at the pace of live audio.")
def stream(
    source: str | None,
    model: str,
    threshold: float | None,
    false_alarms_per_hour: float | None,
    device: str,
    output_format: str,
    channel: int | None,
    track: int | None,
    list_devices: bool,
    input_device: str | None,
    rate: int,
    encoding: str,
    realtime: bool,
) -> None:
    """Detect words in live audio.

    Prints each event as soon as it is detected. Without an argument, listens to the microphone; '-'
    is raw mono audio from a pipe; a FILE is processed as if it were live.

    \b
    kws stream
    arecord -q -t raw -f S16_LE -r 16000 | kws stream -
    kws stream talk.wav --realtime
    """
    if list_devices:
        from kws.audio import microphone

        click.echo("\n".join(map(escape_control_chars, microphone.list_devices())))
        return
    _check_source_options(source)
    spotter = options.load_spotter(model, threshold, false_alarms_per_hour, device)
    if source is None:
        live_source = from_microphone(input_device)
    elif source == STANDARD_INPUT:
        live_source = from_pipe(rate, encoding)
    else:
        live_source = from_file(source, recordings.Selection(channel, track), realtime)
    run(spotter, live_source, output_format)


def _check_source_options(source: str | None) -> None:
    """Raises UsageError for an option that does not apply to this source."""
    kinds = {None: "the microphone", STANDARD_INPUT: "raw audio on '-'"}
    kind = kinds.get(source, "a FILE")
    others = (names for other, names in _SOURCE_OPTIONS.items() if other != kind)
    misplaced = options.given_option(*(name for names in others for name in names))
    if misplaced:
        raise click.UsageError(f"{misplaced} does not apply to {kind}.")


@dataclass(frozen=True)
class LiveSource:
    """Live audio and the name that its events carry. blocks: float32 mono 16 kHz arrays [n]."""

    name: str
    blocks: Iterator[np.ndarray]


def from_microphone(device: str | None) -> LiveSource:
    """The microphone whose name contains `device`, or the default one. Warns once if samples are
    lost."""
    from kws.audio import microphone

    warned = False

    def warn_of_overrun(seconds: float) -> None:
        nonlocal warned
        if not warned:
            logger.warning(
                f"{seconds:.1f} s of sound were lost: this machine is too busy to keep up. "
                "Events may be missed."
            )
        warned = True

    blocks = microphone.blocks(device, block_seconds=BLOCK_SECONDS, on_overrun=warn_of_overrun)
    return LiveSource(device or MICROPHONE, blocks)


def from_pipe(rate: int, encoding: str) -> LiveSource:
    """Raw mono PCM on standard input."""
    pipe = cast(BufferedIOBase, sys.stdin.buffer)  # its declared type, BinaryIO, lacks read1
    return LiveSource(STANDARD_INPUT, recordings.raw_blocks(pipe, rate, encoding, BLOCK_SECONDS))


def from_file(name: str, selection: recordings.Selection, realtime: bool) -> LiveSource:
    """A recording, in real time or as fast as it is processed. Raises KwsError for a URL."""
    reject_url(name, _PIPE_COMMAND)
    path = find_on_disk(Path(name))
    blocks = recordings.stream_blocks(path, BLOCK_SECONDS, selection)
    return LiveSource(to_printable(str(path)), _pace_realtime(blocks) if realtime else blocks)


def _pace_realtime(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    due = time.monotonic()
    for block in blocks:
        due += len(block) / recordings.SAMPLE_RATE
        time.sleep(max(0.0, due - time.monotonic()))
        yield block


def run(spotter: Spotter, source: LiveSource, output_format: str) -> None:
    """Writes the events of `source` to stdout until it ends. Raises AudioError where the source
    breaks off, KwsError where stdout does."""
    writer = EventWriter(sys.stdout, output_format, [source.name], spotter.words)
    meter = Meter(spotter.words, spotter.events)
    stream, error = spotter.stream(events_only=not meter.is_visible), None

    def write(events: list[Detection]) -> None:
        for event in events:
            meter.clear()
            writer.write(source.name, event)

    with Interrupts() as interrupts:
        try:
            for block in source.blocks:
                events = stream.feed(block)
                interrupts.check()
                if meter.is_visible:
                    meter.show(stream.seconds, block, stream.scores)
                write(events)
        except AudioError as failure:
            error = failure
        finally:
            meter.clear()
        write(stream.finish())
    if error:
        raise error
