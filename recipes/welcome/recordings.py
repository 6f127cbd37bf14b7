"""Makes the demo recordings in `recordings/` and the table of their true events, from clips that
`speak.py` spoke in test voices.

python recipes/welcome/recordings.py --spoken SPOKEN --out recordings
"""

import argparse
import csv
import pathlib

import numpy as np
import soundfile

from kws.audio.endpoints import find_endpoints
from kws.training.data.noise import make_coloured_noise

RATE = 16_000
# (kind/phrase, number of the clip among those of the phrase, seconds of pause before it). Kind
# "word" is an event.
SCRIPTS = {
    "early": [
        ("word/welcome", 3, 0.15),
        ("sentences/turn_on_the_lights_in_the_kitchen_please", 0, 0.4),
        ("neighbours/well_done", 0, 0.5),
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
        ("neighbours/telecom", 1, 1.2),
    ],
    "absent": [
        ("neighbours/well_come_in", 1, 0.5),
        ("neighbours/become", 2, 0.6),
        ("neighbours/wilkinson", 0, 0.6),
        ("neighbours/web_cam", 2, 0.6),
        ("sentences/as_well_as_coming_late_he_forgot_the_key", 0, 0.6),
        ("neighbours/malcolm", 1, 0.6),
        ("neighbours/well_done", 3, 0.6),
    ],
}
SNR_DB = {"noise": 5.0}  # the others have a quiet room's noise, 35 dB below the speech


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--spoken", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    rows = []
    for number, (name, script) in enumerate(SCRIPTS.items()):
        audio, events = assemble(script, args.spoken / "test")
        noisy = in_noise(audio, SNR_DB.get(name, 35.0), np.random.default_rng(number))
        soundfile.write(args.out / f"{name}.wav", noisy, RATE, subtype="PCM_16")
        rows += [(f"{name}.wav", "welcome", f"{start:.2f}", f"{end:.2f}") for start, end in events]
    with (args.out / "events.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("file", "word", "start", "end"), *rows])


def assemble(
    script: list[tuple], folder: pathlib.Path
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The clips of a script one after the other, and where the word is said among them."""
    parts, events, at = [], [], 0
    for phrase, number, pause_seconds in script:
        clips = sorted((folder / phrase).glob("kokoro-*.wav")) or sorted(
            (folder / phrase).glob("*.wav")
        )
        wave = soundfile.read(clips[number % len(clips)], dtype="float32")[0]
        pause = int(pause_seconds * RATE)
        if phrase.startswith("word/"):
            start, end = find_endpoints(wave)
            events.append(((at + pause) / RATE + start, (at + pause) / RATE + end))
        parts += [np.zeros(pause, np.float32), wave / np.abs(wave).max()]
        at += pause + len(wave)
    return np.concatenate([*parts, np.zeros(RATE // 4, np.float32)]), events


def in_noise(audio: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    speech = np.sqrt(np.mean(audio[np.abs(audio) > 0.01] ** 2))
    noise = make_coloured_noise(len(audio), 1.0, rng)
    mixed = audio + noise / noise.std() * speech * 10 ** (-snr_db / 20)
    return 0.5 * mixed / np.abs(mixed).max()


if __name__ == "__main__":
    main()
