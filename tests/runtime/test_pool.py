"""A pool of streams: each has the events of a stream of its own, whoever else is fed."""

import pickle
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from factories import make_audio, make_model, make_network, make_verifier
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kws import Detection, Spotter
from kws.errors import AudioError, KwsError
from kws.runtime.stream import Pool

NAMES = ("attic", "barn", "cellar")
Blocks = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that fires now and then in `audios`, and verifies one of its words."""
    folder, verifier = tmp_path_factory.mktemp("pool"), make_verifier({"word0": ("ban",)})
    return make_model(folder, make_network(2, seed=4), verifier=verifier, threshold=0.6)


@pytest.fixture
def spotter(runner: str, model: Path) -> Spotter:
    return Spotter.load(model)


def make_samples(seed: int, seconds: float = 4.0) -> np.ndarray:
    return np.round(make_audio(seconds, seed=seed)[0].clip(-1, 1) * 32767).astype(np.int16)


def as_floats(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / 32768


@pytest.fixture(scope="module")
def audios() -> Blocks:
    return {name: make_samples(seed) for seed, name in enumerate(NAMES)}


def events_alone(spotter: Spotter, samples: np.ndarray) -> list[Detection]:
    return list(spotter.detect(samples))


def make_pool(spotter: Spotter) -> Pool:
    pool = spotter.pool()
    for name in NAMES:
        pool.add(name)
    return pool


def assert_same_events(actual: list[Detection], expected: list[Detection]) -> None:
    """Equal, but for the last digit of numbers that were rounded."""
    assert [event.word for event in actual] == [event.word for event in expected]
    for a, b in zip(actual, expected, strict=True):
        assert (a.start, a.end, a.peak) == pytest.approx((b.start, b.end, b.peak), abs=1.01e-3)
        assert a.score == pytest.approx(b.score, abs=1.01e-4)


def test_the_audio_has_events(spotter: Spotter, audios: Blocks) -> None:
    events = {name: events_alone(spotter, samples) for name, samples in audios.items()}
    assert all(len(each) >= 3 for each in events.values())
    assert events["attic"] != events["barn"] != events["cellar"]


rounds = st.lists(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.tuples(st.one_of(st.integers(0, 400), st.integers(0, 20_000)), st.sampled_from("if")),
    ),
    max_size=30,
)


@given(rounds=rounds)
@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_each_stream_has_the_events_that_it_has_alone(
    spotter: Spotter, audios: Blocks, rounds: list[dict[str, tuple[int, str]]]
) -> None:
    """In any order, in blocks of any lengths, of int16 ("i") and floats side by side. Those whose
    audio does not come hold nobody up."""
    pool, found, places = make_pool(spotter), defaultdict(list), dict.fromkeys(NAMES, 0)
    rest = {name: (len(samples), "i") for name, samples in audios.items()}
    for each in [*rounds, rest]:
        blocks = {}
        for name, (count, kind) in each.items():
            block = audios[name][places[name] : places[name] + count]
            blocks[name] = block if kind == "i" else as_floats(block)
            places[name] += count
        for name, event in pool.feed(blocks):
            assert name in each
            found[name].append(event)
    for name in NAMES:
        ended = pool.finish(name)
        assert {each.name for each in ended} <= {name}
        found[name] += [each.detection for each in ended]
        assert_same_events(found[name], events_alone(spotter, audios[name]))
    assert len(pool) == 0


def test_events_come_with_the_samples_that_complete_them(spotter: Spotter, audios: Blocks) -> None:
    """As from a stream of its own, while the others stall."""
    pool, stream = make_pool(spotter), spotter.stream(events_only=True)
    pool.feed({"barn": audios["barn"][:10_000]})
    counts = []
    for block in np.array_split(audios["attic"], 100):
        events = pool.feed({"attic": block})
        assert [each.detection for each in events] == stream.feed(block)
        assert {each.name for each in events} <= {"attic"}
        counts.append(len(events))
    assert sum(counts) >= 3 and max(counts) <= 2


def test_streams_come_and_go(spotter: Spotter, audios: Blocks) -> None:
    pool, expected = spotter.pool(), events_alone(spotter, audios["attic"])
    assert len(pool) == 0 and "attic" not in pool
    for _ in range(3):  # a name is free again when its stream has ended
        pool.add("attic")
        pool.add("barn")
        assert "attic" in pool and len(pool) == 2
        events = pool.feed({"attic": audios["attic"]}) + pool.finish("attic")
        assert_same_events([each.detection for each in events], expected)
        assert "attic" not in pool and "barn" in pool
        pool.finish("barn")
    assert pool.feed({}) == []


def test_a_name_is_needed_once(spotter: Spotter, audios: Blocks) -> None:
    pool = make_pool(spotter)
    before = pool.feed({"attic": audios["attic"][:30_000]})
    with pytest.raises(
        KwsError, match=r"the pool has a stream 'attic' already\. Choose another name"
    ):
        pool.add("attic")
    events = before + pool.feed({"attic": audios["attic"][30_000:]}) + pool.finish("attic")
    assert_same_events([each.detection for each in events], events_alone(spotter, audios["attic"]))
    for call in (
        lambda: pool.finish("attic"),  # it has ended
        lambda: pool.finish("dungeon"),
        lambda: pool.feed({"dungeon": audios["barn"]}),
        lambda: pool.feed({"barn": audios["barn"], "attic": audios["attic"]}),
    ):
        with pytest.raises(KwsError, match=r"no stream '\w+'\. Add it with Pool\.add"):
            call()


BAD_BLOCKS: dict[str, Callable[[], object]] = {
    "int32": lambda: np.zeros(100, np.int32),
    "bool": lambda: np.zeros(100, bool),
    "complex": lambda: np.zeros(100, np.complex64),
    "text": lambda: "samples",
    "nothing": lambda: None,
    "two channels": lambda: np.zeros((100, 2), np.float32),
    "one number": lambda: np.float32(0.5),
    "ragged": lambda: [[0.5], [0.5, 0.5]],
}


@pytest.mark.parametrize("make", BAD_BLOCKS.values(), ids=list(BAD_BLOCKS))
@pytest.mark.parametrize("name", ["attic", "barn", "cellar"])
def test_a_bad_block_moves_nobody(
    spotter: Spotter, audios: Blocks, make: Callable[[], object], name: str
) -> None:
    pool, twin = make_pool(spotter), make_pool(spotter)
    half = len(audios["attic"]) // 2
    firsts, rests = (
        {each: samples[part] for each, samples in audios.items()}
        for part in (slice(0, half), slice(half, None))
    )
    assert pool.feed(firsts) == twin.feed(firsts)
    with pytest.raises(AudioError):
        pool.feed({**rests, name: make()})
    with pytest.raises(KwsError, match="no stream 'dungeon'"):
        pool.feed({**rests, "dungeon": audios["attic"]})
    assert pool.feed(rests) == twin.feed(rests)
    for each in NAMES:
        assert pool.finish(each) == twin.finish(each)


def test_invalid_samples_are_silence_in_their_own_stream(spotter: Spotter, audios: Blocks) -> None:
    silenced, damaged = as_floats(audios["barn"]), as_floats(audios["barn"])
    silenced[20_000:20_400], damaged[20_000:20_400] = 0, np.nan
    pool = make_pool(spotter)
    events = pool.feed({**audios, "barn": damaged})
    for name in NAMES:
        events += pool.finish(name)
    for name, samples in {**audios, "barn": silenced}.items():
        found = [each.detection for each in events if each.name == name]
        assert_same_events(found, events_alone(spotter, samples))


def test_the_caller_may_reuse_the_memory_of_the_blocks(spotter: Spotter, audios: Blocks) -> None:
    pool, buffer = make_pool(spotter), np.zeros(700, np.int16)
    events, samples = [], audios["attic"][: len(audios["attic"]) // 700 * 700]
    for block in samples.reshape(-1, 700):
        buffer[:] = block
        events += pool.feed({"attic": buffer})
        buffer[:] = 32767
    events += pool.finish("attic")
    assert_same_events([each.detection for each in events], events_alone(spotter, samples))


@pytest.mark.parametrize("twin_of", [deepcopy, lambda pool: pickle.loads(pickle.dumps(pool))])
def test_a_copied_pool_goes_on_by_itself(
    spotter: Spotter, audios: Blocks, twin_of: Callable[[Pool], Pool]
) -> None:
    pool = make_pool(spotter)
    pool.feed({name: samples[:30_123] for name, samples in audios.items()})
    twin = twin_of(pool)
    rest = {name: samples[30_123:] for name, samples in audios.items()}
    ours = pool.feed(rest) + pool.finish("attic")
    assert twin.feed(rest) + twin.finish("attic") == ours != []
    assert len(twin) == len(pool) == 2
