"""Corpora with transcripts: both layouts, who is held out, and corpora that are not whole."""

from pathlib import Path

import pytest
import soundfile
from sounds import RATE, tone

from kws.errors import DataError
from kws.training.data.splits import assign_split
from kws.training.data.transcripts import Utterance, read_corpus

COLUMNS = "file,speaker,voice,accent,language,text"


def add_recording(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(0.1, 300), RATE)
    return path


def make_csv_corpus(folder: Path, *rows: str, columns: str = COLUMNS) -> Path:
    """A corpus with recordings a.wav to d.wav, and these rows."""
    for name in "abcd":
        add_recording(folder / f"{name}.wav")
    (folder / "corpus.csv").write_text("\n".join([columns, *rows, ""]), encoding="utf-8")
    return folder


def read_silently(folder: Path) -> list[Utterance]:
    return read_corpus(folder, warn=lambda message: pytest.fail(message))


class TestLayouts:
    def test_librispeech(self, tmp_path):
        chapter = tmp_path / "226" / "122538"
        first = add_recording(chapter / "226-122538-0000.flac")
        second = add_recording(chapter / "226-122538-0001.ogg")
        (chapter / "226-122538.trans.txt").write_text(
            "226-122538-0001 I SAW HER\n226-122538-0000 HE WAS NOT THERE\n"
        )
        assert read_silently(tmp_path) == [
            Utterance(first, "he was not there", "226"),
            Utterance(second, "i saw her", "226"),
        ]

    def test_csv(self, tmp_path):
        corpus = make_csv_corpus(
            tmp_path,
            'a.wav,ann,v1,Irish,en-IE,"Well, hello."',
            "b.wav,,v2,,de,Guten Tag",
            "c.wav,,,,,THE END",
        )
        ann, german, unknown = read_silently(corpus)
        assert ann == Utterance(corpus / "a.wav", "Well, hello.", "ann", "en-IE", "Irish")
        assert (german.speaker, german.is_english) == ("v2", False)
        assert (unknown.speaker, unknown.text, unknown.is_english) == ("c", "the end", True)
        assert ann.is_english

    def test_csv_needs_no_more_than_file_and_text(self, tmp_path):
        corpus = make_csv_corpus(tmp_path, "hello,a.wav", columns="text,file")
        assert read_silently(corpus) == [Utterance(corpus / "a.wav", "hello", "a")]

    def test_csv_of_a_spreadsheet(self, tmp_path):
        """It begins with a byte order mark, its lines end in CR LF, and its last ones are empty."""
        add_recording(tmp_path / "a.wav")
        content = "\ufefffile,text\r\na.wav,hello\r\n,\r\n"
        (tmp_path / "corpus.csv").write_bytes(content.encode())
        assert [each.text for each in read_silently(tmp_path)] == ["hello"]

    @pytest.mark.parametrize("named", ["x.ogg", "x.wav", "x"])
    def test_recording_with_another_suffix(self, tmp_path, named):
        recording = add_recording(tmp_path / "x.flac")
        (tmp_path / "corpus.csv").write_text(f"file,text\n{named},hello\n")
        assert read_silently(tmp_path)[0].path == recording

    def test_dots_within_a_name_begin_no_suffix(self, tmp_path):
        add_recording(tmp_path / "take.1.wav")
        second = add_recording(tmp_path / "take.2.wav")
        (tmp_path / "corpus.csv").write_text("file,text\ntake.2,hello\n")
        assert read_silently(tmp_path)[0].path == second

    def test_a_table_of_something_else_beside_transcripts(self, tmp_path):
        add_recording(tmp_path / "7-1234-0000.wav")
        (tmp_path / "speakers.csv").write_text("reader,sex\n7,F\n")
        (tmp_path / "7-1234.trans.txt").write_text("7-1234-0000 SO IT WAS\n")
        assert [each.text for each in read_silently(tmp_path)] == ["so it was"]

    def test_a_row_given_twice_is_one_utterance(self, tmp_path):
        corpus = make_csv_corpus(tmp_path, "a.wav,ann,,,,hello", "a.wav,ann,,,,hello")
        assert len(read_silently(corpus)) == 1


class TestSplit:
    def test_all_recordings_of_a_speaker_or_voice_are_in_one_split(self, tmp_path):
        rows = ["a.wav,ann,v1,,,one", "b.wav,ann,v2,,,two", "c.wav,,v1,,,three", "d.wav,,v1,,,four"]
        one, two, three, four = read_silently(make_csv_corpus(tmp_path, *rows))
        assert one.split == two.split == assign_split("ann")
        assert three.split == four.split == assign_split("v1")
        assert one.clip.split == one.split


class TestWhatIsMissing:
    def test_a_tenth_of_the_recordings_may_be_missing(self, tmp_path):
        rows = [f"{name}.wav,,,,,text" for name in "abcd"] * 3
        warnings: list[str] = []
        corpus = make_csv_corpus(tmp_path, *rows, "gone.wav,,,,,text")
        assert len(read_corpus(corpus, warnings.append)) == 4
        assert warnings == [
            f"{corpus}: 1 of 13 transcripts are left out, the first: {corpus / 'corpus.csv'}, "
            f"row 14: there is no recording {corpus / 'gone.wav'}."
        ]

    @pytest.mark.parametrize(
        ("row", "problem"),
        [
            ("gone.wav,ann,,,,hello", "row 2: there is no recording .*gone.wav"),
            ("sub/a.wav,ann,,,,hello", "row 2: there is no recording .*sub/a.wav"),
            (",ann,,,,hello", "row 2: there is no recording"),
            ("a.wav,ann,,,,", "row 2: no text for .*a.wav"),
            ("a.wav,ann", "row 2: no text for .*a.wav"),
        ],
    )
    def test_rows_that_cannot_be_used(self, tmp_path, row, problem):
        corpus = make_csv_corpus(tmp_path, row)
        with pytest.raises(DataError, match=f"1 of 1 transcripts cannot be used.*{problem}"):
            read_silently(corpus)

    def test_two_texts_of_one_recording(self, tmp_path):
        corpus = make_csv_corpus(tmp_path, "a.wav,ann,,,,hello", "a.wav,ann,,,,good bye")
        with pytest.raises(DataError, match=r"row 3: another text for .*a\.wav than before"):
            read_silently(corpus)


class TestNoCorpus:
    def test_no_directory(self, tmp_path):
        with pytest.raises(DataError, match="nowhere: no such directory"):
            read_silently(tmp_path / "nowhere")

    def test_recordings_alone(self, tmp_path):
        add_recording(tmp_path / "hello" / "a.wav")
        with pytest.raises(DataError, match=r"no transcripts\. A corpus has a CSV"):
            read_silently(tmp_path)

    def test_a_table_with_other_columns(self, tmp_path):
        corpus = make_csv_corpus(tmp_path, "a.wav,hello", columns="path,sentence")
        with pytest.raises(DataError, match=r"no columns file and text.*path, sentence"):
            read_silently(corpus)

    @pytest.mark.parametrize("content", ["", "file,text\n", "file,text\n,\n"])
    def test_an_empty_table(self, tmp_path, content):
        (tmp_path / "corpus.csv").write_text(content)
        with pytest.raises(DataError, match=r"no (transcripts|columns)"):
            read_silently(tmp_path)

    @pytest.mark.parametrize("content", [b"file,text\na.wav,\xff\xfe\n", b"\x00\xff\xd8"])
    def test_a_table_that_is_no_text(self, tmp_path, content):
        add_recording(tmp_path / "a.wav")
        (tmp_path / "corpus.csv").write_bytes(content)
        with pytest.raises(DataError, match=r"corpus\.csv: cannot be read as a CSV in UTF-8"):
            read_silently(tmp_path)

    def test_transcripts_that_are_no_text(self, tmp_path):
        (tmp_path / "7-1234.trans.txt").write_bytes(b"7-1234-0000 \xff\n")
        with pytest.raises(DataError, match=r"7-1234\.trans\.txt: cannot be read as text"):
            read_silently(tmp_path)
