"""docs/reference/model-file.md tells all that another program needs: what follows that page alone,
without kws, finds the same scores and events."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile

from kws import Spotter

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = REPOSITORY / "models" / "welcome.onnx"
RECORDINGS = sorted((REPOSITORY / "recordings").glob("*.wav"))
RATE = 16_000
SILENCE_AT_END = int(0.8 * RATE)
HELD_FRAMES = 8
GATE = 0.1
PHONE_FRAMES = 100
END_FRAMES = 25
DECISION_FRAMES = 6
SAME_WORD = 0.8


@dataclass
class ModelFile:
    """The graphs and the document of a file with one word."""

    scanner: onnxruntime.InferenceSession
    recognizer: onnxruntime.InferenceSession
    about: dict

    @property
    def frame(self) -> int:
        return self.about["frame_samples"]


@pytest.fixture(scope="module")
def model() -> ModelFile:
    scanner = onnxruntime.InferenceSession(MODEL)
    metadata = scanner.get_modelmeta().custom_metadata_map
    recognizer = onnxruntime.InferenceSession(base64.b64decode(metadata["kws_verifier"]))
    return ModelFile(scanner, recognizer, json.loads(metadata["kws"]))


def scan(model: ModelFile, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`pooled` [F] and `boundaries` [F, 2] of whole frames of audio, from a first state on."""
    silent_frames = -(-model.about["context_samples"] // model.frame)
    silence = np.zeros((1, silent_frames * model.frame), np.float32)
    state = np.zeros((1, model.about["state_size"]), np.float32)
    (state,) = model.scanner.run(["new_state"], {"audio": silence, "state": state})
    outputs = ["pooled", "boundaries"]
    pooled, boundaries = model.scanner.run(outputs, {"audio": audio[None], "state": state})
    return pooled[0, :, 0], boundaries[0, :, 0]


def log_ratio(log_p: np.ndarray, phones: list[int]) -> float:
    """Step 4: of log probabilities [PHONE_FRAMES, L]; number 0 is the blank."""
    log_p = log_p - log_p.max(axis=1, keepdims=True)
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


def verify(
    model: ModelFile, audio: np.ndarray, pooled: np.ndarray, boundaries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Steps 1 to 5 for each frame."""
    verifier = model.about["verifier"]
    fusion = verifier["fusion"]
    said = verifier["pronunciations"][model.about["words"][0]]
    pronunciations = [[verifier["phones"].index(phone) for phone in each] for each in said]
    field = -(-verifier["receptive_field_samples"] // model.frame)
    state = np.zeros((1, model.recognizer.get_inputs()[1].shape[1]), np.float32)
    context = (field + PHONE_FRAMES - 1) * model.frame
    padded = np.concatenate([np.zeros(context, np.float32), audio])
    held = np.concatenate([np.zeros(HELD_FRAMES - 1), pooled])
    scores, places = pooled.astype(float), boundaries.copy()
    for frame in range(len(pooled)):
        recent = held[frame : frame + HELD_FRAMES]
        age = HELD_FRAMES - 1 - int(recent.argmax())
        score = recent.max()
        if score < GATE:
            continue
        places[frame] = boundaries[frame - age] + age * model.frame / RATE
        end = context + (frame + 1) * model.frame
        heard = {"audio": padded[None, end - context : end], "state": state}
        (log_p,) = model.recognizer.run(["phones"], heard)
        ratio = max(log_ratio(log_p[0, field - 1 :], each) for each in pronunciations)
        lack = fusion["ceiling"] - np.clip(ratio, fusion["floor"], fusion["ceiling"])
        scores[frame] = score / (score + (1 - score) * np.exp(fusion["scale"] * lack))
    return scores, places


def find_events(
    model: ModelFile, scores: np.ndarray, boundaries: np.ndarray
) -> list[tuple[float, float, float]]:
    """Start, end and score of the events, by rules 1 to 5."""
    settings = model.about["events"]
    confirm, apart = settings["confirm_frames"], settings["refractory_frames"]
    scores = scores.round(4)
    levels = np.zeros(len(scores))
    for frame in range(confirm - 1, len(scores)):
        levels[frame] = scores[frame + 1 - confirm : frame + 1].min()
    ends = np.arange(1, len(scores) + 1)[:, None] * model.frame / RATE - boundaries.clip(min=0)
    events, latest = [], None
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
            latest is not None and frame - latest <= apart and levels[latest] >= SAME_WORD * level
        )
        latest = frame
        if known or level < settings["threshold"][0]:
            continue
        low = np.flatnonzero(scores[: frame + 1] < released)
        first = low[-1] + 1 if len(low) else 0
        rise = slice(first, first + confirm)
        start, end = np.average(ends[rise], axis=0, weights=scores[rise])
        events.append((start, end, level))
    return events


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name)
def test_what_follows_the_page_alone_finds_the_same(model: ModelFile, path: Path) -> None:
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    padded = np.concatenate([samples, np.zeros(SILENCE_AT_END, np.float32)])
    audio = padded[: len(padded) // model.frame * model.frame]
    scores, boundaries = verify(model, audio, *scan(model, audio))

    spotter = Spotter.load(MODEL)
    expected = spotter.scores(samples).pooled[:, 0]
    np.testing.assert_allclose(scores[: len(expected)], expected, atol=1e-5)
    found = [(event.start, event.end, event.score) for event in spotter.detect(samples)]
    assert len(found) > 0
    np.testing.assert_allclose(find_events(model, scores, boundaries), found, atol=2e-3)
