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
from kws.terminal.printers import csv_row, replace_file
from kws.training.augment.mixer import Source
from kws.training.data.clips import (
    NO_SOUND,
    QUIETEST,
    Bank,
    Clip,
    pack,
    peak,
    told_of_speakers,
    without_words,
)

THRESHOLD = 0.3  # of the score: what comes this near to firing is learned from, too
APART_SECONDS = 1.0  # what fires closer together is one finding
# Of what is cut out, before the highest score: all that the network looked at, and a little more.
BEFORE_SECONDS = 1.8
AFTER_SECONDS = 0.7
# One song with a line that sounds like the word must not be all that is learned.
MOST_PER_HOUR = 200
MOST = 2000  # 160 MB of samples
HELDOUT_SECONDS = 7200.0
PIECE_SECONDS = 60.0  # in which what is held out is kept
SHARE = 0.08  # of the negatives drawn, at most: more of them costs words in noise
# With so many findings the share is half of it, so that few are not heard thousands of times.
HALF_SHARE = 50

_COLUMNS = ("file", "seconds", "word", "score")


@dataclass(frozen=True)
class Finding:
    """Where the network fired: `score` is the highest there, at `seconds` of the file."""

    file: Path
    seconds: float
    word: str
    score: float


def find_audio(
    folders: Sequence[Path], words: Sequence[str], warn: Callable[[str], None]
) -> tuple[list[Clip], list[Clip]]:
    """Recordings to mine, and those held out to calibrate on; recordings in folders named after a
    word are left out, and told.

    Raises DataError where nothing is left to mine; AudioError for a folder without recordings.
    """
    without, named = without_words(folders, words)
    if named:
        warn(f"{named} recordings in folders named after a word are not mined.")
    mined = [clip for clip in without if clip.part == "train"]
    if folders and not mined:
        raise DataError(
            f"{folders[0]}: nothing to mine; its recordings are of the words, or were held out "
            "(one in five is, by its name). Add more."
            f"{told_of_speakers(without)}"
        )
    return mined, [clip for clip in without if clip.part == "validation"]


def fingerprint(clips: Sequence[Clip]) -> str:
    """Changes when one of the files is another, or another is there; to read hours of them would
    take too long."""
    return hashlib.sha256(
        "\n".join(f"{clip.path.name} {clip.path.stat().st_size}" for clip in clips).encode()
    ).hexdigest()[:16]


def read_heldout(clips: Sequence[Clip], warn: Callable[[str], None]) -> Bank:
    """The first minutes of every recording, two hours in all, in pieces. Those that cannot be read,
    or hold no sound, are named and left out."""
    pieces: list[tuple[Clip, np.ndarray]] = []
    for clip in clips:
        try:
            waves = _beginning(clip.path, HELDOUT_SECONDS / len(clips))
        except AudioError as error:
            warn(f"left out: {error}")
            continue
        if max(map(peak, waves), default=0.0) <= QUIETEST:
            warn(f"left out: {clip.path}: {NO_SOUND}")
            continue
        pieces += [(clip, _as_int16(wave)) for wave in waves]
    return pack([clip for clip, _ in pieces], [wave for _, wave in pieces])


def mine(
    spotter: Spotter,
    clips: Sequence[Clip],
    *,
    warn: Callable[[str], None],
    heard: Callable[[float], None] = lambda seconds: None,
) -> tuple[list[Finding], float]:
    """What fires in the recordings, highest score first, and how many seconds were heard. `heard`
    is told of each block's.

    Recordings that cannot be read to the end are named with `warn` and left out. Raises DataError
    where none can.
    """
    hours: dict[int, list[Finding]] = defaultdict(list)
    seconds = 0.0
    for clip in clips:
        try:
            found, length = _fires(spotter, clip.path, heard)
        except AudioError as error:
            warn(f"left out: {error}")
            continue
        for finding in found:
            hours[int((seconds + finding.seconds) // 3600)].append(finding)
        seconds += length
    if not seconds:
        raise DataError(
            f"{clips[0].path}: neither this nor any other recording of --mine can be read. "
            "Give others."
        )
    return _highest(
        (finding for found in hours.values() for finding in _highest(found, MOST_PER_HOUR)), MOST
    ), seconds


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """A CSV of file, seconds, word, score. Raises KwsError when it cannot be written."""
    rows = [
        (str(each.file), f"{each.seconds:.2f}", each.word, f"{each.score:.3f}") for each in findings
    ]
    text = "".join(f"{csv_row(row)}\n" for row in (_COLUMNS, *rows))
    replace_file(path, text.encode("utf-8", "surrogateescape"))


def read_findings(path: Path) -> list[Finding]:
    """What `write_findings` wrote, less the lines that a person deleted. Raises DataError for
    anything else."""
    try:
        rows = csv.DictReader(
            io.StringIO(path.read_bytes().decode("utf-8-sig", "surrogateescape"), newline="")
        )  # spreadsheets add the signature
        found = [
            Finding(Path(row["file"]), float(row["seconds"]), row["word"], float(row["score"]))
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


def cut(findings: Sequence[Finding], heard: Callable[[float], None] = lambda seconds: None) -> Bank:
    """The stretches around the findings, in their order. `heard` is told of each block's seconds.

    Raises AudioError where a recording has gone, DataError where it is shorter than it was.
    """
    waves: dict[Finding, np.ndarray] = {}
    for file in dict.fromkeys(finding.file for finding in findings):
        here = sorted(
            (finding for finding in findings if finding.file == file),
            key=lambda finding: finding.seconds,
        )
        waves |= zip(
            here, _stretches(file, [finding.seconds for finding in here], heard), strict=True
        )
    for finding, wave in waves.items():
        if not len(wave):
            raise DataError(
                f"{finding.file}: ends before {finding.seconds:.2f} s, where something was mined. "
                "Was it exchanged?"
            )
    return pack(
        [Clip(each.file, each.word, each.file.stem) for each in findings],
        [waves[each] for each in findings],
    )


def with_mined(sources: Sequence[Source], mined: Bank) -> tuple[Source, ...]:
    """The sources, and the mined stretches: drawn from with a share of SHARE, less if they
    are few."""
    share = SHARE * len(mined) / (len(mined) + HALF_SHARE)
    return (*sources, Source(mined, share / (1 - share) * sum(source.weight for source in sources)))


def _highest(findings: Iterable[Finding], most: int) -> list[Finding]:
    return sorted(
        findings, key=lambda each: (-each.score, str(each.file), each.seconds, each.word)
    )[:most]


def _fires(
    spotter: Spotter, path: Path, heard: Callable[[float], None]
) -> tuple[list[Finding], float]:
    """Findings in one recording, and its length in seconds. Of the scores only those that fire
    are kept."""
    words = range(len(spotter.words))
    loud: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in words]

    def keep(stream: Stream) -> None:
        for word in words:
            fires = np.flatnonzero(stream.scores.pooled[:, word] >= THRESHOLD)
            loud[word].append((stream.scores.times[fires], stream.scores.pooled[fires, word]))

    def after_block(stream: Stream, block: np.ndarray) -> None:
        keep(stream)
        heard(len(block) / recordings.SAMPLE_RATE)

    stream = spotter.stream()
    for _ in stream.listen(recordings.blocks(path), after_block):
        pass
    keep(stream)
    peaks = [_peaks(*map(np.concatenate, zip(*parts, strict=True))) for parts in loud]
    found = [
        Finding(path, round(min(at, stream.seconds), 2), spotter.words[word], round(score, 3))
        for word in words
        for at, score in peaks[word]
    ]
    return found, stream.seconds


def _peaks(times: np.ndarray, scores: np.ndarray) -> list[tuple[float, float]]:
    """Time and score of the highest of each run of frames; times, scores [n] of those that fire."""
    runs = np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > APART_SECONDS) + 1)
    best = [int(run[scores[run].argmax()]) for run in runs if len(run)]
    return [(float(times[at]), float(scores[at])) for at in best]


def _stretches(
    path: Path, seconds: Sequence[float], heard: Callable[[float], None]
) -> list[np.ndarray]:
    """What is to be cut out around each of these times (ascending), in one pass: finding a place in
    an MP3 takes a pass by itself."""
    wanted = [
        (
            max(round((at - BEFORE_SECONDS) * recordings.SAMPLE_RATE), 0),
            round((at + AFTER_SECONDS) * recordings.SAMPLE_RATE),
        )
        for at in seconds
    ]
    held, begins = np.zeros(0, np.float32), 0
    found: list[np.ndarray] = []
    for block in recordings.blocks(path):
        heard(len(block) / recordings.SAMPLE_RATE)
        held = np.concatenate([held, block])
        while len(found) < len(wanted) and wanted[len(found)][1] <= begins + len(held):
            start, end = wanted[len(found)]
            found.append(_as_int16(held[start - begins : end - begins]))
        if len(found) == len(wanted):
            return found
        passed = max(min(wanted[len(found)][0] - begins, len(held)), 0)
        held, begins = held[passed:], begins + passed
    return found + [_as_int16(held[start - begins :]) for start, _ in wanted[len(found) :]]


def _beginning(path: Path, seconds: float) -> list[np.ndarray]:
    pieces, left = [], round(seconds * recordings.SAMPLE_RATE)
    for block in recordings.blocks(path, PIECE_SECONDS):
        pieces.append(block[:left])
        left -= len(pieces[-1])
        if not left:
            break
    return pieces


def _as_int16(wave: np.ndarray) -> np.ndarray:
    return np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)
