"""The JSON report of a script: its figures, and what is needed to measure them again."""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def add_out_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a JSON report to FILE")


def print_report(figures: dict, out: Path | None) -> None:
    """Prints a report as JSON, and writes it to `out` if there is one."""
    print(json.dumps({**describe_run(), **figures}, indent=2))
    write_report(figures, out)


def write_report(figures: dict, out: Path | None) -> None:
    """Writes a report to `out` if there is one."""
    if out:
        out.write_text(json.dumps({**describe_run(), **figures}, indent=2) + "\n")


def describe_run() -> dict[str, str]:
    """When, on which machine, at which commit and by which command figures were measured."""
    return {
        "date": date.today().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "commit": _commit(),
        "command": shlex.join(["python", os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]]),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    """The abbreviated commit, with "-dirty" where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
