"""The meter for live audio."""

import io
import sys

import numpy as np
import pytest

from kws.runtime.postprocess import UNREACHABLE_THRESHOLD, EventSettings, Scores
from kws.terminal.meter import Meter


def test_classes_that_are_no_words_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", shown)
    pooled = np.array([[0.9, 0.1, 0.3]])
    scores = Scores(np.array([0.02]), pooled, pooled, np.zeros((1, 3, 2)))
    Meter(("_silence_", "yes", "no"), EventSettings((UNREACHABLE_THRESHOLD, 0.5, 0.5))).show(
        1.0, np.zeros(320), scores
    )
    assert "no " in shown.getvalue() and "0.30" in shown.getvalue()
