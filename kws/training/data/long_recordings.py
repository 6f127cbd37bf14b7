"""Long recordings without the words: some to mine for hard negatives, some held out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kws.audio import recordings
from kws.audio.formats import to_int16
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import AudioError, DataError
from kws.training.data.clips import Clip, describe_speakers, exclude_words
from kws.training.data.dataset import (
    SILENCE_PEAK,
    SILENT_RECORDING,
    ClipDataset,
    Warn,
    pack_clips,
    peak,
)

HELDOUT_SECONDS = 36_000.0  # shows one false alarm in ten hours
SEGMENT_SECONDS = 60.0  # of a held-out clip


def find_mining_clips(
    folders: Sequence[Path], words: Sequence[str], warn: Warn
) -> tuple[list[Clip], list[Clip]]:
    """Recordings to mine, and recordings held out for calibration. Those in folders named after a
    word are counted with `warn` and left out.

    Raises DataError where nothing is left to mine; AudioError for a folder without recordings.
    """
    clips, named_after_word = exclude_words(folders, words)
    if named_after_word:
        warn(f"{named_after_word} recordings in folders named after a word are not mined.")
    training = [clip for clip in clips if clip.split == "train"]
    if folders and not training:
        raise DataError(
            f"{folders[0]}: nothing to mine; its recordings are of the words, or were held out "
            f"(one in five is, by its name). Add more.{describe_speakers(clips)}"
        )
    return training, [clip for clip in clips if clip.split != "train"]


def read_heldout_segments(clips: Sequence[Clip], warn: Warn) -> ClipDataset:
    """The first minutes of every recording, ten hours in all, in segments of a minute. Recordings
    that cannot be read, or hold no sound, are named with `warn` and left out."""
    segments: list[tuple[Clip, np.ndarray]] = []
    for clip in clips:
        try:
            waves = _read_beginning(clip.path, HELDOUT_SECONDS / len(clips))
        except AudioError as error:
            warn(f"left out: {error}")
            continue
        if max(map(peak, waves), default=0.0) <= SILENCE_PEAK:
            warn(f"left out: {clip.path}: {SILENT_RECORDING}")
            continue
        segments += [(clip, to_int16(wave)) for wave in waves]
    return pack_clips([clip for clip, _ in segments], [wave for _, wave in segments])


def _read_beginning(path: Path, seconds: float) -> list[np.ndarray]:
    segments, remaining_samples = [], round(seconds * SAMPLE_RATE)
    for block in recordings.blocks(path, SEGMENT_SECONDS):
        segments.append(block[:remaining_samples])
        remaining_samples -= len(segments[-1])
        if not remaining_samples:
            break
    return segments
