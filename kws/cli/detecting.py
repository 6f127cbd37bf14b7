"""Words in many recordings: folders are expanded, several recordings are heard at once, results
keep the order of the input, and a recording that cannot be read stops none of the others."""

import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from kws.audio.addresses import check_file
from kws.audio.folders import find_recordings, on_disk
from kws.audio.recordings import (
    ALL,
    SAMPLE_RATE,
    Selection,
    blocks,
    duration_seconds,
    excerpt,
)
from kws.errors import AudioError, KwsError, MissingExtraError, install_hint
from kws.runtime.postprocess import Detection
from kws.runtime.spotter import Spotter, Stream
from kws.terminal.interrupts import Interrupts
from kws.terminal.printers import ClipFolder, EventWriter, check_place
from kws.terminal.progress import Progress, aside
from kws.terminal.stdio import FULL, printable

STANDARD_INPUT = "-"
_PLOT_SECONDS = 15 * 60  # a longer recording shows nothing on one picture


@dataclass(frozen=True)
class Recording:
    """A recording under the name that the user gave it."""

    name: str
    path: Path


@dataclass(frozen=True)
class Options:
    """What to do with the events, as wished on the command line."""

    form: str = "text"  # one of kws.terminal.printers.FORMATS
    plot: Path | None = None
    clips: Path | None = None
    jobs: int = 1
    quiet: bool = False  # print nothing, stop at the first event
    selection: Selection = ALL


@dataclass
class Outcome:
    """How many events were found, and how many recordings or writings failed."""

    events: int = 0
    faults: int = 0


Result = tuple[Recording, Detection | KwsError]


def run(
    spotter: Spotter, names: Sequence[str], options: Options, complain: Callable[[KwsError], None]
) -> Outcome:
    """Hears all recordings and writes their events to stdout; each fault goes to `complain`.
    `names` are files, folders or '-'.

    Raises KwsError when events or the plot cannot be written, or clips have no place; before
    anything is heard, where that is known.
    """
    for place in filter(None, (options.clips, options.plot)):
        check_place(place)
    with Interrupts() as interrupts, _scratch(names) as scratch:
        recordings, faults = gather(names, scratch)
        if options.plot:
            check_drawable(recordings)
            _check_apart(options.plot, recordings)
        outcome = Outcome(faults=len(faults))
        for fault in faults:
            complain(fault)
        _hear(spotter, recordings, options, outcome, complain, interrupts)
    return outcome


def _check_apart(plot: Path, recordings: Sequence[Recording]) -> None:
    """Raises KwsError where the picture would take the place of a recording."""
    for recording in recordings:
        if plot.exists() and recording.path.exists() and plot.samefile(recording.path):
            raise KwsError(f"{plot}: is the recording itself. Choose another file for --plot.")


@contextmanager
def _scratch(names: Sequence[str]) -> Iterator[Path]:
    """A folder for what comes on standard input, where something does."""
    if STANDARD_INPUT not in names:
        yield Path()
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="kws-")
    except OSError as error:
        raise KwsError(
            f"{STANDARD_INPUT}: standard input cannot be kept ({error.strerror}). "
            "Make room, or set TMPDIR."
        ) from error
    with folder as name:
        yield Path(name)


def gather(names: Sequence[str], scratch: Path) -> tuple[list[Recording], list[KwsError]]:
    """All recordings that `names` stand for, and a fault for each name or folder without any.
    Standard input is copied to `scratch`."""
    recordings: list[Recording] = []
    faults: list[KwsError] = []
    for name in names:
        try:
            recordings += (
                [_from_standard_input(scratch)]
                if name == STANDARD_INPUT
                else _below(name, faults.append)
            )
        except KwsError as fault:
            faults.append(fault)
    return recordings, faults


def _from_standard_input(scratch: Path) -> Recording:
    path = scratch / "stdin"  # decoders seek, a pipe cannot
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    except OSError as error:
        place = f"does not fit into {scratch.parent}" if error.errno in FULL else "cannot be read"
        way_out = (
            "Make room there, or set TMPDIR"
            if error.errno in FULL
            else "Give it a recording: kws detect - < FILE"
        )
        raise AudioError(
            f"{STANDARD_INPUT}: standard input {place} ({error.strerror}). {way_out}."
        ) from error
    return Recording(STANDARD_INPUT, path)


def _below(name: str, lost: Callable[[KwsError], None]) -> list[Recording]:
    check_file(name, "kws detect -")
    if not name:
        raise AudioError("'': an empty name is no recording. Is a variable unset?")
    return [
        Recording(printable(str(path)), path) for path in find_recordings(on_disk(Path(name)), lost)
    ]


def _hear(
    spotter: Spotter,
    recordings: list[Recording],
    options: Options,
    outcome: Outcome,
    complain: Callable[[KwsError], None],
    interrupts: Interrupts,
) -> None:
    outlet = _Outlet(spotter, recordings, options)
    progress = Progress(duration_seconds(recording.path) for recording in recordings)

    def heard(seconds: float) -> None:
        interrupts.check()
        progress.heard(seconds)

    try:
        for recording, result in results(
            spotter, recordings, options.selection, options.jobs, heard
        ):
            with aside():
                fault = result if isinstance(result, KwsError) else outlet.take(recording, result)
                outcome.events += result is not fault
                if fault:
                    outcome.faults += 1
                    complain(fault)
            if options.quiet and outcome.events and not (options.clips or options.plot):
                break
    finally:
        progress.close()
    outlet.finish(recordings)


class _Outlet:
    """Where events go: lines on stdout, clips, and at the end the plot."""

    def __init__(self, spotter: Spotter, recordings: list[Recording], options: Options):
        self._spotter = spotter
        names = [recording.name for recording in recordings]
        self._writer = (
            None if options.quiet else EventWriter(sys.stdout, options.form, names, spotter.words)
        )
        self._clips = options.clips and ClipFolder(options.clips, options.selection)
        self._selection = options.selection
        self._plot = options.plot
        self._events: list[Detection] = []  # kept for the plot alone

    def take(self, recording: Recording, event: Detection) -> KwsError | None:
        """What was wrong with the clip of this event, which does not keep others from being saved.
        Raises KwsError where the event itself cannot be written."""
        if self._writer:
            self._writer.write(recording.name, event)
        if self._plot:
            self._events.append(event)
        try:
            if self._clips:
                self._clips.save(recording.path, event)
        except KwsError as fault:
            return fault
        return None

    def finish(self, recordings: list[Recording]) -> None:
        if self._plot and recordings:
            with suppress(AudioError):  # what cannot be read was told when it was to be heard
                draw(self._spotter, recordings[0], self._selection, self._events, self._plot)


def check_drawable(recordings: Sequence[Recording]) -> None:
    """Raises KwsError where it is known before it is heard that the first recording cannot
    be drawn."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError(
            f"plots need matplotlib, which is not installed. {install_hint('plot')}"
        )
    for recording in recordings[:1]:
        _check_length(recording, duration_seconds(recording.path) or 0.0)


def draw(
    spotter: Spotter,
    recording: Recording,
    selection: Selection,
    events: Sequence[Detection],
    picture: Path,
) -> None:
    """Plots one recording and its events, or nothing if there is no sound in it.

    Raises AudioError when it cannot be read, KwsError when it is too long for a picture, or
    matplotlib is missing.
    """
    from kws.terminal.plot import plot

    samples = excerpt(recording.path, 0, _PLOT_SECONDS + 1, selection)
    _check_length(recording, len(samples) / SAMPLE_RATE)
    if not len(samples):
        return
    scores, targets = spotter.scores(samples), spotter.events.targets
    thresholds = {spotter.words[word]: spotter.events.threshold[word] for word in targets}
    plot(picture, samples, replace(scores, pooled=scores.pooled[:, targets]), events, thresholds)


def _check_length(recording: Recording, seconds: float) -> None:
    if seconds > _PLOT_SECONDS:
        minutes = _PLOT_SECONDS // 60
        raise KwsError(
            f"{recording.name}: longer than {minutes} minutes, too long for one plot. "
            "Cut out the part to look at."
        )


def results(
    spotter: Spotter,
    recordings: Sequence[Recording],
    selection: Selection,
    jobs: int,
    heard: Callable[[float], None],
) -> Iterator[Result]:
    """Events of each recording, then its fault if it has one, in the order of `recordings`; `jobs`
    are heard at once.

    `heard` is told the seconds of audio done. With one job, events come as they are found.
    """
    if jobs == 1:
        for recording in recordings:
            yield from _results_of(spotter, selection, heard, recording)
        return
    # Takes 3 ms to load, of which one recording needs nothing.
    from concurrent.futures import ThreadPoolExecutor

    stop = _Stop(heard)
    pool = ThreadPoolExecutor(jobs)
    try:
        for found in pool.map(partial(_collected, spotter, selection, stop.heard), recordings):
            yield from found
    finally:  # Ctrl-C, or nobody reads on
        stop.wished.set()
        pool.shutdown(cancel_futures=True)


def _collected(
    spotter: Spotter,
    selection: Selection,
    heard: Callable[[float], None],
    recording: Recording,
) -> list[Result]:
    return list(_results_of(spotter, selection, heard, recording))


class _StoppedError(Exception):
    """Leaves the middle of a recording that nobody waits for any more."""


class _Stop:
    def __init__(self, heard: Callable[[float], None]):
        self._heard = heard
        self.wished = threading.Event()

    def heard(self, seconds: float) -> None:
        if self.wished.is_set():
            raise _StoppedError
        self._heard(seconds)


def _results_of(
    spotter: Spotter,
    selection: Selection,
    heard: Callable[[float], None],
    recording: Recording,
) -> Iterator[Result]:
    def after_block(_: Stream, block: np.ndarray) -> None:
        heard(len(block) / SAMPLE_RATE)

    try:
        for event in spotter.stream().listen(
            blocks(recording.path, selection=selection), after_block
        ):
            yield recording, event
    except AudioError as fault:
        yield recording, AudioError(str(fault).replace(str(recording.path), recording.name))
