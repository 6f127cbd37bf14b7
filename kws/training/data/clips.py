"""Recordings in folders, labelled by the folder they lie in (the layout of Speech Commands)."""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kws.audio.folders import find_recordings, normalize_name
from kws.errors import DataError
from kws.training.data.splits import assign_split, parse_speaker, parse_speaker_name

BACKGROUND = "_background_noise_"
SPEECH, MUSIC, NOISE = "speech", "music", "noise"
_KIND_OF_FOLDER = {"music": MUSIC, "noise": NOISE, "noises": NOISE, BACKGROUND: NOISE}
_MAX_SPEAKERS_NAMED = 3


@dataclass(frozen=True)
class Clip:
    """A recording: its label (what is said in it) and its speaker. kind: music or noise where a
    folder is named so, else speech."""

    path: Path
    label: str
    speaker: str
    kind: str = SPEECH

    @property
    def split(self) -> str:
        return assign_split(self.speaker)


def check_folders(option: str, folders: Iterable[Path]) -> None:
    """Raises DataError for a folder that is missing."""
    for folder in folders:
        # Path.is_dir raises for a name that is too long.
        if not os.path.isdir(folder):  # noqa: PTH112
            raise DataError(f"{folder}: no such folder. Check the path of --{option}.")


def find_clips(folder: Path, words: Iterable[str] = ()) -> list[Clip]:
    """All recordings under a folder. A file's label is the name of the folder that it lies in.

    A file that links reach twice has the label that is one of the `words`. Raises AudioError where
    there are no recordings.
    """
    return [
        Clip(
            path,
            normalize_name(path.parent.name),
            parse_speaker(path),
            _kind_of(folder, path.parent),
        )
        for path in find_recordings(folder, first=words)
    ]


@cache
def _kind_of(top: Path, folder: Path) -> str:
    """What is in a folder, by its name and those of the folders above it up to `top`."""
    below = folder.relative_to(top).parts if folder.is_relative_to(top) else ()
    names = (top.name, *below)
    for name, kind in _KIND_OF_FOLDER.items():
        if any(contains_phrase(each, name) for each in names):
            return kind
    return SPEECH


def describe_speakers(clips: Sequence[Clip]) -> str:
    """A sentence for the end of an error message: who speaks in the clips, and which file name
    pattern says so. Empty without clips."""
    if not clips:
        return ""
    speakers = sorted({clip.speaker for clip in clips})
    example = clips[0].path
    evidence = f"({parse_speaker_name(example).pattern}: {example.name})"
    if len(speakers) == 1:
        return f" All {len(clips)} are of speaker '{speakers[0]}', as their names say {evidence}."
    names = [f"'{name}'" for name in speakers[:_MAX_SPEAKERS_NAMED]]
    if len(speakers) > _MAX_SPEAKERS_NAMED:
        names.append("...")
    return f" Their names give {len(speakers)} speakers: {', '.join(names)} {evidence}."


@cache
def contains_phrase(name: str, phrase: str) -> bool:
    """Whether a folder name is a phrase, or contains it: "smart_mirror" contains "mirror"."""
    name, phrase = normalize_name(name), normalize_name(phrase)
    if name == phrase or name.startswith("_"):
        return name == phrase
    name_words, phrase_words = _split_words(name), _split_words(phrase)
    starts = range(len(name_words) - len(phrase_words) + 1)
    return bool(phrase_words) and any(
        name_words[i : i + len(phrase_words)] == phrase_words for i in starts
    )


def _split_words(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text.lower()) if word]


def has_folder_named(clip: Clip, folder: Path, names: Collection[str]) -> bool:
    """Whether a folder between `folder` and a clip, or the target of a link on the way, is named
    after one of `names`."""
    folder_names = {clip.label, *_folder_names_between(folder, clip.path.parent)}
    # Path.is_symlink raises in folders that may be listed and not entered.
    if os.path.islink(clip.path):  # noqa: PTH114
        folder_names.add(clip.path.resolve().parent.name)
    return any(contains_phrase(each, name) for each in folder_names for name in names)


@cache
def _folder_names_between(top: Path, folder: Path) -> frozenset[str]:
    """Names of the folders from below `top` to `folder`, and of the targets of links among them."""
    names = folder.relative_to(top).parts
    folders = (top.joinpath(*names[: depth + 1]) for depth in range(len(names)))
    return frozenset([*names, *(path.resolve().name for path in folders)])


def belongs_to_words(clip: Clip, folder: Path, names: Collection[str]) -> bool:
    """Like `has_folder_named`, but `folder` itself counts too: a user may give DATA/WORD as a
    folder of negatives."""
    paths = Path(os.path.abspath(folder)), folder.resolve()  # noqa: PTH100 - links are kept
    own_names = {normalize_name(path.name) for path in paths}
    return not own_names.isdisjoint(map(normalize_name, names)) or has_folder_named(
        clip, folder, names
    )


def exclude_words(folders: Iterable[Path], words: Collection[str]) -> tuple[list[Clip], int]:
    """The recordings of some folders, each once, without those in folders named after a word; and
    how many of the latter there are.

    Raises AudioError for a folder without recordings.
    """
    others: dict[Path, Clip] = {}
    of_words: set[Path] = set()
    for folder in folders:
        for clip in find_clips(folder):
            path = clip.path.resolve()
            if belongs_to_words(clip, folder, words):
                of_words.add(path)
            else:
                others[path] = clip
    return [clip for path, clip in others.items() if path not in of_words], len(of_words)
