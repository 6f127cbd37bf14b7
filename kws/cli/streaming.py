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
from kws.audio.addresses import check_file
from kws.audio.folders import on_disk
from kws.cli.detecting import STANDARD_INPUT
from kws.runtime.spotter import Spotter, Stream
from kws.terminal.interrupts import Interrupts
from kws.terminal.printers import EventWriter
from kws.terminal.progress import Meter
from kws.terminal.stdio import printable

BLOCK_SECONDS = 0.08
MICROPHONE = "microphone"
_FROM_A_PIPE = f"ffmpeg -v error -i - -f s16le -ac 1 -ar {recordings.SAMPLE_RATE} - | kws stream -"


@dataclass(frozen=True)
class Source:
    """Live audio and the name that its events carry; `blocks` are float32 mono 16 kHz arrays."""

    name: str
    blocks: Iterator[np.ndarray]


def from_microphone(device: str | None, warn: Callable[[str], None]) -> Source:
    """The microphone whose name contains `device`, or the default one. Samples lost are told to
    `warn` once."""
    from kws.audio import microphone

    told = False

    def on_loss(seconds: float) -> None:
        nonlocal told
        if not told:
            warn(
                f"{seconds:.1f} s of sound were lost: this machine is too busy to keep up. "
                "Events may be missed."
            )
        told = True

    return Source(
        device or MICROPHONE,
        microphone.blocks(device, block_seconds=BLOCK_SECONDS, on_loss=on_loss),
    )


def from_pipe(rate: int, encoding: str) -> Source:
    """Raw mono PCM on standard input."""
    pipe = cast(BufferedIOBase, sys.stdin.buffer)  # its declared type, BinaryIO, lacks read1
    return Source(STANDARD_INPUT, recordings.raw_blocks(pipe, rate, encoding, BLOCK_SECONDS))


def from_file(name: str, selection: recordings.Selection, realtime: bool) -> Source:
    """A recording, at the pace it was spoken or as fast as it goes. Raises KwsError for
    an address."""
    check_file(name, _FROM_A_PIPE)
    path = on_disk(Path(name))
    blocks = recordings.blocks(path, BLOCK_SECONDS, selection)
    return Source(printable(str(path)), _paced(blocks) if realtime else blocks)


def _paced(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    due = time.monotonic()
    for block in blocks:
        due += len(block) / recordings.SAMPLE_RATE
        time.sleep(max(0.0, due - time.monotonic()))
        yield block


def run(spotter: Spotter, source: Source, form: str) -> None:
    """Writes the events of `source` to stdout until it ends. Raises AudioError where it breaks off,
    KwsError where stdout does."""
    writer = EventWriter(sys.stdout, form, [source.name], spotter.words)
    meter = Meter(spotter.words, spotter.events)

    def show(stream: Stream, block: np.ndarray) -> None:
        interrupts.check()
        meter.show(stream.seconds, block, stream.scores)

    with Interrupts() as interrupts:
        try:
            for event in spotter.stream().listen(source.blocks, show):
                meter.clear()
                writer.write(source.name, event)
        finally:
            meter.clear()
