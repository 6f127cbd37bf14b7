"""Live listening: samples from a microphone, a pipe, or a file at its own pace, and events the
moment they are decided."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import numpy as np

from kws.audio import recordings
from kws.audio.addresses import reject_url
from kws.audio.folders import find_on_disk
from kws.cli.detecting import STANDARD_INPUT
from kws.runtime.spotter import Spotter, Stream
from kws.terminal.interrupts import Interrupts
from kws.terminal.printers import EventWriter
from kws.terminal.progress import Meter
from kws.terminal.stdio import to_printable

BLOCK_SECONDS = 0.08
MICROPHONE = "microphone"
_PIPE_COMMAND = f"ffmpeg -v error -i - -f s16le -ac 1 -ar {recordings.SAMPLE_RATE} - | kws stream -"


@dataclass(frozen=True)
class LiveSource:
    """Live audio and the name that its events carry; `blocks` are float32 mono 16 kHz arrays."""

    name: str
    blocks: Iterator[np.ndarray]


def from_microphone(device: str | None, warn: Callable[[str], None]) -> LiveSource:
    """The microphone whose name contains `device`, or the default one. Samples lost are told to
    `warn` once."""
    from kws.audio import microphone

    has_warned = False

    def on_overrun(seconds: float) -> None:
        nonlocal has_warned
        if not has_warned:
            warn(
                f"{seconds:.1f} s of sound were lost: this machine is too busy to keep up. "
                "Events may be missed."
            )
        has_warned = True

    return LiveSource(
        device or MICROPHONE,
        microphone.blocks(device, block_seconds=BLOCK_SECONDS, on_overrun=on_overrun),
    )


def from_pipe(rate: int, encoding: str) -> LiveSource:
    """Raw mono PCM on standard input."""
    pipe = cast(BufferedIOBase, sys.stdin.buffer)  # its declared type, BinaryIO, lacks read1
    return LiveSource(STANDARD_INPUT, recordings.raw_blocks(pipe, rate, encoding, BLOCK_SECONDS))


def from_file(name: str, selection: recordings.Selection, realtime: bool) -> LiveSource:
    """A recording, at the pace it was spoken or as fast as it goes. Raises KwsError for
    an address."""
    reject_url(name, _PIPE_COMMAND)
    path = find_on_disk(Path(name))
    blocks = recordings.blocks(path, BLOCK_SECONDS, selection)
    return LiveSource(to_printable(str(path)), _pace_realtime(blocks) if realtime else blocks)


def _pace_realtime(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    due = time.monotonic()
    for block in blocks:
        due += len(block) / recordings.SAMPLE_RATE
        time.sleep(max(0.0, due - time.monotonic()))
        yield block


def run(spotter: Spotter, source: LiveSource, output_format: str) -> None:
    """Writes the events of `source` to stdout until it ends. Raises AudioError where it breaks off,
    KwsError where stdout does."""
    writer = EventWriter(sys.stdout, output_format, [source.name], spotter.words)
    meter = Meter(spotter.words, spotter.events)

    def show(stream: Stream, block: np.ndarray) -> None:
        interrupts.check()
        meter.show(stream.seconds, block, stream.scores)

    with Interrupts() as interrupts:
        try:
            for event in spotter.stream().detect_blocks(source.blocks, show):
                meter.clear()
                writer.write(source.name, event)
        finally:
            meter.clear()
