"""Compares decoders by CPU time and size: PyAV, libsndfile, miniaudio, and the ffmpeg program.

    python benchmarks/decoders.py --out docs/results/decoders.json

Encodes the demo recordings, repeated to 15 minutes, as 44.1 kHz stereo (Opus: 48 kHz), and decodes
them with each decoder in turns. Figures are CPU seconds, with those of ffmpeg's processes, as the
median of three rounds. A cold start is a process of its own that reads seven seconds. Needs the
ffmpeg program and the extra `media`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import files, version
from pathlib import Path

import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.demo_audio import SAMPLE_RATE, demo_audio
from benchmarks.report import ROOT, add_out_option, print_report
from kws.audio.decoders import Decoder
from kws.audio.decoders.base import DecodeRequest
from kws.audio.decoders.media import PyAvDecoder
from kws.audio.decoders.mp3 import MiniaudioDecoder
from kws.audio.decoders.signatures import read_head
from kws.audio.decoders.sndfile import SndfileDecoder

ROUNDS, COLD_ROUNDS = 3, 9
RATES = {"mp3": 44_100, "ogg": 44_100, "opus": 48_000, "flac": 44_100, "m4a": 44_100}
PACKAGES = ("av", "soundfile", "miniaudio", "numpy", "onnxruntime")
RECORDING = ROOT / "recordings" / "twice.wav"
READ_SCRIPT = """
import sys
from kws.audio import recordings
for block in recordings.blocks(sys.argv[1]):
    pass
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=900, help="of audio in each file")
    add_out_option(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "source.wav"
        soundfile.write(source, demo_audio(args.seconds), SAMPLE_RATE)
        paths = [encode(source, suffix, rate) for suffix, rate in RATES.items()]
        figures = {
            "seconds_of_audio": args.seconds,
            "package_mb": {package: round(package_bytes(package) / 1e6, 1) for package in PACKAGES},
            "versions": {package: version(package) for package in PACKAGES},
            "cpu_seconds": {path.suffix[1:]: measure_decoders(path) for path in paths},
            "cold_wall_seconds": measure_cold_start(folder),
        }
    print_report(figures, args.out)


def encode(source: Path, suffix: str, rate: int) -> Path:
    """Encodes a WAV file as stereo in the format of a suffix, beside it."""
    target = source.with_suffix(f".{suffix}")
    options = ["-ar", str(rate), "-ac", "2"]
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-i", str(source), *options, str(target)], check=True
    )
    return target


def measure_decoders(path: Path) -> dict[str, float]:
    """CPU seconds of each decoder that reads this file, in turns."""
    work: dict[str, Callable[[], None]] = {
        "pyav": lambda: decode(PyAvDecoder(), path),
        "ffmpeg": lambda: decode_with_ffmpeg(path),
    }
    if path.suffix == ".mp3":
        work["miniaudio"] = lambda: decode(MiniaudioDecoder(), path)
    elif path.suffix != ".m4a":
        work["libsndfile"] = lambda: decode(SndfileDecoder(compressed=True), path)
    rounds = [{name: cpu_seconds(each) for name, each in work.items()} for _ in range(ROUNDS)]
    return {name: round(statistics.median(each[name] for each in rounds), 2) for name in work}


def decode(decoder: Decoder, path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        request = DecodeRequest(file, path, read_head(file), 0.0, 10.0, None)
        with decoder.open(request) as recording:
            for _ in recording.chunks:
                pass


def decode_with_ffmpeg(path: Path) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-f", "f32le", "-"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def cpu_seconds(work: Callable[[], None]) -> float:
    """CPU seconds of this process and its children."""
    before = os.times()
    work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def measure_cold_start(folder: Path) -> dict[str, float]:
    """Wall seconds of a whole process that reads a WAV and an M4A file."""
    m4a = folder / "short.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", RECORDING, m4a], check=True)
    paths = {"wav": RECORDING, "m4a": m4a}
    rounds = [
        {
            name: wall_seconds([sys.executable, "-c", READ_SCRIPT, str(path)])
            for name, path in paths.items()
        }
        for _ in range(COLD_ROUNDS)
    ]
    return {name: round(statistics.median(each[name] for each in rounds), 3) for name in paths}


def wall_seconds(command: Sequence[str]) -> float:
    before = os.times().elapsed
    subprocess.run(command, check=True, cwd=ROOT)
    return os.times().elapsed - before


def package_bytes(package: str) -> int:
    paths = (Path(str(file.locate())) for file in files(package) or [])
    return sum(path.stat().st_size for path in paths if path.is_file())


if __name__ == "__main__":
    main()
