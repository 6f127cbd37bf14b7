"""eSpeak NG: formant synthesis by rule. It sounds robotic, but has many accents and voices, and
takes phonemes."""

import numpy as np

from kws.synth.audio import from_pcm
from kws.synth.engines.base import (
    SPEED_RANGE,
    Settings,
    SpeechEngine,
    draw_log_uniform,
    find_missing_program,
    replace_phrase,
    run_program,
)
from kws.synth.phonemes import to_espeak

ACCENTS = (
    "en-us",
    "en-gb",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)
VARIANTS = (
    *(
        "Alex",
        "Alicia",
        "Andrea",
        "Andy",
        "Annie",
        "Denis",
        "Diogo",
        "Gene",
        "Henrique",
        "Hugo",
        "Jacky",
        "Lee",
        "Marco",
        "Mario",
    ),
    *(
        "Michael",
        "Mike",
        "Nguyen",
        "adam",
        "anika",
        "antonio",
        "aunty",
        "belinda",
        "benjamin",
        "boris",
        "caleb",
        "david",
        "ed",
        "edward",
    ),
    *(
        "f1",
        "f2",
        "f3",
        "f4",
        "f5",
        "gustave",
        "iven",
        "kaukovalta",
        "linda",
        "m1",
        "m2",
        "m3",
        "m4",
        "m5",
        "m6",
        "m7",
        "m8",
        "marcelo",
    ),
    *(
        "max",
        "michel",
        "miguel",
        "pablo",
        "paul",
        "pedro",
        "quincy",
        "rob",
        "robert",
        "sandro",
        "shelby",
        "steph",
        "steph2",
        "steph3",
    ),
    *("travis", "victor", "zac", "klatt2", "klatt4"),
)
_RATE = 22_050
DEFAULT_WORDS_PER_MINUTE = 160


def _settings(voice: str, rng: np.random.Generator) -> Settings:
    return {
        "voice": voice,
        "words_per_minute": round(DEFAULT_WORDS_PER_MINUTE * draw_log_uniform(rng, *SPEED_RANGE)),
        "pitch": int(rng.integers(20, 80)),
        "size": draw_log_uniform(rng, 0.93, 1.08),
    }


def _speak(text: str, settings: Settings) -> tuple[np.ndarray, int]:
    tempo = ("-s", str(settings["words_per_minute"]), "-p", str(settings["pitch"]))
    data = run_program(
        "espeak-ng", "--stdout", "-v", str(settings["voice"]), *tempo, "--", _spell(text, settings)
    )
    # In a pipe, eSpeak leaves the lengths in the header empty.
    return from_pcm(data[data.find(b"data") + 8 :]), _RATE


def _spell(text: str, settings: Settings) -> str:
    """The text, with phonemes in place of its phrase where these are given or depend on stress."""
    phrase = str(settings.get("phrase", text))
    phonemes = to_espeak(str(settings["phonemes"])) if "phonemes" in settings else ""
    if settings.get("stress"):
        phonemes = phonemes or _phonemize(phrase, str(settings["voice"]))
    if settings.get("stress") == "weak":
        phonemes = phonemes.replace(",", "").replace("'", ",")
    return replace_phrase(text, settings, f"[[{phonemes}]]") if phonemes else text


def _phonemize(phrase: str, voice: str) -> str:
    """The mnemonics of a phrase, as the voice says it alone."""
    mnemonics = run_program("espeak-ng", "-q", "-x", "-v", voice, "--", phrase).decode()
    return " ".join(mnemonics.split())


ENGINE = SpeechEngine(
    name="espeak",
    share=0.06,
    licence="GPL-3.0-or-later",
    install="apt-get install espeak-ng",
    missing=lambda: find_missing_program("espeak-ng", "--version"),
    voices=lambda: [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS],
    settings=_settings,
    speak=_speak,
    takes_phonemes=True,
)
