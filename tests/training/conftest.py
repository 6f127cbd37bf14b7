"""Recordings with false alarms of the tiny model."""

from pathlib import Path

import pytest
from radio import write_radio_folder

from kws import Spotter
from kws.training.data.long_recordings import find_mining_clips
from kws.training.fit.hard_negatives import FalseAlarm, mine


@pytest.fixture(scope="session")
def radio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_radio_folder(tmp_path_factory.mktemp("radio"))


@pytest.fixture(scope="session")
def false_alarms(tiny_model, radio: Path) -> list[FalseAlarm]:
    """Those of the tiny model in the recordings."""
    clips, _ = find_mining_clips([radio], ["rise"], pytest.fail)
    alarms, _ = mine(Spotter.load(tiny_model.path), clips)
    return alarms
