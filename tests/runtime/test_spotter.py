"""One spotter, however the audio reaches it: whole, in any chunks, in several streams, as floats or
integers, from a file."""

import array
import copy
import io
import multiprocessing
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import pytest
import soundfile
from factories import make_audio, make_document, make_network
from hypothesis import given, settings
from hypothesis import strategies as st

from kws import Detection, KwsError, Scores, Spotter
from kws.errors import AudioError, ModelError
from kws.runtime.stream import concatenate_scores
from kws.training.model.export import export

SECONDS = 8
THRESHOLD = 0.6
CALIBRATION = {
    "hours": 2.0,
    "rows": [
        {"word": word, "false_alarms_per_hour": rate, "threshold": threshold}
        for word, offset in (("word0", 0.0), ("word1", 0.01))
        for rate, threshold in ((0.5, 0.9 + offset), (2.0, 0.7 + offset))
    ],
}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two words with random weights, which is quiet in silence and fires now and then
    in `make_audio`."""
    path = tmp_path_factory.mktemp("spotter") / "random.kws"
    network = make_network(2, seed=4)
    export(network, {**make_document(network, THRESHOLD), "calibration": CALIBRATION}, path)
    return path


@pytest.fixture(scope="session")
def spotter(model) -> Spotter:
    return Spotter.load(model)


@pytest.fixture(scope="session")
def audio() -> np.ndarray:
    """Noise of changing level, in steps of 16 bits, that ends in the middle of a frame."""
    samples = make_audio(SECONDS, seed=1)[0, :-77]
    return (np.round(np.clip(samples, -1, 1) * 32767) / 32768).astype(np.float32)


def run(
    spotter: Spotter, audio: np.ndarray, chunk_samples: list[int]
) -> tuple[list[Detection], Scores]:
    """All of the audio in chunks of these lengths, and a last one of the rest."""
    stream, events, parts = spotter.stream(), [], []
    for part in np.split(audio, np.minimum(np.cumsum(chunk_samples, dtype=int), len(audio))):
        events += stream.feed(part)
        parts.append(stream.scores)
    return events + stream.finish(), concatenate_scores(parts)


def assert_same_events(actual: list[Detection], expected: list[Detection]) -> None:
    """Equal, but for the last digit of numbers that were rounded."""
    assert [event.word for event in actual] == [event.word for event in expected]
    for a, b in zip(actual, expected, strict=True):
        assert (a.start, a.end, a.peak) == pytest.approx((b.start, b.end, b.peak), abs=1.01e-3)
        assert a.score == pytest.approx(b.score, abs=1.01e-4)


def assert_same_scores(actual: Scores, expected: Scores) -> None:
    for name in ("times", "pooled", "frames", "boundaries"):
        np.testing.assert_allclose(
            getattr(actual, name), getattr(expected, name), rtol=0, atol=1e-5, err_msg=name
        )


def test_the_audio_has_events_and_scores_away_from_the_threshold(spotter, audio):
    events = list(spotter.detect(audio))
    assert [event.word for event in events].count("word0") >= 3
    assert [event.word for event in events].count("word1") >= 3
    assert np.abs(spotter.scores(audio).pooled - THRESHOLD).min() > 1e-5


@given(chunks=st.lists(st.one_of(st.integers(0, 400), st.integers(0, 20_000)), max_size=60))
@settings(deadline=None, max_examples=40)
def test_any_chunking_equals_detect_and_scores(spotter, audio, chunks):
    events, scores = run(spotter, audio, chunks)
    assert_same_events(events, list(spotter.detect(audio)))
    assert_same_scores(scores, spotter.scores(audio))


@pytest.mark.parametrize("chunk", [1, 319, 320, 1280, 16_000])
def test_equal_chunks_equal_detect(spotter, audio, chunk):
    audio = audio[: 2 * 16_000] if chunk == 1 else audio
    assert_same_events(
        run(spotter, audio, [chunk] * (len(audio) // chunk))[0], list(spotter.detect(audio))
    )


@pytest.mark.parametrize("cut", range(16_000, 48_000, 3_210))
def test_stream_in_small_chunks_equals_detect_wherever_the_audio_ends(spotter, audio, cut):
    assert_same_events(
        run(spotter, audio[:cut], [160] * (cut // 160))[0], list(spotter.detect(audio[:cut]))
    )


def test_audio_longer_than_a_block_equals_one_feed(spotter):
    audio = make_audio(25, seed=4)[0]
    assert_same_events(list(spotter.detect(audio)), run(spotter, audio, [])[0])


def test_streams_of_one_spotter_do_not_mix(spotter):
    audios = [make_audio(4, seed=seed)[0] for seed in (1, 2)]
    streams, events = [spotter.stream(), spotter.stream()], [[], []]
    for at in range(0, 4 * 16_000, 1000):
        for stream, found, audio in zip(streams, events, audios, strict=True):
            found += stream.feed(audio[at : at + 1000])
    for stream, found, audio in zip(streams, events, audios, strict=True):
        assert_same_events(found + stream.finish(), list(spotter.detect(audio)))
    assert events[0] != events[1]


def test_threads_share_a_spotter(spotter):
    audios = [make_audio(4, seed=seed)[0] for seed in range(8)]
    expected = [list(spotter.detect(audio)) for audio in audios]
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda audio: list(spotter.detect(audio)), audios * 4)
        assert list(found) == expected * 4
    assert len({len(events) for events in expected}) > 1


def test_a_stream_takes_int16_and_floats_in_turn(spotter, audio):
    stream, events = spotter.stream(), []
    for number, part in enumerate(np.array_split(audio, 50)):
        samples = [part, np.round(part * 32768).astype(np.int16), part.astype(np.float64)]
        events += stream.feed(samples[number % 3])
    assert_same_events(events + stream.finish(), list(spotter.detect(audio)))
    assert stream.seconds == len(audio) / 16_000


def test_a_second_stream_begins_anew(spotter, audio):
    first, second = run(spotter, audio, [1000])[0], run(spotter, audio, [1000])[0]
    assert first == second != []


@pytest.mark.parametrize(
    "convert",
    [lambda x: np.round(x * 32768).astype(np.int16), lambda x: x.astype(np.float64)],
    ids=["int16", "float64"],
)
def test_samples_of_other_types_equal_float32(spotter, audio, convert):
    assert list(spotter.detect(convert(audio))) == list(spotter.detect(audio)) != []
    assert_same_scores(spotter.scores(convert(audio)), spotter.scores(audio))


def test_file_equals_samples(spotter, audio, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.round(audio * 32768).astype(np.int16), 16_000)
    assert_same_events(list(spotter.detect(tmp_path / "a.wav")), list(spotter.detect(audio)))
    assert_same_events(list(spotter.detect(str(tmp_path / "a.wav"))), list(spotter.detect(audio)))


def test_channels_are_averaged(spotter, audio):
    assert_same_events(
        list(spotter.detect(np.stack([1.5 * audio, 0.5 * audio], axis=1))),
        list(spotter.detect(audio)),
    )


def test_channels_that_cancel_are_not_averaged(spotter, audio):
    found = list(spotter.detect(np.stack([audio, -audio], axis=1)))
    assert found
    assert_same_events(found, list(spotter.detect(audio)))


def test_one_channel_can_be_selected(spotter, audio):
    both = np.stack([make_audio(SECONDS, seed=2)[0, : len(audio)], audio], axis=1)
    assert_same_events(list(spotter.detect(both, channel=2)), list(spotter.detect(audio)))
    with pytest.raises(
        AudioError, match=r"samples: no channel 3 in it; it has 2 channels\. Change --channel"
    ):
        list(spotter.detect(both, channel=3))


@pytest.mark.parametrize("shape", [(2, 16_000), (1, 2), (100, 0), (10, 2, 2), ()], ids=str)
def test_other_shapes_are_refused(spotter, shape):
    with pytest.raises(
        AudioError,
        match=r"shape \[N\] or \[N, channels\], not \[.*\]\. Transpose them if channels come first",
    ):
        list(spotter.detect(np.zeros(shape, np.float32)))
    with pytest.raises(AudioError, match="Transpose"):
        spotter.scores(np.zeros(shape, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, 1e300], ids=str)
def test_invalid_samples_are_silence_and_reported_at_the_end(spotter, audio, bad):
    damaged, silent = audio.astype(np.float64), audio.copy()
    damaged[20_000:20_400], silent[20_000:20_400] = bad, 0
    events = []
    with pytest.raises(
        AudioError, match=r"samples: 400 samples are invalid .*the first at 1\.25 s"
    ):
        for event in spotter.detect(damaged):
            events.append(event)
    assert_same_events(events, list(spotter.detect(silent)))
    with pytest.raises(AudioError, match="400 samples are invalid"):
        spotter.scores(damaged)


def test_a_stream_counts_invalid_samples_and_takes_them_for_silence(spotter, audio):
    damaged, silent = audio.copy(), audio.copy()
    damaged[20_000:20_400], silent[20_000:20_400] = np.nan, 0
    stream = spotter.stream()
    events = [
        event for part in np.array_split(damaged, 50) for event in stream.feed(part)
    ] + stream.finish()
    assert_same_events(events, list(spotter.detect(silent)))
    assert stream.invalid_samples == 400


def test_sample_rate_is_converted(spotter):
    time = np.arange(48_000) / 48_000
    sound = (np.sin(2 * np.pi * 700 * time) * np.sin(2 * np.pi * 3 * time)).astype(np.float32)
    assert_same_events(
        list(spotter.detect(sound, 48_000)), list(spotter.detect(sound[::3].copy(), 16_000))
    )


def test_finished_stream_takes_no_more(spotter):
    stream = spotter.stream()
    stream.finish()
    with pytest.raises(
        KwsError, match=r"this stream is finished\. Start a new one with Spotter\.stream\(\)"
    ):
        stream.feed(np.zeros(10, np.float32))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(100, np.int32), "samples must be float32"),
        (np.zeros(100, bool), "not bool"),
        (np.zeros(100, np.complex64), "not complex64"),
        (["a"], "samples must be float32"),
        (np.zeros((100, 2), np.float32), r"shape \[n\], got \[100, 2\]"),
        (np.float32(0.5), r"shape \[n\], got \[\]"),
    ],
    ids=["int32", "bool", "complex", "text", "two channels", "one number"],
)
def test_a_stream_refuses_other_types_and_shapes(spotter, samples, message):
    with pytest.raises(AudioError, match=message):
        spotter.stream().feed(samples)


@pytest.mark.parametrize("cut", range(800, 64_000, 2_357))
def test_no_event_lies_outside_the_audio(spotter, audio, cut):
    for event in spotter.detect(audio[:cut]):
        assert 0 <= event.start <= cut / 16_000 + 1e-3
        assert 0 <= event.end <= cut / 16_000 + 1e-3
        assert 0 <= event.peak <= cut / 16_000 + 1e-3


def test_a_word_at_the_end_of_the_audio_is_detected(spotter, audio):
    """Any first part of a recording has the events that the whole recording has up to there."""
    stream, streamed_events = spotter.stream(), []
    for at in range(0, len(audio) - 320, 320):
        streamed_events += stream.feed(audio[at : at + 320])
        if at % 12_800 == 0:
            assert_same_events(
                list(spotter.detect(audio[: at + 320]))[: len(streamed_events)], streamed_events
            )
    assert streamed_events


@pytest.mark.parametrize("samples", [0, 1, 319, 320, 15_999, 16_000])
def test_times_are_the_ends_of_the_frames(spotter, samples):
    scores = spotter.scores(make_audio(1)[0, :samples])
    frames = samples // 320
    np.testing.assert_allclose(scores.times, 0.02 * np.arange(1, frames + 1))
    assert (scores.pooled.shape, scores.frames.shape, scores.boundaries.shape) == (
        (frames, 2),
        (frames, 2),
        (frames, 2, 2),
    )


def test_times_go_on_from_feed_to_feed(spotter):
    stream, times = spotter.stream(), []
    for samples in (100, 1000, 0, 5000):
        stream.feed(np.zeros(samples, np.float32))
        times += stream.scores.times.tolist()
    assert times == pytest.approx([0.02 * i for i in range(1, 6100 // 320 + 1)])
    assert stream.seconds == 6100 / 16_000


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_next_to_nothing_has_no_events(spotter, samples):
    assert list(spotter.detect(np.zeros(samples, np.float32))) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (THRESHOLD, THRESHOLD)),
        ({"threshold": 0.8}, (0.8, 0.8)),
        ({"false_alarms_per_hour": 1.0}, (0.9, 0.91)),
        ({"false_alarms_per_hour": 5.0}, (0.7, 0.71)),
    ],
    ids=["the model's own", "threshold", "one alarm per hour", "five alarms per hour"],
)
def test_thresholds(model, options, expected):
    spotter = Spotter.load(model, **options)
    assert spotter.events.threshold == pytest.approx(expected)
    assert spotter.words == ("word0", "word1")


@pytest.mark.parametrize("threshold", [0, -1, 50, float("nan")])
def test_thresholds_that_are_none(model, threshold):
    with pytest.raises(KwsError, match="above 0, and at most 1"):
        Spotter.load(model, threshold=threshold)


def test_one_wish_for_a_threshold(model):
    with pytest.raises(KwsError, match="exclude each other"):
        Spotter.load(model, threshold=0.5, false_alarms_per_hour=1.0)


@pytest.mark.parametrize("rate", [0, -8000, float("nan"), "16000", 16_000.5])
def test_no_sound_has_such_a_sample_rate(spotter, audio, rate):
    with pytest.raises(AudioError, match="sample rate"):
        list(spotter.detect(audio, rate))


def test_too_low_a_false_alarm_rate_is_refused(model):
    with pytest.raises(
        ModelError,
        match=r"cannot promise 0\.1 false alarms .* of calibration show no fewer than 0\.5",
    ):
        Spotter.load(model, false_alarms_per_hour=0.1)


def test_a_higher_threshold_leaves_out_what_scores_lower(model, audio):
    everything = list(Spotter.load(model, threshold=0.01).detect(audio))
    for threshold in (0.1, 0.3, 0.6, 0.7, 0.999):
        found = list(Spotter.load(model, threshold=threshold).detect(audio))
        assert found == [event for event in everything if event.score >= threshold]
    assert {event.score >= 0.6 for event in everything} == {False, True}


# Other processes


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


@pytest.fixture
def own_model(model, tmp_path) -> Path:
    """A model file that a test may change."""
    return Path(shutil.copy(model, tmp_path / "own.kws"))


def test_another_process_finds_the_same_events(model, audio, pool):
    spotter = Spotter.load(model, threshold=0.3)
    assert_same_scores(pool.apply(spotter.scores, [audio]), spotter.scores(audio))
    assert pool.apply(spotter.stream().feed, [audio]) == spotter.stream().feed(audio) != []


def test_a_path_from_here_is_found_from_anywhere(own_model, audio, monkeypatch):
    monkeypatch.chdir(own_model.parent)
    sent = pickle.dumps(Spotter.load(own_model.name))
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(pickle.loads(sent))).scores(audio).pooled.any()


def test_a_stream_goes_on_where_it_was_sent_to(spotter, audio):
    stream, events = spotter.stream(), []
    for part in np.array_split(audio, 9):
        events += stream.feed(part)
        stream = pickle.loads(pickle.dumps(stream))
    assert_same_events(events + stream.finish(), list(spotter.detect(audio)))


@pytest.mark.parametrize("copy_function", [copy.copy, copy.deepcopy])
def test_copies_need_no_file_and_are_independent(own_model, audio, copy_function):
    spotter = Spotter.load(own_model)
    own_model.unlink()
    stream = copy_function(spotter).stream()
    stream.feed(audio[:20_000])
    other = copy.deepcopy(stream)
    assert stream.feed(audio[20_000:]) == other.feed(audio[20_000:]) != []
    assert other.seconds == stream.seconds == len(audio) / 16_000


def test_a_missing_model_file_is_an_error_where_it_is_used(own_model, audio, pool):
    spotter = Spotter.load(own_model)
    own_model.unlink()
    with pytest.raises(ModelError, match=r"own\.kws: no such model file"):
        pool.apply(spotter.scores, [audio])


def test_a_changed_model_file_is_an_error_where_it_is_used(own_model, audio, pool):
    spotter = Spotter.load(own_model)
    network = make_network(2, seed=5)
    export(network, make_document(network, THRESHOLD), own_model)
    with pytest.raises(ModelError, match=r"own\.kws: this model has changed since it was loaded"):
        pool.apply(spotter.scores, [audio])


# What is no recording


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (b"RIFF", "bytes is neither a path nor samples.*soundfile.read"),
        (bytearray(4), "bytearray is neither"),
        (memoryview(b"RIFF"), "memoryview is neither"),
        (io.BytesIO(b"RIFF"), r"BytesIO is neither a path nor samples.*io\.BytesIO\(BYTES\)"),
        (None, "None is neither a path nor samples"),
        (16_000, "int is neither"),
        ((each for each in [0.5]), "generator is neither"),
        (["a.wav", "b.wav"], "a list of paths is no recording. Give one path at a time"),
        ((Path("a.wav"),), "a tuple of paths"),
        ([[0.5], [0.5, 0.5]], "in one array. This list makes none"),
        ([1, 2], "not int64. Divide integers by their full scale"),
        (np.zeros(100, np.int32), "not int32. Divide integers by their full scale"),
        (np.zeros(100, np.uint8), "not uint8. Divide"),
        (np.zeros(100, np.complex64), r"not complex64\.$"),
        (np.array([None]), "not object"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_is_neither_a_path_nor_samples_is_named(spotter, recording, message):
    with pytest.raises(AudioError, match=message):
        list(spotter.detect(recording))


def test_an_address_is_no_path(spotter):
    with pytest.raises(
        KwsError,
        match=r"^https://example\.org/a\.mp3: a URL, and kws reads and writes files\.",
    ):
        list(spotter.detect("https://example.org/a.mp3"))


def test_an_open_file_is_named_and_its_samples_are_taken(spotter, audio, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.round(audio * 32768).astype(np.int16), 16_000)
    with (
        (tmp_path / "a.wav").open("rb") as file,
        pytest.raises(AudioError, match="BufferedReader is neither a path nor samples"),
    ):
        list(spotter.detect(file))
    # As the message says.
    samples, rate = soundfile.read(io.BytesIO((tmp_path / "a.wav").read_bytes()))
    assert_same_events(list(spotter.detect(samples, rate)), list(spotter.detect(audio)))


class Entry:
    """A path of another library."""

    def __init__(self, path: Path):
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def test_any_path_will_do(spotter, audio, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.round(audio * 32768).astype(np.int16), 16_000)
    assert_same_events(list(spotter.detect(Entry(tmp_path / "a.wav"))), list(spotter.detect(audio)))


def test_sequences_of_samples_equal_arrays(spotter, audio):
    integers = array.array("h", np.round(audio * 32768).astype(np.int16))
    assert (
        list(spotter.detect(audio.tolist()))
        == list(spotter.detect(integers))
        == list(spotter.detect(audio))
        != []
    )
