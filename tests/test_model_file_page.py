"""docs/reference/model-file.md tells all that another program needs: what follows that page alone,
without kws, finds the same scores and events."""

import json
import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pytest
import soundfile
from factories import BANDS, WITH_PHONES, make_audio, make_document, make_model, make_network

from kws import Spotter
from kws.runtime.model_file import read_model
from kws.runtime.verifier import Fusion
from kws.runtime.weights import pack_with_weights
from kws.training.model.export import export
from kws.training.model.pooling import POOLINGS
from kws.training.model.pretrained import VerifierSpec

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = REPOSITORY / "models" / "welcome.kws"
RECORDINGS = sorted((REPOSITORY / "recordings").glob("*.wav"))
RATE = 16_000
SILENCE_AT_END = int(0.8 * RATE)
HELD_FRAMES = 8
GATE = 0.1
PHONE_FRAMES = 100
END_FRAMES = 25
DECISION_FRAMES = 6
SAME_WORD = 0.8
DTYPES = {"I32": "<i4", "F32": "<f4", "F16": "<f2", "I8": "i1"}
SIZES = ("H", "N", "M", "S", "K", "C", "B", "W", "P", "pooling", "L", "D", "R")


# Container


@dataclass
class ModelFile:
    """The document, and all tensors as they are stored."""

    about: dict
    tensors: dict[str, np.ndarray]

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """The tensors whose names begin with `prefix.`; I8 ones times their steps."""
        return {
            name.removeprefix(prefix + "."): self.weights(name)
            for name in self.tensors
            if name.startswith(prefix + ".") and not name.endswith(".step")
        }

    def weights(self, name: str) -> np.ndarray:
        tensor = self.tensors[name]
        if tensor.dtype != np.int8:
            return tensor
        rows = tensor.reshape(len(tensor), -1) * self.tensors[name + ".step"][:, None]
        return rows.reshape(tensor.shape)


def read_file(path: Path) -> ModelFile:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    about = json.loads(header.pop("__metadata__")["kws"])
    tensors = {}
    for name, each in header.items():
        first, end = each["data_offsets"]
        tensor = np.frombuffer(data[first:end], DTYPES[each["dtype"]])
        tensors[name] = tensor.reshape(each["shape"])
    assert about["format"] == 6
    assert list(tensors)[-1] == "checksum"
    assert header["checksum"]["data_offsets"][1] == len(data)
    assert tensors.pop("checksum").astype("<u4").tobytes() == content[-4:]
    assert struct.pack("<I", zlib.crc32(content[:-4])) == content[-4:]
    return ModelFile(about, tensors)


# From samples to scores


class Scores(NamedTuple):
    """Of F frames: `pooled`, `frames` [F, W], `boundaries` [F, W, 2], `phones` [F, L]."""

    pooled: np.ndarray
    frames: np.ndarray
    boundaries: np.ndarray
    phones: np.ndarray


def latest(rows: np.ndarray, count: int, step: int = 1) -> np.ndarray:
    """[F, count, ...]: for each group of `step` rows the `count` rows that end with it. What lies
    before the first row is dropped later, as it is heard before the silence."""
    padded = np.concatenate([np.zeros((count - step, *rows.shape[1:])), rows])
    frames = len(rows) // step
    return np.stack([padded[k : k + step * frames : step] for k in range(count)], axis=1)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


class Network:
    """One network of a file, over a whole recording at once."""

    def __init__(self, tensors: dict[str, np.ndarray]):
        self.tensors = tensors
        self.sizes = dict(zip(SIZES, tensors["sizes"].tolist(), strict=True))
        self.frame_samples = self.sizes["S"] * self.sizes["H"]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[name]

    def run(self, audio: np.ndarray) -> Scores:
        """The scores of whole frames of audio, heard after nothing."""
        x = self.stem(self.log_mel(audio))
        for i in range(self.sizes["B"]):
            x = self.block(f"blocks.{i}", x)
        words = self.sizes["W"]
        p, boundaries, phones = np.zeros((len(x), 0)), np.zeros((len(x), 0)), np.zeros((len(x), 0))
        if words:
            h = x @ self["head.weight"].T + self["head.bias"]
            p, boundaries = 1 / (1 + np.exp(-h[:, :words])), h[:, words:]
        if self.sizes["L"]:
            h = x @ self["phones.weight"].T + self["phones.bias"]
            phones = h - np.log(np.exp(h).sum(axis=1, keepdims=True))
        return Scores(self.pool(p), p, boundaries.reshape(len(x), words, 2), phones)

    def log_mel(self, audio: np.ndarray) -> np.ndarray:
        windows = latest(audio, self.sizes["N"], self.sizes["H"]) * self["frontend.window"]
        power = np.abs(np.fft.rfft(windows)) ** 2
        return np.log(self["scalars"][0] + power @ self["frontend.mel"])

    def stem(self, e: np.ndarray) -> np.ndarray:
        size, weight, bias = self.sizes, self["stem.weight"], self["stem.bias"]
        if not size["D"]:
            rows = latest(e, size["K"], size["S"])
            return relu(np.einsum("fkm,cmk->fc", rows, weight) + bias)
        y = (e * self["input.scale"] + self["input.shift"])[:, None]
        y = relu(self.band_layer("bands.0", y, v=2, s=size["S"]))
        y = relu(self.band_layer("bands.1", y, v=2, s=1))
        for i in range(2, 2 + size["R"]):
            y = relu(self.band_layer(f"bands.{i}", y, v=1, s=1) + y)
        return relu(y.reshape(len(y), -1) @ weight[:, :, 0].T + bias)

    def band_layer(self, name: str, y: np.ndarray, v: int, s: int) -> np.ndarray:
        weight, scale, shift = (self[f"{name}.{part}"] for part in ("weight", "scale", "shift"))
        height, length = weight.shape[2:]
        margin = (height - 1) // 2
        y = np.pad(y, ((0, 0), (0, 0), (margin, margin)))
        rows = latest(y, length, s)  # [F, k, i, bands]
        z = np.zeros((len(rows), *scale.shape))
        for b in range(scale.shape[1]):
            z[:, :, b] = np.einsum("fkia,oiak->fo", rows[..., v * b : v * b + height], weight)
        return shift + scale * z

    def block(self, name: str, x: np.ndarray) -> np.ndarray:
        weight = self[f"{name}.depthwise.weight"]
        rows = latest(x, weight.shape[1])
        u = relu(np.einsum("fkc,ck->fc", rows, weight) + self[f"{name}.depthwise.bias"])
        return relu(x + u @ self[f"{name}.pointwise.weight"].T + self[f"{name}.pointwise.bias"])

    def pool(self, p: np.ndarray) -> np.ndarray:
        rows, q = latest(p, self.sizes["P"]), float(self["scalars"][1])
        match self.sizes["pooling"]:
            case 0:
                return rows.max(axis=1)
            case 1:
                return rows.mean(axis=1)
            case 2:
                return (rows**q).mean(axis=1) ** (1 / q)
            case 3:
                with np.errstate(invalid="ignore"):  # 0 / 0 in rows that nothing was heard before
                    return (rows ** (q + 1)).sum(axis=1) / (rows**q).sum(axis=1)
            case _:
                return p


def run_after_silence(network: Network, audio: np.ndarray, samples: int) -> Scores:
    """Scores of the frames of audio, after at least so many samples of silence."""
    frames = -(-samples // network.frame_samples)
    silence = np.zeros(frames * network.frame_samples, np.float32)
    return Scores(*(each[frames:] for each in network.run(np.concatenate([silence, audio]))))


def scan(model: ModelFile, audio: np.ndarray) -> Scores:
    return run_after_silence(Network(model.part("network")), audio, model.about["context_samples"])


# Verifier


class Verifier:
    def __init__(self, tensors: dict[str, np.ndarray]):
        self.network = Network(tensors)
        self.scale, self.ceiling, self.floor = tensors["fusion"].tolist()
        first_phone, numbers = tensors["first_phone"].tolist(), tensors["phone_numbers"].tolist()
        every = [numbers[i:j] for i, j in pairwise(first_phone)]
        first = tensors["first_pronunciation"].tolist()
        self.pronunciations = [every[i:j] for i, j in pairwise(first)]

    @property
    def context_samples(self) -> int:
        size = self.network.sizes
        kernels = [self.network[f"blocks.{i}.depthwise.weight"].shape[1] for i in range(size["B"])]
        frames = sum(kernels) - len(kernels) + 2 * size["R"]
        return size["N"] + (size["K"] - 1 + size["S"] * frames) * size["H"]

    def verify(self, audio: np.ndarray, scores: Scores) -> Scores:
        """Steps 1 to 5 for each frame and word."""
        frame_samples = self.network.frame_samples
        before = PHONE_FRAMES * frame_samples  # silence that counts
        padded = np.concatenate([np.zeros(before, np.float32), audio])
        log_p = run_after_silence(self.network, padded, self.context_samples).phones
        log_p = log_p - log_p.max(axis=1, keepdims=True)
        pooled, boundaries = scores.pooled.copy(), scores.boundaries.copy()
        for word, pronunciations in enumerate(self.pronunciations):
            held = np.concatenate([np.zeros(HELD_FRAMES - 1), scores.pooled[:, word]])
            for frame in range(len(pooled) if pronunciations else 0):
                recent = held[frame : frame + HELD_FRAMES]
                age = HELD_FRAMES - 1 - int(recent.argmax())
                h = recent.max()
                if h < GATE:
                    continue
                places = scores.boundaries[frame - age, word]
                boundaries[frame, word] = places + age * frame_samples / RATE
                phones = log_p[frame + 1 : frame + 1 + PHONE_FRAMES]
                r = max(log_ratio(phones, each) for each in pronunciations)
                d = self.ceiling - np.clip(r, self.floor, self.ceiling)
                pooled[frame, word] = h / (h + (1 - h) * np.exp(self.scale * d))
        return scores._replace(pooled=pooled, boundaries=boundaries)


def log_ratio(log_p: np.ndarray, phones: list[int]) -> float:
    """Step 4, of what is left of log probabilities [PHONE_FRAMES, L]; number 0 is the blank."""
    path = [phones[0], *(number for phone in phones[1:] for number in (0, phone))]
    best = np.full(len(path), -np.inf)
    ends = []
    for frame in log_p:
        before, best = best, np.full(len(path), -np.inf)
        for place, number in enumerate(path):
            ways = [before[place], before[place - 1] if place else 0.0]
            if place > 1 and place % 2 == 0 and number != path[place - 2]:
                ways.append(before[place - 2])
            best[place] = max(ways) + frame[number]
        ends.append(best[-1])
    return max(ends[-END_FRAMES:]) / len(phones)


def verified_scores(model: ModelFile, audio: np.ndarray) -> Scores:
    """Scores of the whole frames of audio."""
    frame_samples = model.about["frame_samples"]
    audio = audio[: len(audio) // frame_samples * frame_samples]
    scores = scan(model, audio)
    tensors = model.part("verifier")
    return Verifier(tensors).verify(audio, scores) if tensors else scores


# Events


def find_events(
    about: dict, pooled: np.ndarray, boundaries: np.ndarray
) -> list[tuple[float, float, float]]:
    """Start, end and score of the events of the first word, by rules 1 to 5."""
    settings = about["events"]
    confirm, apart = settings["confirm_frames"], settings["refractory_frames"]
    scores = pooled[:, 0].round(4)
    levels = np.zeros(len(scores))
    for frame in range(confirm - 1, len(scores)):
        levels[frame] = scores[frame + 1 - confirm : frame + 1].min()
    seconds = np.arange(1, len(scores) + 1) * about["frame_seconds"]
    ends = seconds[:, None] - boundaries[:, 0].clip(min=0)
    events, previous = [], None
    for frame in np.flatnonzero(levels).tolist():
        level = levels[frame]
        before = levels[max(0, frame - apart) : frame]
        after = levels[frame + 1 : frame + 1 + DECISION_FRAMES]
        released = settings["release_ratio"] * level
        as_high = np.flatnonzero(levels[:frame] >= level)
        if (before >= level).any() or (after > level).any():
            continue
        if len(as_high) and scores[as_high[-1] + 1 : frame].min() >= released:
            continue
        known = (
            previous is not None
            and frame - previous <= apart
            and levels[previous] >= SAME_WORD * level
        )
        previous = frame
        if known or level < settings["threshold"][0]:
            continue
        low = np.flatnonzero(scores[: frame + 1] < released)
        first = low[-1] + 1 if len(low) else 0
        rise = slice(first, first + confirm)
        start, end = np.average(ends[rise], axis=0, weights=scores[rise])
        events.append((start, end, level))
    return events


# What kws finds


def assert_same_scores(path: Path, audio: np.ndarray) -> None:
    actual = verified_scores(read_file(path), audio)
    expected = Spotter.load(path).engine.open_stream().step(audio)
    assert len(actual.pooled) == len(expected.pooled) > 0
    for name, values in actual._asdict().items():
        assert np.abs(values - getattr(expected, name)).max(initial=0.0) < 1e-5, name


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name)
def test_what_follows_the_page_alone_finds_the_same(path: Path) -> None:
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    model, spotter = read_file(MODEL), Spotter.load(MODEL)
    padded = np.concatenate([samples, np.zeros(SILENCE_AT_END, np.float32)])
    scores = verified_scores(model, padded)

    expected = spotter.scores(samples).pooled
    np.testing.assert_allclose(scores.pooled[: len(expected)], expected, atol=1e-5)
    found = [(event.start, event.end, event.score) for event in spotter.detect(samples)]
    assert len(found) > 0
    events = find_events(model.about, scores.pooled, scores.boundaries)
    np.testing.assert_allclose(events, found, atol=2e-3)


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_weights_stored_in_fewer_bits(weights: Literal["float16", "int8"], tmp_path: Path) -> None:
    path = tmp_path / "small.kws"
    path.write_bytes(pack_with_weights(read_model(MODEL), weights))
    assert path.stat().st_size < 0.6 * MODEL.stat().st_size
    assert_same_scores(path, soundfile.read(RECORDINGS[0], dtype="float32")[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        *({"pooling": name} for name in POOLINGS),
        *({**changes, "mels": 13} for changes in (BANDS, {**BANDS, **WITH_PHONES})),
    ],
    ids=str,
)
def test_network_of_another_shape(changes: dict, tmp_path: Path) -> None:
    path = make_model(tmp_path, make_network(3, **changes))
    assert_same_scores(path, make_audio(1.5)[0])


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, BANDS], ids=["1-D", "2-D"])
def test_verifier_of_several_words_and_pronunciations(changes: dict, tmp_path: Path) -> None:
    recognizer = make_network(4, seed=1, **changes)  # whose words are the phones
    _, a, b, c = recognizer.config.words
    pronunciations = {"word0": ((a, b), (c,)), "word2": ((b, b, c),)}  # none for word1
    network, path = make_network(3), tmp_path / "verified.kws"
    verifier = VerifierSpec(recognizer, pronunciations, Fusion(1.5, 0.0, -4.0))
    export(network, make_document(network), path, verifier)
    hiss = 0.01 * np.random.default_rng(0).standard_normal(24_000)  # no two frames are equal
    assert_same_scores(path, make_audio(1.5)[0] + hiss.astype(np.float32))
