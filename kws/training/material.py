"""From folders to what a run learns from and is judged by: words, negatives, noises and rooms, split by speaker."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kws.audio import SAMPLE_RATE
from kws.errors import DataError
from kws.training.augment import simulated_rooms
from kws.training.clips import BACKGROUND, LONGEST_WORD_SECONDS, Bank, Clip, find_clips, read_bank
from kws.training.mining import find_audio, read_heldout
from kws.training.mixing import Source, Word, placed_word, unplaced_word

FEWEST_CLIPS = 10
LONGEST_PHRASE_SECONDS = 2.8  # it must fit into a mixed clip, or the word may be cut off
ROOMS = 400


@dataclass(frozen=True)
class Folders:
    """Where a user keeps recordings. `data`: Speech Commands layout; `phrases`: WORD/*.wav in which the word is said somewhere;
    `mine`: long recordings without the words, see `kws.training.mining`."""

    data: Path
    negatives: tuple[Path, ...] = ()
    background: tuple[Path, ...] = ()
    phrases: tuple[Path, ...] = ()
    mine: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Material:
    """All that a run needs. `words` may list a word twice (placed and unplaced clips); `heldout_words` are placed, one per name.
    `mined`: recordings for a second round, not read yet."""

    names: tuple[str, ...]
    words: tuple[Word, ...]
    negatives: tuple[Source, ...]
    noises: Bank
    heldout_words: tuple[Word, ...]
    heldout_negatives: tuple[Bank, ...]
    rooms: Tensor
    sources: tuple[dict, ...] = ()
    notes: tuple[str, ...] = ()
    mined: tuple[Clip, ...] = ()
    heldout_hours: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "heldout_hours", sum(bank.seconds for bank in self.heldout_negatives) / 3600)

    def fingerprint(self) -> str:
        banks = [word.bank for word in (*self.words, *self.heldout_words)] + [source.bank for source in self.negatives]
        return "-".join(bank.fingerprint()[:8] for bank in [*banks, self.noises, *self.heldout_negatives])


def gather(
    names: Sequence[str], folders: Folders, *, warn: Callable[[str], None], progress: Callable[[Iterable], Iterable] = iter
) -> Material:
    """Reads everything. Raises DataError where a word has too few clips, or nothing is there to tell it from."""
    mined, heldout_mined = find_audio(folders.mine, names, warn)
    everything = find_clips(folders.data)
    words = [_read_word(name, everything, folders.data, warn, progress) for name in names]
    others = [clip for clip in everything if clip.label not in (*names, BACKGROUND)]
    banks = [read_bank(clips, warn=warn, progress=progress) for clips in (others, *map(find_clips, folders.negatives)) if clips]
    if not banks:
        raise DataError(
            f"{folders.data}: nothing but {', '.join(names)}; a detector needs other speech too. Add some with --negatives DIR."
        )
    noise_clips = [clip for clip in everything if clip.label == BACKGROUND] + [
        c for folder in folders.background for c in find_clips(folder)
    ]
    phrases = [unplaced_word(name, bank) for name, bank in _phrases(names, folders, warn, progress)]
    notes = tuple(
        f"'{word.name}' has too few speakers to hold some out: its miss rates are of clips it learned from."
        for word in words
        if not all(len(_part(word, part).bank) for part in ("train", "validation"))
    )
    for note in notes:
        warn(note)
    return Material(
        names=tuple(names),
        words=tuple(_part_or_all(word, "train") for word in (*words, *phrases)),
        negatives=_learned(banks, folders),
        noises=read_bank(noise_clips, warn=warn, progress=progress),
        heldout_words=tuple(_part_or_all(word, "validation") for word in words),
        heldout_negatives=(*(_bank_part(bank, "validation") for bank in banks), *_heldout(heldout_mined, banks, warn)),
        rooms=torch.from_numpy(simulated_rooms(ROOMS, np.random.default_rng(0))),
        sources=tuple({"folder": str(folder)} for folder in _all(folders)),
        notes=notes,
        mined=tuple(mined),
    )


def _all(folders: Folders) -> list[Path]:
    return [folders.data, *folders.negatives, *folders.background, *folders.phrases, *folders.mine]


def _heldout(mined: list[Clip], banks: list[Bank], warn: Callable[[str], None]) -> list[Bank]:
    """What of the recordings to mine is held out, unless it is among the other negatives already."""
    known = {clip.path.resolve() for bank in banks for clip in bank.clips}
    bank = read_heldout([clip for clip in mined if clip.path.resolve() not in known], warn)
    return [bank] if len(bank) else []


def _read_word(name: str, everything: list[Clip], folder: Path, warn, progress) -> Word:
    clips = [clip for clip in everything if clip.label == name]
    if not clips:
        labels = ", ".join(sorted({clip.label for clip in everything} - {BACKGROUND})) or "none"
        raise DataError(f"{folder / name}: no clips of '{name}'. Words there: {labels}.")
    bank = read_bank(clips, longest_seconds=LONGEST_WORD_SECONDS, warn=warn, progress=progress)
    if len(bank) < FEWEST_CLIPS:
        raise DataError(f"{folder / name}: {len(bank)} clips, need at least {FEWEST_CLIPS}. Record more.")
    return placed_word(name, bank)


def _phrases(names: Sequence[str], folders: Folders, warn, progress) -> list[tuple[str, Bank]]:
    found = [(folder / name, name) for folder in folders.phrases for name in names if (folder / name).is_dir()]
    if folders.phrases and not found:
        raise DataError(f"{folders.phrases[0]}: no folder named after a word ({', '.join(names)}).")
    return [
        (name, read_bank(find_clips(path), longest_seconds=LONGEST_PHRASE_SECONDS, warn=warn, progress=progress)) for path, name in found
    ]


def _learned(banks: list[Bank], folders: Folders) -> tuple[Source, ...]:
    learned = [bank for bank in (_bank_part(bank, "train") for bank in banks) if len(bank)]
    if not learned:
        raise DataError(
            f"{folders.data}: all recordings of other sounds were held out (one in five is, by its name). Add more with --negatives DIR."
        )
    return tuple(Source(bank, bank.seconds**0.5) for bank in learned)


def _part_or_all(word: Word, part: str) -> Word:
    """One part of a word's clips; all of them where that part is empty, as with the recordings of a single speaker."""
    chosen = _part(word, part)
    return chosen if len(chosen.bank) else word


def _part(word: Word, part: str) -> Word:
    keep = np.array([clip.part == part for clip in word.bank.clips], bool)
    return Word(word.name, _bank_part(word.bank, part), word.placed[keep])


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
