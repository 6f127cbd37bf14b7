"""Makes words that nobody said of those that people did: known words of pack-9 with the beginning, vowel or end of other ones.

    pip install pocketsphinx
    python benchmarks/speech_commands/cut.py --data DATA
    python benchmarks/speech_commands/splice.py --data DATA

"No" with the beginning of a reader's "good" is "go". Makes DATA/spliced_words/WORD/*.wav, each a second; WORD is the spelling or, where
the dictionary has none, the sounds. Some clips get only what is already there from another person ("no" with the beginning of "night"),
and lie in the folder of the known word, so that a seam does not tell. PocketSphinx finds the sounds, in recordings of the known words and
in cut_words, all by speakers of the training part.
"""

import argparse
import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import soundfile
from pocketsphinx import Decoder, get_model_path

from kws.audio import SAMPLE_RATE
from kws.training.clips import part_of, speaker_of
from kws.training.part import CLIP_SAMPLES
from kws.training.protocols import HELD_OUT, PACK_WORDS

MODEL, DICTIONARY = "en-us/en-us", "en-us/cmudict-en-us.dict"
WIDE = {"beam": 1e-80, "pbeam": 1e-80, "wbeam": 1e-60}  # a single word: nothing is lost by looking at everything
ALIGNED_SAMPLES = SAMPLE_RATE // 100
PADDING_SAMPLES = SAMPLE_RATE // 10
SHORTEST = 4  # hundredths of a second: shorter sounds are where the aligner found none
FADE_SAMPLES = SAMPLE_RATE // 100
VOWELS = frozenset(["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"])
_NEAR = (  # not to be told apart in every accent, or at the end of a word
    *("EH AE", "EH IH", "AH AA", "AH AO", "AH UH", "AH IH", "AH EH", "AH AE", "AA AE", "AA AO", "AW AA", "AW AE", "AW AO"),
    *("OW AO", "OW UH", "OW AH", "OW AW", "IY IH", "T D", "P B", "K G", "S Z"),
)
NEAR = frozenset(frozenset(pair.split()) for pair in _NEAR)
PLACES = 3  # beginning, first vowel, end
CHANGED = (((0,), 0.4), ((1,), 0.1), ((2,), 0.2), ((0, 1), 0.1), ((1, 2), 0.1), ((0, 2), 0.1))  # places, how often
FROM_OTHERS, SAME = 0.6, 0.3
LONGEST_END = 2  # sounds


class Spoken(NamedTuple):
    """A word as one person said it: `samples` int16, its `sounds`, and the samples [n + 1] where they begin and the last one ends."""

    speaker: str
    samples: np.ndarray
    sounds: tuple[str, ...]
    edges: tuple[int, ...]

    @property
    def cuts(self) -> tuple[int, int, int, int]:
        """Numbers of the sounds with which each of the three places begins, and of all."""
        vowel = next(i for i, sound in enumerate(self.sounds) if sound in VOWELS)
        return 0, vowel, vowel + 1, len(self.sounds)

    def at(self, place: int) -> tuple[str, ...]:
        """The sounds there."""
        return self.sounds[self.cuts[place] : self.cuts[place + 1]]

    @property
    def level(self) -> float:
        """Root mean square of the word."""
        said = self.samples[self.edges[0] : self.edges[-1]].astype(np.float32)
        return float(np.sqrt(np.mean(said**2) + 1))

    def cut(self, start: int, end: int) -> np.ndarray:
        """Samples from half a fade before `start` to half of one after `end`, the word at a level of one."""
        padded = np.pad(self.samples.astype(np.float32), FADE_SAMPLES // 2)
        return padded[start : end + FADE_SAMPLES] / self.level


class Aligner:
    """Finds the sounds of a word in a recording of it."""

    def __init__(self) -> None:
        self.decoder = Decoder(hmm=get_model_path(MODEL), lm=None, dict=get_model_path(DICTIONARY), loglevel="FATAL", **WIDE)

    def align(self, word: str, speaker: str, samples: np.ndarray) -> Spoken | None:
        """None where the dictionary lacks the word, or a sound was not found."""
        if self.decoder.lookup_word(word) is None:
            return None
        audio = np.pad(samples, PADDING_SAMPLES).tobytes()
        self.decoder.set_align_text(word)
        self._hear(audio)
        try:
            self.decoder.set_alignment()
            self._hear(audio)
            words = (entry for entry in self.decoder.get_alignment() if not entry.name.startswith("<"))
            found = [(sound.name, sound.start, sound.duration) for entry in words for sound in entry]
        except RuntimeError:
            return None
        if not found or min(duration for *_, duration in found) < SHORTEST or not VOWELS & {name for name, *_ in found}:
            return None
        sounds, starts, durations = zip(*found, strict=True)
        edges = np.array([*starts, starts[-1] + durations[-1]]) * ALIGNED_SAMPLES - PADDING_SAMPLES
        return Spoken(speaker, samples, sounds, tuple(np.clip(edges, 0, len(samples)).tolist()))

    def _hear(self, audio: bytes) -> None:
        self.decoder.start_utt()
        self.decoder.process_raw(audio, full_utt=True)
        self.decoder.end_utt()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--clips", type=int, default=12_000)
    parser.add_argument("--each", type=int, default=1_300, help="recordings of each known word")
    args = parser.parse_args()
    rng, aligner = np.random.default_rng(0), Aligner()
    known = [each for word in PACK_WORDS for each in spoken(aligner, args.data / "speech_commands" / word, rng, args.each)]
    others = [each for folder in sorted((args.data / "cut_words").iterdir()) for each in spoken(aligner, folder, rng)]
    print(len(known), "known and", len(others), "other words", flush=True)
    names, made = spellings(), Counter()
    splicer = Splicer(known, others, {sounds for sounds, word in names.items() if word in PACK_WORDS}, rng)
    for number in range(args.clips):
        speaker, sounds, samples = splicer.draw()
        word = names.get(sounds, "-".join(sounds).lower())
        made[word] += 1
        path = args.data / "spliced_words" / word / f"{speaker}_nohash_{number:05d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, SAMPLE_RATE)
    print(len(made), "words;", *(f"{word}: {count}" for word, count in made.most_common(100)))


def spoken(aligner: Aligner, folder: pathlib.Path, rng: np.random.Generator, most: int | None = None) -> Iterator[Spoken]:
    """The recordings in a folder that is named after a word."""
    paths = sorted(path for path in folder.glob("*.wav") if part_of(speaker_of(path)) == "train")
    for i in rng.permutation(len(paths))[:most]:
        found = aligner.align(folder.name, speaker_of(paths[i]), soundfile.read(paths[i], dtype="int16")[0])
        if found is not None:
            yield found


def spellings() -> dict[tuple[str, ...], str]:
    """Sounds → the word that has them: a known one, one that pack-9-unseen holds out, or the shortest."""
    lines = [line.split() for line in pathlib.Path(get_model_path(DICTIONARY)).read_text().splitlines()]
    words = [(word.split("(")[0], tuple(sounds)) for word, *sounds in lines]
    by_rank = sorted(words, key=lambda entry: (entry[0] in PACK_WORDS, entry[0] in HELD_OUT, -len(entry[0])))
    return {sounds: word for word, sounds in by_rank if word.isalpha()}


class Splicer:
    """Draws words: speaker of the known word that one was made of, its sounds, samples int16 [16000]."""

    def __init__(self, known: list[Spoken], others: list[Spoken], barred: set[tuple[str, ...]], rng: np.random.Generator):
        """barred: sounds of the known words."""
        self.known, self.barred, self.rng = known, barred, rng
        self.donors = [[self._having(pool, place) for place in range(PLACES)] for pool in (known, others)]

    @staticmethod
    def _having(pool: list[Spoken], place: int) -> dict[tuple[str, ...], list[Spoken]]:
        """By their sounds at a place, those words that can lend them."""
        found: dict[tuple[str, ...], list[Spoken]] = {}
        for each in pool:
            sounds = each.at(place)
            if place == 1 or (len(sounds) <= LONGEST_END and not VOWELS & {*sounds}):
                found.setdefault(sounds, []).append(each)
        return found

    def draw(self) -> tuple[str, tuple[str, ...], np.ndarray]:
        """The first of as many tries as it takes that gives neither another known word nor nearly the one it was made of."""
        while True:
            first = self.known[self.rng.integers(len(self.known))]
            chosen = CHANGED[self.rng.choice(len(CHANGED), p=[odds for _, odds in CHANGED])][0]
            lenders = self._lenders(first, chosen, same=self.rng.random() < SAME)
            if lenders is None or all(lender is first for lender in lenders):
                continue
            sounds = tuple(sound for place, lender in enumerate(lenders) for sound in lender.at(place))
            if sounds == first.sounds or not (sounds in self.barred or near(sounds, first.sounds)):
                return first.speaker, sounds, joined(first, lenders)

    def _lenders(self, first: Spoken, chosen: Sequence[int], *, same: bool) -> list[Spoken] | None:
        """Whose sounds are heard at each place; None where nobody's are the same."""
        lenders = [first] * PLACES
        for place in chosen:
            donors = self.donors[int(self.rng.random() < FROM_OTHERS)][place]
            options = [first.at(place)] if same else list(donors)
            having = donors.get(options[self.rng.integers(len(options))])
            if not having:
                return None
            lenders[place] = having[self.rng.integers(len(having))]
        return lenders


def near(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether one could be taken for the other."""
    return len(one) == len(other) and all(a == b or frozenset((a, b)) in NEAR for a, b in zip(one, other, strict=True))


def joined(first: Spoken, lenders: list[Spoken]) -> np.ndarray:
    """A second, int16: the sounds of each lender at its place, between what is before and after the first one's word, at its level."""
    spans = [(lender, lender.edges[lender.cuts[place]], lender.edges[lender.cuts[place + 1]]) for place, lender in enumerate(lenders)]
    spans = [(first, 0, first.edges[0]), *spans, (first, first.edges[-1], len(first.samples))]
    wave, ramp = np.zeros(FADE_SAMPLES, np.float32), (np.arange(FADE_SAMPLES) + 0.5) / FADE_SAMPLES
    for lender, start, end in spans:
        piece = lender.cut(start, end)
        faded = wave[-FADE_SAMPLES:] * (1 - ramp) + piece[:FADE_SAMPLES] * ramp
        wave = np.concatenate([wave[:-FADE_SAMPLES], faded, piece[FADE_SAMPLES:]])
    middle = (first.edges[0] + len(wave) - (len(first.samples) - first.edges[-1])) // 2
    start = min(max(middle - CLIP_SAMPLES // 2, 0), max(len(wave) - CLIP_SAMPLES, 0))
    second = wave[start : start + CLIP_SAMPLES] * first.level
    return np.clip(np.pad(second, (0, CLIP_SAMPLES - len(second))), -32768, 32767).astype(np.int16)


if __name__ == "__main__":
    main()
