"""Can a phrase be detected without training, by a phone recogniser alone?

    python experiments/phrases.py --data DATA [--recognizer models/phone_recognizer.pt]
    python experiments/phrases.py --data DATA --pocket-sphinx

The eight words to choose by of benchmarks/in_sentences.py, in its sentences; and, by recogniser,
the three phrases of DATA/wake_words, with false alarms in the same sentences. PocketSphinx is
installed with pip install pocketsphinx==5.1.1.

A word's score in a frame comes from the best CTC path through its phones that ends there: the log
probability of the path, per phone, or variants of it. The best pronunciation counts. Alarms are the
highest scores within 0.4 s. The word is found if a score near its end is higher than those of the
alarms allowed: one, or half an alarm, per hour of sentences that do not hold it.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import maximum_filter1d

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.in_sentences import (
    WORDS_TO_CHOOSE_BY,
    TestSpeech,
    find_places,
    read_sentences,
    read_test_speech,
)
from benchmarks.people import FALSE_ALARMS_PER_HOUR, PHRASES
from benchmarks.report import ROOT
from kws.audio.recordings import SAMPLE_RATE
from kws.synth.confusables import pronunciations
from kws.synth.phrase import folder_name
from kws.training.data.clips import find_clips
from kws.training.data.dataset import load_clips
from kws.training.evaluate.scoring import EARLY_TOLERANCE_SECONDS, LATE_TOLERANCE_SECONDS
from kws.training.model.network import ScanningCNN
from kws.training.model.phone_set import PHONES, to_phones
from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE
from kws.training.model.torch_engine import load_network
from kws.training.phones.alignment import AlignedWord

if TYPE_CHECKING:
    from pocketsphinx import Decoder

FRAME_SECONDS = 0.02
SILENCE_SECONDS = 0.8  # after each recording
ALARM_FRAMES = 20
SPHINX_THRESHOLD = 1e-60
SPHINX_FRAMES_PER_SECOND = 100
CHUNK_SAMPLES = 1280
BATCH = 200  # recordings whose paths are sought side by side


@dataclass(frozen=True)
class Scores:
    """Of one word: the best score near each place where it is said, and those of the alarms."""

    spoken: np.ndarray
    alarms: np.ndarray
    hours: float

    def find_misses(self, rate: float) -> np.ndarray:
        """Which of the spoken words are missed at so many alarms per hour."""
        descending = np.sort(self.alarms)[::-1]
        allowed = int(rate * self.hours)
        return self.spoken <= (descending[allowed] if allowed < len(descending) else -np.inf)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--recognizer", type=Path, default=ROOT / "models" / PHONE_RECOGNIZER_FILE)
    parser.add_argument("--pocket-sphinx", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    speech = read_test_speech(read_sentences(args.data))
    places = find_all_places(speech)
    if args.pocket_sphinx:
        report("PocketSphinx", score_pocket_sphinx(speech, places))
        return
    network = load_network(args.recognizer)
    log_probs = recognize_all(network, speech.recordings)
    for name, variant in VARIANTS.items():
        changed = [variant(each) for each in log_probs]
        report(name, {word: score_word(word, changed, speech, places[word]) for word in places})
    report("wake phrases", score_wake_phrases(args.data, network, log_probs))


def score_per_frame(log_probs: np.ndarray) -> np.ndarray:
    return log_probs


def score_against_best(log_probs: np.ndarray) -> np.ndarray:
    """As the verifier does."""
    return log_probs - log_probs.max(axis=1, keepdims=True)


def score_clipped(log_probs: np.ndarray) -> np.ndarray:
    """A phone that is not recognised costs little."""
    return np.maximum(log_probs, -5.0)


def score_flattened(log_probs: np.ndarray) -> np.ndarray:
    """The recogniser is less sure of itself."""
    flat = 0.7 * log_probs
    return flat - np.log(np.exp(flat).sum(axis=1, keepdims=True))


VARIANTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log probability": score_per_frame,
    "against the best path of all": score_against_best,
    "at most 5 lost per frame": score_clipped,
    "probabilities to the power of 0.7": score_flattened,
}


def find_all_places(speech: TestSpeech) -> dict[str, list[tuple[int, AlignedWord]]]:
    """Where each word is said: the number of the sentence, and the place in it."""
    aligner = load_network(ROOT / "models" / PHONE_RECOGNIZER_FILE)
    return {
        word: [
            (number, place)
            for number, sentence in enumerate(speech.sentences)
            if sentence.can_test(word)
            for place in find_places(word, sentence, speech.recordings[number], aligner)
        ]
        for word in WORDS_TO_CHOOSE_BY
    }


@torch.inference_mode()
def recognize_all(network: ScanningCNN, recordings: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Log probabilities [F, P] of the phones in each recording and the silence after it."""
    frame_samples, state = network.config.frame_samples, network.initial_state()
    log_probs = []
    for samples in recordings:
        frames = -(-len(samples) // frame_samples) + round(SILENCE_SECONDS / FRAME_SECONDS)
        audio = torch.zeros(1, frames * frame_samples)
        audio[0, : len(samples)] = torch.from_numpy(samples)
        logits = network(audio, state)[0].logits[0]
        log_probs.append(logits.log_softmax(0).T.numpy().astype(np.float16))
    return log_probs


def score_word(
    word: str,
    log_probs: Sequence[np.ndarray],
    speech: TestSpeech,
    places: Iterable[tuple[int, AlignedWord]],
) -> Scores:
    scores = score_recordings(word, log_probs)
    spoken = [
        scores[number][slice(*frames_of(place))].max(initial=-np.inf) for number, place in places
    ]
    negatives = [
        each
        for sentence, each in zip(speech.sentences, scores, strict=True)
        if not sentence.holds(word)
    ]
    return Scores(np.array(spoken), find_alarms(negatives), count_hours(negatives))


def frames_of(place: AlignedWord) -> tuple[int, int]:
    """The frames in which the word is found, as `kws.training.evaluate.scoring` has it."""
    first = round((place.end - EARLY_TOLERANCE_SECONDS) / FRAME_SECONDS)
    return max(first, 0), round((place.end + LATE_TOLERANCE_SECONDS) / FRAME_SECONDS)


def find_alarms(scores: Iterable[np.ndarray]) -> np.ndarray:
    """The scores of the highest frames among those around them."""
    peaks = [each[each == maximum_filter1d(each, 2 * ALARM_FRAMES + 1)] for each in scores]
    return np.concatenate(peaks)


def count_hours(scores: Sequence[np.ndarray]) -> float:
    frames = sum(map(len, scores))
    return (frames * FRAME_SECONDS - len(scores) * SILENCE_SECONDS) / 3600


def score_recordings(text: str, log_probs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The score of the best pronunciation in each frame of each recording."""
    variants = dict.fromkeys(map(to_phones, pronunciations(text)))
    order = np.argsort([len(each) for each in log_probs], kind="stable")
    scores: dict[int, np.ndarray] = {}
    for first in range(0, len(order), BATCH):
        numbers = order[first : first + BATCH]
        frames = max(len(log_probs[number]) for number in numbers)
        batch = np.full((frames, len(numbers), 1 + len(PHONES)), -30, np.float32)
        for column, number in enumerate(numbers):
            batch[: len(log_probs[number]), column] = log_probs[number]
        best = np.max([find_best_paths(batch, phones) for phones in variants], axis=0)
        scores |= {
            number: best[: len(log_probs[number]), column]
            for column, number in enumerate(numbers.tolist())
        }
    return [scores[number] for number in range(len(log_probs))]


def find_best_paths(log_probs: np.ndarray, phones: str) -> np.ndarray:
    """Log probability per phone [F, B] of the best path that ends with the last phone in each
    frame of log probabilities [F, B, P]."""
    path = np.zeros(2 * len(phones) - 1, np.int64)
    path[::2] = [1 + PHONES.index(phone) for phone in phones]
    may_skip = (path[2:] != path[:-2]) & (path[2:] > 0)
    skip = np.concatenate([[-np.inf] * 2, np.where(may_skip, 0, -np.inf)])[: len(path)]
    best = np.full((log_probs.shape[1], len(path) + 2), -np.inf)
    best[:, 1] = 0  # the frames before the word
    scores = np.empty(log_probs.shape[:2], np.float32)
    for frame, emissions in enumerate(log_probs[:, :, path]):
        entered = np.maximum(best[:, 1:-1], best[:, :-2] + skip)
        best[:, 2:] = np.maximum(best[:, 2:], entered) + emissions
        scores[frame] = best[:, -1]
    return scores / len(phones)


def score_wake_phrases(
    data: Path, network: ScanningCNN, speech: Sequence[np.ndarray]
) -> dict[str, Scores]:
    """Each phrase said alone, anywhere in its recording; nobody says it in the speech."""
    scores = {}
    for phrase in PHRASES:
        clips = load_clips(find_clips(data / "wake_words" / folder_name(phrase)), warn=print)
        spoken = [each.max() for each in score_recordings(phrase, recognize_all(network, clips))]
        negatives = score_recordings(phrase, speech)
        scores[phrase] = Scores(np.array(spoken), find_alarms(negatives), count_hours(negatives))
    return scores


def score_pocket_sphinx(
    speech: TestSpeech, places: Mapping[str, Iterable[tuple[int, AlignedWord]]]
) -> dict[str, Scores]:
    """The probabilities of its detections, at a threshold low enough for nearly all of them."""
    from pocketsphinx import Decoder

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{word} /{SPHINX_THRESHOLD:g}/\n" for word in places)
        file.flush()
        decoder = Decoder(kws=file.name, loglevel="FATAL")
    detections = [detect_words(decoder, samples) for samples in speech.recordings]
    scores = {}
    for word in places:
        spoken = [
            max(
                (each.probability for each in detections[number] if each.fits(word, place)),
                default=-np.inf,
            )
            for number, place in places[word]
        ]
        negatives = [number for number, each in enumerate(speech.sentences) if not each.holds(word)]
        alarms = [
            each.probability
            for number in negatives
            for each in detections[number]
            if each.word == word
        ]
        seconds = sum(len(speech.recordings[number]) for number in negatives) / SAMPLE_RATE
        scores[word] = Scores(np.array(spoken), np.array(alarms), seconds / 3600)
    return scores


@dataclass(frozen=True)
class SphinxDetection:
    """A word that PocketSphinx detects; `end` in seconds."""

    word: str
    end: float
    probability: float

    def fits(self, word: str, place: AlignedWord) -> bool:
        earliest = place.end - EARLY_TOLERANCE_SECONDS
        return self.word == word and earliest <= self.end <= place.end + LATE_TOLERANCE_SECONDS


def detect_words(decoder: "Decoder", samples: np.ndarray) -> list[SphinxDetection]:
    padded = np.concatenate([samples, np.zeros(SAMPLE_RATE // 2, np.float32)])
    integers = np.clip(np.round(padded * 32767), -32768, 32767).astype("<i2")
    decoder.start_utt()
    for chunk in np.split(integers, range(CHUNK_SAMPLES, len(integers), CHUNK_SAMPLES)):
        decoder.process_raw(chunk.tobytes(), False, False)
    decoder.end_utt()
    return [
        SphinxDetection(part.word.strip(), part.end_frame / SPHINX_FRAMES_PER_SECOND, part.prob)
        for part in (decoder.seg() if decoder.hyp() else ())
    ]


def report(name: str, scores: Mapping[str, Scores]) -> None:
    """Prints misses at each rate: of each word, and of all occurrences together."""
    for rate in FALSE_ALARMS_PER_HOUR:
        misses = {word: each.find_misses(rate) for word, each in scores.items()}
        missed = {word: round(float(each.mean()), 3) for word, each in misses.items()}
        together = round(float(np.concatenate([*misses.values()]).mean()), 4)
        row = {"by": name, "alarms_per_hour": rate, "missed": together, "words": missed}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
