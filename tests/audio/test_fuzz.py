"""Damaged recordings of all formats: one line for each fault, no traceback, no hang, no crash.

`python tests/support/fuzz_audio.py` hears many more, and watches the memory.
"""

from pathlib import Path

import pytest
from formats import FORMS
from fuzz_audio import describe, fuzz

pytestmark = pytest.mark.slow


@pytest.mark.ffmpeg
@pytest.mark.sox
def test_damaged_files_break_no_rule(tmp_path: Path) -> None:
    report = fuzz(150, seed=1, forms=FORMS[::4], keep=tmp_path)
    assert not report.broken, describe(report)
    assert {"whole", "faulty", "refused"} == {verdict.outcome for verdict in report.verdicts}
