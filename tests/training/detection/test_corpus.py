"""Corpora with transcripts, in synthesized speech: sentences with a word, sentences without it, and
corpora that cannot be used."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from flite import speak
from sounds import RATE, quiet, tone

from kws.errors import DataError
from kws.synth.confusables import pronunciations
from kws.training.data.keyword_data import CorpusClips, DataFolders, load_keyword_data
from kws.training.data.splits import assign_split
from kws.training.detection.corpus import CONTEXT_SECONDS, read_corpus_clips
from kws.training.model.network import ScanningCNN
from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE, shipped_checkpoint
from kws.training.model.torch_engine import load_network
from kws.training.phones.places import locate_phrase

pytestmark = pytest.mark.flite
WITH_WORD = "they bought another computer for my brother"
TWICE = "the computer beside the other computer is broken"
LONGER_WORD = "the computers are broken"
OTHER = ("people looked for a new house in every city", "something must be better than the old way")
LEARNED, HELD_OUT = (
    next(f"p{i}" for i in range(99) if assign_split(f"p{i}") == split)
    for split in ("train", "validation")
)


@pytest.fixture(scope="module")
def aligner() -> ScanningCNN:
    recognizer = shipped_checkpoint(PHONE_RECOGNIZER_FILE)
    assert recognizer
    return load_network(recognizer)


def write_corpus(
    folder: Path, rows: Iterable[tuple[str, str, str]], columns: str = "file,speaker,language,text"
) -> Path:
    """A corpus of (speaker, language, text), each spoken as it is written."""
    folder.mkdir(exist_ok=True)
    lines = [columns]
    for number, (speaker, language, text) in enumerate(rows):
        soundfile.write(folder / f"{number}.wav", speak(text), RATE)
        lines.append(f"{number}.wav,{speaker},{language},{text.upper()}")
    (folder / "corpus.csv").write_text("\n".join(lines))
    return folder


def read(folder: Path, aligner: ScanningCNN, word: str = "computer") -> CorpusClips:
    phones = {word: pronunciations(word.replace("_", " "))}
    return read_corpus_clips(folder, phones, aligner, max_word_seconds=2.3)


def names(clips: CorpusClips) -> tuple[list[str], list[str]]:
    """Of the recordings of the word, and of other speech."""
    words = [clip.path.stem for word in clips.words for clip in word.dataset.clips]
    return words, [clip.path.stem for clip in clips.speech.clips]


def test_each_sentence_serves_for_what_it_holds(aligner, tmp_path, caplog):
    rows = [
        (LEARNED, "en", WITH_WORD),
        (LEARNED, "en", OTHER[0]),
        (HELD_OUT, "en", TWICE),
        (HELD_OUT, "en", LONGER_WORD),
        (HELD_OUT, "de", WITH_WORD),
        (HELD_OUT, "en", OTHER[1]),
    ]
    folder = write_corpus(tmp_path / "corpus", rows)
    with caplog.at_level(logging.INFO):
        clips = read(folder, aligner)
    assert names(clips) == (["0"], ["1", "5"])
    assert {path.stem for path in clips.holding} == {"0", "2", "3", "4"}
    assert [clip.speaker for clip in clips.speech.clips] == [LEARNED, HELD_OUT]
    assert "4 sentences hold 'computer', 1 of them serve for it; 3 are left out" in caplog.text


def test_the_word_keeps_its_place_and_what_is_said_around_it(aligner, tmp_path):
    folder = write_corpus(tmp_path / "corpus", [(LEARNED, "en", WITH_WORD), ("b", "en", OTHER[0])])
    path = folder / "0.wav"
    long_pause = quiet(4.0)
    samples = np.concatenate([long_pause, speak(WITH_WORD), long_pause])
    soundfile.write(path, samples, RATE)
    place = locate_phrase(aligner, samples, WITH_WORD, "computer")
    assert place
    (word,) = read(folder, aligner).words
    assert word.in_context
    assert len(word.dataset[0]) / RATE == pytest.approx(
        place.end - place.start + 2 * CONTEXT_SECONDS, abs=0.01
    )
    assert word.endpoints[0] == pytest.approx(
        [CONTEXT_SECONDS, CONTEXT_SECONDS + place.end - place.start], abs=0.01
    )


def test_a_phrase_is_found_across_words_and_commas(aligner, tmp_path):
    text = "She said to me: my brother; is broken"
    folder = write_corpus(tmp_path / "corpus", [("a", "en", text), ("b", "en", OTHER[0])])
    assert names(read(folder, aligner, "my_brother")) == (["0"], ["1"])


def test_a_sentence_that_does_not_fit_serves_for_nothing(aligner, tmp_path):
    rows = [("a", "en", WITH_WORD), ("b", "en", WITH_WORD), ("c", "en", OTHER[0])]
    folder = write_corpus(tmp_path / "corpus", rows)
    soundfile.write(folder / "0.wav", speak(OTHER[1]), RATE)
    assert names(read(folder, aligner)) == (["1"], ["2"])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("a", "en", OTHER[0])], "no sentence holds 'computer'; all serve as other speech"),
        ([("a", "de", OTHER[0])], "holds no English sentence; all serve as other speech"),
        ([("", "en", OTHER[0])], "does not say who speaks"),
    ],
)
def test_what_a_corpus_lacks_is_told(aligner, tmp_path, caplog, rows, words):
    folder = write_corpus(tmp_path / "corpus", rows)
    with caplog.at_level(logging.INFO):
        assert names(read(folder, aligner)) == ([], ["0"])
    assert f"{folder}: {words}" in caplog.text


def test_transcripts_of_other_recordings(aligner, tmp_path):
    folder = write_corpus(tmp_path / "corpus", [("a", "en", text) for text in (*OTHER, WITH_WORD)])
    for number, text in enumerate((OTHER[1], WITH_WORD, OTHER[0])):
        soundfile.write(folder / f"{number}.wav", speak(text), RATE)
    with pytest.raises(DataError, match="2 of 2 transcripts that were looked at do not fit"):
        read(folder, aligner)


def test_another_language_that_no_column_tells(aligner, tmp_path):
    german = ("die aussage dass niemand hier ist", "wir haben heute schon wieder regen")
    folder = write_corpus(tmp_path / "corpus", [("a", "", text) for text in OTHER])
    (folder / "corpus.csv").write_text(
        "\n".join(["file,text", *(f"{number}.wav,{text}" for number, text in enumerate(german))])
    )
    with pytest.raises(DataError, match="not in English"):
        read(folder, aligner)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "no transcripts. A corpus has a CSV"),
        ("file,speaker\n0.wav,a\n", "no columns file and text"),
        ("file,text\n9.wav,hello\n", "there is no recording"),
    ],
)
def test_corpora_that_are_not_whole(aligner, tmp_path, table, message):
    folder = write_corpus(tmp_path / "corpus", [("a", "en", OTHER[0])])
    (folder / "corpus.csv").unlink()
    if table:
        (folder / "corpus.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        read(folder, aligner)


def test_sentences_of_the_word_are_no_negatives_wherever_they_lie(aligner, tmp_path):
    """Held-out speakers teach nothing; a sentence that holds the word is no negative of a folder
    that is given beside the corpus either."""
    rows = [
        (LEARNED, "en", WITH_WORD),
        (HELD_OUT, "en", WITH_WORD),
        (LEARNED, "en", OTHER[0]),
        (HELD_OUT, "en", OTHER[1]),
    ]
    folder = write_corpus(tmp_path / "corpus", rows)
    for speaker in range(12):
        path = tmp_path / "data" / "computer" / f"s{speaker}_nohash_0.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(0.5), RATE)
    data = load_keyword_data(
        ["computer"],
        DataFolders(
            tmp_path / "data",
            negatives=(folder,),
            hard_negatives=(folder,),
            corpora=(folder,),
            mine_corpora=True,
        ),
        max_word_seconds=2.3,
        warn=lambda text: None,
        corpora=[read(folder, aligner)],
    )
    (sentences,) = (word for word in data.words if word.in_context)
    assert [clip.path.stem for clip in sentences.dataset.clips] == ["0"]
    negatives = {clip.path.stem for source in data.negatives for clip in source.dataset.clips}
    heldout = {clip.path.stem for dataset in data.heldout_negatives for clip in dataset.clips}
    assert not {"0", "1"} & (negatives | heldout | {clip.path.stem for clip in data.hard_negatives})
    assert "2" in negatives and "3" in heldout
    assert {"folder": str(folder)} in data.sources
