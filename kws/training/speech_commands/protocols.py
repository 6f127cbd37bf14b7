"""The classification protocols of Speech Commands: which clips a network learns from, which it is
chosen by, and which it is judged by.

docs/protocols.md says what each is, and which published figures it may be compared with. A protocol
is a `Rule`: its words, how speakers are split, and how much of other words ("_unknown_") and of
background noise ("_silence_") goes into the parts that judge. Training always gets all clips of
other words; how often each is heard is for the training loop to say.

Sources: arXiv 1804.03209, and the TensorFlow example that came with it,
speech_commands/input_data.py.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kws.audio.folders import normalized
from kws.errors import DataError
from kws.training.data.clips import BACKGROUND, Bank, Clip, find_clips, pack, read_bank
from kws.training.data.splits import PARTS, archive_clips, hashed_parts, listed_parts, word_clips
from kws.training.speech_commands.dataset import CLIP_SAMPLES, SILENCE, UNKNOWN, Part, read_part
from kws.training.speech_commands.silence import faded, pieces, stretch

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_V1_WORDS = (
    *COMMANDS,
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"),
)
WORDS = {
    "0.01": _V1_WORDS,
    "0.02": (*_V1_WORDS, "backward", "follow", "forward", "learn", "visual"),
}
_NO_SILENCE = np.zeros((0, CLIP_SAMPLES), np.int16)
PACK_WORDS = ("yes", "no", "down", "up", "happy", "cat", "bed")
# Never in training nor validation of pack-9-unseen.
HELD_OUT = ("left", "right", "on", "off", "stop", "go")


@dataclass(frozen=True)
class Rule:
    """`others`: size of unknown and of silence, each, where clips are fixed: a share of all target
    clips, or "mean" of the targets' counts, or None for neither class. `version`: of the published
    data set, whose lists then split it; else the hash rule does."""

    words: tuple[str, ...]
    others: float | str | None
    version: str | None = None
    held_out: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return (*self.words, *((UNKNOWN, SILENCE) if self.others else ()))


PROTOCOLS: Mapping[str, Rule] = {
    "v2-12": Rule(COMMANDS, 0.1, "0.02"),
    "v1-12": Rule(COMMANDS, 0.1, "0.01"),
    "v2-35": Rule(tuple(sorted(WORDS["0.02"])), None, "0.02"),
    "pack-9": Rule(PACK_WORDS, "mean"),
    "pack-9-unseen": Rule(PACK_WORDS, "mean", held_out=HELD_OUT),
    "words": Rule((), "mean"),
}


@dataclass(frozen=True)
class Protocol:
    """Clips of one protocol. Labels index `classes`: the targets, then "_unknown_" and "_silence_"
    where the protocol has them.

    `tests`: further test sets by name ("list", "unseen"); `noise`: background recordings to augment
    with, their training stretches only; `reported`: which test set `test` is, in words to print
    beside its accuracy; `held_out`: words that nothing may be learned of.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    tests: dict[str, Part]
    noise: Bank
    reported: str
    held_out: tuple[str, ...] = ()


def load(
    name: str,
    folder: Path,
    *,
    words: Sequence[str] = (),
    test_archive: Path | None = None,
    wanted: Collection[str] = PARTS,
    seed: int = 0,
    warn: Callable[[str], None],
    progress: Callable[[Iterable], Iterable] = iter,
) -> Protocol:
    """Reads the clips of a protocol, one of PROTOCOLS, from a folder in Speech Commands layout.

    `words`: the targets of protocol "words". `test_archive`: the unpacked official test archive of
    a 12-word protocol, by default the folder speech_commands_test_set_v0.0X beside `folder`, where
    `kws download` puts it. `wanted`: the parts to be read, the others are empty; to judge, "test"
    is enough. `seed` draws the clips of other words and the pieces of noise: leave it alone where
    figures are to be compared, also between runs that learn with different seeds.

    Raises DataError where the folder is not what the protocol needs.
    """
    rule = _rule(name, words)
    clips = word_clips(folder, rule.words)
    rule = _fitted(name, rule, {clip.label for clip in clips}, folder)
    archive = _archive(name, rule, folder, test_archive)
    parts = listed_parts(clips, folder, warn) if rule.version else hashed_parts(clips)
    noises = _noises(folder, rule, warn, progress)
    maker = _Maker(
        rule, {part: stretch(noises, part) for part in PARTS}, folder, seed, warn, progress
    )
    train, validation, test = (
        maker.part(part, parts[part]) if part in wanted else maker.nothing() for part in PARTS
    )
    tests, reported = {}, _reported(rule)
    if rule.held_out:
        tests["unseen"] = maker.unseen(parts["test"])
    if archive:
        tests["list"], test, reported = (
            test,
            maker.archive(archive, parts["train"]),
            f"the official test archive ({archive.name})",
        )
    return Protocol(
        name,
        rule.classes,
        train,
        validation,
        test,
        tests,
        maker.noises["train"],
        reported,
        rule.held_out,
    )


def _rule(name: str, words: Sequence[str]) -> Rule:
    if name not in PROTOCOLS:
        raise DataError(f"'{name}' is no protocol. Take one of {', '.join(PROTOCOLS)}.")
    rule = PROTOCOLS[name]
    if rule.words and words:
        raise DataError(
            f"protocol {name} has words of its own. Leave yours out, or take protocol 'words'."
        )
    if not rule.words and not words:
        raise DataError(f"protocol {name}: no words given. Name the words to tell apart.")
    return replace(rule, words=rule.words or tuple(dict.fromkeys(map(normalized, words))))


def _fitted(name: str, rule: Rule, present: set[str], folder: Path) -> Rule:
    """The rule for the words that are there. Raises DataError where they are not what it needs."""
    wanted = WORDS[rule.version] if rule.version else rule.words
    missing = [word for word in wanted if word not in present]
    others = sorted(present - set(wanted))
    if missing:
        raise DataError(
            f"{folder}: protocol {name} needs clips of {', '.join(missing)}. "
            f"Words there: {', '.join(sorted(present))}. Give another one."
        )
    if rule.version and others:
        raise DataError(
            f"{folder}: {', '.join(others)} not in version {rule.version}, on which {name} is "
            "defined. Give its own folder."
        )
    if not rule.version and not others:
        raise DataError(
            f"{folder}: nothing but {', '.join(rule.words)}; "
            "other words are needed to learn what is none of them. Add some."
        )
    held_out = tuple(word for word in rule.held_out if word in others)
    return replace(rule, held_out=held_out if len(held_out) < len(others) else ())


def _noises(
    folder: Path, rule: Rule, warn: Callable[[str], None], progress: Callable[[Iterable], Iterable]
) -> Bank:
    if (folder / BACKGROUND).is_dir():
        return read_bank(find_clips(folder / BACKGROUND), warn=warn, progress=progress)
    if rule.others:
        raise DataError(
            f"{folder / BACKGROUND}: no such folder; silence is cut from the noise in it. "
            "Put recordings of noise there."
        )
    return pack([], [])


def _archive(name: str, rule: Rule, folder: Path, given: Path | None) -> Path | None:
    if rule.words != COMMANDS or rule.version is None:
        if given:
            raise DataError(
                f"{given}: the official test archive has no place in protocol {name}. Leave it out."
            )
        return None
    beside = folder.resolve().parent / f"speech_commands_test_set_v{rule.version}"
    return given or (beside if beside.is_dir() else None)


def _reported(rule: Rule) -> str:
    if rule.version is None:
        return (
            "the test speakers by the hash rule; "
            "unknown and silence each as many as the mean of the words"
        )
    added = (
        f" with {rule.others:.0%} unknown and {rule.others:.0%} silence added"
        if rule.others
        else ""
    )
    return f"testing_list.txt of version {rule.version}{added}"


@dataclass(frozen=True)
class _Maker:
    """Makes the parts of one protocol. `noises`: the stretches of each part."""

    rule: Rule
    noises: dict[str, Bank]
    folder: Path
    seed: int
    warn: Callable[[str], None]
    progress: Callable[[Iterable], Iterable]

    def part(self, part: str, clips: Sequence[Clip]) -> Part:
        """Targets, other words and silence; the latter two as many as the rule says, but all other
        words in training."""
        targets = [clip for clip in clips if clip.label in self.rule.words]
        others = [clip for clip in clips if clip.label not in self.rule.words]
        for word in sorted(set(self.rule.words) - {clip.label for clip in targets}):
            self.warn(f"{self.folder}: no clips of '{word}' in the {part} part.")
        if self.rule.others is None:
            return self._read(targets, _NO_SILENCE)
        if part != "test":
            others = [clip for clip in others if clip.label not in self.rule.held_out]
        wished = self._others(part, len(targets))
        if part != "train":
            if len(others) < wished:
                self.warn(
                    f"{self.folder}: {len(others)} clips of other words in the {part} part, "
                    f"{wished} wished for."
                )
            others = _drawn(others, wished, self.seed)
        return self._read([*targets, *others], self._silence(part, wished))

    def unseen(self, clips: Sequence[Clip]) -> Part:
        """All clips of words that are in no part but the test."""
        return self._read([clip for clip in clips if clip.label in self.rule.held_out], _NO_SILENCE)

    def nothing(self) -> Part:
        return self._read([], _NO_SILENCE)

    def archive(self, folder: Path, train: Sequence[Clip]) -> Part:
        """The official test archive; tells of speakers that stand in the training part too."""
        spoken, silent = archive_clips(folder, self.rule.words)
        shared = {clip.speaker for clip in spoken} & {clip.speaker for clip in train}
        if shared:
            self.warn(f"{folder}: {len(shared)} of its speakers are in the training part too.")
        return self._read(spoken, self._read(silent, _NO_SILENCE).samples)

    def _others(self, part: str, targets: int) -> int:
        share = self.rule.others
        if share == "mean" or part == "train":
            return round(targets / len(self.rule.words))
        assert isinstance(share, float)
        return math.ceil(targets * share)

    def _silence(self, part: str, count: int) -> np.ndarray:
        """Pieces of noise: as they are, or, where the TensorFlow example's rule holds, at gains
        from 0 to 1 in the parts that judge."""
        rng = np.random.default_rng((self.seed, PARTS.index(part)))
        silence = pieces(self.noises[part], count, rng, self.folder / BACKGROUND)
        return (
            faded(silence, rng.random(count)) if self.rule.version and part != "train" else silence
        )

    def _read(self, clips: Sequence[Clip], silence: np.ndarray) -> Part:
        return read_part(clips, silence, self.rule.classes, warn=self.warn, progress=self.progress)


def _drawn(clips: Sequence[Clip], count: int, seed: int) -> list[Clip]:
    """`count` clips in a random order that depends on the seed and their own names alone, so that
    new clips do not redraw the old."""
    return sorted(
        clips,
        key=lambda clip: hashlib.sha1(f"{seed}/{clip.label}/{clip.path.name}".encode()).digest(),
    )[:count]
