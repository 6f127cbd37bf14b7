"""Protocols: which clip is in which split, and that no split leaks into another.

Every recording of these folders holds one value that no other has, so that the first sample
identifies a clip.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, count
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import RATE

from kws.errors import DataError
from kws.training.data.clips import BACKGROUND, Clip, find_clips
from kws.training.data.dataset import load_clips, pack_clips
from kws.training.data.splits import SPLITS, assign_split
from kws.training.speech_commands.dataset import (
    CLIP_SAMPLES,
    SILENCE,
    UNKNOWN,
    LabeledClips,
    load_split,
)
from kws.training.speech_commands.protocols import (
    COMMANDS,
    EIGHT_COMMANDS,
    HELD_OUT,
    PROTOCOLS,
    WORDS,
    Protocol,
    load,
)
from kws.training.speech_commands.silence import cut_silence_clips, split_noise

SEVEN = PROTOCOLS["pack-9"].words
# Speakers of testing_list.txt and validation_list.txt of version 0.02, and one of neither.
TEST_SPEAKER, VALIDATION_SPEAKER, TRAIN_SPEAKER = "bb05582b", "538e1856", "b69fe0e2"
OTHERS = ("dog", "tree", "wow")
STEP = 7919  # between the speakers' numbers
_VALUES = count(1)


def write_clip(path: Path, samples: int = 500) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(samples, next(_VALUES) % 30_000 + 1, np.int16), RATE)


def write_noise(folder: Path, seconds: Sequence[float] = (6.0, 8.0)) -> None:
    (folder / BACKGROUND).mkdir(parents=True)
    for i, length in enumerate(seconds):
        noise = (
            np.random.default_rng(i).integers(-3000, 3000, round(length * RATE)).astype(np.int16)
        )
        soundfile.write(folder / BACKGROUND / f"noise{i}.wav", noise, RATE)


def write_folder(folder: Path, words: Sequence[str], speakers: int, clips: int = 1) -> Path:
    for word in words:
        for speaker in range(speakers):
            for number in range(clips):
                write_clip(folder / word / f"{speaker * STEP:08x}_nohash_{number}.wav")
    write_noise(folder)
    return folder


def fourth(speaker: str) -> int:
    return int(speaker, 16) // STEP % 4


def write_lists(folder: Path) -> dict[str, list[str]]:
    """Lists that differ from the hash: of every four speakers one each for validation and test."""
    paths = sorted(folder.glob("[a-z]*/*.wav"))
    listed = {
        part: [
            f"{path.parent.name}/{path.name}"
            for path in paths
            if fourth(path.stem.split("_")[0]) == number
        ]
        for part, number in (("validation", 0), ("test", 1))
    }
    (folder / "validation_list.txt").write_text("\n".join(listed["validation"]))
    (folder / "testing_list.txt").write_text("\n".join(listed["test"]) + "\n\n")
    return listed


def write_archive(folder: Path, speaker: str = "ffffffff", clips: int = 2) -> Path:
    for word in COMMANDS:
        for number in range(clips):
            write_clip(folder / word / f"{speaker}_nohash_{number}.wav")
    for number in range(3):
        write_clip(folder / UNKNOWN / f"backward_{speaker}_nohash_{number}.wav.wav")
        write_clip(folder / SILENCE / f"{number}.wav", RATE)
    return folder


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pack"), (*SEVEN, *HELD_OUT, *OTHERS), speakers=40)


@pytest.fixture(scope="module")
def pack9(pack_folder) -> Protocol:
    return load("pack-9", pack_folder, warn=pytest.fail)


@pytest.fixture(scope="module")
def two_parts(tmp_path_factory) -> tuple[Path, Path]:
    """Parts of one data set, as the two packs of Speech Commands are: names of files recur."""
    first, second = (tmp_path_factory.mktemp("parts") / name for name in ("first", "second"))
    write_folder(first, ("yes", "no", "up", "down", "cat", "on"), speakers=40)
    for word in ("left", "right", "go", "stop", "up", "one", "five"):
        for speaker in range(40):
            write_clip(second / word / f"{speaker * STEP:08x}_nohash_0.wav")
    for part, word in ((first, "yes"), (second, "go"), (second, "one"), (first, "on")):
        for speaker in (TEST_SPEAKER, VALIDATION_SPEAKER, TRAIN_SPEAKER):
            write_clip(part / word / f"{speaker}_nohash_3__1b85b3.wav")
    return first, second


@pytest.fixture(scope="module")
def sc8(two_parts) -> Protocol:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, "sc-8", replace(PROTOCOLS["sc-8"], min_train_clips=20))
        return load("sc-8", *two_parts, warn=pytest.fail)


@pytest.fixture(scope="module")
def v2_folder(tmp_path_factory) -> Path:
    folder = write_folder(
        tmp_path_factory.mktemp("v2") / "speech_commands_v0.02", WORDS["0.02"], speakers=16
    )
    write_lists(folder)
    return folder


@pytest.fixture(scope="module")
def v2_12(v2_folder) -> Protocol:
    return load("v2-12", v2_folder, warn=pytest.fail)


def splits(protocol: Protocol) -> dict[str, LabeledClips]:
    return {"train": protocol.train, "validation": protocol.validation, "test": protocol.test}


def spoken(part: LabeledClips) -> dict[int, str]:
    """Value of each spoken clip → its word."""
    chosen = np.array(part.words) != ""
    return dict(
        zip(part.samples[chosen, 0].tolist(), np.array(part.words)[chosen].tolist(), strict=True)
    )


def on_disk(folders: Sequence[Path] | Path, words: Sequence[str]) -> dict[int, Clip]:
    return {
        int(soundfile.read(c.path, dtype="int16")[0][0]): c
        for folder in ([folders] if isinstance(folders, Path) else folders)
        for c in find_clips(folder)
        if c.label in words
    }


def silent(part: LabeledClips) -> np.ndarray:
    return part.samples[np.array(part.words) == ""]


def noise_of(*waves: np.ndarray) -> set[bytes]:
    return {wave[start : start + 8].tobytes() for wave in waves for start in range(len(wave) - 8)}


def same(one: Protocol, other: Protocol) -> bool:
    return all(
        np.array_equal(a.samples, b.samples) and a.words == b.words
        for a, b in zip(*map(_all, (one, other)), strict=True)
    )


def _all(protocol: Protocol) -> list[LabeledClips]:
    return [*splits(protocol).values(), *protocol.extra_test_sets.values()]


class TestEveryProtocol:
    @pytest.fixture(params=["pack-9", "v2-12", "sc-8"])
    def protocol(self, request, pack9, v2_12, sc8) -> Protocol:
        return {"pack-9": pack9, "v2-12": v2_12, "sc-8": sc8}[request.param]

    @pytest.fixture
    def folders(self, protocol, pack_folder, v2_folder, two_parts) -> Sequence[Path]:
        return {"pack-9": [pack_folder], "v2-12": [v2_folder], "sc-8": two_parts}[protocol.name]

    def test_no_speaker_is_in_two_splits(self, protocol):
        speakers = [set(part.speakers) - {""} for part in splits(protocol).values()]
        assert all(speakers)
        assert not any(one & other for one, other in combinations(speakers, 2))

    def test_every_clip_of_a_word_is_in_one_split_once(self, protocol, folders):
        targets = protocol.classes[:-2]
        found = Counter(
            value
            for part in splits(protocol).values()
            for value, word in spoken(part).items()
            if word in targets
        )
        assert found == Counter(list(on_disk(folders, targets)))

    def test_no_clip_is_in_a_split_twice(self, protocol):
        for part in _all(protocol):
            assert len(spoken(part)) == sum(word != "" for word in part.words)

    def test_labels_are_those_of_the_words(self, protocol):
        assert protocol.classes == (*PROTOCOLS[protocol.name].words, UNKNOWN, SILENCE)
        for part in _all(protocol):
            assert (
                part.samples.shape == (len(part), CLIP_SAMPLES) and part.samples.dtype == np.int16
            )
            assert part.labels.dtype == np.int64
            for label, word, speaker in zip(
                part.labels.tolist(), part.words, part.speakers, strict=True
            ):
                expected = SILENCE if not word else word if word in protocol.classes else UNKNOWN
                assert protocol.classes[label] == expected
                assert bool(word) == bool(speaker)

    def test_words_are_those_of_the_recordings(self, protocol, folders):
        disk = on_disk(folders, WORDS["0.02"])
        for part in _all(protocol):
            assert all(disk[value].label == word for value, word in spoken(part).items())


class TestPack9:
    def test_no_noise_is_in_two_splits(self, pack9):
        """Random noise: no eight samples of it come twice."""
        noises = [
            noise_of(pack9.noise.samples),
            *(noise_of(*silent(part)) for part in (pack9.validation, pack9.test)),
        ]
        assert all(noises)
        assert not any(one & other for one, other in combinations(noises, 2))
        assert noise_of(*silent(pack9.train)) <= noises[0]

    def test_splits_are_those_of_the_hash(self, pack9):
        for name, part in splits(pack9).items():
            assert {assign_split(speaker) for speaker in part.speakers if speaker} == {name}

    @pytest.mark.parametrize("part", ["train", "validation", "test"])
    def test_silence_is_as_much_as_the_mean_of_the_words(self, pack9, part):
        counts = np.bincount(splits(pack9)[part].labels, minlength=9)
        assert counts[8] == round(counts[:7].mean())

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_unknown_is_as_much_as_the_mean_of_the_words(self, pack9, part):
        counts = np.bincount(splits(pack9)[part].labels, minlength=9)
        assert counts[7] == round(counts[:7].mean())

    def test_training_holds_all_other_words(self, pack9, pack_folder):
        expected = {
            value
            for value, clip in on_disk(pack_folder, (*HELD_OUT, *OTHERS)).items()
            if clip.split == "train"
        }
        assert {
            value for value, word in spoken(pack9.train).items() if word not in SEVEN
        } == expected
        assert pack9.extra_test_sets == {}

    def test_held_out_words_are_only_in_the_test(self, pack_folder):
        unseen = load("pack-9-unseen", pack_folder, warn=pytest.fail)
        assert unseen.held_out == HELD_OUT
        assert {word for word in unseen.train.words if word not in SEVEN} == {*OTHERS, ""}
        assert not set(HELD_OUT) & {*unseen.validation.words}
        expected = {
            value: clip.label
            for value, clip in on_disk(pack_folder, HELD_OUT).items()
            if clip.split == "test"
        }
        assert spoken(unseen.extra_test_sets["unseen"]) == expected
        assert set(unseen.extra_test_sets["unseen"].labels.tolist()) == {7}

    def test_the_seed_decides_the_clips(self, pack9, pack_folder):
        assert same(pack9, load("pack-9", pack_folder, warn=pytest.fail))
        other = load("pack-9", pack_folder, seed=1, warn=pytest.fail)
        assert not same(pack9, other)
        assert pack9.test.labels.tolist() == other.test.labels.tolist()

    def test_new_clips_do_not_move_old_ones(self, tmp_path):
        folder = write_folder(tmp_path, (*SEVEN, *HELD_OUT, *OTHERS), speakers=30)
        before = load("pack-9", folder, warn=str)
        for word in SEVEN:
            for speaker in range(2000, 2020):
                write_clip(folder / word / f"{speaker:08x}_nohash_0.wav")
        after = load("pack-9", folder, warn=str)
        for name in splits(before):
            assert spoken(splits(before)[name]).items() <= spoken(splits(after)[name]).items()

    def test_too_few_other_words_are_a_warning(self, tmp_path):
        folder = write_folder(tmp_path, (*SEVEN, *HELD_OUT), speakers=30)
        write_clip(folder / "dog" / "b69fe0e2_nohash_0.wav")  # a training speaker
        warnings = []
        protocol = load("pack-9-unseen", folder, warn=warnings.append)
        expected = round(np.bincount(protocol.validation.labels)[:7].mean())
        assert warnings == [
            f"{folder}: 0 clips of other words in the validation split, "
            f"the protocol asks for {expected}."
        ]

    @pytest.mark.parametrize(
        ("part", "speakers"),
        [
            (
                "test",
                "bb05582b 97f4c236 f2e59fea fdb5155e dc75148d 3f170018 18f8afd5 e1469561 893705bb",
            ),
            (
                "validation",
                "538e1856 67c7fecb 099d52ad 31f01a8d d107dc42 ad63d93c d3831f6a 3c4aa5ef c6389ab0",
            ),
        ],
    )
    def test_hash_agrees_with_the_published_lists(self, part, speakers):
        """Speakers of testing_list.txt and validation_list.txt of version 0.02."""
        assert {assign_split(speaker) for speaker in speakers.split()} == {part}


class TestSc8:
    @pytest.mark.parametrize(
        ("word", "speaker", "part", "label"),
        [
            ("yes", TEST_SPEAKER, "test", "yes"),
            ("yes", VALIDATION_SPEAKER, "validation", "yes"),
            ("yes", TRAIN_SPEAKER, "train", "yes"),
            ("go", TEST_SPEAKER, "test", "go"),
            ("go", VALIDATION_SPEAKER, "validation", "go"),
            ("go", TRAIN_SPEAKER, "train", "go"),
            ("one", TEST_SPEAKER, "unknown", UNKNOWN),
            ("one", TRAIN_SPEAKER, "train", UNKNOWN),
            ("on", TEST_SPEAKER, "unknown", UNKNOWN),  # a command of v2-12
            ("on", TRAIN_SPEAKER, "train", UNKNOWN),
        ],
    )
    def test_where_a_clip_goes(self, sc8, two_parts, word, speaker, part, label):
        value = next(
            value for value, clip in on_disk(two_parts, [word]).items() if clip.speaker == speaker
        )
        clips = {**splits(sc8), **sc8.extra_test_sets}
        row = clips[part].samples[:, 0].tolist().index(value)
        assert sc8.classes[clips[part].labels[row]] == label
        others = {name for name in splits(sc8) if name not in (part, "test")}
        assert not any(value in spoken(clips[name]) for name in others)

    def test_recordings_of_one_name_in_two_parts_are_both_there(self, sc8, two_parts):
        assert set(on_disk(two_parts, ["up"])) == {
            value
            for part in splits(sc8).values()
            for value, word in spoken(part).items()
            if word == "up"
        }
        assert len(on_disk(two_parts, ["up"])) == 80

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_unknown_and_silence_are_a_tenth_of_the_words_each(self, sc8, part):
        counts = np.bincount(splits(sc8)[part].labels, minlength=10)
        assert counts[8] == counts[9] == -(-counts[:8].sum() // 10)

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_other_words_are_drawn_evenly(self, sc8, part):
        drawn = splits(sc8)[part]
        counts = Counter(np.array(drawn.words)[drawn.labels == 8])
        assert len(counts) == min(counts.total(), 4)  # cat, on, one, five
        assert max(counts.values()) - min(counts.values()) <= 1

    def test_all_other_words_of_the_test_speakers_are_a_set_of_their_own(self, sc8, two_parts):
        unknown = sc8.extra_test_sets["unknown"]
        assert spoken(unknown) == {
            value: clip.label
            for value, clip in on_disk(two_parts, ["cat", "on", "one", "five"]).items()
            if clip.split == "test"
        }
        assert set(unknown.labels.tolist()) == {8}

    def test_silence_is_fainter_than_the_noise(self, sc8):
        peaks = np.abs(silent(sc8.test).astype(int)).max(1)
        assert peaks.min() < 2000 < 2900 < np.abs(sc8.noise.samples.astype(int)).max()

    def test_the_same_folder_twice_is_one(self, sc8, two_parts):
        first, second = two_parts
        again = load("sc-8", first, second, first, splits=["test"], warn=pytest.fail)
        assert np.array_equal(again.test.samples, sc8.test.samples)

    def test_one_part_is_refused_for_training_and_enough_for_the_test(self, two_parts, tmp_path):
        """One pack holds hardly any training clips of some words."""
        scarce = write_folder(tmp_path, (*EIGHT_COMMANDS, "cat"), speakers=5)
        with pytest.raises(DataError) as error:
            load("sc-8", scarce, warn=pytest.fail)
        train_count = sum(assign_split(f"{i * STEP:08x}") == "train" for i in range(5))
        assert str(error.value) == (
            f"{scarce}: protocol sc-8 needs 500 training clips of each word, and there are "
            + ", ".join(f"{train_count} of {word}" for word in EIGHT_COMMANDS)
            + ". Give the folders with the others too."
        )
        assert load("sc-8", *two_parts, splits=["test"], warn=pytest.fail).test.labels.size


class TestMini8:
    @pytest.fixture
    def mini8(self, two_parts, monkeypatch) -> Protocol:
        monkeypatch.setitem(PROTOCOLS, "mini-8", replace(PROTOCOLS["mini-8"], clips_per_word=30))
        return load("mini-8", *two_parts, warn=pytest.fail)

    def test_of_each_word_are_as_many_clips_split_eight_to_one_to_one(self, mini8):
        assert mini8.classes == ("down", "go", "left", "no", "right", "stop", "up", "yes")
        for part, count_of_each in (("train", 24), ("validation", 3), ("test", 3)):
            assert np.bincount(splits(mini8)[part].labels).tolist() == [count_of_each] * 8
        assert mini8.extra_test_sets == {}

    def test_no_clip_is_in_two_splits_but_speakers_are(self, mini8):
        clips = [set(spoken(part)) for part in splits(mini8).values()]
        speakers = [set(part.speakers) for part in splits(mini8).values()]
        assert not any(one & other for one, other in combinations(clips, 2))
        assert all(one & other for one, other in combinations(speakers, 2))

    def test_the_seed_decides_the_clips(self, mini8, two_parts):
        assert same(mini8, load("mini-8", *two_parts, warn=pytest.fail))
        assert not same(mini8, load("mini-8", *two_parts, seed=1, warn=pytest.fail))

    def test_too_few_clips_are_refused(self, two_parts):
        with pytest.raises(DataError, match=r"needs 1000 clips of each word.* 43 of go, 40 of le"):
            load("mini-8", *two_parts, splits=["test"], warn=pytest.fail)


class TestCustom:
    def test_any_words(self, pack_folder):
        protocol = load("custom", pack_folder, words=["tree", "go", "tree"], warn=pytest.fail)
        assert protocol.classes == ("tree", "go", UNKNOWN, SILENCE)
        assert {"go", "stop"} <= set(protocol.train.words)
        assert protocol.extra_test_sets == {}

    def test_a_word_that_a_split_lacks_is_named(self, tmp_path):
        folder = write_folder(tmp_path, ("ja", "nein"), speakers=40)
        write_clip(folder / "doch" / "bb05582b_nohash_0.wav")  # a test speaker
        warnings = []
        load("custom", folder, words=["ja", "doch"], warn=warnings.append)
        assert f"{folder}: no clips of 'doch' in the train split." in warnings
        assert f"{folder}: no clips of 'doch' in the validation split." in warnings


class TestPublished:
    @pytest.mark.parametrize("name", ["v2-12", "v2-35"])
    def test_splits_are_those_of_the_lists(self, name, v2_folder, v2_12):
        protocol = v2_12 if name == "v2-12" else load(name, v2_folder, warn=pytest.fail)
        for part, numbers in (("validation", {0}), ("test", {1}), ("train", {2, 3})):
            assert {
                fourth(speaker) for speaker in splits(protocol)[part].speakers if speaker
            } == numbers

    def test_twelve_words_get_a_tenth_of_unknown_and_of_silence(self, v2_12):
        for part in (v2_12.validation, v2_12.test):
            counts = np.bincount(part.labels, minlength=12)
            assert counts[10] == counts[11] == -(-counts[:10].sum() // 10)
        assert set(WORDS["0.02"]) == set(v2_12.train.words) - {""}
        assert "testing_list.txt of version 0.02 with 10% unknown" in v2_12.test_set_description

    def test_thirty_five_words_have_neither_unknown_nor_silence(self, v2_folder):
        protocol = load("v2-35", v2_folder, warn=pytest.fail)
        assert protocol.classes == tuple(sorted(WORDS["0.02"])) and len(protocol.classes) == 35
        assert sum(map(len, splits(protocol).values())) == 35 * 16
        assert protocol.noise.seconds == pytest.approx(0.6 * 14)
        assert (protocol.extra_test_sets, protocol.test_set_description) == (
            {},
            "testing_list.txt of version 0.02",
        )

    def test_the_archive_is_the_test_set(self, v2_folder, v2_12, tmp_path):
        archive = write_archive(tmp_path / "an archive")
        protocol = load("v2-12", v2_folder, test_archive=archive, warn=pytest.fail)
        counts = Counter(protocol.classes[label] for label in protocol.test.labels)
        assert counts == {**dict.fromkeys(COMMANDS, 2), UNKNOWN: 3, SILENCE: 3}
        assert set(protocol.test.words) == {*COMMANDS, "backward", ""}
        assert set(protocol.test.speakers) == {"ffffffff", ""}
        assert protocol.test_set_description == "the official test archive (an archive)"
        assert np.array_equal(protocol.extra_test_sets["list"].samples, v2_12.test.samples)

    def test_only_the_test_is_read_if_asked_for(self, v2_folder, v2_12, tmp_path):
        archive = write_archive(tmp_path / "archive")
        whole, alone = (
            load("v2-12", v2_folder, test_archive=archive, splits=each, warn=pytest.fail)
            for each in (SPLITS, ["test"])
        )
        assert (len(alone.train), len(alone.validation)) == (0, 0)
        assert np.array_equal(alone.test.samples, whole.test.samples)
        assert np.array_equal(
            alone.extra_test_sets["list"].samples, whole.extra_test_sets["list"].samples
        )

    def test_the_archive_beside_the_folder_is_found(self, tmp_path):
        folder = write_folder(tmp_path / "speech_commands_v0.01", WORDS["0.01"], speakers=8)
        write_lists(folder)
        write_archive(tmp_path / "speech_commands_test_set_v0.01")
        protocol = load("v1-12", folder, warn=pytest.fail)
        assert (
            protocol.test_set_description
            == "the official test archive (speech_commands_test_set_v0.01)"
        )
        assert "backward" not in protocol.train.words

    def test_speakers_in_both_archive_and_training_are_a_warning(self, v2_folder, tmp_path):
        shared = f"{STEP * 3:08x}"
        archive = write_archive(tmp_path / "archive", speaker=shared)
        warnings = []
        protocol = load("v2-12", v2_folder, test_archive=archive, warn=warnings.append)
        assert shared in protocol.train.speakers
        assert warnings == [f"{archive}: 1 of its speakers are in the train split too."]

    def test_missing_listed_recordings_are_a_warning(self, tmp_path):
        folder = write_folder(tmp_path / "v2", WORDS["0.02"], speakers=6)
        listed = write_lists(folder)
        (folder / listed["test"][0]).unlink()
        warnings = []
        load("v2-35", folder, warn=warnings.append)
        assert len(warnings) == 1
        assert f"1 listed recordings are missing ({listed['test'][0]}, ...)" in warnings[0]


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("v3-12", {}, r"'v3-12' is no protocol\. Take one of v2-12, .*custom"),
            ("custom", {}, "no words given"),
            ("pack-9", {"words": ["yes"]}, "pack-9 has words of its own"),
            (
                "custom",
                {"words": ["yes", "hello"]},
                r"needs clips of hello\. Words there: bed, .*yes\. Give another",
            ),
            ("v2-12", {}, "needs clips of zero, one, .*visual"),
            ("sc-8", {"words": ["yes"]}, "sc-8 has words of its own"),
            (
                "sc-8",
                {"test_archive": Path("a")},
                "a: the official test archive has no place in protocol sc-8",
            ),
            (
                "pack-9",
                {"test_archive": Path("a")},
                "a: the official test archive has no place in protocol pack-9",
            ),
            (
                "custom",
                {"words": [*SEVEN, *HELD_OUT, *OTHERS]},
                "nothing but yes, .*other words are needed.*Add some",
            ),
        ],
    )
    def test_of_options(self, pack_folder, name, options, message):
        with pytest.raises(DataError, match=message):
            load(name, pack_folder, warn=pytest.fail, **options)

    def test_of_version(self, v2_folder):
        with pytest.raises(
            DataError, match=r"backward, .*visual not in version 0\.01, on which v1-12 is defined"
        ):
            load("v1-12", v2_folder, warn=pytest.fail)

    def test_of_parts(self, two_parts, v2_folder):
        first, second = two_parts
        with pytest.raises(
            DataError,
            match=rf"{first}: protocol sc-8 needs clips of left, right, stop, go\. Words there: ",
        ):
            load("sc-8", first, warn=pytest.fail)
        with pytest.raises(
            DataError, match=rf"{v2_folder}, {first}: protocol v2-12 is defined on one folder"
        ):
            load("v2-12", v2_folder, first, warn=pytest.fail)
        with pytest.raises(DataError, match=rf"{second / BACKGROUND}: no such folder"):
            load("custom", second, words=["go"], warn=pytest.fail)

    def test_of_folders(self, tmp_path):
        with pytest.raises(DataError, match="absent: no such folder"):
            load("pack-9", tmp_path / "absent", warn=pytest.fail)
        with pytest.raises(DataError, match="no recordings"):
            load("pack-9", tmp_path, warn=pytest.fail)
        write_clip(tmp_path / "outer" / "yes" / "a.wav")
        with pytest.raises(
            DataError, match=rf"no folders of words in it\. Give .* perhaps {tmp_path / 'outer'}"
        ):
            load("pack-9", tmp_path, warn=pytest.fail)

    def test_of_lists(self, tmp_path):
        folder = write_folder(tmp_path, WORDS["0.02"], speakers=1)
        with pytest.raises(DataError, match=r"validation_list\.txt: cannot be read .*kws download"):
            load("v2-12", folder, warn=pytest.fail)

    def test_of_the_archive(self, v2_folder, tmp_path):
        (tmp_path / "yes").mkdir()
        with pytest.raises(
            DataError, match="no folder no, so this is not the official test archive"
        ):
            load("v2-12", v2_folder, test_archive=tmp_path, warn=pytest.fail)

    @pytest.mark.parametrize("seconds", [None, 4.0], ids=["missing", "too short"])
    def test_of_noise(self, tmp_path, seconds):
        for speaker in range(40):
            for word in ("ja", "nein"):
                write_clip(tmp_path / word / f"{speaker:08x}_nohash_0.wav")
        if seconds:
            write_noise(tmp_path, [seconds])
        expected = (
            r"no noise long enough.*at least 5 s"
            if seconds
            else r"_background_noise_: no such folder; silence is cut from"
        )
        with pytest.raises(DataError, match=expected):
            load("custom", tmp_path, words=["ja"], warn=str)


class TestLabeledClips:
    def test_short_clips_get_zeros_and_long_ones_are_cut_at_their_end(self, tmp_path):
        waves = [
            np.arange(1, length + 1).astype(np.int16)
            for length in (100, CLIP_SAMPLES, CLIP_SAMPLES + 900)
        ]
        for i, wave in enumerate(waves):
            soundfile.write(tmp_path / f"{i}.wav", wave, RATE)
        part = load_split(
            find_clips(tmp_path),
            np.zeros((0, CLIP_SAMPLES), np.int16),
            [tmp_path.name],
            warn=pytest.fail,
        )
        for row, wave in zip(part.samples, waves, strict=True):
            assert np.array_equal(row[: len(wave)], wave[:CLIP_SAMPLES])
            assert not row[len(wave) :].any()

    def test_selected_clips_keep_their_speakers_and_words(self):
        part = LabeledClips(
            np.arange(3 * CLIP_SAMPLES).reshape(3, -1).astype(np.int16),
            np.array([0, 1, 2]),
            ("a", "b", ""),
            ("yes", "no", ""),
        )
        some = part.select(part.labels != 1)
        assert np.array_equal(some.samples, part.samples[[0, 2]])
        assert (some.labels.tolist(), some.speakers, some.words) == ([0, 2], ("a", ""), ("yes", ""))

    def test_clips_that_cannot_be_read_are_named_and_left_out(self, tmp_path):
        for i in range(18):
            write_clip(tmp_path / "yes" / f"{i:02d}.wav")
        (tmp_path / "yes" / "05x.wav").write_text("no sound")
        warnings = []
        silence = np.ones((2, CLIP_SAMPLES), np.int16)
        part = load_split(find_clips(tmp_path), silence, ["yes", SILENCE], warn=warnings.append)
        assert part.speakers == (*(f"{i:02d}" for i in range(18)), "", "")
        assert part.labels.tolist() == [0] * 18 + [1] * 2
        assert part.samples[:, 0].all() and np.array_equal(part.samples[18:], silence)
        assert len(warnings) == 1 and warnings[0].startswith(
            f"left out: {tmp_path / 'yes' / '05x.wav'}"
        )

    def test_too_many_unreadable_clips_are_an_error(self, tmp_path):
        write_clip(tmp_path / "good.wav")
        (tmp_path / "bad.wav").write_text("no sound")
        with pytest.raises(DataError, match=r"1 of 2 clips cannot be used, the first: .*bad\.wav"):
            load_split(
                find_clips(tmp_path),
                np.zeros((0, CLIP_SAMPLES), np.int16),
                [tmp_path.name],
                warn=str,
            )


class TestSilence:
    ramp = pack_clips(
        [Clip(Path(f"{i}.wav"), BACKGROUND, str(i)) for i in range(2)],
        [
            np.arange(-32_000, 32_000).astype(np.int16),
            np.arange(-32_000, -32_000 + 17_000).astype(np.int16),
        ],
    )

    def test_splits_are_the_whole_noise(self, tmp_path):
        write_noise(tmp_path, (5.0, 7.3))
        noises = load_clips(find_clips(tmp_path), warn=pytest.fail)
        cut = [split_noise(noises, part) for part in ("train", "validation", "test")]
        for i in range(2):
            assert np.array_equal(np.concatenate([dataset[i] for dataset in cut]), noises[i])
            np.testing.assert_allclose(
                [len(dataset[i]) / len(noises[i]) for dataset in cut], [0.6, 0.2, 0.2], atol=1e-4
            )

    @pytest.mark.parametrize("number", [0, 1, 5, 400])
    def test_clips_are_one_second_of_one_recording(self, number):
        found = cut_silence_clips(self.ramp, number, np.random.default_rng(0), "")
        assert found.shape == (number, CLIP_SAMPLES) and found.dtype == np.int16
        assert (np.diff(found.astype(int), axis=1) == 1).all()

    def test_clips_cover_all_noise(self):
        found = cut_silence_clips(self.ramp, 400, np.random.default_rng(0), "")
        starts = np.sort(found[:, 0].astype(int))
        assert np.diff(starts).max() < 3 * 49_000 / 400
        assert starts[0] < -31_500 and starts[-1] > 15_500
