"""All that a keyword model learns from and is judged by, read from folders and split by speaker."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from kws.audio.folders import find_on_disk, normalize_name
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import DataError
from kws.training.data.clips import (
    BACKGROUND,
    Clip,
    belongs_to_words,
    check_folders,
    describe_speakers,
    find_clips,
    has_folder_named,
)
from kws.training.data.dataset import (
    MAX_WORD_SECONDS,
    ClipDataset,
    Progress,
    Warn,
    drop_silent_clips,
    load_clips,
)
from kws.training.data.long_recordings import find_mining_clips, read_heldout_segments
from kws.training.data.miss_clips import MissClips, choose_miss_clips, find_heldout, is_held_out
from kws.training.data.places import UNKNOWN_PLACE, Place, read_places
from kws.training.data.sources import NegativeSource, WordClips, aligned_word, word_in_context

MIN_CLIPS = 10
OWN_RECORDINGS_SHARE = 0.25  # of the word clips drawn, however few a user's own recordings are


@dataclass(frozen=True)
class DataFolders:
    """Where a user keeps recordings.

    data: WORD/*.wav, the words and others, the layout of Speech Commands
    negatives: speech without the words
    background: noise
    in_context: WORD/*.wav, the word somewhere within longer speech, and perhaps a table of its
        places (`kws.training.data.places`)
    hard_negatives: long recordings without the words, to mine (`kws.training.fit.hard_negatives`)
    own_recordings: WORD/*.wav, few recordings by the people who will use the model
    confusables: `data` is synthesized, and its other words sound like the words; they do not count
        as ordinary speech when false alarms are measured
    excluded: files of `data`, `negatives` and `in_context` that are not used
    corpora: people's sentences with transcripts (`kws.training.detection.corpus`)
    mine_corpora: their sentences without the words are mined, too
    """

    data: Path
    negatives: tuple[Path, ...] = ()
    background: tuple[Path, ...] = ()
    in_context: tuple[Path, ...] = ()
    hard_negatives: tuple[Path, ...] = ()
    own_recordings: tuple[Path, ...] = ()
    confusables: bool = False
    excluded: frozenset[Path] = frozenset()
    corpora: tuple[Path, ...] = ()
    mine_corpora: bool = False

    @property
    def has_mining(self) -> bool:
        """Whether anything is mined."""
        return bool(self.hard_negatives) or self.mine_corpora

    def clips(self, folder: Path, words: Sequence[str] = ()) -> list[Clip]:
        """The recordings of one of the folders, as `find_clips` finds them. Raises AudioError where
        there are none."""
        return [clip for clip in find_clips(folder, words) if clip.path not in self.excluded]

    def all(self) -> list[Path]:
        return [
            self.data,
            *self.negatives,
            *self.background,
            *self.in_context,
            *self.hard_negatives,
            *self.own_recordings,
            *self.corpora,
        ]


@dataclass(frozen=True)
class CorpusClips:
    """Of a corpus: words in sentences, whose places are known; `speech` without them; the
    recordings of all sentences that hold a word, used or not."""

    words: tuple[WordClips, ...]
    speech: ClipDataset
    holding: frozenset[Path]


@dataclass(frozen=True)
class KeywordData:
    """All that a training run needs.

    `words` may hold several sources of a word; `heldout_words` holds one aligned source per name.
    `miss_clips`: what misses are measured on; without it on `heldout_words`.
    `hard_negatives` are recordings to mine, not read yet. `recorded_rooms` [n, K]: impulse
    responses (`kws.training.augment.rooms`) to use beside the simulated ones. `said_in`: recordings
    of which parts are left out, as a word is said there.
    """

    names: tuple[str, ...]
    words: tuple[WordClips, ...]
    negatives: tuple[NegativeSource, ...]
    noises: ClipDataset
    heldout_words: tuple[WordClips, ...]
    heldout_negatives: tuple[ClipDataset, ...]
    recorded_rooms: np.ndarray | None = None
    heldout_confusables: ClipDataset | None = None
    sources: tuple[dict, ...] = ()
    notes: tuple[str, ...] = ()
    hard_negatives: tuple[Clip, ...] = ()
    miss_clips: MissClips | None = None
    said_in: frozenset[Path] = frozenset()

    @property
    def heldout_hours(self) -> float:
        return sum(dataset.seconds for dataset in self.heldout_negatives) / 3600

    def fingerprint(self) -> str:
        """Changes when a run would learn from other clips, or be judged by others."""
        datasets = [
            *(word.dataset for word in (*self.words, *self.heldout_words)),
            *(source.dataset for source in self.negatives),
        ]
        if self.miss_clips:
            datasets += [word.dataset for word in self.miss_clips.words]
        if self.heldout_confusables:
            datasets.append(self.heldout_confusables)
        datasets += [self.noises, *self.heldout_negatives]
        return "-".join(dataset.fingerprint()[:8] for dataset in datasets)


def check(names: Sequence[str], folders: DataFolders) -> None:
    """Raises DataError where a folder of the user is missing, or the user's own recordings are of
    none of the words. `data` need not exist yet."""
    check_folders("negatives", folders.negatives)
    check_folders("background", folders.background)
    check_folders("in-context", folders.in_context)
    check_folders("hard-negatives-from", folders.hard_negatives)
    check_folders("recordings", folders.own_recordings)
    check_folders("corpus", folders.corpora)
    if folders.own_recordings and not any(_find_own_clips(name, folders) for name in names):
        raise DataError(
            f"{folders.own_recordings[0]}: no folder named after a word ({', '.join(names)}). "
            "Put the recordings into one."
        )


def load_keyword_data(
    names: Sequence[str],
    folders: DataFolders,
    *,
    max_word_seconds: float,
    warn: Warn,
    progress: Progress = iter,
    corpora: Sequence[CorpusClips] = (),
) -> KeywordData:
    """Reads everything. Word clips with more than `max_word_seconds` of sound do not fit into a
    training example (`TrainConfig.max_word_seconds`): they are named with `warn` and left out.
    corpora: what was read of `folders.corpora`.

    Raises DataError where a folder is missing, a word has too few clips, or there is no other
    speech.
    """
    check(names, folders)
    reader = _Reader(tuple(names), folders, max_word_seconds, warn, progress)
    mining_clips, heldout_mining_clips = find_mining_clips(folders.hard_negatives, names, warn)
    data_clips = folders.clips(folders.data, names)
    words = [reader.read_word(name, data_clips) for name in names]
    other_words = reader.read_other_words(data_clips)
    holding = {path.resolve() for corpus in corpora for path in corpus.holding}
    mining_clips = [clip for clip in mining_clips if clip.path.resolve() not in holding]
    heldout_mining_clips = [
        clip for clip in heldout_mining_clips if clip.path.resolve() not in holding
    ]
    negatives = [
        *reader.read_negatives(words, holding),
        *(corpus.speech for corpus in corpora if len(corpus.speech)),
    ]
    speech = [*other_words, *negatives]
    if not speech:
        raise DataError(
            f"{folders.data}: nothing but {', '.join(names)}; a detector needs other speech too. "
            "Add some with --negatives DIR."
        )
    in_context = reader.read_in_context()
    own_recordings = reader.read_own_recordings()
    notes = _note_words_without_split(words, warn)
    training_words = [_split_or_all(word, "train") for word in (*words, *in_context)]
    training_words += _training_sentences(corpora)
    own_training = _split_own_recordings(own_recordings)
    heldout_speech = [dataset.select(is_held_out) for dataset in negatives]
    if not folders.confusables:
        heldout_speech += [dataset.select_split("validation") for dataset in other_words]
    heldout_words = tuple(_split_or_all(word, "validation") for word in words)
    return KeywordData(
        names=tuple(names),
        words=(*training_words, *_weigh_own_recordings(own_training, training_words)),
        negatives=_training_negatives(speech, folders.data),
        noises=reader.read_noises(data_clips),
        heldout_words=heldout_words,
        heldout_negatives=(
            *heldout_speech,
            *reader.read_heldout_mining_clips(heldout_mining_clips, speech),
        ),
        heldout_confusables=(
            other_words[0].select_split("validation")
            if folders.confusables and other_words
            else None
        ),
        sources=tuple({"folder": str(folder)} for folder in folders.all()),
        notes=notes,
        hard_negatives=(*mining_clips, *_corpus_mining_clips(folders, corpora)),
        miss_clips=choose_miss_clips(
            names, _list_miss_clips(folders, own_recordings, in_context, corpora)
        )
        or MissClips(heldout_words, _describe_words_alone(folders, notes)),
    )


def _training_sentences(corpora: Sequence[CorpusClips]) -> list[WordClips]:
    """The words that speakers of the training say in sentences."""
    words = [word.select_split("train") for corpus in corpora for word in corpus.words]
    return [word for word in words if len(word.dataset)]


def _corpus_mining_clips(folders: DataFolders, corpora: Sequence[CorpusClips]) -> list[Clip]:
    if not folders.mine_corpora:
        return []
    return [clip for corpus in corpora for clip in corpus.speech.clips if clip.split == "train"]


@dataclass(frozen=True)
class _Reader:
    """Reads one source after the other. Each method returns nothing for a source that the user did
    not give, and raises DataError for one of which nothing can be used."""

    names: tuple[str, ...]
    folders: DataFolders
    max_word_seconds: float
    warn: Warn
    progress: Progress

    def read_word(self, name: str, data_clips: list[Clip]) -> WordClips:
        """The recordings of one word."""
        folder = self.folders.data
        clips = [clip for clip in data_clips if clip.label == normalize_name(name)]
        if not clips:
            labels = sorted({clip.label for clip in data_clips} - {BACKGROUND, ""})
            raise DataError(
                f"{folder / name}: no clips of '{name}'. "
                f"Words there: {', '.join(labels) or 'none'}."
            )
        word = self._drop_too_long(aligned_word(name, self._load_words(clips)))
        if len(word.dataset) < MIN_CLIPS:
            raise DataError(
                f"{folder / name}: {len(word.dataset)} clips, need at least {MIN_CLIPS}. "
                "Record more."
            )
        return word

    def read_other_words(self, data_clips: list[Clip]) -> list[ClipDataset]:
        """The recordings in `data` that are neither of a word nor noise: one data set, or none."""
        data = self.folders.data
        labels = {normalize_name(name) for name in self.names}
        nested = [
            clip
            for clip in data_clips
            if clip.label not in labels and has_folder_named(clip, data, self.names)
        ]
        if nested:
            self.warn(
                f"{data}: {len(nested)} recordings in subfolders of a word's folder, or in folders "
                "that say more than it, are not used. "
                "Put recordings of the word into DIR/WORD itself."
            )
        clips = [
            clip
            for clip in data_clips
            if not has_folder_named(clip, data, (*self.names, BACKGROUND))
        ]
        return [self._load_speech(clips)] if clips else []

    def read_negatives(
        self, words: Sequence[WordClips], holding: Collection[Path]
    ) -> list[ClipDataset]:
        """Each folder of negatives that holds recordings of anything but the words. holding:
        recordings of which a transcript says that they hold a word."""
        word_paths = {clip.path.resolve() for word in words for clip in word.dataset.clips}
        datasets = []
        for folder in self.folders.negatives:
            found = self.folders.clips(folder)
            clips = [
                clip
                for clip in found
                if not belongs_to_words(clip, folder, self.names)
                and clip.path.resolve() not in word_paths
                and clip.path.resolve() not in holding
            ]
            if len(clips) < len(found):
                self.warn(
                    f"{folder}: {len(found) - len(clips)} recordings in folders named after a word "
                    "are not counted as audio without it."
                )
            if clips:
                datasets.append(self._load_speech(clips))
        return datasets

    def read_in_context(self) -> list[WordClips]:
        """Recordings in which a word lies somewhere, one source per folder."""
        words = []
        is_any = False
        for folder in self.folders.in_context:
            places = {folder / file: place for file, place in read_places(folder).items()}
            for name in self.names:
                path = find_on_disk(folder / name)
                # Path.is_dir raises for a name that is too long.
                if not os.path.isdir(path):  # noqa: PTH112
                    continue
                is_any = True
                if clips := self._drop_unplaced(path, places):
                    words.append(self._read_word_in_context(name, path, clips, places))
        if self.folders.in_context and not is_any:
            raise DataError(
                f"{self.folders.in_context[0]}: no folder named after a word "
                f"({', '.join(self.names)})."
            )
        return words

    def _drop_unplaced(self, path: Path, places: Mapping[Path, Place | None]) -> list[Clip]:
        """The clips of a folder, without those of which the table says that the word was not found
        in them. Their number is told with `warn`."""
        clips = self.folders.clips(path)
        placed = [clip for clip in clips if places.get(clip.path, UNKNOWN_PLACE)]
        if len(placed) < len(clips):
            self.warn(
                f"{path}: {len(clips) - len(placed)} of {len(clips)} recordings are left out, as "
                "the word was not found in them."
            )
        return placed

    def _read_word_in_context(
        self, name: str, path: Path, clips: list[Clip], places: Mapping[Path, Place | None]
    ) -> WordClips:
        dataset = load_clips(clips, warn=self.warn, progress=self.progress)
        dataset = drop_silent_clips(dataset, self.warn)
        endpoints = [places.get(clip.path) or UNKNOWN_PLACE for clip in dataset.clips]
        word = word_in_context(name, dataset, np.array(endpoints).reshape(-1, 2))
        word = self._drop_too_long(word)
        if not len(word.dataset):
            raise DataError(
                f"{path}: no recordings of {self.max_word_seconds:.1f} s or less. "
                "Cut them around the word."
            )
        return word

    def read_own_recordings(self) -> list[WordClips]:
        """The user's own recordings, one source per word."""
        words = []
        for name in self.names:
            clips = _find_own_clips(name, self.folders)
            if not clips:
                continue
            word = self._drop_too_long(aligned_word(name, self._load_words(clips)))
            if not len(word.dataset):
                raise DataError(
                    f"none of your own recordings of '{name}' can be used: they hold no sound, or "
                    f"more than {self.max_word_seconds:.1f} s."
                )
            words.append(word)
        return words

    def read_noises(self, data_clips: list[Clip]) -> ClipDataset:
        """Noise in `data` and in the folders of background."""
        clips = [
            clip for clip in data_clips if has_folder_named(clip, self.folders.data, [BACKGROUND])
        ]
        for folder in self.folders.background:
            clips += find_clips(folder)
        return load_clips(clips, warn=self.warn, progress=self.progress)

    def read_heldout_mining_clips(
        self, clips: list[Clip], speech: Sequence[ClipDataset]
    ) -> list[ClipDataset]:
        """The held-out recordings of those to mine, without those that are in `speech` already: one
        data set, or none."""
        known = {clip.path.resolve() for dataset in speech for clip in dataset.clips}
        dataset = read_heldout_segments(
            [clip for clip in clips if clip.path.resolve() not in known], self.warn
        )
        return [dataset] if len(dataset) else []

    def _load_words(self, clips: Sequence[Clip]) -> ClipDataset:
        dataset = load_clips(
            clips, max_seconds=MAX_WORD_SECONDS, warn=self.warn, progress=self.progress
        )
        return drop_silent_clips(dataset, self.warn)

    def _load_speech(self, clips: Sequence[Clip]) -> ClipDataset:
        """Without silent recordings: an hour of a muted microphone without a false alarm proves
        nothing."""
        dataset = load_clips(clips, warn=self.warn, progress=self.progress)
        return drop_silent_clips(dataset, self.warn, min_seconds=0.0)

    def _drop_too_long(self, word: WordClips) -> WordClips:
        """The clips whose sound fits into an example. Others are named with `warn`."""
        seconds = dict(zip(word.dataset.clips, word.sound_seconds(), strict=True))
        limit = self.max_word_seconds
        for clip in seconds:
            if seconds[clip] > limit:
                self.warn(
                    f"left out: {clip.path}: {seconds[clip]:.1f} s of sound, at most {limit:.1f} s "
                    "fit into a training example. Cut it around the word."
                )
        return word.select(lambda clip: seconds[clip] <= limit)


def _find_own_clips(name: str, folders: DataFolders) -> list[Clip]:
    return [
        clip
        for folder in folders.own_recordings
        for clip in find_clips(folder, [name])
        if clip.label == normalize_name(name)
    ]


def _split_own_recordings(words: Sequence[WordClips]) -> list[WordClips]:
    """The user's own recordings to learn from: all, where too few are held out to say anything of
    misses."""
    return [word.select_split("train") if find_heldout(word) else word for word in words]


def _list_miss_clips(
    folders: DataFolders,
    own_recordings: Sequence[WordClips],
    in_context: Sequence[WordClips],
    corpora: Sequence[CorpusClips],
) -> dict[str, Sequence[WordClips]]:
    """What misses may be measured on, the best first."""
    is_synthetic = [
        folders.confusables and word.dataset.clips[0].path.is_relative_to(folders.data.parent)
        for word in in_context
    ]
    return {
        "your own recordings that were held out": own_recordings,
        "held-out people's sentences": [word for corpus in corpora for word in corpus.words],
        "held-out recordings of the word in context": [
            word for word, synthetic in zip(in_context, is_synthetic, strict=True) if not synthetic
        ],
        "held-out synthesized voices, the word inside sentences": [
            word for word, synthetic in zip(in_context, is_synthetic, strict=True) if synthetic
        ],
    }


def _describe_words_alone(folders: DataFolders, notes: Sequence[str]) -> str:
    if notes:
        return "clips that it learned from"
    if folders.confusables:
        return "held-out synthesized voices, the word alone"
    return "held-out recordings, each word alone"


def _weigh_own_recordings(
    own_recordings: Sequence[WordClips], others: Sequence[WordClips]
) -> list[WordClips]:
    """With a weight that gives them their share of the word clips drawn."""
    share = OWN_RECORDINGS_SHARE / (1 - OWN_RECORDINGS_SHARE)
    return [
        replace(
            word,
            weight=share * sum(each.sampling_weight for each in others if each.name == word.name),
        )
        for word in own_recordings
    ]


def _note_words_without_split(words: Sequence[WordClips], warn: Warn) -> tuple[str, ...]:
    """A note for the model's document on each word whose speakers are all in one split."""
    notes = []
    for word in words:
        if all(len(word.select_split(split).dataset) for split in ("train", "validation")):
            continue
        note = (
            f"'{word.name}' has too few speakers to hold some out: "
            "its miss rates are of clips it learned from."
        )
        warn(f"{note}{describe_speakers(word.dataset.clips)}")
        notes.append(note)
    return tuple(notes)


def _split_or_all(word: WordClips, split: str) -> WordClips:
    """The clips of one split; all of them where it is empty, as with a single speaker."""
    selected = word.select_split(split)
    return selected if len(selected.dataset) else word


def _training_negatives(speech: Sequence[ClipDataset], data: Path) -> tuple[NegativeSource, ...]:
    training = [dataset.select_split("train") for dataset in speech]
    sources = [NegativeSource(each, each.seconds**0.5) for each in training if len(each)]
    if not sources:
        clips = [clip for dataset in speech for clip in dataset.clips]
        raise DataError(
            f"{data}: all recordings of other sounds were held out (one in five is, by its name). "
            f"Add more with --negatives DIR.{describe_speakers(clips)}"
        )
    return tuple(sources)


def heldout_waves(keyword_data: KeywordData, seconds: float = float("inf")) -> list[np.ndarray]:
    """Held-out negative clips, from every data set in turn, until they last `seconds`."""
    waves: list[np.ndarray] = []
    total = 0.0
    for clips_at_same_index in zip_longest(*keyword_data.heldout_negatives):
        for wave in clips_at_same_index:
            if total >= seconds:
                return waves
            if wave is not None:
                waves.append(wave)
                total += len(wave) / SAMPLE_RATE
    return waves
