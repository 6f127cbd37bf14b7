"""Freed memory stays with the process: seen from outside, in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys, torch
from kws.training.memory import keep_freed

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

if sys.argv[1] == "kept":
    keep_freed()
block = torch.ones(20_000_000)
full = resident()
del block
print(full - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator only")
@pytest.mark.parametrize("kept", [True, False])
def test_freed_blocks_are_kept_only_if_asked_for(kept):
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT, "kept" if kept else "given back"],
        capture_output=True,
        text=True,
        check=True,
    )
    given_back = int(told.stdout)
    assert given_back < 8_000_000 if kept else given_back > 72_000_000
