"""From folders to what a run learns from and is judged by: words, negatives, noises and rooms,
split by speaker."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kws.audio.folders import normalized, on_disk
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import DataError
from kws.training.augment.mixer import MARGIN_SAMPLES, Source, Word, placed_word, unplaced_word
from kws.training.augment.waveform import simulated_rooms
from kws.training.data.clips import (
    BACKGROUND,
    LONGEST_WORD_SECONDS,
    Bank,
    Clip,
    find_clips,
    is_of,
    lies_in,
    read_bank,
    sounding,
    told_of_speakers,
)
from kws.training.fit.hard_negatives import find_audio, read_heldout
from kws.training.fit.trainer import Recipe

FEWEST_CLIPS = 10
OWN_SHARE = 0.25  # of the words drawn that are a person's own recordings, however few
ROOMS = 400
# Of the sound that a word is drawn with: at its slowest it must fit into an example, before the
# 0.2 s that are kept for the frames that are to fire, or the word may be cut off at its beginning.
LONGEST_SOUND_SECONDS = (Recipe.clip_seconds - 0.2 - MARGIN_SAMPLES / SAMPLE_RATE) * Recipe.speeds[
    0
]

Warn = Callable[[str], None]
Progress = Callable[[Iterable], Iterable]


@dataclass(frozen=True)
class Folders:
    """Where a user keeps recordings. `data`: Speech Commands layout; `phrases`: WORD/*.wav in
    which the word is said somewhere; `mine`: long recordings without the words, see
    `kws.training.fit.hard_negatives`; `recordings`: a person's own, WORD/*.wav, few but to the point.
    `alike`: what `data` holds beside the words sounds like them, and says nothing of how often
    other sound fires."""

    data: Path
    negatives: tuple[Path, ...] = ()
    background: tuple[Path, ...] = ()
    phrases: tuple[Path, ...] = ()
    mine: tuple[Path, ...] = ()
    recordings: tuple[Path, ...] = ()
    alike: bool = False
    # Files of `data`, `negatives` and `phrases` that are not to be used.
    left_out: frozenset[Path] = frozenset()

    def clips(self, folder: Path, words: Sequence[str] = ()) -> list[Clip]:
        """The recordings of one of the folders, as `find_clips` finds them. Raises AudioError where
        there are none."""
        return [clip for clip in find_clips(folder, words) if clip.path not in self.left_out]


@dataclass(frozen=True)
class Material:
    """All that a run needs. `words` may list a word twice (placed and unplaced clips);
    `heldout_words` are placed, one per name. `mined`: recordings for a second round, not read yet.
    """

    names: tuple[str, ...]
    words: tuple[Word, ...]
    negatives: tuple[Source, ...]
    noises: Bank
    heldout_words: tuple[Word, ...]
    heldout_negatives: tuple[Bank, ...]
    rooms: Tensor
    heldout_alike: Bank | None = None
    sources: tuple[dict, ...] = ()
    notes: tuple[str, ...] = ()
    mined: tuple[Clip, ...] = ()

    @property
    def heldout_hours(self) -> float:
        return sum(bank.seconds for bank in self.heldout_negatives) / 3600

    def fingerprint(self) -> str:
        banks = [word.bank for word in (*self.words, *self.heldout_words)] + [
            source.bank for source in self.negatives
        ]
        banks += [self.heldout_alike] if self.heldout_alike else []
        return "-".join(
            bank.fingerprint()[:8] for bank in [*banks, self.noises, *self.heldout_negatives]
        )


def check_folders(option: str, folders: Sequence[Path]) -> None:
    """Raises DataError for one that is missing."""
    for folder in folders:
        # Path.is_dir raises for a name that is too long.
        if not os.path.isdir(folder):  # noqa: PTH112
            raise DataError(f"{folder}: no such folder. Check the path of --{option}.")


def check(names: Sequence[str], folders: Folders) -> None:
    """Raises DataError for a folder of a user's that is missing, or for recordings of none of the
    words. `data` may be yet to come."""
    for option in ("negatives", "background", "phrases", "mine", "recordings"):
        check_folders(option, getattr(folders, option))
    if folders.recordings and not any(_own_clips(names, folders).values()):
        raise DataError(
            f"{folders.recordings[0]}: no folder named after a word ({', '.join(names)}). "
            "Put the recordings into one."
        )


def gather(
    names: Sequence[str], folders: Folders, *, warn: Warn, progress: Progress = iter
) -> Material:
    """Reads everything. Raises DataError where a folder is missing, a word has too few clips, or
    nothing is there to tell it from."""
    check(names, folders)
    mined, heldout_mined = find_audio(folders.mine, names, warn)
    everything = folders.clips(folders.data, names)
    words = [_read_word(name, everything, folders.data, warn, progress) for name in names]
    others = [clip for clip in everything if not lies_in(clip, folders.data, (*names, BACKGROUND))]
    labels = set(map(normalized, names))
    deeper = sum(
        clip.label not in labels and lies_in(clip, folders.data, names) for clip in everything
    )
    if deeper:
        warn(
            f"{folders.data}: {deeper} recordings in subfolders of a word's folder, or in folders "
            "that say more than it, are not used. "
            "Put recordings of the word into DIR/WORD itself."
        )
    banks = [
        _read_other(clips, warn, progress)
        for clips in (others, *_without(names, folders, words, warn))
        if clips
    ]
    if not banks:
        raise DataError(
            f"{folders.data}: nothing but {', '.join(names)}; a detector needs other speech too. "
            "Add some with --negatives DIR."
        )
    alike, ordinary = (banks[:1], banks[1:]) if folders.alike and others else ([], banks)
    noise_clips = [clip for clip in everything if lies_in(clip, folders.data, [BACKGROUND])] + [
        c for folder in folders.background for c in find_clips(folder)
    ]
    learned = [
        _part_or_all(word, "train") for word in (*words, *_phrases(names, folders, warn, progress))
    ]
    alone = [
        word
        for word in words
        if not all(len(_part(word, part).bank) for part in ("train", "validation"))
    ]
    notes = tuple(
        (
            f"'{word.name}' has too few speakers to hold some out: its miss rates are of clips it "
            "learned from."
        )
        for word in alone
    )
    for note, word in zip(notes, alone, strict=True):
        warn(f"{note}{told_of_speakers(word.bank.clips)}")
    return Material(
        names=tuple(names),
        words=(*learned, *_own(names, folders, learned, warn, progress)),
        negatives=_learned(banks, folders),
        noises=read_bank(noise_clips, warn=warn, progress=progress),
        heldout_words=tuple(_part_or_all(word, "validation") for word in words),
        heldout_negatives=(
            *(_bank_part(bank, "validation") for bank in ordinary),
            *_heldout(heldout_mined, banks, warn),
        ),
        heldout_alike=next((_bank_part(bank, "validation") for bank in alike), None),
        rooms=torch.from_numpy(simulated_rooms(ROOMS, np.random.default_rng(0))),
        sources=tuple({"folder": str(folder)} for folder in _all(folders)),
        notes=notes,
        mined=tuple(mined),
    )


def _without(
    names: Sequence[str], folders: Folders, words: Sequence[Word], warn: Warn
) -> list[list[Clip]]:
    """Of each folder of negatives the recordings that do not lie in one that says a word, and are
    none of the words by a link."""
    kept, spoken = [], {clip.path.resolve() for word in words for clip in word.bank.clips}
    for folder in folders.negatives:
        clips = folders.clips(folder)
        kept.append(
            [
                clip
                for clip in clips
                if not is_of(clip, folder, names) and clip.path.resolve() not in spoken
            ]
        )
        if len(kept[-1]) < len(clips):
            warn(
                f"{folder}: {len(clips) - len(kept[-1])} recordings in folders named after a word "
                "are not counted as audio without it."
            )
    return kept


def _all(folders: Folders) -> list[Path]:
    return [
        folders.data,
        *folders.negatives,
        *folders.background,
        *folders.phrases,
        *folders.mine,
        *folders.recordings,
    ]


def _heldout(mined: list[Clip], banks: list[Bank], warn: Warn) -> list[Bank]:
    """What of the recordings to mine is held out, unless it is among the other
    negatives already."""
    known = {clip.path.resolve() for bank in banks for clip in bank.clips}
    bank = read_heldout([clip for clip in mined if clip.path.resolve() not in known], warn)
    return [bank] if len(bank) else []


def _read_word(
    name: str, everything: list[Clip], folder: Path, warn: Warn, progress: Progress
) -> Word:
    clips = [clip for clip in everything if clip.label == normalized(name)]
    if not clips:
        labels = ", ".join(sorted({clip.label for clip in everything} - {BACKGROUND, ""})) or "none"
        raise DataError(f"{folder / name}: no clips of '{name}'. Words there: {labels}.")
    word = _fitting(placed_word(name, _read_sounding(clips, warn, progress)), warn)
    if len(word.bank) < FEWEST_CLIPS:
        raise DataError(
            f"{folder / name}: {len(word.bank)} clips, need at least {FEWEST_CLIPS}. Record more."
        )
    return word


def _own(
    names: Sequence[str], folders: Folders, others: Sequence[Word], warn: Warn, progress: Progress
) -> list[Word]:
    """A person's own recordings of the words, all to be learned from, and drawn often enough
    to matter."""
    banks = {
        name: _read_sounding(some, warn, progress)
        for name, some in _own_clips(names, folders).items()
        if some
    }
    words = [_fitting(placed_word(name, bank), warn) for name, bank in banks.items()]
    for word in (word for word in words if not len(word.bank)):
        raise DataError(
            f"none of your own recordings of '{word.name}' can be used: they hold no sound, or "
            f"more than {LONGEST_SOUND_SECONDS:.1f} s."
        )
    share = OWN_SHARE / (1 - OWN_SHARE)
    return [
        replace(word, weight=share * sum(other.odds for other in others if other.name == word.name))
        for word in words
    ]


def _read_sounding(clips: Sequence[Clip], warn: Warn, progress: Progress) -> Bank:
    return sounding(
        read_bank(clips, longest_seconds=LONGEST_WORD_SECONDS, warn=warn, progress=progress), warn
    )


def _read_other(clips: Sequence[Clip], warn: Warn, progress: Progress) -> Bank:
    """Other speech: an hour of a muted microphone is no hour without a false alarm."""
    return sounding(read_bank(clips, warn=warn, progress=progress), warn, shortest_seconds=0.0)


def _own_clips(names: Sequence[str], folders: Folders) -> dict[str, list[Clip]]:
    clips = [clip for folder in folders.recordings for clip in find_clips(folder, names)]
    return {name: [clip for clip in clips if clip.label == normalized(name)] for name in names}


def _phrases(names: Sequence[str], folders: Folders, warn: Warn, progress: Progress) -> list[Word]:
    places = [(on_disk(folder / name), name) for folder in folders.phrases for name in names]
    # Path.is_dir raises for a word that is too long.
    found = [(path, name) for path, name in places if os.path.isdir(path)]  # noqa: PTH112
    if folders.phrases and not found:
        raise DataError(f"{folders.phrases[0]}: no folder named after a word ({', '.join(names)}).")
    banks = [
        sounding(read_bank(folders.clips(path), warn=warn, progress=progress), warn)
        for path, _ in found
    ]
    words = [
        _fitting(unplaced_word(name, bank), warn)
        for bank, (_, name) in zip(banks, found, strict=True)
    ]
    for word, (path, _) in zip(words, found, strict=True):
        if not len(word.bank):
            raise DataError(
                f"{path}: no recordings of {LONGEST_SOUND_SECONDS:.1f} s or less. "
                "Cut them around the word."
            )
    return words


def _fitting(word: Word, warn: Warn) -> Word:
    """The clips that fit into an example; the others are named with `warn`. An unplaced word is
    drawn with all that is around it."""
    whole = np.diff(word.bank.starts) / SAMPLE_RATE
    sound = np.where(
        np.isnan(word.placed).any(axis=1), whole, word.placed[:, 1] - word.placed[:, 0]
    )
    seconds = dict(zip(word.bank.clips, sound, strict=True))
    for clip in (clip for clip, length in seconds.items() if length > LONGEST_SOUND_SECONDS):
        most = f"at most {LONGEST_SOUND_SECONDS:.1f} s fit into a training example"
        warn(
            f"left out: {clip.path}: {seconds[clip]:.1f} s of sound, {most}. "
            "Cut it around the word."
        )
    return _chosen(word, lambda clip: seconds[clip] <= LONGEST_SOUND_SECONDS)


def _learned(banks: list[Bank], folders: Folders) -> tuple[Source, ...]:
    learned = [bank for bank in (_bank_part(bank, "train") for bank in banks) if len(bank)]
    if not learned:
        raise DataError(
            f"{folders.data}: all recordings of other sounds were held out (one in five is, by "
            "its name). Add more with --negatives DIR."
            f"{told_of_speakers([clip for bank in banks for clip in bank.clips])}"
        )
    return tuple(Source(bank, bank.seconds**0.5) for bank in learned)


def _part_or_all(word: Word, part: str) -> Word:
    """One part of a word's clips; all of them where that part is empty, as with the recordings of a
    single speaker."""
    chosen = _part(word, part)
    return chosen if len(chosen.bank) else word


def _part(word: Word, part: str) -> Word:
    return _chosen(word, lambda clip: clip.part == part)


def _chosen(word: Word, keep: Callable[[Clip], bool]) -> Word:
    kept = np.array([keep(clip) for clip in word.bank.clips], bool)
    return Word(word.name, word.bank.select(keep), word.placed[kept])


def _bank_part(bank: Bank, part: str) -> Bank:
    return bank.select(lambda clip: clip.part == part)


def heldout_waves(material: Material, seconds: float = float("inf")) -> list[np.ndarray]:
    """Held-out negative clips, every source in turn, up to this much audio."""
    waves, total = [], 0.0
    depth = max((len(bank) for bank in material.heldout_negatives), default=0)
    for index in range(depth):
        for bank in material.heldout_negatives:
            if index < len(bank) and total < seconds:
                waves.append(bank[index])
                total += len(waves[-1]) / SAMPLE_RATE
    return waves
