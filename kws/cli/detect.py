"""`kws detect`: words in recordings."""

import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import click

from kws.audio.addresses import reject_url
from kws.audio.folders import find_on_disk, find_recordings
from kws.audio.recordings import (
    SAMPLE_RATE,
    Selection,
    duration_seconds,
    read_excerpt,
    stream_blocks,
)
from kws.cli import options
from kws.errors import AudioError, KwsError, MissingExtraError, install_hint
from kws.files import check_writable
from kws.runtime.postprocess import Detection
from kws.runtime.spotter import Spotter
from kws.terminal.interrupts import Interrupts
from kws.terminal.printers import ClipFolder, EventWriter
from kws.terminal.progress import AudioProgress, above_bars
from kws.terminal.stdio import DISK_FULL_ERRNOS, to_printable
from kws.terminal.types import FILE, FOLDER

STANDARD_INPUT = "-"
_MAX_PLOT_SECONDS = 15 * 60  # a picture of a longer recording shows nothing

logger = logging.getLogger("kws")


@click.command(
    epilog=(
        "Exit status: 0 done, 1 a recording could not be read (the others were) or something not "
        "written, 2 wrong usage."
    )
)
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|-...")
@options.MODEL
@options.OUTPUT_FORMAT
@options.CHANNEL
@click.option(
    "--plot", type=FILE, metavar="PNG", help="Plot waveform, log-mel, score and events to this PNG."
)
@click.option(
    "--save-clips", type=FOLDER, metavar="DIR", help="Folder for the audio around each event."
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of recordings to process at once.",
)
@click.option(
    "-q",
    "quiet",
    is_flag=True,
    help="Print nothing. The exit status is 0 if a word was found, 1 if not.",
)
def detect(
    paths: tuple[str, ...],
    model: str,
    threshold: float | None,
    false_alarms_per_hour: float | None,
    device: str,
    output_format: str,
    channel: int | None,
    track: int | None,
    plot: Path | None,
    save_clips: Path | None,
    jobs: int,
    quiet: bool,
) -> None:
    """Detect words in recordings.

    Prints file, word, start, end (seconds) and score of each event. A folder stands for all
    recordings below it, '-' for a recording on standard input.

    \b
    kws detect meeting.flac
    kws detect recordings/ --json | jq .start
    kws detect talk.mp3 --plot talk.png --save-clips clips/
    curl -s https://example.org/talk.ogg | kws detect -
    """
    if paths.count(STANDARD_INPUT) > 1:
        raise click.UsageError("'-' is standard input, which can be read once; give it once.")
    # Path.is_dir raises for a name that is too long.
    several = len(paths) > 1 or os.path.isdir(paths[0])  # noqa: PTH112
    if (plot or output_format == "labels") and several:
        raise click.UsageError("--plot and --labels describe one recording; give one FILE.")
    spotter = options.load_spotter(model, threshold, false_alarms_per_hour, device)
    outcome = run(
        spotter,
        paths,
        DetectOptions(output_format, plot, save_clips, jobs, quiet, Selection(channel, track)),
    )
    failed = not outcome.events if quiet else outcome.errors > 0
    sys.exit(int(failed))


@dataclass(frozen=True)
class DetectOptions:
    """What to do with the events. output_format: one of `kws.terminal.printers.FORMATS`."""

    output_format: str
    plot: Path | None
    clips: Path | None
    jobs: int
    quiet: bool
    selection: Selection

    @property
    def stops_at_first_event(self) -> bool:
        return self.quiet and not (self.clips or self.plot)


@dataclass(frozen=True)
class Recording:
    """A recording under the name that the user gave it."""

    name: str
    path: Path


@dataclass
class Outcome:
    """Number of events, and of recordings or writings that failed."""

    events: int = 0
    errors: int = 0

    def add_error(self, error: KwsError) -> None:
        logger.error(str(error))
        self.errors += 1


def run(spotter: Spotter, names: Sequence[str], options: DetectOptions) -> Outcome:
    """Detects words in all recordings and writes the events to stdout. Logs the errors of single
    recordings. `names`: files, folders or '-'.

    Raises KwsError when events, clips or the plot cannot be written; before anything is read, where
    that is known.
    """
    for target in filter(None, (options.clips, options.plot)):
        check_writable(target)
    outcome = Outcome()
    with Interrupts() as interrupts, _scratch_folder(names) as scratch:
        recordings = expand_inputs(names, scratch, outcome)
        if options.plot:
            check_plottable(options.plot, recordings)
        sink = _EventSink(spotter, recordings, options)
        durations = (duration_seconds(recording.path) for recording in recordings)
        with closing(AudioProgress(durations)) as progress:
            for result in detect_all(spotter, recordings, options, progress):
                interrupts.check()
                with above_bars():
                    sink.write(result, outcome)
                if outcome.events and options.stops_at_first_event:
                    break
        sink.plot(recordings)
    return outcome


@contextmanager
def _scratch_folder(names: Sequence[str]) -> Iterator[Path]:
    """A folder for a copy of standard input, if that is among the inputs."""
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


def expand_inputs(names: Sequence[str], scratch: Path, outcome: Outcome) -> list[Recording]:
    """All recordings that `names` stand for. `outcome` receives an error for each name or folder
    without any. Standard input is copied to `scratch`."""
    recordings: list[Recording] = []
    for name in names:
        try:
            if name == STANDARD_INPUT:
                recordings.append(_copy_standard_input(scratch))
            else:
                recordings += _find_below(name, outcome)
        except KwsError as error:
            outcome.add_error(error)
    return recordings


def _copy_standard_input(scratch: Path) -> Recording:
    path = scratch / "stdin"  # decoders seek, which a pipe cannot
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            problem, remedy = (
                f"does not fit into {scratch.parent}",
                "Make room there, or set TMPDIR",
            )
        else:
            problem, remedy = "cannot be read", "Give it a recording: kws detect - < FILE"
        raise AudioError(
            f"{STANDARD_INPUT}: standard input {problem} ({error.strerror}). {remedy}."
        ) from error
    return Recording(STANDARD_INPUT, path)


def _find_below(name: str, outcome: Outcome) -> list[Recording]:
    reject_url(name, "kws detect -")
    if not name:
        raise AudioError("'': an empty name is no recording. Is a variable unset?")
    paths = find_recordings(find_on_disk(Path(name)), outcome.add_error)
    return [Recording(to_printable(str(path)), path) for path in paths]


# Detection


@dataclass(frozen=True)
class Result:
    """What a part of a recording brought: its events, or the error that ended it."""

    recording: Recording
    events: list[Detection] = field(default_factory=list)
    error: KwsError | None = None


def detect_all(
    spotter: Spotter,
    recordings: Sequence[Recording],
    options: DetectOptions,
    progress: AudioProgress,
) -> Iterator[Result]:
    """Results of each recording, in the order of `recordings`. With one job they come while the
    recording is read, with several when it is finished."""
    if options.jobs == 1:
        for recording in recordings:
            yield from detect_recording(spotter, recording, options.selection, progress)
        return
    from concurrent.futures import ThreadPoolExecutor  # takes 3 ms to load

    stopped = threading.Event()

    def detect_whole(recording: Recording) -> list[Result]:
        results = []
        for result in detect_recording(spotter, recording, options.selection, progress):
            results.append(result)
            if stopped.is_set():
                break
        return results

    pool = ThreadPoolExecutor(options.jobs)
    try:
        for results in pool.map(detect_whole, recordings):
            yield from results
    finally:  # also after Ctrl-C
        stopped.set()
        pool.shutdown(cancel_futures=True)


def detect_recording(
    spotter: Spotter, recording: Recording, selection: Selection, progress: AudioProgress
) -> Iterator[Result]:
    """A result for each block, and one for the end."""
    stream, error = spotter.stream(events_only=True), None
    try:
        for block in stream_blocks(recording.path, selection=selection):
            events = stream.feed(block)
            progress.advance(len(block) / SAMPLE_RATE)
            yield Result(recording, events)
    except AudioError as failure:
        error = AudioError(str(failure).replace(str(recording.path), recording.name))
    yield Result(recording, stream.finish(), error)


# Output


class _EventSink:
    """Writes events: lines on stdout, clips, and at the end the plot."""

    def __init__(self, spotter: Spotter, recordings: Sequence[Recording], options: DetectOptions):
        self._spotter = spotter
        self._options = options
        self._writer = None
        if not options.quiet:
            names = [recording.name for recording in recordings]
            self._writer = EventWriter(sys.stdout, options.output_format, names, spotter.words)
        self._clips = ClipFolder(options.clips, options.selection) if options.clips else None
        self._events: list[Detection] = []  # for the plot

    def write(self, result: Result, outcome: Outcome) -> None:
        """Writes the events of a result and counts them; logs its error, and those of clips that
        cannot be saved. Raises KwsError when an event cannot be written."""
        for event in result.events:
            outcome.events += 1
            if self._writer:
                self._writer.write(result.recording.name, event)
            if self._options.plot:
                self._events.append(event)
            try:
                if self._clips:
                    self._clips.save(result.recording.path, event)
            except KwsError as error:
                outcome.add_error(error)
        if result.error:
            outcome.add_error(result.error)

    def plot(self, recordings: Sequence[Recording]) -> None:
        """Plots the first recording, if a plot is asked for and the recording can be read."""
        if self._options.plot and recordings:
            with suppress(AudioError):  # has been logged
                plot_recording(
                    self._spotter,
                    recordings[0],
                    self._options.selection,
                    self._events,
                    self._options.plot,
                )


def check_plottable(png_path: Path, recordings: Sequence[Recording]) -> None:
    """Raises KwsError where it is known beforehand that the first recording cannot be plotted, or
    that the plot would overwrite a recording."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError(
            f"plots need matplotlib, which is not installed. {install_hint('plot')}"
        )
    for recording in recordings[:1]:
        _check_length(recording, duration_seconds(recording.path) or 0.0)
    for recording in recordings:
        if _is_same_file(png_path, recording.path):
            raise KwsError(f"{png_path}: is the recording itself. Choose another file for --plot.")


def _is_same_file(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.samefile(second)


def plot_recording(
    spotter: Spotter,
    recording: Recording,
    selection: Selection,
    events: Iterable[Detection],
    png_path: Path,
) -> None:
    """Plots a recording and its events; nothing if the recording has no samples.

    Raises AudioError when it cannot be read, KwsError when it is too long or matplotlib is missing.
    """
    from kws.terminal.plot import plot

    samples = read_excerpt(recording.path, 0, _MAX_PLOT_SECONDS + 1, selection)
    _check_length(recording, len(samples) / SAMPLE_RATE)
    if not len(samples):
        return
    scores, targets = spotter.scores(samples), spotter.events.targets
    thresholds = {spotter.words[word]: spotter.events.threshold[word] for word in targets}
    word_scores = replace(scores, pooled=scores.pooled[:, targets])
    plot(png_path, samples, word_scores, [*events], thresholds)


def _check_length(recording: Recording, seconds: float) -> None:
    if seconds > _MAX_PLOT_SECONDS:
        raise KwsError(
            f"{recording.name}: longer than {_MAX_PLOT_SECONDS // 60} minutes, too long for one "
            "plot. Cut out the part to look at."
        )
