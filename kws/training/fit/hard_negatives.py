"""Hard negatives: a trained network listens to long audio without the word, and what fires is
written down and cut out, to be learned from again.

Most of what is drawn at random from hours of speech is no longer a lesson after a first round of
training; what still fires is. (The idea is bootstrapping, Sung and Poggio, "Example-based learning
for view-based human face detection", 1998.) The list of what fired is for people as well: whoever
listens to it finds the places where the word was said after all, and deletes their lines.
"""

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.audio import recordings
from kws.errors import AudioError, DataError
from kws.runtime.spotter import Spotter, Stream
from kws.terminal.printers import csv_row, write_atomically
from kws.training.data.clips import Clip
from kws.training.data.dataset import ClipDataset, pack_clips, to_int16
from kws.training.data.sources import NegativeSource

THRESHOLD = 0.3  # of the score: what comes this near to firing is learned from, too
MIN_GAP_SECONDS = 1.0  # what fires closer together is one finding
# Of what is cut out, before the highest score: all that the network looked at, and a little more.
SECONDS_BEFORE = 1.8
SECONDS_AFTER = 0.7
# One song with a line that sounds like the word must not be all that is learned.
MAX_PER_HOUR = 200
MAX_FALSE_ALARMS = 2000  # 160 MB of samples
MAX_SHARE = 0.08  # of the negatives drawn, at most: more of them costs words in noise
# With so many findings the share is half of it, so that few are not heard thousands of times.
HALF_SHARE_SEGMENTS = 50

_COLUMNS = ("file", "seconds", "word", "score")


@dataclass(frozen=True)
class FalseAlarm:
    """Where the network fired: `score` is the highest there, at `seconds` of the file."""

    file: Path
    seconds: float
    word: str
    score: float


def fingerprint(clips: Sequence[Clip]) -> str:
    """Changes when one of the files is another, or another is there; to read hours of them would
    take too long."""
    return hashlib.sha256(
        "\n".join(f"{clip.path.name} {clip.path.stat().st_size}" for clip in clips).encode()
    ).hexdigest()[:16]


def mine(
    spotter: Spotter,
    clips: Sequence[Clip],
    *,
    warn: Callable[[str], None],
    on_seconds: Callable[[float], None] = lambda seconds: None,
) -> tuple[list[FalseAlarm], float]:
    """What fires in the recordings, highest score first, and how many seconds were heard. `on_seconds`
    is told of each block's.

    Recordings that cannot be read to the end are named with `warn` and left out. Raises DataError
    where none can.
    """
    by_hour: dict[int, list[FalseAlarm]] = defaultdict(list)
    seconds = 0.0
    for clip in clips:
        try:
            found, length = _scan_recording(spotter, clip.path, on_seconds)
        except AudioError as error:
            warn(f"left out: {error}")
            continue
        for false_alarm in found:
            by_hour[int((seconds + false_alarm.seconds) // 3600)].append(false_alarm)
        seconds += length
    if not seconds:
        raise DataError(
            f"{clips[0].path}: neither this nor any other recording of --hard-negatives-from can be read. "
            "Give others."
        )
    return _top_scoring(
        (
            false_alarm
            for found in by_hour.values()
            for false_alarm in _top_scoring(found, MAX_PER_HOUR)
        ),
        MAX_FALSE_ALARMS,
    ), seconds


def write_false_alarms(false_alarms: Sequence[FalseAlarm], path: Path) -> None:
    """A CSV of file, seconds, word, score. Raises KwsError when it cannot be written."""
    rows = [
        (str(each.file), f"{each.seconds:.2f}", each.word, f"{each.score:.3f}")
        for each in false_alarms
    ]
    text = "".join(f"{csv_row(row)}\n" for row in (_COLUMNS, *rows))
    write_atomically(path, text.encode("utf-8", "surrogateescape"))


def read_false_alarms(path: Path) -> list[FalseAlarm]:
    """What `write_false_alarms` wrote, less the lines that a person deleted. Raises DataError for
    anything else."""
    try:
        rows = csv.DictReader(
            io.StringIO(path.read_bytes().decode("utf-8-sig", "surrogateescape"), newline="")
        )  # spreadsheets add the signature
        found = [
            FalseAlarm(Path(row["file"]), float(row["seconds"]), row["word"], float(row["score"]))
            for row in rows
        ]
        if not all(0 <= each.seconds < np.inf for each in found):
            raise ValueError
        return found
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not a list of mined stretches ({','.join(_COLUMNS)}). "
            "Delete it, and they are found anew."
        ) from error


def cut_segments(
    false_alarms: Sequence[FalseAlarm], on_seconds: Callable[[float], None] = lambda seconds: None
) -> ClipDataset:
    """The stretches around the findings, in their order. `on_seconds` is told of each block's seconds.

    Raises AudioError where a recording has gone, DataError where it is shorter than it was.
    """
    waves: dict[FalseAlarm, np.ndarray] = {}
    for file in dict.fromkeys(false_alarm.file for false_alarm in false_alarms):
        in_file = sorted(
            (false_alarm for false_alarm in false_alarms if false_alarm.file == file),
            key=lambda false_alarm: false_alarm.seconds,
        )
        waves |= zip(
            in_file,
            _cut_around(file, [false_alarm.seconds for false_alarm in in_file], on_seconds),
            strict=True,
        )
    for false_alarm, wave in waves.items():
        if not len(wave):
            raise DataError(
                f"{false_alarm.file}: ends before {false_alarm.seconds:.2f} s, where something was mined. "
                "Was it exchanged?"
            )
    return pack_clips(
        [Clip(each.file, each.word, each.file.stem) for each in false_alarms],
        [waves[each] for each in false_alarms],
    )


def add_hard_negatives(
    sources: Sequence[NegativeSource], hard_negatives: ClipDataset
) -> tuple[NegativeSource, ...]:
    """The sources, and the mined stretches: drawn from with a share of SHARE, less if they
    are few."""
    share = MAX_SHARE * len(hard_negatives) / (len(hard_negatives) + HALF_SHARE_SEGMENTS)
    return (
        *sources,
        NegativeSource(
            hard_negatives, share / (1 - share) * sum(source.weight for source in sources)
        ),
    )


def _top_scoring(false_alarms: Iterable[FalseAlarm], most: int) -> list[FalseAlarm]:
    return sorted(
        false_alarms, key=lambda each: (-each.score, str(each.file), each.seconds, each.word)
    )[:most]


def _scan_recording(
    spotter: Spotter, path: Path, on_seconds: Callable[[float], None]
) -> tuple[list[FalseAlarm], float]:
    """Findings in one recording, and its length in seconds. Of the scores only those that fire
    are kept."""
    words = range(len(spotter.words))
    above_threshold: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in words]

    def keep(stream: Stream) -> None:
        for word in words:
            firing = np.flatnonzero(stream.scores.pooled[:, word] >= THRESHOLD)
            above_threshold[word].append(
                (stream.scores.times[firing], stream.scores.pooled[firing, word])
            )

    def after_block(stream: Stream, block: np.ndarray) -> None:
        keep(stream)
        on_seconds(len(block) / recordings.SAMPLE_RATE)

    stream = spotter.stream()
    for _ in stream.detect_blocks(recordings.blocks(path), after_block):
        pass
    keep(stream)
    peaks = [
        _pick_peaks(*map(np.concatenate, zip(*parts, strict=True))) for parts in above_threshold
    ]
    found = [
        FalseAlarm(path, round(min(at, stream.seconds), 2), spotter.words[word], round(score, 3))
        for word in words
        for at, score in peaks[word]
    ]
    return found, stream.seconds


def _pick_peaks(times: np.ndarray, scores: np.ndarray) -> list[tuple[float, float]]:
    """Time and score of the highest of each run of frames; times, scores [n] of those that fire."""
    runs = np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > MIN_GAP_SECONDS) + 1)
    best = [int(run[scores[run].argmax()]) for run in runs if len(run)]
    return [(float(times[at]), float(scores[at])) for at in best]


def _cut_around(
    path: Path, seconds: Sequence[float], on_seconds: Callable[[float], None]
) -> list[np.ndarray]:
    """What is to be cut out around each of these times (ascending), in one pass: finding a place in
    an MP3 takes a pass by itself."""
    spans = [
        (
            max(round((at - SECONDS_BEFORE) * recordings.SAMPLE_RATE), 0),
            round((at + SECONDS_AFTER) * recordings.SAMPLE_RATE),
        )
        for at in seconds
    ]
    buffer, buffer_start = np.zeros(0, np.float32), 0
    found: list[np.ndarray] = []
    for block in recordings.blocks(path):
        on_seconds(len(block) / recordings.SAMPLE_RATE)
        buffer = np.concatenate([buffer, block])
        while len(found) < len(spans) and spans[len(found)][1] <= buffer_start + len(buffer):
            start, end = spans[len(found)]
            found.append(to_int16(buffer[start - buffer_start : end - buffer_start]))
        if len(found) == len(spans):
            return found
        dropped = max(min(spans[len(found)][0] - buffer_start, len(buffer)), 0)
        buffer, buffer_start = buffer[dropped:], buffer_start + dropped
    return found + [to_int16(buffer[start - buffer_start :]) for start, _ in spans[len(found) :]]
