"""`kws record`: a person's own examples of a word."""

import io
import re
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import miniaudio
import numpy as np
import soundfile

from kws.audio import microphone
from kws.audio.endpoints import find_endpoints
from kws.audio.folders import find_on_disk, normalize_name
from kws.audio.formats import to_int16
from kws.audio.recordings import SAMPLE_RATE
from kws.cli import options
from kws.errors import AudioError, KwsError, SynthError
from kws.files import check_writable, write_atomically
from kws.synth import phrase as phrases
from kws.terminal.stdio import escape_control_chars
from kws.terminal.types import FOLDER, Range

MARGIN_SECONDS = 0.15  # kept before and after the word
COUNTDOWN_SECONDS = 0.7  # of each of three steps
MAX_BAD_TAKES = 5  # in a row, where nobody can be asked
# Sound this close to the beginning or the end of a take belongs to a word that is cut off.
_MIN_EDGE_SECONDS = 0.06
_CLIPPED_LEVEL, _MAX_CLIPPED_SAMPLES = 0.985, 8
_MIN_LEVEL_DB = -45.0  # of full scale
_MIN_SNR_DB = 10.0
_MIN_WORD_SECONDS, _MAX_WORD_SECONDS = 0.15, 2.2
_SILENCE_DB = -120.0

Prompt = Callable[[str], str]


@click.command(
    epilog=(
        "Exit status: 0 done, 1 there is no microphone, or nothing can be written, 2 wrong usage, "
        + options.STOPPED
        + "."
    )
)
@click.argument("phrase")
@click.option(
    "--out",
    type=FOLDER,
    default=Path("recordings"),
    show_default=True,
    help="Folder: DIR/PHRASE/SPEAKER_nohash_N.wav.",
)
@click.option(
    "--count",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Number of good examples to record.",
)
@click.option(
    "--seconds",
    type=Range(0.5, 10),
    default=2.5,
    show_default=True,
    help="Length of a recording before it is trimmed, in seconds.",
)
@click.option(
    "--speaker",
    default="me",
    show_default=True,
    help="Name of the speaker. Training keeps speakers apart by this name.",
)
@options.INPUT_DEVICE
def record(
    phrase: str, out: Path, count: int, seconds: float, speaker: str, input_device: str | None
) -> None:
    """Record examples of your own word.

    Counts down, records, trims the recording to the word and reports problems: too quiet, clipped,
    cut off. At a terminal each example can be played and repeated; elsewhere the good ones are
    kept. New examples are added to existing ones.

    \b
    kws record "hey you"
    kws record welcome --count 5 --speaker anna
    """
    folder_name = _folder_name(phrase)
    if any(not name.strip(" .") or set(name) & set("/\\") for name in (folder_name, speaker)):
        raise click.UsageError(
            "PHRASE and --speaker become names of files: neither may be empty or hold a slash."
        )
    record_options = RecordOptions(
        phrase.strip(),
        find_on_disk(out / normalize_name(folder_name)),
        count,
        seconds,
        normalize_name(speaker.strip()),
        input_device,
    )
    paths = run(record_options, _ask if sys.stdin.isatty() else None)
    report = f"{len(paths)} kept in {paths[0].parent}" if paths else "nothing kept"
    click.echo(escape_control_chars(report))


def _folder_name(phrase: str) -> str:
    """The name of the word that `kws train --from-text` gives it, if English voices can say it."""
    try:
        return phrases.folder_name(phrases.normalize(phrase))
    except SynthError:
        return phrase.strip().replace(" ", "_")


def _ask(question: str) -> str:
    try:
        return click.prompt(question, default="", show_default=False, prompt_suffix="", err=True)
    except click.Abort:  # Ctrl-C or Ctrl-D
        raise KeyboardInterrupt from None


@dataclass(frozen=True)
class RecordOptions:
    """The options of `kws record`. folder: of the recordings of this word."""

    phrase: str
    folder: Path
    count: int
    seconds: float
    speaker: str
    device: str | None


@dataclass(frozen=True)
class Take:
    """A recording, trimmed to the word. problem: why it cannot be used, or None."""

    samples: np.ndarray
    problem: str | None


def run(options: RecordOptions, prompt: Prompt | None) -> list[Path]:
    """Records until `count` examples are saved. Returns their paths. With `prompt`, a person
    decides about each.

    Raises AudioError where there is no microphone, KwsError where nothing can be written; before
    anything is recorded, where that is known.
    """
    check_writable(options.folder / _file_name(options.speaker, options.count))
    paths: list[Path] = []
    bad_takes = 0
    try:
        while len(paths) < options.count:
            phrase = escape_control_chars(options.phrase)
            print_status(f'\n{len(paths) + 1} of {options.count}: "{phrase}"')
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
                paths.append(_save_take(options.folder, options.speaker, take.samples))
                print_status(f"  {escape_control_chars(str(paths[-1]))}")
    except KeyboardInterrupt:
        folder = escape_control_chars(str(options.folder))
        print_status(f"\nstopped; {len(paths)} kept in {folder}")
        raise
    return paths


def check_take(samples: np.ndarray) -> Take:
    """Trims samples [n] (16 kHz) to the word in them, and looks for problems."""
    if len(samples) < _MIN_WORD_SECONDS * SAMPLE_RATE or np.abs(samples).max() < 1e-4:
        return Take(samples, "nothing was recorded. Is the microphone muted?")
    start, end = find_endpoints(samples)
    trimmed = _slice_seconds(samples, start - MARGIN_SECONDS, end + MARGIN_SECONDS)
    return Take(trimmed, _find_problem(samples, start, end))


def _find_problem(samples: np.ndarray, start: float, end: float) -> str | None:
    """What is wrong with samples [n] in which the word lies between two times in seconds."""
    seconds = len(samples) / SAMPLE_RATE
    level_db = _loudness_db(_slice_seconds(samples, start, end))
    clipped_samples = int((np.abs(samples) >= _CLIPPED_LEVEL).sum())
    if clipped_samples > _MAX_CLIPPED_SAMPLES:
        return "clipped: too loud or too close. Move away a little."
    if level_db < _MIN_LEVEL_DB:
        return "too quiet. Come closer, or turn the microphone up."
    if level_db - _noise_db(samples) < _MIN_SNR_DB:
        return "too much noise around it. Come closer, or wait."
    if start < _MIN_EDGE_SECONDS or seconds - end < _MIN_EDGE_SECONDS:
        return "cut off: it began before the recording did, or went on after it."
    if end - start < _MIN_WORD_SECONDS:
        return "too short to be a word."
    if end - start > _MAX_WORD_SECONDS:
        return "too long for a word."
    return None


def print_status(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


def play(samples: np.ndarray) -> None:
    """Plays samples [n] (16 kHz) on the default loudspeaker. Raises AudioError where there is
    none."""
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
    """The seconds after a countdown. The microphone opens before the countdown ends, so that a word
    spoken at once is not cut off."""
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
    captured, captured_samples = [], 0
    while captured_samples < seconds * SAMPLE_RATE:
        captured.append(next(blocks))
        captured_samples += len(captured[-1])
    return np.concatenate(captured)


def _ask_action(take: Take, prompt: Prompt | None) -> str:
    """k: keep, r: record again, q: stop."""
    default = "r" if take.problem else "k"
    if prompt is None:
        if take.problem:
            print_status(f"  {take.problem} Once more.")
        return default
    question = f"  {take.problem or 'good.'} [k]eep, [p]lay, [r]epeat, [q]uit? ({default}) "
    while True:
        choice = prompt(question).strip().lower()[:1] or default
        if choice in ("k", "r", "q"):
            return choice
        if choice == "p":
            try:
                play(take.samples)
            except AudioError as error:
                print_status(f"  {escape_control_chars(str(error))}")


def _save_take(folder: Path, speaker: str, samples: np.ndarray) -> Path:
    """Writes to the next free name: SPEAKER_nohash_N.wav, as in Speech Commands."""
    pattern = re.compile(rf"{re.escape(speaker)}_nohash_(\d+)\.wav")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        matches = [pattern.fullmatch(normalize_name(path.name)) for path in folder.iterdir()]
    except OSError as error:
        raise KwsError(
            f"{folder}: cannot be written ({error.strerror}). Choose another place with --out."
        ) from error
    number = max((int(match[1]) for match in matches if match), default=-1) + 1
    path, content = folder / _file_name(speaker, number), io.BytesIO()
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
    if not len(samples):
        return _SILENCE_DB
    return 10 * float(np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))
