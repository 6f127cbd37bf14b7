"""From folders to what a run learns from and is judged by: words, negatives, noises and rooms,
split by speaker."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kws.audio.folders import find_on_disk, normalize_name
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import DataError
from kws.training.augment.mixer import (
    MARGIN_SAMPLES,
    NegativeSource,
    WordClips,
    aligned_word,
    unaligned_word,
)
from kws.training.augment.waveform import simulate_room_responses
from kws.training.data.clips import (
    BACKGROUND,
    MAX_WORD_SECONDS,
    Clip,
    ClipDataset,
    belongs_to_words,
    describe_speakers,
    drop_silent_clips,
    find_clips,
    has_folder_named,
    load_clips,
)
from kws.training.fit.hard_negatives import find_mining_clips, read_heldout_segments
from kws.training.fit.trainer import TrainConfig

MIN_CLIPS = 10
OWN_RECORDINGS_SHARE = 0.25  # of the words drawn that are a person's own recordings, however few
ROOM_COUNT = 400
# Of the sound that a word is drawn with: at its slowest it must fit into an example, before the
# 0.2 s that are kept for the frames that are to fire, or the word may be cut off at its beginning.
MAX_SOUND_SECONDS = (
    TrainConfig.clip_seconds - 0.2 - MARGIN_SAMPLES / SAMPLE_RATE
) * TrainConfig.speed_range[0]

Warn = Callable[[str], None]
Progress = Callable[[Iterable], Iterable]


@dataclass(frozen=True)
class DataFolders:
    """Where a user keeps recordings. `data`: Speech Commands layout; `phrases`: WORD/*.wav in
    which the word is said somewhere; `mine`: long recordings without the words, see
    `kws.training.fit.hard_negatives`; `recordings`: a person's own, WORD/*.wav, few but to the point.
    `confusables`: what `data` holds beside the words sounds like them, and says nothing of how often
    other sound fires."""

    data: Path
    negatives: tuple[Path, ...] = ()
    background: tuple[Path, ...] = ()
    phrases: tuple[Path, ...] = ()
    mine: tuple[Path, ...] = ()
    recordings: tuple[Path, ...] = ()
    confusables: bool = False
    # Files of `data`, `negatives` and `phrases` that are not to be used.
    excluded: frozenset[Path] = frozenset()

    def clips(self, folder: Path, words: Sequence[str] = ()) -> list[Clip]:
        """The recordings of one of the folders, as `find_clips` finds them. Raises AudioError where
        there are none."""
        return [clip for clip in find_clips(folder, words) if clip.path not in self.excluded]


@dataclass(frozen=True)
class KeywordData:
    """All that a run needs. `words` may list a word twice (placed and unplaced clips);
    `heldout_words` are placed, one per name. `hard_negatives`: recordings for a second round, not read yet.
    """

    names: tuple[str, ...]
    words: tuple[WordClips, ...]
    negatives: tuple[NegativeSource, ...]
    noises: ClipDataset
    heldout_words: tuple[WordClips, ...]
    heldout_negatives: tuple[ClipDataset, ...]
    rooms: Tensor
    heldout_confusables: ClipDataset | None = None
    sources: tuple[dict, ...] = ()
    notes: tuple[str, ...] = ()
    hard_negatives: tuple[Clip, ...] = ()

    @property
    def heldout_hours(self) -> float:
        return sum(dataset.seconds for dataset in self.heldout_negatives) / 3600

    def fingerprint(self) -> str:
        datasets = [word.dataset for word in (*self.words, *self.heldout_words)] + [
            source.dataset for source in self.negatives
        ]
        datasets += [self.heldout_confusables] if self.heldout_confusables else []
        return "-".join(
            dataset.fingerprint()[:8]
            for dataset in [*datasets, self.noises, *self.heldout_negatives]
        )


def check_folders(option: str, folders: Sequence[Path]) -> None:
    """Raises DataError for one that is missing."""
    for folder in folders:
        # Path.is_dir raises for a name that is too long.
        if not os.path.isdir(folder):  # noqa: PTH112
            raise DataError(f"{folder}: no such folder. Check the path of --{option}.")


def check(names: Sequence[str], folders: DataFolders) -> None:
    """Raises DataError for a folder of a user's that is missing, or for recordings of none of the
    words. `data` may be yet to come."""
    for option in ("negatives", "background", "phrases", "mine", "recordings"):
        check_folders(option, getattr(folders, option))
    if folders.recordings and not any(_find_own_clips(names, folders).values()):
        raise DataError(
            f"{folders.recordings[0]}: no folder named after a word ({', '.join(names)}). "
            "Put the recordings into one."
        )


def load_keyword_data(
    names: Sequence[str], folders: DataFolders, *, warn: Warn, progress: Progress = iter
) -> KeywordData:
    """Reads everything. Raises DataError where a folder is missing, a word has too few clips, or
    nothing is there to tell it from."""
    check(names, folders)
    hard_negatives, heldout_hard_negatives = find_mining_clips(folders.mine, names, warn)
    all_clips = folders.clips(folders.data, names)
    words = [_read_word(name, all_clips, folders.data, warn, progress) for name in names]
    others = [
        clip for clip in all_clips if not has_folder_named(clip, folders.data, (*names, BACKGROUND))
    ]
    labels = set(map(normalize_name, names))
    nested_count = sum(
        clip.label not in labels and has_folder_named(clip, folders.data, names)
        for clip in all_clips
    )
    if nested_count:
        warn(
            f"{folders.data}: {nested_count} recordings in subfolders of a word's folder, or in folders "
            "that say more than it, are not used. "
            "Put recordings of the word into DIR/WORD itself."
        )
    datasets = [
        _read_other_speech(clips, warn, progress)
        for clips in (others, *_exclude_keyword_clips(names, folders, words, warn))
        if clips
    ]
    if not datasets:
        raise DataError(
            f"{folders.data}: nothing but {', '.join(names)}; a detector needs other speech too. "
            "Add some with --negatives DIR."
        )
    confusables, other_banks = (
        (datasets[:1], datasets[1:]) if folders.confusables and others else ([], datasets)
    )
    noise_clips = [
        clip for clip in all_clips if has_folder_named(clip, folders.data, [BACKGROUND])
    ] + [c for folder in folders.background for c in find_clips(folder)]
    training = [
        _split_or_all(word, "train")
        for word in (*words, *_read_in_context(names, folders, warn, progress))
    ]
    unsplit_words = [
        word
        for word in words
        if not all(len(_select_split(word, part).dataset) for part in ("train", "validation"))
    ]
    notes = tuple(
        (
            f"'{word.name}' has too few speakers to hold some out: its miss rates are of clips it "
            "learned from."
        )
        for word in unsplit_words
    )
    for note, word in zip(notes, unsplit_words, strict=True):
        warn(f"{note}{describe_speakers(word.dataset.clips)}")
    return KeywordData(
        names=tuple(names),
        words=(*training, *_read_own_recordings(names, folders, training, warn, progress)),
        negatives=_training_sources(datasets, folders),
        noises=load_clips(noise_clips, warn=warn, progress=progress),
        heldout_words=tuple(_split_or_all(word, "validation") for word in words),
        heldout_negatives=(
            *(_select_bank_split(dataset, "validation") for dataset in other_banks),
            *_read_heldout_mining_clips(heldout_hard_negatives, datasets, warn),
        ),
        heldout_confusables=next(
            (_select_bank_split(dataset, "validation") for dataset in confusables), None
        ),
        rooms=torch.from_numpy(simulate_room_responses(ROOM_COUNT, np.random.default_rng(0))),
        sources=tuple({"folder": str(folder)} for folder in _all_folders(folders)),
        notes=notes,
        hard_negatives=tuple(hard_negatives),
    )


def _exclude_keyword_clips(
    names: Sequence[str], folders: DataFolders, words: Sequence[WordClips], warn: Warn
) -> list[list[Clip]]:
    """Of each folder of negatives the recordings that do not lie in one that says a word, and are
    none of the words by a link."""
    kept_clips, keyword_paths = (
        [],
        {clip.path.resolve() for word in words for clip in word.dataset.clips},
    )
    for folder in folders.negatives:
        clips = folders.clips(folder)
        kept_clips.append(
            [
                clip
                for clip in clips
                if not belongs_to_words(clip, folder, names)
                and clip.path.resolve() not in keyword_paths
            ]
        )
        if len(kept_clips[-1]) < len(clips):
            warn(
                f"{folder}: {len(clips) - len(kept_clips[-1])} recordings in folders named after a word "
                "are not counted as audio without it."
            )
    return kept_clips


def _all_folders(folders: DataFolders) -> list[Path]:
    return [
        folders.data,
        *folders.negatives,
        *folders.background,
        *folders.phrases,
        *folders.mine,
        *folders.recordings,
    ]


def _read_heldout_mining_clips(
    hard_negatives: list[Clip], datasets: list[ClipDataset], warn: Warn
) -> list[ClipDataset]:
    """What of the recordings to mine is held out, unless it is among the other
    negatives already."""
    known = {clip.path.resolve() for dataset in datasets for clip in dataset.clips}
    dataset = read_heldout_segments(
        [clip for clip in hard_negatives if clip.path.resolve() not in known], warn
    )
    return [dataset] if len(dataset) else []


def _read_word(
    name: str, all_clips: list[Clip], folder: Path, warn: Warn, progress: Progress
) -> WordClips:
    clips = [clip for clip in all_clips if clip.label == normalize_name(name)]
    if not clips:
        labels = ", ".join(sorted({clip.label for clip in all_clips} - {BACKGROUND, ""})) or "none"
        raise DataError(f"{folder / name}: no clips of '{name}'. Words there: {labels}.")
    word = _keep_fitting(aligned_word(name, _read_sounding(clips, warn, progress)), warn)
    if len(word.dataset) < MIN_CLIPS:
        raise DataError(
            f"{folder / name}: {len(word.dataset)} clips, need at least {MIN_CLIPS}. Record more."
        )
    return word


def _read_own_recordings(
    names: Sequence[str],
    folders: DataFolders,
    others: Sequence[WordClips],
    warn: Warn,
    progress: Progress,
) -> list[WordClips]:
    """A person's own recordings of the words, all to be learned from, and drawn often enough
    to matter."""
    datasets = {
        name: _read_sounding(clips_of_word, warn, progress)
        for name, clips_of_word in _find_own_clips(names, folders).items()
        if clips_of_word
    }
    words = [_keep_fitting(aligned_word(name, dataset), warn) for name, dataset in datasets.items()]
    for word in (word for word in words if not len(word.dataset)):
        raise DataError(
            f"none of your own recordings of '{word.name}' can be used: they hold no sound, or "
            f"more than {MAX_SOUND_SECONDS:.1f} s."
        )
    share = OWN_RECORDINGS_SHARE / (1 - OWN_RECORDINGS_SHARE)
    return [
        replace(
            word,
            weight=share
            * sum(other.sampling_weight for other in others if other.name == word.name),
        )
        for word in words
    ]


def _read_sounding(clips: Sequence[Clip], warn: Warn, progress: Progress) -> ClipDataset:
    return drop_silent_clips(
        load_clips(clips, max_seconds=MAX_WORD_SECONDS, warn=warn, progress=progress), warn
    )


def _read_other_speech(clips: Sequence[Clip], warn: Warn, progress: Progress) -> ClipDataset:
    """Other speech: an hour of a muted microphone is no hour without a false alarm."""
    return drop_silent_clips(load_clips(clips, warn=warn, progress=progress), warn, min_seconds=0.0)


def _find_own_clips(names: Sequence[str], folders: DataFolders) -> dict[str, list[Clip]]:
    clips = [clip for folder in folders.recordings for clip in find_clips(folder, names)]
    return {name: [clip for clip in clips if clip.label == normalize_name(name)] for name in names}


def _read_in_context(
    names: Sequence[str], folders: DataFolders, warn: Warn, progress: Progress
) -> list[WordClips]:
    candidates = [
        (find_on_disk(folder / name), name) for folder in folders.phrases for name in names
    ]
    # Path.is_dir raises for a word that is too long.
    found = [(path, name) for path, name in candidates if os.path.isdir(path)]  # noqa: PTH112
    if folders.phrases and not found:
        raise DataError(f"{folders.phrases[0]}: no folder named after a word ({', '.join(names)}).")
    datasets = [
        drop_silent_clips(load_clips(folders.clips(path), warn=warn, progress=progress), warn)
        for path, _ in found
    ]
    words = [
        _keep_fitting(unaligned_word(name, dataset), warn)
        for dataset, (_, name) in zip(datasets, found, strict=True)
    ]
    for word, (path, _) in zip(words, found, strict=True):
        if not len(word.dataset):
            raise DataError(
                f"{path}: no recordings of {MAX_SOUND_SECONDS:.1f} s or less. "
                "Cut them around the word."
            )
    return words


def _keep_fitting(word: WordClips, warn: Warn) -> WordClips:
    """The clips that fit into an example; the others are named with `warn`. An unplaced word is
    drawn with all that is around it."""
    clip_lengths = np.diff(word.dataset.starts) / SAMPLE_RATE
    sound_lengths = np.where(
        np.isnan(word.endpoints).any(axis=1),
        clip_lengths,
        word.endpoints[:, 1] - word.endpoints[:, 0],
    )
    seconds = dict(zip(word.dataset.clips, sound_lengths, strict=True))
    for clip in (clip for clip, length in seconds.items() if length > MAX_SOUND_SECONDS):
        limit = f"at most {MAX_SOUND_SECONDS:.1f} s fit into a training example"
        warn(
            f"left out: {clip.path}: {seconds[clip]:.1f} s of sound, {limit}. "
            "Cut it around the word."
        )
    return _select_clips(word, lambda clip: seconds[clip] <= MAX_SOUND_SECONDS)


def _training_sources(
    datasets: list[ClipDataset], folders: DataFolders
) -> tuple[NegativeSource, ...]:
    training = [
        dataset
        for dataset in (_select_bank_split(dataset, "train") for dataset in datasets)
        if len(dataset)
    ]
    if not training:
        raise DataError(
            f"{folders.data}: all recordings of other sounds were held out (one in five is, by "
            "its name). Add more with --negatives DIR."
            f"{describe_speakers([clip for dataset in datasets for clip in dataset.clips])}"
        )
    return tuple(NegativeSource(dataset, dataset.seconds**0.5) for dataset in training)


def _split_or_all(word: WordClips, part: str) -> WordClips:
    """One part of a word's clips; all of them where that part is empty, as with the recordings of a
    single speaker."""
    selected = _select_split(word, part)
    return selected if len(selected.dataset) else word


def _select_split(word: WordClips, part: str) -> WordClips:
    return _select_clips(word, lambda clip: clip.part == part)


def _select_clips(word: WordClips, keep: Callable[[Clip], bool]) -> WordClips:
    kept_clips = np.array([keep(clip) for clip in word.dataset.clips], bool)
    return WordClips(word.name, word.dataset.select(keep), word.endpoints[kept_clips])


def _select_bank_split(dataset: ClipDataset, part: str) -> ClipDataset:
    return dataset.select(lambda clip: clip.part == part)


def heldout_waves(keyword_data: KeywordData, seconds: float = float("inf")) -> list[np.ndarray]:
    """Held-out negative clips, every source in turn, up to this much audio."""
    waves, total = [], 0.0
    depth = max((len(dataset) for dataset in keyword_data.heldout_negatives), default=0)
    for index in range(depth):
        for dataset in keyword_data.heldout_negatives:
            if index < len(dataset) and total < seconds:
                waves.append(dataset[index])
                total += len(waves[-1]) / SAMPLE_RATE
    return waves
