"""People's sentences with a word, and without it, from corpora with transcripts
(`kws.training.data.transcripts`).

In English sentences that hold a word its place is found by forced alignment. Sentences that do not
hold it, in any language, are other speech. The rest serves for nothing: sentences that say the word
twice, or within another word, or in another language, or that do not fit their recordings.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kws.audio.recordings import SAMPLE_RATE
from kws.errors import DataError
from kws.synth.carriers import holds
from kws.training.data.dataset import (
    ClipDataset,
    Progress,
    drop_silent_clips,
    load_clips,
    pack_clips,
)
from kws.training.data.keyword_data import CorpusClips
from kws.training.data.places import Place
from kws.training.data.sources import WordClips, word_in_context
from kws.training.data.splits import parse_speaker
from kws.training.data.transcripts import Utterance, find_words, read_corpus
from kws.training.model.network import ScanningCNN
from kws.training.phones.alignment import align_words
from kws.training.phones.places import MIN_FIT, compute_fit, locate_phrase

SAMPLE_SENTENCES = 60  # of a corpus, to see whether its transcripts fit
MIN_FITTING_FRACTION = 0.5  # of these
CONTEXT_SECONDS = 3.0  # kept before a word and after it; an example is no longer

logger = logging.getLogger("kws")


def read_corpus_clips(
    folder: Path,
    pronunciations: Mapping[str, Sequence[str]],
    aligner: ScanningCNN,
    *,
    max_word_seconds: float,
    progress: Progress = iter,
) -> CorpusClips:
    """What a corpus holds of some words, and other speech. What is left out is told.

    pronunciations: of each word, as `kws.synth.confusables` gives them. aligner: recognises phones.
    max_word_seconds: see `kws.training.data.keyword_data.load_keyword_data`. Raises DataError for a
    corpus that is missing or damaged, and for one whose transcripts do not fit its recordings.
    """
    utterances = read_corpus(folder, logger.warning)
    _tell_unknown_speakers(folder, utterances)
    by_word = {
        word: [each for each in utterances if holds(_normalize(each), _phrase(word), phones)]
        for word, phones in pronunciations.items()
    }
    holding = frozenset(each.path for spoken in by_word.values() for each in spoken)
    speech = _load([each for each in utterances if each.path not in holding], progress)
    _check_transcripts(folder, utterances, speech, aligner)
    words = []
    for word, spoken in by_word.items():
        clips = _find_word(word, spoken, aligner, progress)
        clips = _drop_long(clips, max_word_seconds)
        _tell_word(folder, word, len(spoken), len(clips.dataset))
        if len(clips.dataset):
            words.append(clips)
    return CorpusClips(tuple(words), speech, holding)


def _tell_unknown_speakers(folder: Path, utterances: Sequence[Utterance]) -> None:
    if all(each.speaker == parse_speaker(each.path) == each.path.stem for each in utterances):
        logger.warning(
            f"{folder}: does not say who speaks, so each recording counts as another speaker's. "
            "A column speaker keeps those who are learned from out of what is held out."
        )


def _tell_word(folder: Path, word: str, holding: int, used: int) -> None:
    if not holding:
        logger.info(f"{folder}: no sentence holds '{word}'; all serve as other speech")
    else:
        logger.info(
            f"{folder}: {holding} sentences hold '{word}', {used} of them serve for it; "
            f"{holding - used} are left out: the word is said twice or within another one, or the "
            "recording does not fit"
        )


def _load(utterances: Iterable[Utterance], progress: Progress) -> ClipDataset:
    dataset = load_clips([each.clip for each in utterances], warn=logger.warning, progress=progress)
    return drop_silent_clips(dataset, logger.warning, min_seconds=0.0)


def _check_transcripts(
    folder: Path, utterances: Iterable[Utterance], speech: ClipDataset, aligner: ScanningCNN
) -> None:
    """Raises DataError where most English sentences of a sample do not fit their recordings."""
    english = {each.path: each for each in utterances if each.is_english}
    if not english:
        logger.warning(f"{folder}: holds no English sentence; all serve as other speech")
    indices = [index for index, clip in enumerate(speech.clips) if clip.path in english]
    sample = indices[:: max(len(indices) // SAMPLE_SENTENCES, 1)]
    fitting = sum(
        _fits(speech[index], english[speech.clips[index].path], aligner) for index in sample
    )
    if fitting < MIN_FITTING_FRACTION * len(sample):
        raise DataError(
            f"{folder}: {len(sample) - fitting} of {len(sample)} transcripts that were looked at "
            "do not fit their recordings. Are they mixed up, or not in English? A column language "
            "tells what is not; --negatives takes recordings without transcripts."
        )


def _fits(samples: np.ndarray, utterance: Utterance, aligner: ScanningCNN) -> bool:
    try:
        aligned = align_words(aligner, samples, find_words(utterance.text))
    except DataError:
        return False
    return bool(aligned) and compute_fit(aligned) >= MIN_FIT


def _find_word(
    word: str, spoken: Iterable[Utterance], aligner: ScanningCNN, progress: Progress
) -> WordClips:
    """The word and what is said around it, in the English sentences that say it once."""
    phrase = _phrase(word)
    by_path = {
        each.path: each
        for each in spoken
        if each.is_english and f" {_normalize(each)} ".count(f" {phrase} ") == 1
    }
    dataset = _load(by_path.values(), progress)
    places = [
        locate_phrase(aligner, wave, _normalize(by_path[clip.path]), phrase)
        for clip, wave in zip(dataset.clips, dataset, strict=True)
    ]
    return _cut_around(word, dataset, places)


def _cut_around(word: str, dataset: ClipDataset, places: Sequence[Place | None]) -> WordClips:
    """The clips in which the word has a place, cut to some seconds around it."""
    clips, waves, endpoints = [], [], []
    for index, place in enumerate(places):
        if place is None:
            continue
        first = max(round((place.start - CONTEXT_SECONDS) * SAMPLE_RATE), 0)
        end = round((place.end + CONTEXT_SECONDS) * SAMPLE_RATE)
        clips.append(dataset.clips[index])
        waves.append(dataset.int16_clip(index)[first:end])
        endpoints.append(np.array(place) - first / SAMPLE_RATE)
    return word_in_context(word, pack_clips(clips, waves), np.array(endpoints).reshape(-1, 2))


def _drop_long(word: WordClips, max_seconds: float) -> WordClips:
    seconds = dict(zip(word.dataset.clips, word.sound_seconds(), strict=True))
    return word.select(lambda clip: seconds[clip] <= max_seconds)


def _phrase(word: str) -> str:
    """The name of a word as it stands in a text."""
    return " ".join(find_words(word.replace("_", " ")))


def _normalize(utterance: Utterance) -> str:
    """The words of a text, in small letters, without anything between them."""
    return " ".join(find_words(utterance.text))
