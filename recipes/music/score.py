"""Scores made of random numbers: chords, bass, drums and a melody, as Standard MIDI Files."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

TICKS = 480  # a beat
DRUM_CHANNEL = 9
# Programs of General MIDI, counted from 0.
CHORD_PROGRAMS = (0, 2, 4, 6, 11, 16, 19, 21, 24, 25, 27, 29, 46, 48, 50, 88, 89, 91)
BASS_PROGRAMS = (32, 33, 34, 35, 36, 38, 39, 43)
MELODY_PROGRAMS = (
    22,
    26,
    40,
    41,
    42,
    52,
    53,
    54,
    56,
    57,
    59,
    61,
    65,
    66,
    68,
    71,
    73,
    75,
    80,
    81,
    85,
)
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Degrees of the scale that the chords of four bars stand on.
PROGRESSIONS = (
    (0, 4, 5, 3),
    (0, 5, 3, 4),
    (5, 3, 0, 4),
    (0, 3, 4, 0),
    (1, 4, 0, 0),
    (0, 6, 5, 4),
    (0, 2, 3, 4),
    (0, 0, 3, 4),
)
# Lengths of notes in a bar of four beats.
RHYTHMS = (
    (1, 1, 1, 1),
    (2, 1, 1),
    (1.5, 0.5, 1, 1),
    (0.5, 0.5, 1, 0.5, 0.5, 1),
    (3, 1),
    (0.5, 1, 0.5, 2),
    (1, 1, 2),
    (4,),
)
# Eighths of a bar that kick, snare and hi-hat sound on.
KICK, SNARE, HAT = 36, 38, 42
DRUM_PATTERNS = (
    {KICK: (0, 4), SNARE: (2, 6), HAT: range(8)},
    {KICK: (0, 2, 4, 6), SNARE: (2, 6), HAT: (1, 3, 5, 7)},
    {KICK: (0, 3, 4), SNARE: (2, 6), HAT: range(8)},
    {KICK: (0,), SNARE: (4,), HAT: (0, 2, 4, 6)},
)
PHRASE_BARS, BAR_BEATS = 4, 4


@dataclass(frozen=True)
class Note:
    """start, length: in beats. pitch: of MIDI, 60 is middle C; a drum of DRUM_CHANNEL."""

    channel: int
    start: float
    length: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Song:
    """tempo: beats per minute. programs: of each channel. melody: those of the notes that may be
    sung."""

    tempo: float
    beats: int
    programs: dict[int, int]
    notes: tuple[Note, ...]
    melody: tuple[Note, ...]

    @property
    def seconds_per_beat(self) -> float:
        return 60 / self.tempo

    def midi(self) -> bytes:
        """A Standard MIDI File of format 0."""
        events = [(0, bytes([0xC0 | channel, each])) for channel, each in self.programs.items()]
        for note in self.notes:
            start = round(note.start * TICKS)
            end = round((note.start + note.length) * TICKS)
            events.append((start, bytes([0x90 | note.channel, note.pitch, note.velocity])))
            events.append((end, bytes([0x80 | note.channel, note.pitch, 0])))
        # At the same time notes end before others begin.
        events.sort(key=lambda event: (event[0], event[1][0] & 0xF0 != 0x80, event[1]))
        microseconds = round(60e6 / self.tempo)
        track = b"\0\xff\x51\x03" + microseconds.to_bytes(3, "big")
        now = 0
        for tick, message in events:
            track += _variable_length(tick - now) + message
            now = tick
        track += b"\0\xff\x2f\0"
        header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS)
        return header + b"MTrk" + struct.pack(">I", len(track)) + track


def compose(rng: np.random.Generator, *, with_melody: bool) -> Song:
    """A song of half a minute to two minutes. with_melody: an instrument plays the melody; else
    somebody else may sing it."""
    tempo = float(rng.uniform(66, 150))
    phrases = max(round(rng.uniform(30, 90) / (PHRASE_BARS * BAR_BEATS * 60 / tempo)), 2)
    harmony = Harmony.draw(rng)
    melody = tuple(_draw_melody(rng, harmony, phrases))
    notes = [*_draw_chords(rng, harmony, phrases, channel=0)]
    programs = {0: int(rng.choice(CHORD_PROGRAMS))}
    if rng.random() < 0.5:
        programs[1] = int(rng.choice(CHORD_PROGRAMS))
        notes += _draw_chords(rng, harmony, phrases, channel=1)
    if rng.random() < 0.85:
        programs[2] = int(rng.choice(BASS_PROGRAMS))
        notes += _draw_bass(rng, harmony, phrases, channel=2)
    if with_melody:
        programs[3] = int(rng.choice(MELODY_PROGRAMS))
        notes += melody
    if rng.random() < 0.7:
        notes += _draw_drums(rng, phrases)
    beats = phrases * PHRASE_BARS * BAR_BEATS
    return Song(tempo, beats, programs, tuple(notes), melody)


@dataclass(frozen=True)
class Harmony:
    """key: the pitch of the first degree. progression: the degree of the chord of each bar."""

    key: int
    scale: Sequence[int]
    progression: Sequence[int]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Harmony":
        scale = SCALES[str(rng.choice(list(SCALES)))]
        progression = PROGRESSIONS[int(rng.integers(len(PROGRESSIONS)))]
        return cls(int(rng.integers(55, 67)), scale, progression)

    def pitch(self, degree: int) -> int:
        """The pitch of a degree, counted from 0, in any octave."""
        octave, step = divmod(degree, len(self.scale))
        return self.key + 12 * octave + self.scale[step]

    def chord(self, bar: int) -> list[int]:
        """The degrees of the chord of a bar."""
        root = self.progression[bar % len(self.progression)]
        return [root, root + 2, root + 4]


def _draw_chords(
    rng: np.random.Generator, harmony: Harmony, phrases: int, channel: int
) -> Iterator[Note]:
    """Held chords, a chord a beat, off the beat, or broken into eighths."""
    pattern, velocity = int(rng.integers(4)), int(rng.integers(45, 90))
    for bar in range(phrases * PHRASE_BARS):
        start = float(bar * BAR_BEATS)
        pitches = [harmony.pitch(degree) for degree in harmony.chord(bar)]
        if pattern == 3:
            for eighth in range(2 * BAR_BEATS):
                pitch = [*pitches, pitches[0] + 12][eighth % 4]
                yield Note(channel, start + eighth / 2, 0.5, pitch, velocity)
            continue
        beats: Sequence[float] = ((0.0,), (0.0, 1.0, 2.0, 3.0), (0.5, 1.5, 2.5, 3.5))[pattern]
        length = (BAR_BEATS, 0.9, 0.4)[pattern]
        for beat in beats:
            for pitch in pitches:
                yield Note(channel, start + beat, length, pitch, velocity)


def _draw_bass(
    rng: np.random.Generator, harmony: Harmony, phrases: int, channel: int
) -> Iterator[Note]:
    per_bar, velocity = int(rng.choice([1, 2, 4, 8])), int(rng.integers(60, 105))
    length = BAR_BEATS / per_bar
    for bar in range(phrases * PHRASE_BARS):
        root, _, fifth = harmony.chord(bar)
        for number in range(per_bar):
            degree = fifth if number % 4 == 2 else root
            start = bar * BAR_BEATS + number * length
            yield Note(channel, start, 0.95 * length, harmony.pitch(degree) - 24, velocity)


def _draw_melody(rng: np.random.Generator, harmony: Harmony, phrases: int) -> Iterator[Note]:
    """Phrases A A B A, and so on: a walk along the scale that meets the chord at each bar."""
    motifs = [_draw_phrase(rng, harmony) for _ in range(2)]
    for phrase in range(phrases):
        start = phrase * PHRASE_BARS * BAR_BEATS
        for beat, length, degree in motifs[phrase % 4 == 2]:
            pitch = harmony.pitch(degree)
            yield Note(3, start + beat, 0.95 * length, pitch, int(rng.integers(75, 115)))


def _draw_phrase(rng: np.random.Generator, harmony: Harmony) -> list[tuple[float, float, int]]:
    """Start and length in beats and the degree of each note."""
    notes, degree = [], int(rng.integers(0, 8))
    for bar in range(PHRASE_BARS):
        beat = float(bar * BAR_BEATS)
        chord = [each + octave for each in harmony.chord(bar) for octave in (-7, 0, 7)]
        degree = min(chord, key=lambda each: abs(each - degree))
        for length in RHYTHMS[int(rng.integers(len(RHYTHMS)))]:
            notes.append((beat, float(length), degree))
            beat += length
            degree = int(np.clip(degree + rng.integers(-2, 3), -3, 10))
    return notes


def _draw_drums(rng: np.random.Generator, phrases: int) -> Iterator[Note]:
    pattern = DRUM_PATTERNS[int(rng.integers(len(DRUM_PATTERNS)))]
    velocity = int(rng.integers(60, 115))
    for bar in range(phrases * PHRASE_BARS):
        for drum, eighths in pattern.items():
            for eighth in eighths:
                yield Note(DRUM_CHANNEL, bar * BAR_BEATS + eighth / 2, 0.25, drum, velocity)


def _variable_length(number: int) -> bytes:
    """Seven bits a byte, all but the last with the highest bit set."""
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(number & 0x7F | 0x80)
    return bytes(reversed(parts))
