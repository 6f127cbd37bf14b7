"""Who says what, and how: a pure function of phrases, engines and seed.

Clips are named after voices as those of Speech Commands are after speakers, VOICE_nohash_N, so that
training holds out voices.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kws.audio.folders import truncate_with_digest
from kws.synth.engines.base import Settings, SpeechEngine, SynthError
from kws.synth.phrase import folder_name

# Of the clips of several words: people pause within a phrase, engines only where they are told to.
PAUSE_PROBABILITY = 0.2
_MAX_SPEAKER_BYTES = 120  # in the name of a clip, where the name of a folder may stand as well
MAX_BATCH_CLIPS = 8  # clips of one piece of work: so many are lost at most where it is stopped


@dataclass(frozen=True)
class PlannedClip:
    """One clip to be spoken: `file` below the folder of all, `settings` as the engine
    takes them."""

    file: Path
    engine: str
    text: str
    settings: Settings


def plan_clips(
    phrases: Sequence[str],
    count: int,
    engines: Sequence[SpeechEngine],
    seed: int,
    pronunciations: Sequence[str] = (),
) -> list[PlannedClip]:
    """`count` clips of each phrase, by all engines in proportion to their shares, every voice
    in turn.

    Each clip has its own random numbers: one more, of this phrase or another, leaves the others as
    they were. With pronunciations, only engines that take them speak, each pronunciation as often
    as the others. Raises SynthError where none of the engines does.
    """
    if pronunciations:
        engines = [engine for engine in engines if engine.takes_phonemes]
        if not engines:
            raise SynthError(
                "none of the engines that are there takes a pronunciation; kokoro and espeak do."
            )
    return [
        clip
        for phrase in phrases
        for clip in _plan_phrase(phrase, count, engines, seed, pronunciations)
    ]


def file_under_word(clip: PlannedClip, word: str) -> PlannedClip:
    """The clip among those of a word that is said in it."""
    return replace(clip, file=Path(word, f"{clip.file.stem}_{clip.file.parent.name}.wav"))


def _plan_phrase(
    phrase: str,
    count: int,
    engines: Sequence[SpeechEngine],
    seed: int,
    pronunciations: Sequence[str],
) -> list[PlannedClip]:
    clips = []
    for engine, share in zip(
        engines, _allocate(count, [engine.share for engine in engines]), strict=True
    ):
        key = [seed, *hashlib.sha256(f"{phrase}/{engine.name}".encode()).digest()[:8]]
        for number, voice in enumerate(_cycle_voices(engine.voices(), share, key)):
            settings = engine.settings(voice, np.random.default_rng([*key, number, 0]))
            if pronunciations:
                settings["phonemes"] = pronunciations[number % len(pronunciations)]
            speaker = truncate_with_digest(f"{engine.name}-{voice}", _MAX_SPEAKER_BYTES)
            name = f"{speaker}_nohash_{seed}_{number:05d}{_pronunciation_tag(settings)}.wav"
            text = (
                phrase
                if pronunciations
                else _insert_pause(phrase, np.random.default_rng([*key, number, 2]))
            )
            clips.append(PlannedClip(Path(folder_name(phrase), name), engine.name, text, settings))
    return clips


def _insert_pause(phrase: str, rng: np.random.Generator) -> str:
    """The phrase as it is, or now and then with a comma between two of its words."""
    words = phrase.split()
    if len(words) < 2 or rng.random() >= PAUSE_PROBABILITY:
        return phrase
    position = int(rng.integers(1, len(words)))
    return f"{' '.join(words[:position]).rstrip(',')}, {' '.join(words[position:])}"


def _pronunciation_tag(settings: Settings) -> str:
    """So that the same clip in another pronunciation is another file."""
    return (
        f"_{hashlib.sha256(str(settings['phonemes']).encode()).hexdigest()[:6]}"
        if "phonemes" in settings
        else ""
    )


def _cycle_voices(voices: Sequence[str], count: int, key: Sequence[int]) -> list[str]:
    """So many voices: each once in random order, then all again in another order."""
    rounds = range(-(-count // len(voices)))
    return [
        voices[i]
        for turn in rounds
        for i in np.random.default_rng([*key, turn, 1]).permutation(len(voices))
    ][:count]


def _allocate(count: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to shares that add up to count: one by one to whoever is farthest
    behind, so more takes from none."""
    fractions, allocated = np.array(shares) / sum(shares), np.zeros(len(shares), int)
    for number in range(1, count + 1):
        allocated[np.argmax(fractions * number - allocated)] += 1
    return allocated.tolist()


def make_batches(clips: Sequence[PlannedClip]) -> list[list[PlannedClip]]:
    """Clips in pieces of work, each of one engine."""
    by_engine: dict[str, list[PlannedClip]] = {}
    for clip in clips:
        by_engine.setdefault(clip.engine, []).append(clip)
    return [
        batch[position : position + MAX_BATCH_CLIPS]
        for batch in by_engine.values()
        for position in range(0, len(batch), MAX_BATCH_CLIPS)
    ]
