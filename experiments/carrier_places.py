"""Does forced alignment find a phrase in synthetic sentences where the speech engine says that it
is?

    python experiments/carrier_places.py [--engine espeak] [--phrase "hey rocket"] [--clips 100]
    python experiments/carrier_places.py --times [--clips 10]

eSpeak's library reports when each word and each phoneme begins; Kokoro's network gives the frames
of each phoneme. Kokoro's last phoneme lasts into the silence after it, so the end of a phrase is
compared where other words follow. The second form prints how long each engine that is installed
takes for the phrase alone, in carriers, and for ordinary sentences: seconds of a processor.
"""

import argparse
import ctypes
import os
import sys
import time
from collections.abc import Callable
from ctypes import c_char, c_char_p, c_int, c_short, c_size_t, c_uint, c_void_p
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import soxr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.report import ROOT
from kws.audio.recordings import SAMPLE_RATE
from kws.synth.accents import ACCENTS
from kws.synth.audio import from_pcm
from kws.synth.carriers import draw_carriers, load_sentences
from kws.synth.confusables import pronunciations
from kws.synth.engines import espeak, kokoro, registry
from kws.synth.engines.base import SpeechEngine
from kws.synth.plan import PlannedClip, Sentence, plan_sentences
from kws.training.data.places import Place
from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE
from kws.training.model.torch_engine import load_network
from kws.training.phones.places import locate_phrase

PERCENTILES = (5, 25, 50, 75, 95)
_RETRIEVAL, _PHONEME_EVENTS, _UTF8 = 1, 1, 1  # flags of eSpeak
_RATE, _PITCH = 1, 3  # its parameters
_WORD, _END, _PHONEME = 1, 6, 7  # its events


class _Identifier(ctypes.Union):
    _fields_: ClassVar = [("number", c_int), ("name", c_char_p), ("string", c_char * 8)]


class _Event(ctypes.Structure):
    _fields_: ClassVar = [
        ("type", c_int),
        ("unique_identifier", c_uint),
        ("text_position", c_int),
        ("length", c_int),
        ("audio_position", c_int),
        ("sample", c_int),
        ("user_data", c_void_p),
        ("id", _Identifier),
    ]


class EspeakLibrary:
    """eSpeak in this process, which tells when it says what."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = self._library.espeak_Initialize(_RETRIEVAL, 0, None, _PHONEME_EVENTS)
        callback = ctypes.CFUNCTYPE(c_int, ctypes.POINTER(c_short), c_int, ctypes.POINTER(_Event))
        self._callback = callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, clip: PlannedClip) -> tuple[np.ndarray, int, Place]:
        """Samples of a clip, their rate, and where its phrase is: up to the next word, or to the
        last phoneme."""
        self._samples: list[bytes] = []
        self._events: list[tuple[int, int, float]] = []  # type, position in the text, seconds
        self._library.espeak_SetVoiceByName(str(clip.settings["voice"]).encode())
        self._library.espeak_SetParameter(_RATE, int(clip.settings["words_per_minute"]), 0)
        self._library.espeak_SetParameter(_PITCH, int(clip.settings["pitch"]), 0)
        text = clip.text.encode()
        self._library.espeak_Synth(text, c_size_t(len(text) + 1), 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return from_pcm(b"".join(self._samples)), self.rate, self._find_phrase(clip)

    def _find_phrase(self, clip: PlannedClip) -> Place:
        first = clip.text.index(str(clip.settings["phrase"])) + 1  # eSpeak counts from 1
        last = first + len(str(clip.settings["phrase"])) - 1
        words = [(at, seconds) for kind, at, seconds in self._events if kind == _WORD]
        start = next(seconds for at, seconds in words if at >= first)
        ends = [seconds for at, seconds in words if at > last]
        ends += [max(seconds for kind, _, seconds in self._events if kind in (_PHONEME, _END))]
        return Place(start, ends[0])

    def _receive(self, wave: Any, count: int, events: Any) -> int:
        if wave and count:
            self._samples.append(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type:
            event = events[index]
            self._events.append((event.type, event.text_position, event.audio_position / 1000))
            index += 1
        return 0


def speak_kokoro(clip: PlannedClip) -> tuple[np.ndarray, int, Place]:
    """Samples of a clip, their rate, and where its phrase is: the frames of its phonemes."""
    durations: list[np.ndarray] = []
    select_frames = kokoro._select_frames

    def record(*args: Any) -> np.ndarray:
        durations.append(args[0])
        return select_frames(*args)

    with patch.object(kokoro, "_select_frames", record):
        samples, rate = kokoro.ENGINE.speak(clip.text, clip.settings)
    accent = ACCENTS[str(clip.settings["accent"])]
    g2p = kokoro._load_model().phonemes[accent.british]
    before, phrase, _ = clip.text.partition(str(clip.settings["phrase"]))
    # After the silence and the words before.
    first = 1 + len(accent.apply(g2p(before))) + bool(before)
    last = first + len(accent.apply(kokoro._phonemize(g2p, phrase, clip.settings)))
    seconds = np.concatenate([[0], durations[0].cumsum()]) / 40
    dropped = max(0, durations[0][0] - kokoro._SILENT_FRAMES_BEFORE) / 40
    return samples, rate, Place(seconds[first] - dropped, seconds[last] - dropped)


def compare(
    engine: SpeechEngine,
    speak: Callable[[PlannedClip], tuple[np.ndarray, int, Place]],
    carriers: list[str],
    phrase: str,
) -> None:
    """Prints how much later than the engine alignment says that the phrase starts and ends."""
    network = load_network(ROOT / "models" / PHONE_RECOGNIZER_FILE)
    sentences = [Sentence(each.format(phrase), phrase) for each in carriers]
    starts, ends, not_found, speaking, aligning = [], [], 0, 0.0, 0.0
    for clip in plan_sentences(sentences, [engine], seed=0):
        begun = time.process_time()
        samples, rate, place = speak(clip)
        size = float(clip.settings["size"])
        samples = soxr.resample(samples, rate * size, SAMPLE_RATE).astype(np.float32)
        spoken = time.process_time()
        found = locate_phrase(network, samples, clip.text, phrase)
        speaking, aligning = speaking + spoken - begun, aligning + time.process_time() - spoken
        if found is None:
            not_found += 1
            continue
        starts.append(found.start - place.start / size)
        if not clip.text.endswith(phrase):
            ends.append(found.end - place.end / size)
    print(f"{engine.name}: {len(starts)} found, {not_found} not found")
    print(f"  {speaking / len(carriers):.3f} s to speak, {aligning / len(carriers):.3f} s to align")
    for name, seconds in (("start", starts), ("end", ends)):
        within = [np.mean(np.abs(seconds) <= limit).round(3) for limit in (0.05, 0.1, 0.2)]
        print(f"  {name}", len(seconds), np.percentile(seconds, PERCENTILES).round(3), within)


def print_times(carriers: list[str], phrase: str) -> None:
    """Seconds of a processor that each engine takes for a clip of each kind."""
    texts = {
        "alone": [phrase] * len(carriers),
        "in carriers": [each.format(phrase) for each in carriers],
        "sentences": load_sentences(phrase)[: len(carriers)],
    }
    for engine in registry.select_engines().available:
        engine.prepare()
        for kind, spoken in texts.items():
            clips = plan_sentences([Sentence(each) for each in spoken], [engine], seed=0)
            engine.speak(clips[0].text, clips[0].settings)  # loads the voice
            begun = sum(os.times()[:4])
            for clip in clips:
                engine.speak(clip.text, clip.settings)
            print(engine.name, kind, round((sum(os.times()[:4]) - begun) / len(clips), 3))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--phrase", default="hey rocket")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--engine", choices=("espeak", "kokoro"), default="espeak")
    parser.add_argument("--times", action="store_true")
    args = parser.parse_args()
    drawn = draw_carriers(args.phrase, 2 * args.clips, 0, pronunciations(args.phrase))
    carriers = [each for each in drawn if "," not in each][: args.clips]  # pauses are no words
    if args.times:
        print_times(carriers, args.phrase)
    elif args.engine == "espeak":
        compare(espeak.ENGINE, EspeakLibrary().speak, carriers, args.phrase)
    else:
        kokoro.ENGINE.prepare()
        compare(kokoro.ENGINE, speak_kokoro, carriers, args.phrase)


if __name__ == "__main__":
    main()
