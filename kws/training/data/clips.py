"""Recordings to learn from: folders in Speech Commands layout → clips, split by speaker, held in
memory as 16-bit samples.

The split is a hash of the speaker's name (the rule of Speech Commands, arXiv 1804.03209, section
5.1), so adding files never moves old ones from one part to another, and no speaker stands in two.
"""

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from kws.audio import recordings
from kws.audio.folders import find_recordings, normalize_name
from kws.errors import AudioError, DataError

BACKGROUND = "_background_noise_"
MAX_WORD_SECONDS = 60.0
MIN_WORD_SECONDS = 0.05
SILENT_RECORDING = "there is no sound in it. Record it again."
TOO_LONG_FOR_A_WORD = "are too long for one word. Cut it, or put it among the negatives."
SILENCE_PEAK = 1e-4  # a recording that never gets louder is no noise, and no word
MAX_UNREADABLE_FRACTION = 0.1  # of the clips
_HASH_SIZE = 2**27
_NOHASH = re.compile(r"(?P<speaker>.+?)_nohash_.*")
_LIBRISPEECH = re.compile(r"(?P<speaker>[1-9]\d{0,4})-(?P<chapter>[1-9]\d{2,5})-0\d{3}", re.ASCII)
_YEAR, _MONTH_AND_DAY = re.compile("(19|20)[0-9]{2}"), re.compile("1[0-2](0[1-9]|[12][0-9]|3[01])")
_MAX_SPEAKERS_NAMED = 3


@dataclass(frozen=True)
class Clip:
    """A file, what is said in it, and who says it."""

    path: Path
    label: str
    speaker: str

    @property
    def part(self) -> str:
        return assign_split(self.speaker)


def assign_split(speaker: str) -> str:
    """ "train" (80 %), "validation" or "test" (10 % each), from the SHA-1 of the speaker's name."""
    percent = (
        int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % _HASH_SIZE * 100 / (_HASH_SIZE - 1)
    )
    return "validation" if percent < 10 else "test" if percent < 20 else "train"


def parse_speaker(path: Path) -> str:
    """SPEAKER_nohash_N as in Speech Commands, READER-CHAPTER-UTTERANCE as in LibriSpeech; elsewhere
    each file is its own speaker.

    Dates look like the latter. But there no number begins with 0 that is not an utterance, which
    has four digits, and chapters have three or more. What is left, a year and a day as in
    2022-1130-0001, is taken for a date.
    """
    return _parse_speaker_and_naming(path)[0]


def _parse_speaker_and_naming(path: Path) -> tuple[str, str]:
    """A speaker, and the form of the name that says so."""
    stem = normalize_name(path.stem)
    if match := _NOHASH.fullmatch(stem):
        return match["speaker"], "SPEAKER_nohash_N"
    match = _LIBRISPEECH.fullmatch(stem)
    if match and not (
        _YEAR.fullmatch(match["speaker"]) and _MONTH_AND_DAY.fullmatch(match["chapter"])
    ):
        return match["speaker"], "READER-CHAPTER-UTTERANCE"
    return stem, "each file its own speaker"


def describe_speakers(clips: Sequence[Clip]) -> str:
    """A sentence on who speaks in some clips, and how that was read from their names, to stand
    behind a refusal; empty without clips."""
    speakers = sorted({clip.speaker for clip in clips})
    if not speakers:
        return ""
    example = clips[0].path
    if len(speakers) == 1:
        return (
            f" All {len(clips)} are of speaker '{speakers[0]}', as their names say "
            f"({_parse_speaker_and_naming(example)[1]}: {example.name})."
        )
    named = ", ".join(
        [
            *(f"'{name}'" for name in speakers[:_MAX_SPEAKERS_NAMED]),
            *["..."] * (len(speakers) > _MAX_SPEAKERS_NAMED),
        ]
    )
    return (
        f" Their names tell of {len(speakers)} speakers: {named} ({_parse_speaker_and_naming(example)[1]}: "
        f"{example.name})."
    )


def find_clips(folder: Path, words: Iterable[str] = ()) -> list[Clip]:
    """All recordings under a folder; the label is the name of the folder a file lies in. What is
    reached twice, by links, is of the folder that is named after one of the `words`. Raises
    AudioError where there are none."""
    return [
        Clip(path, normalize_name(path.parent.name), parse_speaker(path))
        for path in find_recordings(folder, first=words)
    ]


@cache
def contains_phrase(name: str, phrase: str) -> bool:
    """Whether a folder of this name is one of the phrase: of it alone, or of a longer one, as
    "smart_mirror" says "mirror"."""
    name, phrase = normalize_name(name), normalize_name(phrase)
    if name == phrase or name.startswith("_"):
        return name == phrase
    name_words, phrase_words = (
        [word for word in re.split(r"[\W_]+", text.lower()) if word] for text in (name, phrase)
    )
    return bool(phrase_words) and any(
        name_words[i : i + len(phrase_words)] == phrase_words for i in range(len(name_words))
    )


def has_folder_named(clip: Clip, folder: Path, names: Collection[str]) -> bool:
    """Whether a recording below a folder lies, however deep, in one that says one of these names,
    or a link to it does."""
    parts = {clip.label, *_folder_names_between(folder, clip.path.parent)}
    # Path.is_symlink raises in folders that may be listed and not entered.
    if os.path.islink(clip.path):  # noqa: PTH114
        parts.add(clip.path.resolve().parent.name)
    return any(contains_phrase(part, name) for part in parts for name in names)


@cache
def _folder_names_between(top: Path, folder: Path) -> frozenset[str]:
    """Names of the folders from below `top` to `folder`, and of those that they are links to."""
    names = folder.relative_to(top).parts
    ancestors = (top.joinpath(*names[: depth + 1]) for depth in range(len(names)))
    return frozenset([*names, *(path.resolve().name for path in ancestors)])


def belongs_to_words(clip: Clip, folder: Path, names: Collection[str]) -> bool:
    """The same, or the folder itself is called like one, as where someone gives DATA/WORD for
    other speech."""
    own = {
        normalize_name(path.name)
        for path in (
            Path(os.path.abspath(folder)),  # noqa: PTH100 - links are kept
            folder.resolve(),
        )
    }
    return not own.isdisjoint(map(normalize_name, names)) or has_folder_named(clip, folder, names)


def exclude_words(folders: Iterable[Path], words: Collection[str]) -> tuple[list[Clip], int]:
    """Every recording of some folders once, but for those in folders that say a word; and how many
    these are.

    Raises AudioError for a folder without recordings.
    """
    clips = [
        (clip, clip.path.resolve(), belongs_to_words(clip, folder, words))
        for folder in folders
        for clip in find_clips(folder)
    ]
    named = {path for _, path, inside in clips if inside}
    others = {path: clip for clip, path, _ in clips if path not in named}
    return list(others.values()), len(named)


@dataclass(frozen=True)
class ClipDataset:
    """Clips and their samples: one int16 array, clip i at `samples[starts[i]:starts[i + 1]]`."""

    clips: tuple[Clip, ...]
    samples: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> np.ndarray:
        """Samples of one clip, float32 in ±1."""
        return self.samples[self.starts[index] : self.starts[index + 1]].astype(np.float32) / 32768

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    @property
    def seconds(self) -> float:
        return len(self.samples) / recordings.SAMPLE_RATE

    def select(self, predicate: Callable[[Clip], bool]) -> "ClipDataset":
        """The clips for which `predicate` holds."""
        indices = [i for i, clip in enumerate(self.clips) if predicate(clip)]
        return pack_clips(
            [self.clips[i] for i in indices],
            [self.samples[self.starts[i] : self.starts[i + 1]] for i in indices],
        )

    def fingerprint(self) -> str:
        """Changes when any clip, or its place among the others, does."""
        names = "".join(f"{clip.label}/{clip.path.name}\n" for clip in self.clips)
        return digest(
            self.samples,
            self.starts,
            np.frombuffer(names.encode("utf-8", "surrogateescape"), np.uint8),
        )[:16]


def digest(*arrays: np.ndarray) -> str:
    """SHA-256 of the bytes of arrays, one after the other, without a copy of what may
    be gigabytes."""
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def pack_clips(clips: Sequence[Clip], waves: Sequence[np.ndarray]) -> ClipDataset:
    """A bank of clips and their int16 samples."""
    starts = np.concatenate([[0], np.cumsum([len(wave) for wave in waves], dtype=np.int64)])
    return ClipDataset(tuple(clips), np.concatenate([*waves, np.zeros(0, np.int16)]), starts)


def concatenate_datasets(datasets: Sequence[ClipDataset]) -> ClipDataset:
    """All clips of several banks."""
    starts = np.cumsum([0, *(len(dataset.samples) for dataset in datasets)])
    shifted_starts = [
        dataset.starts[:-1] + start for dataset, start in zip(datasets, starts, strict=False)
    ]
    samples = np.concatenate([np.zeros(0, np.int16), *(dataset.samples for dataset in datasets)])
    return ClipDataset(
        tuple(clip for dataset in datasets for clip in dataset.clips),
        samples,
        np.concatenate([*shifted_starts, starts[-1:]]),
    )


def load_clips(
    clips: Sequence[Clip],
    *,
    max_seconds: float = float("inf"),
    too_long_message: str = TOO_LONG_FOR_A_WORD,
    warn: Callable[[str], None],
    progress: Callable[[Iterable], Iterable] = iter,
    max_unreadable_fraction: float = MAX_UNREADABLE_FRACTION,
) -> ClipDataset:
    """Decodes clips. Those that cannot be read, or last longer than wished for, are named with
    `warn` and left out.

    Raises DataError when more than this share of them (a tenth, unless given) is left out.
    """

    def decode(clip: Clip) -> np.ndarray | str:
        try:
            wave = recordings.read(clip.path)
        except AudioError as error:
            return str(error)
        seconds = len(wave) / recordings.SAMPLE_RATE
        if seconds > max_seconds:
            return f"{clip.path}: {seconds:.1f} s {too_long_message}"
        return np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)

    with ThreadPoolExecutor() as pool:
        waves = list(progress(pool.map(decode, clips)))
    problems = [wave for wave in waves if isinstance(wave, str)]
    for problem in problems:
        warn(f"left out: {problem}")
    if len(problems) > max_unreadable_fraction * len(clips):
        raise DataError(
            f"{len(problems)} of {len(clips)} clips cannot be used, the first: {problems[0]} "
            "Repair or remove them."
        )
    good = [
        (clip, wave) for clip, wave in zip(clips, waves, strict=True) if not isinstance(wave, str)
    ]
    return pack_clips([clip for clip, _ in good], [wave for _, wave in good])


def peak(wave: np.ndarray) -> float:
    """The loudest sample of audio in ±1; what is no louder than `SILENCE_PEAK` holds no sound."""
    return float(np.abs(wave).max(initial=0.0))


def drop_silent_clips(
    dataset: ClipDataset, warn: Callable[[str], None], min_seconds: float = MIN_WORD_SECONDS
) -> ClipDataset:
    """The clips that hold sound, and at least so much of it; the others are named with `warn`."""
    problems = {}
    for clip, wave in zip(dataset.clips, dataset, strict=True):
        if peak(wave) <= SILENCE_PEAK:
            problems[clip] = SILENT_RECORDING
        elif len(wave) < min_seconds * recordings.SAMPLE_RATE:
            problems[clip] = (
                f"{1000 * len(wave) / recordings.SAMPLE_RATE:.0f} ms are too short for a word. "
                "Record it again."
            )
    for clip in sorted(problems, key=lambda clip: clip.path):
        warn(f"left out: {clip.path}: {problems[clip]}")
    return dataset.select(lambda clip: clip not in problems) if problems else dataset


def find_endpoints(samples: np.ndarray, drop_db: float = 30.0) -> tuple[float, float]:
    """Where the sound of a clip begins and ends, in seconds: the 10 ms frames within `drop_db` of
    the loudest, or above its noise.

    Blips shorter than 30 ms apart from the rest by more than 150 ms are not part of the word.
    """
    frame = recordings.SAMPLE_RATE // 100
    if len(samples) < 2 * frame:
        return 0.0, len(samples) / recordings.SAMPLE_RATE
    energy = (
        samples[: len(samples) // frame * frame].reshape(-1, frame).astype(np.float64) ** 2
    ).mean(axis=1)
    energy_floor = max(
        energy.max() * 10 ** (-drop_db / 10),
        4 * np.percentile(energy, 10) if energy.min() > 0 else 0.0,
    )
    loud_frames = np.flatnonzero(energy >= min(energy_floor, energy.max() / 10))
    runs = np.split(loud_frames, np.flatnonzero(np.diff(loud_frames) > 15) + 1)
    runs = [run for run in runs if run[-1] - run[0] >= 2] or [loud_frames]
    return float(runs[0][0]) / 100, float(runs[-1][-1] + 1) / 100
