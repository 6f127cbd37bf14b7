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

from kws.audio.addresses import reject_url
from kws.audio.folders import find_on_disk, find_recordings
from kws.audio.recordings import (
    DEFAULT_SELECTION,
    SAMPLE_RATE,
    Selection,
    blocks,
    duration_seconds,
    read_excerpt,
)
from kws.errors import AudioError, KwsError, MissingExtraError, install_hint
from kws.files import check_writable
from kws.runtime.postprocess import Detection
from kws.runtime.spotter import Spotter, Stream
from kws.terminal.interrupts import Interrupts
from kws.terminal.printers import ClipFolder, EventWriter
from kws.terminal.progress import Progress, above_bars
from kws.terminal.stdio import DISK_FULL_ERRNOS, to_printable

STANDARD_INPUT = "-"
_PLOT_SECONDS = 15 * 60  # a longer recording shows nothing on one picture


@dataclass(frozen=True)
class Recording:
    """A recording under the name that the user gave it."""

    name: str
    path: Path


@dataclass(frozen=True)
class DetectOptions:
    """What to do with the events, as wished on the command line."""

    output_format: str = "text"  # one of kws.terminal.printers.FORMATS
    plot: Path | None = None
    clips: Path | None = None
    jobs: int = 1
    quiet: bool = False  # print nothing, stop at the first event
    selection: Selection = DEFAULT_SELECTION


@dataclass
class Outcome:
    """How many events were found, and how many recordings or writings failed."""

    events: int = 0
    errors: int = 0


Result = tuple[Recording, Detection | KwsError]


def run(
    spotter: Spotter,
    names: Sequence[str],
    options: DetectOptions,
    report_error: Callable[[KwsError], None],
) -> Outcome:
    """Hears all recordings and writes their events to stdout; each fault goes to `report_error`.
    `names` are files, folders or '-'.

    Raises KwsError when events or the plot cannot be written, or clips have no place; before
    anything is heard, where that is known.
    """
    for reason in filter(None, (options.clips, options.plot)):
        check_writable(reason)
    with Interrupts() as interrupts, _scratch(names) as scratch:
        recordings, errors = expand_inputs(names, scratch)
        if options.plot:
            check_plottable(recordings)
            _check_not_recording(options.plot, recordings)
        outcome = Outcome(errors=len(errors))
        for error in errors:
            report_error(error)
        _detect_recordings(spotter, recordings, options, outcome, report_error, interrupts)
    return outcome


def _check_not_recording(plot: Path, recordings: Sequence[Recording]) -> None:
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


def expand_inputs(names: Sequence[str], scratch: Path) -> tuple[list[Recording], list[KwsError]]:
    """All recordings that `names` stand for, and a fault for each name or folder without any.
    Standard input is copied to `scratch`."""
    recordings: list[Recording] = []
    errors: list[KwsError] = []
    for name in names:
        try:
            recordings += (
                [_from_standard_input(scratch)]
                if name == STANDARD_INPUT
                else _find_below(name, errors.append)
            )
        except KwsError as error:
            errors.append(error)
    return recordings, errors


def _from_standard_input(scratch: Path) -> Recording:
    path = scratch / "stdin"  # decoders seek, a pipe cannot
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    except OSError as error:
        reason = (
            f"does not fit into {scratch.parent}"
            if error.errno in DISK_FULL_ERRNOS
            else "cannot be read"
        )
        remedy = (
            "Make room there, or set TMPDIR"
            if error.errno in DISK_FULL_ERRNOS
            else "Give it a recording: kws detect - < FILE"
        )
        raise AudioError(
            f"{STANDARD_INPUT}: standard input {reason} ({error.strerror}). {remedy}."
        ) from error
    return Recording(STANDARD_INPUT, path)


def _find_below(name: str, on_error: Callable[[KwsError], None]) -> list[Recording]:
    reject_url(name, "kws detect -")
    if not name:
        raise AudioError("'': an empty name is no recording. Is a variable unset?")
    return [
        Recording(to_printable(str(path)), path)
        for path in find_recordings(find_on_disk(Path(name)), on_error)
    ]


def _detect_recordings(
    spotter: Spotter,
    recordings: list[Recording],
    options: DetectOptions,
    outcome: Outcome,
    report_error: Callable[[KwsError], None],
    interrupts: Interrupts,
) -> None:
    event_sink = _EventSink(spotter, recordings, options)
    progress = Progress(duration_seconds(recording.path) for recording in recordings)

    def advance(seconds: float) -> None:
        interrupts.check()
        progress.advance(seconds)

    try:
        for recording, result in detect_all(
            spotter, recordings, options.selection, options.jobs, advance
        ):
            with above_bars():
                error = (
                    result if isinstance(result, KwsError) else event_sink.add(recording, result)
                )
                outcome.events += result is not error
                if error:
                    outcome.errors += 1
                    report_error(error)
            if options.quiet and outcome.events and not (options.clips or options.plot):
                break
    finally:
        progress.close()
    event_sink.finish(recordings)


class _EventSink:
    """Where events go: lines on stdout, clips, and at the end the plot."""

    def __init__(self, spotter: Spotter, recordings: list[Recording], options: DetectOptions):
        self._spotter = spotter
        names = [recording.name for recording in recordings]
        self._writer = (
            None
            if options.quiet
            else EventWriter(sys.stdout, options.output_format, names, spotter.words)
        )
        self._clips = options.clips and ClipFolder(options.clips, options.selection)
        self._selection = options.selection
        self._plot = options.plot
        self._events: list[Detection] = []  # kept for the plot alone

    def add(self, recording: Recording, event: Detection) -> KwsError | None:
        """What was wrong with the clip of this event, which does not keep others from being saved.
        Raises KwsError where the event itself cannot be written."""
        if self._writer:
            self._writer.write(recording.name, event)
        if self._plot:
            self._events.append(event)
        try:
            if self._clips:
                self._clips.save(recording.path, event)
        except KwsError as error:
            return error
        return None

    def finish(self, recordings: list[Recording]) -> None:
        if self._plot and recordings:
            with suppress(AudioError):  # what cannot be read was told when it was to be heard
                plot_recording(
                    self._spotter, recordings[0], self._selection, self._events, self._plot
                )


def check_plottable(recordings: Sequence[Recording]) -> None:
    """Raises KwsError where it is known before it is heard that the first recording cannot
    be drawn."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError(
            f"plots need matplotlib, which is not installed. {install_hint('plot')}"
        )
    for recording in recordings[:1]:
        _check_length(recording, duration_seconds(recording.path) or 0.0)


def plot_recording(
    spotter: Spotter,
    recording: Recording,
    selection: Selection,
    events: Sequence[Detection],
    png_path: Path,
) -> None:
    """Plots one recording and its events, or nothing if there is no sound in it.

    Raises AudioError when it cannot be read, KwsError when it is too long for a picture, or
    matplotlib is missing.
    """
    from kws.terminal.plot import plot

    samples = read_excerpt(recording.path, 0, _PLOT_SECONDS + 1, selection)
    _check_length(recording, len(samples) / SAMPLE_RATE)
    if not len(samples):
        return
    scores, targets = spotter.scores(samples), spotter.events.targets
    thresholds = {spotter.words[word]: spotter.events.threshold[word] for word in targets}
    plot(png_path, samples, replace(scores, pooled=scores.pooled[:, targets]), events, thresholds)


def _check_length(recording: Recording, seconds: float) -> None:
    if seconds > _PLOT_SECONDS:
        minutes = _PLOT_SECONDS // 60
        raise KwsError(
            f"{recording.name}: longer than {minutes} minutes, too long for one plot. "
            "Cut out the part to look at."
        )


def detect_all(
    spotter: Spotter,
    recordings: Sequence[Recording],
    selection: Selection,
    jobs: int,
    advance: Callable[[float], None],
) -> Iterator[Result]:
    """Events of each recording, then its fault if it has one, in the order of `recordings`; `jobs`
    are heard at once.

    `advance` is told the seconds of audio done. With one job, events come as they are found.
    """
    if jobs == 1:
        for recording in recordings:
            yield from _detect_recording(spotter, selection, advance, recording)
        return
    # Takes 3 ms to load, of which one recording needs nothing.
    from concurrent.futures import ThreadPoolExecutor

    cancel_token = _CancelToken(advance)
    pool = ThreadPoolExecutor(jobs)
    try:
        for recording_results in pool.map(
            partial(_collect_results, spotter, selection, cancel_token.advance), recordings
        ):
            yield from recording_results
    finally:  # Ctrl-C, or nobody reads on
        cancel_token.cancelled.set()
        pool.shutdown(cancel_futures=True)


def _collect_results(
    spotter: Spotter,
    selection: Selection,
    advance: Callable[[float], None],
    recording: Recording,
) -> list[Result]:
    return list(_detect_recording(spotter, selection, advance, recording))


class _CancelledError(Exception):
    """Leaves the middle of a recording that nobody waits for any more."""


class _CancelToken:
    def __init__(self, advance: Callable[[float], None]):
        self._advance = advance
        self.cancelled = threading.Event()

    def advance(self, seconds: float) -> None:
        if self.cancelled.is_set():
            raise _CancelledError
        self._advance(seconds)


def _detect_recording(
    spotter: Spotter,
    selection: Selection,
    advance: Callable[[float], None],
    recording: Recording,
) -> Iterator[Result]:
    def after_block(_: Stream, block: np.ndarray) -> None:
        advance(len(block) / SAMPLE_RATE)

    try:
        for event in spotter.stream().detect_blocks(
            blocks(recording.path, selection=selection), after_block
        ):
            yield recording, event
    except AudioError as error:
        yield recording, AudioError(str(error).replace(str(recording.path), recording.name))
