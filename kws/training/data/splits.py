"""Who speaks in a recording, and which split that speaker belongs to.

A clip's split depends on its speaker alone: a hash of the speaker's name (the rule of Speech
Commands, arXiv 1804.03209, section 5.1). So adding files never moves old ones to another split,
and no speaker is in two splits.
"""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from kws.audio.folders import normalize_name

SPLITS = ("train", "validation", "test")
_HASH_SIZE = 2**27
_NOHASH = re.compile(r"(?P<speaker>.+?)_nohash_.*")
_LIBRISPEECH = re.compile(r"(?P<speaker>[1-9]\d{0,4})-(?P<chapter>[1-9]\d{2,5})-0\d{3}", re.ASCII)
_YEAR, _MONTH_AND_DAY = re.compile("(19|20)[0-9]{2}"), re.compile("1[0-2](0[1-9]|[12][0-9]|3[01])")


class SpeakerName(NamedTuple):
    """A speaker, and the file name pattern that the name was read from."""

    speaker: str
    pattern: str


def assign_split(speaker: str) -> str:
    """ "train" (80 %), "validation" or "test" (10 % each), by the SHA-1 of the speaker's name."""
    digest = int(hashlib.sha1(speaker.encode()).hexdigest(), 16)
    percent = digest % _HASH_SIZE * 100 / (_HASH_SIZE - 1)
    if percent < 10:
        return "validation"
    return "test" if percent < 20 else "train"


def parse_speaker(path: Path) -> str:
    """The speaker that a file name gives: see `parse_speaker_name`."""
    return parse_speaker_name(path).speaker


def parse_speaker_name(path: Path) -> SpeakerName:
    """SPEAKER_nohash_N as in Speech Commands, READER-CHAPTER-UTTERANCE as in LibriSpeech. Any other
    file is its own speaker.

    Dates look like LibriSpeech names, but there only utterances begin with 0 and have four digits,
    and chapters have at least three. The one ambiguous form, a year and a day as in 2022-1130-0001,
    counts as a date.
    """
    stem = normalize_name(path.stem)
    if match := _NOHASH.fullmatch(stem):
        return SpeakerName(match["speaker"], "SPEAKER_nohash_N")
    match = _LIBRISPEECH.fullmatch(stem)
    if match and not _is_date(match["speaker"], match["chapter"]):
        return SpeakerName(match["speaker"], "READER-CHAPTER-UTTERANCE")
    return SpeakerName(stem, "each file its own speaker")


def _is_date(year: str, month_and_day: str) -> bool:
    return bool(_YEAR.fullmatch(year) and _MONTH_AND_DAY.fullmatch(month_and_day))
