"""Renders music, played and sung, for the negatives of detectors.

    python recipes/music/render.py --out DATA/music --hours 1

Half of the songs are played: chords, bass, drums and a melody of random numbers on random
instruments. In the other half ordinary sentences are sung to the melody by the engines of
`kws synth`. Writes WAV files, 16 kHz mono: played_NNNN.wav and sung_NNNN.wav. The same seed gives
the same songs; songs that are there are not made again.

Needs the program fluidsynth and a soundfont (Debian: fluidsynth, fluid-soundfont-gm). FluidR3_GM is
under the MIT licence (Frank Wen, 2000-2002, 2008); what is rendered with it is free to use.
"""

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import soundfile
import soxr

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from kws.synth.engines import registry
from kws.synth.plan import PlannedClip, plan_clips
from kws.synth.render import speak
from recipes.music.score import BAR_BEATS, PHRASE_BARS, Note, Song, compose
from recipes.music.sing import RATE, median_pitch, sing

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
RENDER_RATE = 48_000
LEVELS_DBFS = (-30.0, -1.0)  # of the peak of a song
VOICE_OVER_BAND_DB = (0.0, 9.0)
STRETCH = (1.1, 2.2)
VIBRATO_HZ, VIBRATO_SEMITONES = 5.5, 0.3
GLIDE_SECONDS = 0.08
MEAN_SONG_SECONDS = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the songs")
    parser.add_argument("--hours", type=float, default=1.0, help="of music, about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--soundfont", type=Path, default=SOUNDFONT)
    parser.add_argument("--without", default="", metavar="WORD", help="sing no sentence with it")
    args = parser.parse_args()
    if not args.soundfont.exists():
        raise SystemExit(f"{args.soundfont}: no such soundfont. Install fluid-soundfont-gm.")
    args.out.mkdir(parents=True, exist_ok=True)
    sentences = [
        line
        for line in (files("kws.synth") / "sentences.txt").read_text().splitlines()
        if line and not (args.without and args.without.lower() in line.lower())
    ]
    for number in range(round(args.hours * 3600 / MEAN_SONG_SECONDS)):
        rng = np.random.default_rng([args.seed, number])
        is_sung = number % 2 == 1
        path = args.out / f"{'sung' if is_sung else 'played'}_{number:04d}.wav"
        if path.exists():
            continue
        song = compose(rng, with_melody=not is_sung)
        audio = play(song, args.soundfont)
        if is_sung:
            audio = add_voice(audio, song, sentences, rng)
        level = 10 ** (rng.uniform(*LEVELS_DBFS) / 20)
        soundfile.write(path, audio * (level / np.abs(audio).max()), RATE)
        print(f"{path}: {len(audio) / RATE:.0f} s", flush=True)


def play(song: Song, soundfont: Path) -> np.ndarray:
    """The song by fluidsynth, samples [n] at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder, "song.mid"), Path(folder, "song.wav")
        midi.write_bytes(song.midi())
        options = ["-ni", "-q", "-g", "0.4", "-r", str(RENDER_RATE), "-F", str(wav)]
        subprocess.run(["fluidsynth", *options, soundfont, midi], check=True, capture_output=True)
        stereo, _ = soundfile.read(wav, dtype="float32")
    return soxr.resample(stereo.mean(axis=1), RENDER_RATE, RATE)


def add_voice(
    band: np.ndarray, song: Song, sentences: list[str], rng: np.random.Generator
) -> np.ndarray:
    """The band with a voice that sings a sentence to each phrase of the melody, with rests."""
    phrase_seconds = PHRASE_BARS * BAR_BEATS * song.seconds_per_beat
    starts = np.arange(0.0, song.beats * song.seconds_per_beat - 1, phrase_seconds)
    voice = np.zeros(len(band), np.float32)
    for start, speech in zip(starts, speak_lines(sentences, len(starts), rng), strict=True):
        stretch = float(np.clip(0.85 * phrase_seconds / (len(speech) / RATE), *STRETCH))
        transpose = _fitting_octave(song.melody, median_pitch(speech))
        sung = sing(speech, partial(melody_hz, song, start, transpose), stretch)
        first = round(start * RATE)
        length = min(len(sung), len(voice) - first)
        voice[first : first + length] += sung[:length]
    ratio_db = rng.uniform(*VOICE_OVER_BAND_DB)
    gain = 10 ** (ratio_db / 20) * np.std(band) / max(np.std(voice), 1e-6)
    return band + gain * voice


def speak_lines(sentences: list[str], count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """`count` sentences by one engine's voice, samples at 16 kHz."""
    engines = registry.select_engines().available
    engine = engines[int(rng.integers(len(engines)))]
    plan: list[PlannedClip] = []
    lines = [str(rng.choice(sentences)) for _ in range(count)]
    plan = plan_clips(list(dict.fromkeys(lines)), 1, [engine], int(rng.integers(2**31)))
    with tempfile.TemporaryDirectory() as folder:
        spoken = speak(plan, [engine], Path(folder), jobs=1).clips
        waves = [soundfile.read(Path(folder, clip.file), dtype="float32")[0] for clip in spoken]
    return [waves[number % len(waves)] for number in range(count)]


def melody_hz(song: Song, start: float, transpose: int, seconds: float) -> float:
    """The pitch of the melody `seconds` after `start`, with vibrato. A note holds until the next,
    into which it glides."""
    beat = (start + seconds) / song.seconds_per_beat
    starts = [note.start for note in song.melody]
    at = max(int(np.searchsorted(starts, beat, side="right")) - 1, 0)
    pitch = float(song.melody[at].pitch)
    since = (beat - starts[at]) * song.seconds_per_beat
    if at and since < GLIDE_SECONDS:
        pitch += (song.melody[at - 1].pitch - pitch) * (1 - since / GLIDE_SECONDS)
    pitch += VIBRATO_SEMITONES * np.sin(2 * np.pi * VIBRATO_HZ * seconds) + transpose
    return 440.0 * 2 ** ((pitch - 69) / 12)


def _fitting_octave(melody: tuple[Note, ...], voice_hz: float) -> int:
    """Semitones, whole octaves, that bring the melody near the pitch of a voice."""
    voice = 69 + 12 * np.log2(voice_hz / 440) + 3
    mean = np.mean([note.pitch for note in melody])
    return 12 * round(float(voice - mean) / 12)


if __name__ == "__main__":
    main()
