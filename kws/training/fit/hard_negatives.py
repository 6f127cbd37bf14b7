"""Hard negatives: false alarms of a trained network on long recordings without the word, to learn
from in a second stage.

After a first training most randomly drawn speech teaches nothing more; false alarms still do. (The
idea is bootstrapping: Sung and Poggio, "Example-based learning for view-based human face
detection", 1998.) People use the list of false alarms, too: they listen to the places, and delete
the lines where the word is said after all.
"""

import csv
import hashlib
import io
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kws.audio import recordings
from kws.audio.formats import to_int16
from kws.errors import AudioError, DataError
from kws.files import write_atomically
from kws.runtime.postprocess import Scores
from kws.runtime.spotter import Spotter
from kws.terminal.printers import csv_row
from kws.terminal.progress import AudioProgress
from kws.training.data.clips import Clip
from kws.training.data.dataset import ClipDataset, pack_clips
from kws.training.data.sources import NegativeSource

# Of a segment, around the highest score: the network's receptive field and a little more.
SECONDS_BEFORE = 1.8
SECONDS_AFTER = 0.7

_COLUMNS = ("file", "seconds", "word", "score")

logger = logging.getLogger("kws")


@dataclass(frozen=True)
class MiningConfig:
    """Which alarms are kept, and how often they are drawn."""

    threshold: float = 0.3  # of the score; near alarms are learned from, too
    min_gap_seconds: float = 1.0  # frames that fire closer together are one alarm
    # One song with a line that sounds like the word must not crowd out everything else.
    max_per_hour: int = 200
    max_false_alarms: int = 2000  # 160 MB of samples
    max_share: float = 0.08  # of the negatives drawn; more of them costs detections in noise
    # With so many segments the share is half of max_share: few are not drawn thousands of times.
    half_share_segments: int = 50


@dataclass(frozen=True)
class FalseAlarm:
    """An alarm where the word is not said: its highest score, and where in the file that is."""

    file: Path
    seconds: float
    word: str
    score: float


def fingerprint(clips: Sequence[Clip]) -> str:
    """Changes with the names and sizes of the files; hashing hours of audio would take too long."""
    lines = [f"{clip.path.name} {clip.path.stat().st_size}" for clip in clips]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def mine(
    spotter: Spotter, clips: Sequence[Clip], config: MiningConfig = MiningConfig()
) -> tuple[list[FalseAlarm], float]:
    """The alarms in recordings, highest score first, and the length of the recordings in seconds.

    Recordings that cannot be read to their end are skipped with a warning. Raises DataError where
    none can be read.
    """
    by_hour: dict[int, list[FalseAlarm]] = defaultdict(list)
    total_seconds = 0.0
    with closing(
        AudioProgress(recordings.duration_seconds(clip.path) for clip in clips)
    ) as progress:
        for clip in clips:
            try:
                false_alarms, seconds = _scan_recording(spotter, clip.path, config, progress)
            except AudioError as error:
                logger.warning(f"skipped: {error}")
                continue
            for false_alarm in false_alarms:
                by_hour[int((total_seconds + false_alarm.seconds) // 3600)].append(false_alarm)
            total_seconds += seconds
    if not total_seconds:
        raise DataError(
            f"{clips[0].path}: neither this nor any other recording of --hard-negatives-from can "
            "be read. Give others."
        )
    top_of_hours = [
        false_alarm
        for in_hour in by_hour.values()
        for false_alarm in _highest_scores(in_hour, config.max_per_hour)
    ]
    return _highest_scores(top_of_hours, config.max_false_alarms), total_seconds


def write_false_alarms(false_alarms: Sequence[FalseAlarm], path: Path) -> None:
    """Writes a CSV of file, seconds, word, score. Raises KwsError when it cannot be written."""
    rows = [
        (str(each.file), f"{each.seconds:.2f}", each.word, f"{each.score:.3f}")
        for each in false_alarms
    ]
    text = "".join(f"{csv_row(row)}\n" for row in (_COLUMNS, *rows))
    write_atomically(path, text.encode("utf-8", "surrogateescape"))


def read_false_alarms(path: Path) -> list[FalseAlarm]:
    """Reads the file of `write_false_alarms`, from which a person may have deleted lines. Raises
    DataError for any other file."""
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")  # spreadsheets add a BOM
        false_alarms = [
            FalseAlarm(Path(row["file"]), float(row["seconds"]), row["word"], float(row["score"]))
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
        if not all(0 <= each.seconds < np.inf for each in false_alarms):
            raise ValueError
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not a list of hard negatives ({','.join(_COLUMNS)}). "
            "Delete it to have it made anew."
        ) from error
    return false_alarms


def cut_segments(false_alarms: Sequence[FalseAlarm]) -> ClipDataset:
    """The audio around each false alarm, in their order.

    Raises AudioError where a recording is missing, DataError where it has become shorter.
    """
    waves: dict[FalseAlarm, np.ndarray] = {}
    by_place = sorted(false_alarms, key=lambda each: (str(each.file), each.seconds))
    segment_seconds = SECONDS_BEFORE + SECONDS_AFTER
    with closing(AudioProgress([segment_seconds] * len(by_place))) as progress:
        reader: recordings.ExcerptReader | None = None
        for each in by_place:
            if reader is None or reader.path != each.file:
                reader = recordings.ExcerptReader(each.file)
            start = max(each.seconds - SECONDS_BEFORE, 0.0)
            wave = reader.cut(start, each.seconds + SECONDS_AFTER)
            if not len(wave):
                raise DataError(
                    f"{each.file}: ends before {each.seconds:.2f} s, where there was a false "
                    "alarm. Was it exchanged?"
                )
            waves[each] = to_int16(wave)
            progress.advance(segment_seconds)
    return pack_clips(
        [Clip(each.file, each.word, each.file.stem) for each in false_alarms],
        [waves[each] for each in false_alarms],
    )


def add_hard_negatives(
    sources: Sequence[NegativeSource],
    hard_negatives: ClipDataset,
    config: MiningConfig = MiningConfig(),
) -> tuple[NegativeSource, ...]:
    """The sources and the hard negatives, which make up `max_share` of what is drawn, or less where
    there are few."""
    count = len(hard_negatives)
    share = config.max_share * count / (count + config.half_share_segments)
    weight = share / (1 - share) * sum(source.weight for source in sources)
    return (*sources, NegativeSource(hard_negatives, weight))


def _highest_scores(false_alarms: Iterable[FalseAlarm], count: int) -> list[FalseAlarm]:
    by_score = sorted(
        false_alarms, key=lambda each: (-each.score, str(each.file), each.seconds, each.word)
    )
    return by_score[:count]


class _Frame(NamedTuple):
    """A frame whose score reaches the threshold."""

    word: int
    seconds: float
    score: float


def _scan_recording(
    spotter: Spotter, path: Path, config: MiningConfig, progress: AudioProgress
) -> tuple[list[FalseAlarm], float]:
    """The false alarms in one recording, and its length in seconds. Raises AudioError."""
    stream, frames = spotter.stream(), []
    for block in recordings.blocks(path):
        stream.feed(block)
        frames += _firing_frames(stream.scores, config.threshold)
        progress.advance(len(block) / recordings.SAMPLE_RATE)
    stream.finish()
    frames += _firing_frames(stream.scores, config.threshold)
    false_alarms = [
        FalseAlarm(
            path,
            round(min(peak.seconds, stream.seconds), 2),
            spotter.words[peak.word],
            round(peak.score, 3),
        )
        for peak in _pick_peaks(frames, config.min_gap_seconds)
    ]
    return false_alarms, stream.seconds


def _firing_frames(scores: Scores, threshold: float) -> list[_Frame]:
    frames, words = np.nonzero(scores.pooled >= threshold)
    return [
        _Frame(int(word), float(scores.times[frame]), float(scores.pooled[frame, word]))
        for frame, word in zip(frames, words, strict=True)
    ]


def _pick_peaks(frames: Iterable[_Frame], min_gap_seconds: float) -> list[_Frame]:
    """The highest frame of each alarm."""
    peaks: list[_Frame] = []
    last: _Frame | None = None
    for frame in sorted(frames, key=lambda each: (each.word, each.seconds)):
        is_same_alarm = (
            last is not None
            and frame.word == last.word
            and frame.seconds - last.seconds <= min_gap_seconds
        )
        if not is_same_alarm:
            peaks.append(frame)
        elif frame.score > peaks[-1].score:
            peaks[-1] = frame
        last = frame
    return peaks
