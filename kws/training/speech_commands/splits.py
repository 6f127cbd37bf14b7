"""The splits of Speech Commands: by a hash of the speaker, by the published lists, at random, and
the official test archive."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kws.errors import AudioError, DataError
from kws.training.data.clips import Clip, find_clips
from kws.training.data.dataset import Warn
from kws.training.data.splits import SPLITS
from kws.training.speech_commands.dataset import SILENCE, UNKNOWN

SPLIT_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}


def find_word_clips(folder: Path, words: Sequence[str] = ()) -> list[Clip]:
    """FOLDER/WORD/*.wav, as `find_clips` finds them, without folders whose names begin with "_".

    Raises DataError where there are none.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder. "
            "Give the one that holds a folder per word, or fetch one with kws download."
        )
    try:
        found = find_clips(folder, words)
    except AudioError as error:
        raise DataError(str(error)) from error
    clips = [
        clip
        for clip in found
        if clip.path.parent.parent == folder and not clip.label.startswith("_")
    ]
    if not clips:
        inner = found[0].path.parent.parent
        raise DataError(
            f"{folder}: no folders of words in it. "
            f"Give the folder right above them, perhaps {inner}."
        )
    return clips


def split_by_speaker_hash(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    """The split by `kws.training.data.splits.assign_split`: needs no lists, and does not change as
    clips are added."""
    clips_by_split: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    for clip in clips:
        clips_by_split[clip.split].append(clip)
    return clips_by_split


def split_at_random(drawn: Iterable[Sequence[Clip]]) -> dict[str, list[Clip]]:
    """The first eight tenths of each sequence of clips, in random order, for training, then a tenth
    each for validation and test. A speaker may be in all three."""
    clips_by_split: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    for clips in drawn:
        first, second = len(clips) * 8 // 10, len(clips) * 9 // 10
        clips_by_split["train"] += clips[:first]
        clips_by_split["validation"] += clips[first:second]
        clips_by_split["test"] += clips[second:]
    return clips_by_split


def split_by_lists(clips: Sequence[Clip], folder: Path, warn: Warn) -> dict[str, list[Clip]]:
    """The split by the lists in the data set; clips in neither list are for training. Raises
    DataError where a list is missing."""
    split_of_file = {
        name: split for split, file in SPLIT_LISTS.items() for name in _read_list(folder / file)
    }
    clips_by_split: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    for clip in clips:
        clips_by_split[split_of_file.pop(f"{clip.label}/{clip.path.name}", "train")].append(clip)
    if split_of_file:
        missing = next(iter(split_of_file))
        warn(
            f"{folder}: {len(split_of_file)} listed recordings are missing ({missing}, ...): "
            "figures are not comparable to published ones"
        )
    return clips_by_split


def find_archive_clips(folder: Path, words: Sequence[str]) -> tuple[list[Clip], list[Clip]]:
    """Spoken clips and silent clips of the unpacked official test archive.

    Its "_unknown_" files are named WORD_SPEAKER_nohash_N.wav, all others as in the data set. Raises
    DataError where the folder is not the archive of these words.
    """
    labels = (*words, UNKNOWN, SILENCE)
    missing = [label for label in labels if not (folder / label).is_dir()]
    if missing:
        raise DataError(
            f"{folder}: no folder {missing[0]}, so this is not the official test archive. "
            "Unpack speech_commands_test_set_*.tar.gz there."
        )
    clips = {label: find_clips(folder / label) for label in labels}
    spoken = [clip for word in words for clip in clips[word]]
    spoken += [_parse_unknown(clip) for clip in clips[UNKNOWN]]
    return spoken, clips[SILENCE]


def _read_list(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). "
            "This protocol needs the published lists: fetch the data set with kws download, "
            "or take protocol 'custom', which splits by a hash."
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _parse_unknown(clip: Clip) -> Clip:
    match = re.match(r"([a-z]+)_(.+?)_nohash_", clip.path.name)
    return Clip(clip.path, match[1], match[2]) if match else clip
