"""What reads recordings best: PyAV, libsndfile, miniaudio or the ffmpeg program, by time and size.

    python benchmarks/decoders.py --out docs/results/decoders.json

Encodes the shipped recordings, repeated to 15 minutes of 44.1 kHz stereo (Opus 48 kHz), and decodes
them with each decoder in turns: CPU seconds, the median of three rounds, processes of ffmpeg
included. A cold start is a whole process that decodes seven seconds. Needs the ffmpeg program and
the extra `media`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from importlib.metadata import files, version
from pathlib import Path

import numpy as np
import soundfile

from kws.audio.decoders import Decoder
from kws.audio.decoders.base import DecodeRequest
from kws.audio.decoders.media import PyAvDecoder
from kws.audio.decoders.mp3 import MiniaudioDecoder
from kws.audio.decoders.signatures import read_head
from kws.audio.decoders.sndfile import SndfileDecoder

RECORDINGS = Path(__file__).parent.parent / "recordings"
SECONDS, ROUNDS, COLD_ROUNDS = 900, 3, 9
FORMATS = {"mp3": 44_100, "ogg": 44_100, "opus": 48_000, "flac": 44_100, "m4a": 44_100}
PACKAGES = ("av", "soundfile", "miniaudio", "numpy", "onnxruntime")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="Write the figures to this JSON file.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recordings = [encoded(Path(folder), ending, rate) for ending, rate in FORMATS.items()]
        report = {
            "date": date.today().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "seconds_of_audio": SECONDS,
            "package_mb": {package: round(package_bytes(package) / 1e6, 1) for package in PACKAGES},
            "versions": {package: version(package) for package in PACKAGES},
            "cpu_seconds": {path.suffix[1:]: timed(path) for path in recordings},
            "cold_wall_seconds": cold(Path(folder)),
        }
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


def encoded(folder: Path, ending: str, rate: int) -> Path:
    """The shipped recordings, repeated, in one format."""
    parts = [soundfile.read(path, dtype="int16")[0] for path in sorted(RECORDINGS.glob("*.wav"))]
    source, target = folder / "source.wav", folder / f"long.{ending}"
    soundfile.write(source, np.resize(np.concatenate(parts), SECONDS * 16_000), 16_000)
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-i", source, "-ar", str(rate), "-ac", "2", target],
        check=True,
    )
    return target


def timed(path: Path) -> dict[str, float]:
    """CPU seconds of each decoder that reads this file, in turns."""
    readers: dict[str, Callable[[], None]] = {
        "pyav": lambda: decode(PyAvDecoder(), path),
        "ffmpeg": lambda: run_ffmpeg(path),
    }
    if path.suffix != ".m4a":
        other = MiniaudioDecoder() if path.suffix == ".mp3" else SndfileDecoder(compressed=True)
        readers[other.name] = lambda: decode(other, path)
    rounds = [{name: cpu_seconds(read) for name, read in readers.items()} for _ in range(ROUNDS)]
    return {name: round(statistics.median(each[name] for each in rounds), 2) for name in readers}


def decode(decoder: Decoder, path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        source = DecodeRequest(file, path, read_head(file), 0.0, 10.0, None)
        with decoder.open(source) as recording:
            for _ in recording.chunks:
                pass


def run_ffmpeg(path: Path) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", path, "-f", "f32le", "-"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def cpu_seconds(work: Callable[[], None]) -> float:
    before = os.times()
    work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def cold(folder: Path) -> dict[str, float]:
    """Wall seconds of a whole process, for a WAV and for an M4A file."""
    sound = folder / "short.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", RECORDINGS / "twice.wav", sound], check=True)
    code = "import sys; from kws.audio import recordings; sum(map(len, recordings.blocks(sys.argv[1])))"
    lines = {
        "wav": [sys.executable, "-c", code, RECORDINGS / "twice.wav"],
        "m4a": [sys.executable, "-c", code, sound],
    }
    rounds = [
        {name: wall_seconds(line) for name, line in lines.items()} for _ in range(COLD_ROUNDS)
    ]
    return {name: round(statistics.median(each[name] for each in rounds), 3) for name in lines}


def wall_seconds(line: list[object]) -> float:
    before = os.times().elapsed
    subprocess.run(line, check=True)
    return os.times().elapsed - before


def package_bytes(package: str) -> int:
    return sum(
        path.stat().st_size
        for path in (file.locate() for file in files(package) or [])
        if path.is_file()
    )


if __name__ == "__main__":
    main()
