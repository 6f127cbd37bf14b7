"""A person's own examples of a word: asked for with a countdown, trimmed, checked, and kept only if
they are good to learn from."""

import io
import re
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import miniaudio
import numpy as np
import soundfile

from kws.audio import microphone
from kws.audio.folders import normalized
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import AudioError, KwsError
from kws.terminal.printers import check_place, replace_file
from kws.terminal.stdio import escaped

MARGIN_SECONDS = 0.15  # kept before and after the word
COUNTDOWN_SECONDS = 0.7  # each of three steps
MOST_BAD_TAKES = 5  # one after the other, where nobody can be asked
_EDGE_SECONDS = 0.06  # sound this close to the beginning or the end is a word that is cut off
_CLIPPED_LEVEL, _MOST_CLIPPED = 0.985, 8
_QUIETEST_DB = -45.0  # of full scale
_LEAST_SNR_DB = 10.0
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.15, 2.2

Ask = Callable[[str], str]


@dataclass(frozen=True)
class Options:
    """The wishes of one `kws record`. `speaker`: whose voice it is, so that training can tell
    people apart."""

    phrase: str
    folder: Path  # of its recordings
    count: int
    seconds: float
    speaker: str
    device: str | None


@dataclass(frozen=True)
class Take:
    """What was recorded, trimmed to the word; `problem` says why it is not good, or is None."""

    samples: np.ndarray
    problem: str | None


def run(options: Options, ask: Ask | None) -> list[Path]:
    """Records until so many examples are kept; returns their files. With `ask` each is offered to a
    person to be heard or dropped.

    Raises AudioError where there is no microphone, KwsError where nothing can be written: before
    anything is heard, where that is known.
    """
    folder, bad = options.folder, 0
    check_place(folder / _file_name(options.speaker, options.count))
    kept: list[Path] = []
    try:
        while len(kept) < options.count:
            say(f'\n{len(kept) + 1} of {options.count}: "{escaped(options.phrase)}"')
            take = judged(_recorded(options))
            answer = _answer(take, ask)
            if answer == "q":
                break
            bad = bad + 1 if take.problem else 0
            if not ask and bad == MOST_BAD_TAKES:
                raise AudioError(
                    f"{bad} recordings one after the other cannot be used: {take.problem}"
                )
            if answer == "k":
                kept.append(_write(folder, options.speaker, take.samples))
                say(f"  {escaped(str(kept[-1]))}")
    except KeyboardInterrupt:
        say(f"\nstopped; {len(kept)} kept in {escaped(str(folder))}")
        raise
    return kept


def judged(samples: np.ndarray) -> Take:
    """Samples [n] (16 kHz) trimmed to the word in them, and what is wrong with them."""
    from kws.training.data.clips import extent  # numpy alone

    if len(samples) < _SHORTEST_SECONDS * SAMPLE_RATE or np.abs(samples).max() < 1e-4:
        return Take(samples, "nothing was heard. Is the microphone muted?")
    seconds, (start, end) = len(samples) / SAMPLE_RATE, extent(samples)
    word = _between(samples, start, end)
    level, noise = _loudness_db(word), _noise_db(samples)
    problems = {
        "clipped: too loud or too close. Move away a little.": int(
            (np.abs(samples) >= _CLIPPED_LEVEL).sum()
        )
        > _MOST_CLIPPED,
        "too quiet. Come closer, or turn the microphone up.": level < _QUIETEST_DB,
        "too much noise around it. Come closer, or wait.": level - noise < _LEAST_SNR_DB,
        "cut off: it began before the recording did, or went on after it.": start < _EDGE_SECONDS
        or seconds - end < _EDGE_SECONDS,
        "too short to be a word.": end - start < _SHORTEST_SECONDS,
        "too long for a word.": end - start > _LONGEST_SECONDS,
    }
    problem = next((text for text, holds in problems.items() if holds), None)
    return Take(_between(samples, start - MARGIN_SECONDS, end + MARGIN_SECONDS), problem)


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


def play(samples: np.ndarray) -> None:
    """Samples [n] (16 kHz) through the default loudspeaker. Raises AudioError where there
    is none."""
    data = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
    try:
        with miniaudio.PlaybackDevice(
            miniaudio.SampleFormat.SIGNED16, nchannels=1, sample_rate=SAMPLE_RATE
        ) as device:
            stream = _portions(data)
            next(stream)
            device.start(stream)
            time.sleep(len(data) / SAMPLE_RATE + 0.3)
    except miniaudio.MiniaudioError as error:
        raise AudioError(
            f"it cannot be played ({error.args[0]}). Is a loudspeaker plugged in?"
        ) from error


def _portions(data: np.ndarray) -> Generator[bytes, int, None]:
    """miniaudio sends the number of samples it wants into this generator."""
    wanted = yield b""
    at = 0
    while True:
        portion = data[at : at + wanted]
        at += len(portion)
        wanted = yield np.pad(portion, (0, wanted - len(portion))).tobytes()


def _recorded(options: Options) -> np.ndarray:
    """The seconds after a countdown. The microphone is open before it ends, so that nothing is lost
    of what is said at once."""
    blocks = microphone.blocks(options.device, on_loss=lambda seconds: None)
    try:
        next(blocks)
        for number in (3, 2, 1):
            say(f"\r  {number} ", end="")
            _pass(blocks, COUNTDOWN_SECONDS)
        say("\r  now", end="")
        samples = _pass(blocks, options.seconds)
        say("\r     ", end="\r")
        return samples
    finally:
        blocks.close()


def _pass(blocks: Iterator[np.ndarray], seconds: float) -> np.ndarray:
    """So many seconds of the microphone."""
    parts, length = [], 0
    while length < seconds * SAMPLE_RATE:
        parts.append(next(blocks))
        length += len(parts[-1])
    return np.concatenate(parts)


def _answer(take: Take, ask: Ask | None) -> str:
    """k: keep, r: record again, q: stop."""
    if ask is None:
        if take.problem:
            say(f"  {take.problem} Once more.")
        return "r" if take.problem else "k"
    while True:
        usual = "r" if take.problem else "k"
        choice = (
            ask(f"  {take.problem or 'good.'} [k]eep, [p]lay, [r]epeat, [q]uit? ({usual}) ")
            .strip()
            .lower()[:1]
            or usual
        )
        if choice in ("k", "r", "q"):
            return choice
        if choice == "p":
            try:
                play(take.samples)
            except AudioError as error:
                say(f"  {escaped(str(error))}")


def _write(folder: Path, speaker: str, samples: np.ndarray) -> Path:
    """The next free name: SPEAKER_nohash_N.wav, as in Speech Commands."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = (
            re.fullmatch(rf"{re.escape(speaker)}_nohash_(\d+)\.wav", normalized(path.name))
            for path in folder.iterdir()
        )
        numbers = [int(match[1]) for match in names if match]
    except OSError as error:
        raise KwsError(
            f"{folder}: cannot be written ({error.strerror}). Choose another place with --out."
        ) from error
    path, content = folder / _file_name(speaker, max(numbers, default=-1) + 1), io.BytesIO()
    soundfile.write(content, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    replace_file(path, content.getvalue())
    return path


def _file_name(speaker: str, number: int) -> str:
    return f"{speaker}_nohash_{number}.wav"


def _between(samples: np.ndarray, start: float, end: float) -> np.ndarray:
    """Samples between two times in seconds."""
    return samples[max(round(start * SAMPLE_RATE), 0) : max(round(end * SAMPLE_RATE), 0)]


def _noise_db(samples: np.ndarray) -> float:
    """Loudness of the quietest tenth of a recording."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    return float(np.percentile([_loudness_db(frame) for frame in frames], 10))


def _loudness_db(samples: np.ndarray) -> float:
    return (
        10 * float(np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))
        if len(samples)
        else -120.0
    )
