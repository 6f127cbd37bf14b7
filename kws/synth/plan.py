"""Plans who speaks which clip, and how: a pure function of phrases, engines and seed.

Clips are named VOICE_nohash_N, as Speech Commands names clips after speakers, so that training
holds out voices.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kws.audio.folders import truncate_with_digest
from kws.errors import SynthError
from kws.synth.engines.base import Settings, SpeechEngine
from kws.synth.phrase import folder_name

# Of a pause between two words of a phrase: people make pauses, engines only at a comma.
PAUSE_PROBABILITY = 0.2
_MAX_SPEAKER_BYTES = 120  # in the name of a clip, which may hold the name of a folder too
# How a phrase is said in a sentence: as the engine does it there, as where it stands alone, or
# without its primary stress.
STRESS_PROBABILITIES = {"": 0.5, "own": 0.2, "weak": 0.3}
MAX_BATCH_CLIPS = 8  # a stopped run loses this many clips per process at most


@dataclass(frozen=True)
class PlannedClip:
    """One clip to speak. file: relative to the folder of all clips. settings: for the engine."""

    file: Path
    engine: str
    text: str
    settings: Settings


@dataclass(frozen=True)
class Sentence:
    """A text to speak, and the phrase in it that matters, if there is one."""

    text: str
    phrase: str = ""


def plan_clips(
    phrases: Sequence[str],
    count: int,
    engines: Sequence[SpeechEngine],
    seed: int,
    pronunciations: Sequence[str] = (),
) -> list[PlannedClip]:
    """`count` clips of each phrase, by the engines in proportion to their shares, by all voices in
    turn.

    Each clip has its own random numbers, so more clips or phrases change none of the others. With
    pronunciations (ARPAbet), only engines that take phonemes speak, and the pronunciations take
    turns. Raises SynthError where no engine takes them.
    """
    engines = _select_speakers(engines, pronunciations)
    return [
        clip
        for phrase in phrases
        for clip in _plan_phrase(phrase, count, engines, seed, pronunciations)
    ]


def plan_sentences(
    sentences: Sequence[Sentence],
    engines: Sequence[SpeechEngine],
    seed: int,
    pronunciations: Sequence[str] = (),
) -> list[PlannedClip]:
    """One clip of each sentence, by any engine, as likely as its share says, and any voice of it.
    Each clip has its own random numbers, so other sentences change it not.

    Engines that take phonemes stress the phrase in different ways (`STRESS_PROBABILITIES`). With
    pronunciations of it (ARPAbet), they alone speak, and say any of these. Raises SynthError where
    no engine takes them.
    """
    engines = _select_speakers(engines, pronunciations)
    shares = np.array([engine.share for engine in engines])
    clips = []
    counts: Counter[str] = Counter()
    for sentence in sentences:
        number = counts[sentence.text]
        counts[sentence.text] += 1
        rng = np.random.default_rng([*_key(seed, sentence.text), number])
        engine = engines[rng.choice(len(engines), p=shares / shares.sum())]
        voice = str(rng.choice(engine.voices()))
        settings = engine.settings(voice, rng)
        if sentence.phrase and engine.takes_phonemes:
            stress = rng.choice([*STRESS_PROBABILITIES], p=[*STRESS_PROBABILITIES.values()])
            settings |= {"phrase": sentence.phrase, "stress": str(stress)}
        if pronunciations:
            settings["phonemes"] = str(rng.choice(pronunciations))
        file = _name_file(sentence.text, engine, voice, settings, seed, number)
        clips.append(PlannedClip(file, engine.name, sentence.text, settings))
    return clips


def _select_speakers(
    engines: Sequence[SpeechEngine], pronunciations: Sequence[str]
) -> Sequence[SpeechEngine]:
    """The engines that can say these pronunciations."""
    if not pronunciations:
        return engines
    engines = [engine for engine in engines if engine.takes_phonemes]
    if not engines:
        raise SynthError("none of the engines takes a pronunciation. Use kokoro or espeak.")
    return engines


def file_under_word(clip: PlannedClip, word: str) -> PlannedClip:
    """The clip in the folder of a word that it contains."""
    return replace(clip, file=Path(word, f"{clip.file.stem}_{clip.file.parent.name}.wav"))


def _plan_phrase(
    phrase: str,
    count: int,
    engines: Sequence[SpeechEngine],
    seed: int,
    pronunciations: Sequence[str],
) -> list[PlannedClip]:
    clips = []
    counts = _allocate(count, [engine.share for engine in engines])
    for engine, engine_count in zip(engines, counts, strict=True):
        key = _key(seed, f"{phrase}/{engine.name}")
        for number, voice in enumerate(_cycle_voices(engine.voices(), engine_count, key)):
            settings = engine.settings(voice, np.random.default_rng([*key, number, 0]))
            text = phrase
            if pronunciations:
                settings["phonemes"] = pronunciations[number % len(pronunciations)]
            else:
                text = _insert_pause(phrase, np.random.default_rng([*key, number, 2]))
            file = _name_file(phrase, engine, voice, settings, seed, number)
            clips.append(PlannedClip(file, engine.name, text, settings))
    return clips


def _key(seed: int, text: str) -> list[int]:
    return [seed, *hashlib.sha256(text.encode()).digest()[:8]]


def _name_file(
    text: str, engine: SpeechEngine, voice: str, settings: Settings, seed: int, number: int
) -> Path:
    """A file in the folder of a text."""
    speaker = truncate_with_digest(f"{engine.name}-{voice}", _MAX_SPEAKER_BYTES)
    name = f"{speaker}_nohash_{seed}_{number:05d}{_pronunciation_tag(settings)}.wav"
    return Path(folder_name(text), name)


def _insert_pause(phrase: str, rng: np.random.Generator) -> str:
    """The phrase, sometimes with a comma between two of its words."""
    words = phrase.split()
    if len(words) < 2 or rng.random() >= PAUSE_PROBABILITY:
        return phrase
    position = int(rng.integers(1, len(words)))
    return f"{' '.join(words[:position]).rstrip(',')}, {' '.join(words[position:])}"


def _pronunciation_tag(settings: Settings) -> str:
    """A part of the file name that differs between pronunciations."""
    if "phonemes" not in settings:
        return ""
    return f"_{hashlib.sha256(str(settings['phonemes']).encode()).hexdigest()[:6]}"


def _cycle_voices(voices: Sequence[str], count: int, key: Sequence[int]) -> list[str]:
    """`count` voices: all in random order, then all in another order, and so on."""
    cycled: list[str] = []
    for cycle in range(-(-count // len(voices))):
        order = np.random.default_rng([*key, cycle, 1]).permutation(len(voices))
        cycled += [voices[i] for i in order]
    return cycled[:count]


def _allocate(count: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the shares, of sum `count`. Each next one goes to the share
    that is farthest behind, so a higher count takes from none."""
    fractions, allocated = np.array(shares) / sum(shares), np.zeros(len(shares), int)
    for number in range(1, count + 1):
        allocated[np.argmax(fractions * number - allocated)] += 1
    return allocated.tolist()


def make_batches(clips: Sequence[PlannedClip]) -> list[list[PlannedClip]]:
    """Batches of clips, each of one engine."""
    by_engine: dict[str, list[PlannedClip]] = {}
    for clip in clips:
        by_engine.setdefault(clip.engine, []).append(clip)
    return [
        batch[position : position + MAX_BATCH_CLIPS]
        for batch in by_engine.values()
        for position in range(0, len(batch), MAX_BATCH_CLIPS)
    ]
