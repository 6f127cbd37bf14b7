"""Confusables: distances against brute force, and words that must and must not be listed."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.errors import SynthError
from kws.synth.confusables import (
    CONTAINING,
    NEAR,
    PART,
    REPLACED,
    SWAPPED,
    _cost,
    _edit_distances,
    explain_unknown_words,
    find_confusables,
)
from kws.synth.corpus import read_phrase_list
from kws.synth.pronunciation import load_common_words, phonemize

ROOT = Path(__file__).parents[2]
PHONES = st.text("wɛlkəmbpiɪ", min_size=1, max_size=6)


def distance(a: str, b: str) -> float:
    """By the definition."""

    @cache
    def rest(i: int, j: int) -> float:
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        return min(rest(i + 1, j) + 1, rest(i, j + 1) + 1, rest(i + 1, j + 1) + _cost(a[i], b[j]))

    return rest(0, 0)


@given(PHONES, st.lists(PHONES, min_size=1, max_size=5))
@settings(deadline=None)
def test_distances_equal_brute_force(phrase, words):
    np.testing.assert_allclose(
        _edit_distances(phrase, words), [distance(phrase, word) for word in words]
    )


@pytest.mark.parametrize(("nearer", "farther"), [("pb", "pz"), ("iɪ", "iɔ"), ("sz", "sm")])
def test_similar_phones_are_nearer(nearer, farther):
    assert 0 < _cost(*nearer) < _cost(*farther)
    assert _cost(*nearer) == _cost(*nearer[::-1])


@pytest.mark.parametrize(
    ("phrase", "kind", "listed", "not_listed"),
    [
        ("welcome", PART, {"well", "elk"}, {"welcome", "come", "welcoming"}),
        ("welcome", NEAR, {"webcam", "wellness", "talcum"}, {"welcome", "welcoming", "well"}),
        ("welcome", CONTAINING, {"welcoming", "unwelcome"}, {"welcome", "well"}),
        ("snowboy", PART, {"snow", "boy"}, set()),
        ("hey you", PART, {"hey", "you"}, {"hae", "ewe"}),  # which sound the same
        ("hey you", SWAPPED, {"you hey"}, {"hey you"}),
        (
            "smart mirror",
            REPLACED,
            {"start mirror", "smart miller"},
            {"smart mirror", "smart mirrored"},
        ),
    ],
)
def test_listed_confusables(phrase, kind, listed, not_listed):
    found = {each.text for each in find_confusables(phrase) if each.kind == kind}
    assert listed <= found
    assert not not_listed & found


def test_replacements_are_the_eight_nearest_of_each_word():
    texts = [each.text for each in find_confusables("smart mirror") if each.kind == REPLACED]
    first = ["smalt", "sparred", "sport", "mart", "smarm", "smocked", "start", "smarten"]
    second = ["miller", "muller", "pillar", "hearer", "minger", "nearer", "rearer", "shearer"]
    assert texts == [*(f"{word} mirror" for word in first), *(f"smart {word}" for word in second)]


@pytest.mark.parametrize(
    ("phrase", "orders"), [("no no no no", []), ("yes yes no", ["yes no yes", "no yes yes"])]
)
def test_an_order_is_listed_once_and_never_the_phrase_s_own(phrase, orders):
    assert [each.text for each in find_confusables(phrase) if each.kind == SWAPPED] == orders


def test_no_homophones_are_listed():
    found = [each for each in find_confusables("write") if each.kind in (PART, NEAR, CONTAINING)]
    phones = [load_common_words()[each.text] for each in found]
    assert phonemize("write") not in phones  # right, rite
    assert len(phones) == len(set(phones))
    near = [each.distance for each in found if each.kind == NEAR]
    assert near == sorted(near)
    assert max(near) <= 0.5


def test_a_pronunciation_replaces_the_spelling():
    assert {each.text for each in find_confusables("qzx", ["wˈɛlkəm"])} >= {"well", "welcome"} - {
        "welcome"
    }
    assert len([each for each in find_confusables("welcome", max_near=5) if each.kind == NEAR]) == 5


@pytest.mark.parametrize(
    ("phrase", "unknown"),
    [
        ("welcome", []),
        ("don't stop", []),
        ("alexa", []),
        ("hey snowboy", ["snowboy"]),
        ("xzqrtbl kws", ["xzqrtbl", "kws"]),
    ],
)
def test_words_outside_the_dictionary_are_explained(phrase, unknown):
    assert [note.split("'")[1] for note in explain_unknown_words(phrase)] == unknown


class TestList:
    def test_kinds_and_remarks_are_no_phrases(self, tmp_path):
        path = tmp_path / "list.txt"
        path.write_text(
            "\ufeff# a remark\nnear\twebcam\n\nwell come\n # containing\twelcoming\n",
            encoding="utf-8",
        )
        assert read_phrase_list(path) == ["webcam", "well come"]

    @pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe\x00"])
    def test_files_that_are_no_list(self, tmp_path, content):
        path = tmp_path / "list.txt"
        path.write_bytes(content)
        with pytest.raises(SynthError, match=r"list\.txt"):
            read_phrase_list(path)
        with pytest.raises(SynthError, match="absent"):
            read_phrase_list(tmp_path / "absent")

    @pytest.mark.slow
    def test_from_the_command_to_clips(self, tmp_path):
        path = tmp_path / "list.txt"
        command = [sys.executable, "cli.py"]
        listed = subprocess.run(
            [*command, "confusables", "Hey, you", "--limit", "2"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        path.write_text(listed.stdout)
        count = len(read_phrase_list(path))
        assert count == listed.stdout.count("\t") - listed.stdout.count("# containing\t")
        options = [
            "--list",
            path,
            "--count",
            "1",
            "--engine",
            "hibari",
            "--out",
            tmp_path / "spoken",
        ]
        subprocess.run(
            [*command, "synth", "hey you", *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert len([*(tmp_path / "spoken").rglob("*.wav")]) == count + 1
