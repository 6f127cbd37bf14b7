"""The kernel against torch, against numpy, and against itself for every way to cut the audio."""

import shutil
import subprocess
from collections.abc import Iterator
from copy import copy
from itertools import zip_longest
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from factories import make_audio, make_network
from fuzz_seeds import write_seeds
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kws.audio.recordings import read
from kws.errors import ModelError
from kws.runtime.ctc import compute_ctc_llr
from kws.runtime.kernel import KernelModel, KernelStream
from kws.runtime.numpy_network import NumpyNetwork
from kws.runtime.output import StepOutput, concatenate_outputs
from kws.runtime.tensors import pack_tensors, unpack_tensors
from kws.runtime.verifier import (
    CONTEXT_FRAMES,
    END_TOLERANCE_FRAMES,
    GATE_SCORE,
    HOLD_FRAMES,
    Fusion,
    fuse,
)
from kws.training.model.network import ScanningCNN
from kws.training.model.tensors import network_tensors, verifier_tensors
from kws.training.model.torch_engine import load_network

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"
RECORDINGS = sorted((ROOT / "recordings").glob("*.wav"))

pytestmark = [pytest.mark.cc, pytest.mark.slow]


def open_model(library: Path, *tensors: dict[str, np.ndarray]) -> KernelModel:
    merged = {name: tensor for each in tensors for name, tensor in each.items()}
    return KernelModel(pack_tensors(merged, {"kws": "{}"}), Path("model.kws"), library=library)


def cuts(samples: np.ndarray, seed: int = 0) -> Iterator[np.ndarray]:
    """The samples in pieces of random length, empty ones among them."""
    rng, start = np.random.default_rng(seed), 0
    while start < len(samples):
        end = start + int(rng.integers(0, 3000))
        yield samples[start:end]
        start = end


def run_in_pieces(stream: KernelStream, samples: np.ndarray, seed: int = 0) -> StepOutput:
    return concatenate_outputs([stream.step(piece) for piece in cuts(samples, seed)])


def assert_equal(one: StepOutput, other: StepOutput) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(values: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Within 2e-5 of the largest number, or of 1."""
    tolerance = 2e-5 * max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(values, expected, atol=tolerance, rtol=0, err_msg=name)


CONFIGS = st.fixed_dictionaries(
    {
        "words": st.integers(1, 4),
        "mels": st.integers(9, 40),
        "channels": st.integers(3, 60),
        "stem_kernel": st.integers(3, 7),
        "band_channels": st.sampled_from([0, 0, 3, 8, 13]),
        "kernels": st.lists(st.integers(2, 13), min_size=1, max_size=4).map(tuple),
        "pooling": st.sampled_from(["gem", "gem-fixed", "max", "mean", "power", "none"]),
        "pool_frames": st.integers(2, 8),
        "phones": st.sampled_from(["", "_abc"]),
    }
)


# The same networks in each run, so that a failure comes back.
@settings(max_examples=25, deadline=None, phases=[Phase.generate], derandomize=True)
@given(CONFIGS, st.integers(0, 99))
def test_random_network_gives_the_scores_of_torch_and_of_numpy(
    library: Path, config: dict, seed: int
) -> None:
    changes = {name: value for name, value in config.items() if name != "words"}
    check_network(library, make_network(config["words"], seed=seed, **changes), seed)


def check_network(library: Path, network: ScanningCNN, seed: int) -> None:
    tensors = network_tensors(network)
    model = open_model(library, tensors)
    audio = make_audio(1.5, seed=seed)[0]
    output = model.open_stream().step(audio)
    whole = audio[: len(output.pooled) * model.frame_samples]
    with torch.no_grad():
        expected, _ = network(torch.from_numpy(whole)[None], network.initial_state())
    for name, values in expected.frames_first()._asdict().items():
        assert_close(getattr(output, name), values[0].numpy(), name)
    numpy_network = NumpyNetwork(
        {name.removeprefix("network."): tensor for name, tensor in tensors.items()}
    )
    silence = np.zeros((1, 200 * model.frame_samples), np.float32)
    _, state = numpy_network.run(silence, numpy_network.empty_state(1))
    for name, values in numpy_network.run(whole[None], state)[0].items():
        assert_close(getattr(output, name), values[0], name)
    assert_equal(run_in_pieces(model.open_stream(), audio, seed), output)


@pytest.fixture(scope="module")
def verified(library: Path, verified_tensors: dict[str, np.ndarray]) -> KernelModel:
    return open_model(library, verified_tensors)


def reference_scores(
    tensors: dict[str, np.ndarray], scores: np.ndarray, samples: np.ndarray
) -> np.ndarray:
    """Verified scores [F] of one word, frame by frame: everything is recognized, whether it is
    asked for or not."""
    recognizer = NumpyNetwork(
        {name[9:]: each for name, each in tensors.items() if name.startswith("verifier.")}
    )
    silence = np.zeros(300 * recognizer.frame_samples, np.float32)  # before the stream
    audio = np.concatenate([silence, samples])[None]
    log_probs = recognizer.run(audio, recognizer.empty_state(1))[0]["phones"][0]
    log_probs = log_probs[300 - CONTEXT_FRAMES + 1 :]
    phones = tensors["verifier.phone_numbers"].tolist()
    llr = compute_ctc_llr(log_probs, phones, CONTEXT_FRAMES, END_TOLERANCE_FRAMES)
    fusion = Fusion(*tensors["verifier.fusion"].tolist())
    verified = scores.copy()
    for frame in range(len(scores)):
        held = scores[max(frame - HOLD_FRAMES + 1, 0) : frame + 1].max()
        if held >= GATE_SCORE:
            verified[frame] = fuse(np.array([held]), llr[frame : frame + 1], fusion)[0]
    return verified


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_verifier_gives_the_scores_of_a_reference(
    library: Path, verified: KernelModel, verified_tensors: dict[str, np.ndarray], path: Path
) -> None:
    samples = read(path)
    samples = samples[: len(samples) // verified.frame_samples * verified.frame_samples]
    output = verified.open_stream().step(samples)
    network = {n: t for n, t in verified_tensors.items() if n.startswith("network.")}
    unverified = open_model(library, network).open_stream().step(samples)
    expected = reference_scores(verified_tensors, unverified.pooled[:, 0], samples)
    np.testing.assert_allclose(output.pooled[:, 0], expected, atol=2e-5)
    np.testing.assert_array_equal(output.frames, unverified.frames)


def test_verifier_may_have_a_front_end_of_its_own(library: Path) -> None:
    network = load_network(ROOT / "models" / "welcome.pt")
    recognizer = make_network(5, mels=24, window_samples=320, channels=20, kernels=(5, 7))
    own = verifier_tensors(recognizer, [[[1, 4, 2]]], Fusion(3.0, 0.0, -9.0))
    tensors = network_tensors(network) | own
    samples = read(ROOT / "recordings" / "twice.wav")
    whole = open_model(library, tensors).open_stream().step(samples)
    unverified = open_model(library, network_tensors(network)).open_stream().step(samples)
    expected = reference_scores(tensors, unverified.pooled[:, 0], samples)
    np.testing.assert_allclose(whole.pooled[:, 0], expected, atol=2e-5)
    assert np.abs(whole.pooled - unverified.pooled).max() > 0.1
    assert_equal(run_in_pieces(open_model(library, tensors).open_stream(), samples), whole)


def test_stream_with_a_verifier_is_small(verified: KernelModel) -> None:
    assert verified.library.kws_stream_bytes(verified.handle) < 400_000


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("seed", range(3))
def test_any_pieces_give_the_same_bits(verified: KernelModel, path: Path, seed: int) -> None:
    samples = read(path)
    whole = verified.open_stream().step(samples)
    assert_equal(run_in_pieces(verified.open_stream(), samples, seed), whole)


def test_words_far_apart_give_the_same_bits_in_any_pieces(verified: KernelModel) -> None:
    """The verifier reads short gaps and begins anew after long ones."""
    word = read(ROOT / "recordings" / "late.wav")[-24_000:]
    gaps = [np.zeros(round(seconds * 16_000), np.float32) for seconds in (0.1, 1.9, 2.2, 3.4, 5.0)]
    samples = np.concatenate([part for gap in gaps for part in (word, gap)])
    whole = verified.open_stream().step(samples)
    assert (whole.pooled > 0.5).any()
    assert_equal(run_in_pieces(verified.open_stream(), samples), whole)


def test_scores_do_not_depend_on_the_gate_above_it(verified: KernelModel) -> None:
    samples = read(ROOT / "recordings" / "twice.wav")
    low, high = (verified.open_stream([gate]).step(samples).pooled for gate in (0.1, 0.4))
    never = verified.open_stream([np.inf]).step(samples).pooled
    assert (high == np.where(low == never, low, high)).all()
    is_high = low >= 0.4
    assert is_high.any()
    np.testing.assert_array_equal(high[is_high], low[is_high])


def test_int16_samples_are_the_floats_that_they_stand_for(verified: KernelModel) -> None:
    samples = (read(ROOT / "recordings" / "twice.wav") * 32767).astype(np.int16)
    floats = samples.astype(np.float32) / 32768
    assert_equal(verified.open_stream().step(samples), verified.open_stream().step(floats))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e7, -1.1e6])
def test_samples_that_are_no_sound_count_as_zero(verified: KernelModel, value: float) -> None:
    samples = read(ROOT / "recordings" / "twice.wav")
    places = np.random.default_rng(0).integers(0, len(samples), 99)
    silenced, damaged = samples.copy(), samples.copy()
    silenced[places], damaged[places] = 0, value
    expected = verified.open_stream().step(silenced)
    output = run_in_pieces(verified.open_stream(), damaged)
    assert_equal(output, expected._replace(invalid_samples=len(np.unique(places))))
    assert expected.invalid_samples == 0


def test_largest_samples_are_taken_as_they_are(verified: KernelModel) -> None:
    output = verified.open_stream().step(np.array([1e6, -1e6] * 500, np.float32))
    assert output.invalid_samples == 0
    assert not (
        output.frames == verified.open_stream().step(np.zeros(1000, np.float32)).frames
    ).all()


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_many_streams_in_one_call_give_the_bits_of_each_alone(
    verified: KernelModel, kind: type
) -> None:
    audio = [read(path) for path in RECORDINGS]
    if kind is np.int16:
        audio = [(samples * 32767).astype(np.int16) for samples in audio]
    else:
        audio[1][::1000] = np.nan
    streams = [verified.open_stream() for _ in audio]
    pieces = [list(cuts(samples, seed)) for seed, samples in enumerate(audio)]
    rounds = zip_longest(*pieces, fillvalue=np.zeros(0, kind))
    steps = [verified.step_many(streams, each) for each in rounds]
    for outputs, samples in zip(zip(*steps, strict=True), audio, strict=True):
        assert_equal(concatenate_outputs(outputs), verified.open_stream().step(samples))


def test_copied_stream_goes_on_by_itself(verified: KernelModel) -> None:
    samples = read(ROOT / "recordings" / "twice.wav")
    stream = verified.open_stream()
    stream.step(samples[:50_000])
    twin = copy(stream)
    ahead = stream.step(samples[50_000:])
    assert_equal(twin.step(samples[50_000:]), ahead)


@pytest.mark.parametrize(
    "name",
    [
        "network.stem.weight",
        "network.sizes",
        "network.head.bias",
        "verifier.first_phone",
        "verifier.fusion",
    ],
)
def test_file_without_a_tensor_is_refused(
    library: Path, verified_tensors: dict[str, np.ndarray], name: str
) -> None:
    fewer = {each: tensor for each, tensor in verified_tensors.items() if each != name}
    with pytest.raises(ModelError, match="missing"):
        open_model(library, fewer)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t | {"network.stem.bias": t["network.stem.bias"][:-1]}, "another shape"),
        (lambda t: t | {"network.stem.bias": t["network.stem.bias"] * np.nan}, "no number"),
        (lambda t: t | {"network.sizes": t["network.sizes"] * 100}, "its sizes are not those"),
        (lambda t: t | {"network.sizes": t["network.sizes"].astype(np.float32)}, "not int32"),
        (lambda t: t | {"verifier.phone_numbers": t["verifier.phone_numbers"] + 99}, "damaged"),
        (lambda t: t | {"verifier.first_phone": t["verifier.first_phone"][::-1]}, "damaged"),
    ],
)
def test_damaged_model_is_refused_with_its_reason(
    library: Path, verified_tensors: dict[str, np.ndarray], change, reason: str
) -> None:
    with pytest.raises(ModelError, match=rf"^model\.kws: .*{reason}"):
        open_model(library, change(verified_tensors))


def test_tensors_come_back_from_their_file(verified_tensors: dict[str, np.ndarray]) -> None:
    data = pack_tensors(verified_tensors, {"kws": "{}"})
    metadata, back, checksum = unpack_tensors(data, Path("model.kws"))
    assert metadata == {"kws": "{}"}
    assert checksum == crc32(data[:-4])
    assert back.keys() == verified_tensors.keys()
    for name, tensor in back.items():
        np.testing.assert_array_equal(tensor, verified_tensors[name])


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_changed_weight_is_found(
    library: Path, verified_tensors: dict[str, np.ndarray], place: float
) -> None:
    data = bytearray(pack_tensors(verified_tensors, {"kws": "{}"}))
    data[int(len(data) * place)] ^= 1
    with pytest.raises(ModelError, match=r"^model\.kws: the file is damaged: its checksum differs"):
        KernelModel(bytes(data), Path("model.kws"), library=library)
    with pytest.raises(ModelError, match=r"^model\.kws: .* damaged"):
        unpack_tensors(bytes(data), Path("model.kws"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.replace(b'"checksum"', b'"checksun"'), "is missing"),
        (lambda data: data + bytes(4), "is not the end of the file"),
    ],
)
def test_file_that_does_not_end_in_its_checksum_is_refused(
    library: Path, verified_tensors: dict[str, np.ndarray], change, reason: str
) -> None:
    data = change(pack_tensors(verified_tensors, {"kws": "{}"}))
    with pytest.raises(ModelError, match=f"tensor checksum {reason}"):
        KernelModel(data, Path("model.kws"), library=library)
    with pytest.raises(ModelError, match="damaged"):
        unpack_tensors(data, Path("model.kws"))


@pytest.mark.slow
def test_damaged_files_never_crash(tmp_path: Path, verified_tensors: dict[str, np.ndarray]) -> None:
    """Thousands of damaged files, under the address and undefined-behaviour sanitizers."""
    (tmp_path / "model.kws").write_bytes(pack_tensors(verified_tensors, {"kws": "{}"}))
    flags = ["-std=c11", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [*sorted(NATIVE.glob("*.c")), NATIVE / "tests" / "fuzz.c"]
    compiler = shutil.which("cc") or "gcc"
    subprocess.run(
        [compiler, *flags, "-Wno-psabi", *sources, "-lm", "-o", tmp_path / "fuzz"], check=True
    )
    done = subprocess.run(
        [tmp_path / "fuzz", tmp_path / "model.kws", "600"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.clang
def test_fuzzer_finds_nothing(tmp_path: Path) -> None:
    """libFuzzer changes small models of every kind, and the pieces in which samples come."""
    sanitizers = "-fsanitize=fuzzer,address,undefined"
    flags = ["-std=c11", "-g", "-O1", "-DLIBFUZZER", sanitizers, "-fno-sanitize-recover=all"]
    sources = [*sorted(NATIVE.glob("*.c")), NATIVE / "tests" / "fuzz.c"]
    subprocess.run(
        ["clang", *flags, "-Wno-psabi", *sources, "-lm", "-o", tmp_path / "fuzz"], check=True
    )
    write_seeds(tmp_path / "seeds")
    # Its measure of resident memory would count that of pytest, from which it is started.
    limits = ["-runs=4000", "-max_len=30000", "-malloc_limit_mb=512", "-rss_limit_mb=0"]
    done = subprocess.run(
        ["./fuzz", "-seed=1", *limits, "seeds"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
