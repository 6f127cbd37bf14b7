"""Makes the demo recordings in `recordings/`, and the table of their true events.

    python recipes/welcome/recordings.py --synth SYNTH --out recordings

SYNTH is the folder of clips by speak.py. The voices are those of its test split.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from kws.audio.endpoints import find_endpoints
from kws.training.data.noise import make_coloured_noise

SAMPLE_RATE = 16_000
# (kind/phrase, number of the clip among those of the phrase, seconds of pause before it). Clips of
# the kind "word" are events.
SCRIPTS = {
    "early": [
        ("word/welcome", 3, 0.15),
        ("sentences/turn_on_the_lights_in_the_kitchen_please", 0, 0.4),
        ("confusables/well_done", 0, 0.5),
    ],
    "late": [
        ("sentences/what_is_the_weather_going_to_be_like_tom", 0, 0.5),
        ("sentences/he_became_a_well_known_painter_in_the_en", 0, 0.4),
        ("word/welcome", 60, 0.5),
    ],
    "twice": [
        ("sentences/hey_could_you_pass_me_the_salt", 0, 0.6),
        ("word/welcome", 100, 0.3),
        ("word/welcome", 140, 0.6),
        ("sentences/nobody_knows_what_will_become_of_it", 0, 0.4),
    ],
    "noise": [
        ("sentences/set_a_timer_for_ten_minutes", 0, 1.0),
        ("word/welcome", 180, 0.7),
        ("confusables/telecom", 1, 1.2),
    ],
    "absent": [
        ("confusables/well_come_in", 1, 0.5),
        ("confusables/become", 2, 0.6),
        ("confusables/wilkinson", 0, 0.6),
        ("confusables/web_cam", 2, 0.6),
        ("sentences/as_well_as_coming_late_he_forgot_the_key", 0, 0.6),
        ("confusables/malcolm", 1, 0.6),
        ("confusables/well_done", 3, 0.6),
    ],
}
QUIET_SNR_DB = 35.0  # as in a quiet room
SNR_DB = {"noise": 5.0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--synth", type=Path, required=True, help="folder of the clips")
    parser.add_argument("--out", type=Path, required=True, help="folder of the recordings")
    args = parser.parse_args()
    rows = [("file", "word", "start", "end")]
    for seed, (name, script) in enumerate(SCRIPTS.items()):
        audio, events = assemble(script, args.synth / "test")
        snr_db = SNR_DB.get(name, QUIET_SNR_DB)
        noisy = add_pink_noise(audio, snr_db, np.random.default_rng(seed))
        soundfile.write(args.out / f"{name}.wav", noisy, SAMPLE_RATE, subtype="PCM_16")
        rows += [(f"{name}.wav", "welcome", f"{start:.2f}", f"{end:.2f}") for start, end in events]
    with (args.out / "events.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def assemble(
    script: list[tuple[str, int, float]], folder: Path
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The clips of a script one after the other, and start and end of each word in seconds."""
    parts, events, samples = [], [], 0
    for phrase, number, pause_seconds in script:
        paths = sorted((folder / phrase).glob("kokoro-*.wav"))
        paths = paths or sorted((folder / phrase).glob("*.wav"))
        wave = soundfile.read(paths[number % len(paths)], dtype="float32")[0]
        pause = int(pause_seconds * SAMPLE_RATE)
        samples += pause
        if phrase.startswith("word/"):
            start, end = find_endpoints(wave)
            events.append((samples / SAMPLE_RATE + start, samples / SAMPLE_RATE + end))
        parts += [np.zeros(pause, np.float32), wave / np.abs(wave).max()]
        samples += len(wave)
    return np.concatenate([*parts, np.zeros(SAMPLE_RATE // 4, np.float32)]), events


def add_pink_noise(audio: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    speech_level = np.sqrt(np.mean(audio[np.abs(audio) > 0.01] ** 2))
    noise = make_coloured_noise(len(audio), 1.0, rng)
    noisy = audio + noise / noise.std() * speech_level * 10 ** (-snr_db / 20)
    return 0.5 * noisy / np.abs(noisy).max()


if __name__ == "__main__":
    main()
