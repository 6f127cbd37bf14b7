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
from kws.audio.folders import normalize_name
from kws.audio.formats import to_int16
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import AudioError, KwsError
from kws.files import check_writable, write_atomically
from kws.terminal.stdio import escape_control_chars

MARGIN_SECONDS = 0.15  # kept before and after the word
COUNTDOWN_SECONDS = 0.7  # each of three steps
MAX_BAD_TAKES = 5  # one after the other, where nobody can be asked
_MIN_EDGE_SECONDS = 0.06  # sound this close to the beginning or the end is a word that is cut off
_CLIPPED_LEVEL, _MAX_CLIPPED_SAMPLES = 0.985, 8
_MIN_LEVEL_DB = -45.0  # of full scale
_MIN_SNR_DB = 10.0
_MIN_WORD_SECONDS, _MAX_WORD_SECONDS = 0.15, 2.2

Prompt = Callable[[str], str]


@dataclass(frozen=True)
class RecordOptions:
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


def run(options: RecordOptions, prompt: Prompt | None) -> list[Path]:
    """Records until so many examples are kept; returns their files. With `prompt` each is offered to a
    person to be heard or dropped.

    Raises AudioError where there is no microphone, KwsError where nothing can be written: before
    anything is heard, where that is known.
    """
    folder, bad_takes = options.folder, 0
    check_writable(folder / _file_name(options.speaker, options.count))
    saved_paths: list[Path] = []
    try:
        while len(saved_paths) < options.count:
            print_status(
                f'\n{len(saved_paths) + 1} of {options.count}: "{escape_control_chars(options.phrase)}"'
            )
            take = check_take(_record_take(options))
            answer = _ask_action(take, prompt)
            if answer == "q":
                break
            bad_takes = bad_takes + 1 if take.problem else 0
            if not prompt and bad_takes == MAX_BAD_TAKES:
                raise AudioError(
                    f"{bad_takes} recordings one after the other cannot be used: {take.problem}"
                )
            if answer == "k":
                saved_paths.append(_save_take(folder, options.speaker, take.samples))
                print_status(f"  {escape_control_chars(str(saved_paths[-1]))}")
    except KeyboardInterrupt:
        print_status(f"\nstopped; {len(saved_paths)} kept in {escape_control_chars(str(folder))}")
        raise
    return saved_paths


def check_take(samples: np.ndarray) -> Take:
    """Samples [n] (16 kHz) trimmed to the word in them, and what is wrong with them."""
    from kws.audio.endpoints import find_endpoints

    if len(samples) < _MIN_WORD_SECONDS * SAMPLE_RATE or np.abs(samples).max() < 1e-4:
        return Take(samples, "nothing was heard. Is the microphone muted?")
    seconds, (start, end) = len(samples) / SAMPLE_RATE, find_endpoints(samples)
    word = _slice_seconds(samples, start, end)
    level_db, noise_db = _loudness_db(word), _noise_db(samples)
    problems = {
        "clipped: too loud or too close. Move away a little.": int(
            (np.abs(samples) >= _CLIPPED_LEVEL).sum()
        )
        > _MAX_CLIPPED_SAMPLES,
        "too quiet. Come closer, or turn the microphone up.": level_db < _MIN_LEVEL_DB,
        "too much noise around it. Come closer, or wait.": level_db - noise_db < _MIN_SNR_DB,
        "cut off: it began before the recording did, or went on after it.": start
        < _MIN_EDGE_SECONDS
        or seconds - end < _MIN_EDGE_SECONDS,
        "too short to be a word.": end - start < _MIN_WORD_SECONDS,
        "too long for a word.": end - start > _MAX_WORD_SECONDS,
    }
    problem = next((text for text, applies in problems.items() if applies), None)
    return Take(_slice_seconds(samples, start - MARGIN_SECONDS, end + MARGIN_SECONDS), problem)


def print_status(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


def play(samples: np.ndarray) -> None:
    """Samples [n] (16 kHz) through the default loudspeaker. Raises AudioError where there
    is none."""
    data = to_int16(samples)
    try:
        with miniaudio.PlaybackDevice(
            miniaudio.SampleFormat.SIGNED16, nchannels=1, sample_rate=SAMPLE_RATE
        ) as device:
            stream = _playback_chunks(data)
            next(stream)
            device.start(stream)
            time.sleep(len(data) / SAMPLE_RATE + 0.3)
    except miniaudio.MiniaudioError as error:
        raise AudioError(
            f"it cannot be played ({error.args[0]}). Is a loudspeaker plugged in?"
        ) from error


def _playback_chunks(data: np.ndarray) -> Generator[bytes, int, None]:
    """miniaudio sends the number of samples it wants into this generator."""
    requested_samples = yield b""
    position = 0
    while True:
        chunk = data[position : position + requested_samples]
        position += len(chunk)
        requested_samples = yield np.pad(chunk, (0, requested_samples - len(chunk))).tobytes()


def _record_take(options: RecordOptions) -> np.ndarray:
    """The seconds after a countdown. The microphone is open before it ends, so that nothing is lost
    of what is said at once."""
    blocks = microphone.blocks(options.device, on_overrun=lambda seconds: None)
    try:
        next(blocks)
        for number in (3, 2, 1):
            print_status(f"\r  {number} ", end="")
            _capture_seconds(blocks, COUNTDOWN_SECONDS)
        print_status("\r  now", end="")
        samples = _capture_seconds(blocks, options.seconds)
        print_status("\r     ", end="\r")
        return samples
    finally:
        blocks.close()


def _capture_seconds(blocks: Iterator[np.ndarray], seconds: float) -> np.ndarray:
    """So many seconds of the microphone."""
    captured, captured_samples = [], 0
    while captured_samples < seconds * SAMPLE_RATE:
        captured.append(next(blocks))
        captured_samples += len(captured[-1])
    return np.concatenate(captured)


def _ask_action(take: Take, prompt: Prompt | None) -> str:
    """k: keep, r: record again, q: stop."""
    if prompt is None:
        if take.problem:
            print_status(f"  {take.problem} Once more.")
        return "r" if take.problem else "k"
    while True:
        default_choice = "r" if take.problem else "k"
        choice = (
            prompt(
                f"  {take.problem or 'good.'} [k]eep, [p]lay, [r]epeat, [q]uit? ({default_choice}) "
            )
            .strip()
            .lower()[:1]
            or default_choice
        )
        if choice in ("k", "r", "q"):
            return choice
        if choice == "p":
            try:
                play(take.samples)
            except AudioError as error:
                print_status(f"  {escape_control_chars(str(error))}")


def _save_take(folder: Path, speaker: str, samples: np.ndarray) -> Path:
    """The next free name: SPEAKER_nohash_N.wav, as in Speech Commands."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = (
            re.fullmatch(rf"{re.escape(speaker)}_nohash_(\d+)\.wav", normalize_name(path.name))
            for path in folder.iterdir()
        )
        used_numbers = [int(match[1]) for match in names if match]
    except OSError as error:
        raise KwsError(
            f"{folder}: cannot be written ({error.strerror}). Choose another place with --out."
        ) from error
    path, content = folder / _file_name(speaker, max(used_numbers, default=-1) + 1), io.BytesIO()
    soundfile.write(content, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    write_atomically(path, content.getvalue())
    return path


def _file_name(speaker: str, number: int) -> str:
    return f"{speaker}_nohash_{number}.wav"


def _slice_seconds(samples: np.ndarray, start: float, end: float) -> np.ndarray:
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
