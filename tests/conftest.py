"""Fixtures of all tests; and which tests are left out where a program is missing."""

import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tones import RATE, TinyModel, tone_word, write_tone_folder
from workspace import ONCE, TWICE, Workspace

from kws.runtime.kernel import load_library

TOOLS = {
    "ffmpeg": ("ffmpeg",),
    "sox": ("sox",),
    "pulse": ("pulseaudio", "pactl", "paplay", "pacat"),
    "flite": ("flite",),
    "espeak": ("espeak-ng",),
    "strace": ("strace",),
    "cc": ("cc",),
    "clang": ("clang",),
    "qemu": ("qemu-x86_64", "qemu-aarch64", "qemu-riscv64"),
    "node": ("node",),
}
SKIPPED_TESTS = pytest.StashKey[list[str]]()
TRAINING = Path(__file__).parent / "training"

# A shell starts `pytest ... &` deaf to Ctrl-C, and the programs that tests start would
# inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the tests of training, and those that need a trained model, as slow. Tests whose
    programs (or GPU) this machine lacks are left out, and named at the end."""
    for item in items:
        needs_training = "tiny_model" in getattr(item, "fixturenames", ())
        if needs_training or item.path.is_relative_to(TRAINING):
            item.add_marker(pytest.mark.slow)
    missing_tools = [
        mark for mark, programs in TOOLS.items() if not all(map(shutil.which, programs))
    ]
    if not torch.cuda.is_available():
        missing_tools.append("gpu")
    if not find_spec("ziglang"):
        missing_tools.append("zig")
    skipped = [item for item in items if any(map(item.get_closest_marker, missing_tools))]
    items[:] = [item for item in items if item not in skipped]
    config.hook.pytest_deselected(items=skipped)
    config.stash[SKIPPED_TESTS] = [item.nodeid for item in skipped]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where several processes test (`-n`), each hands on what it left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["skipped"] = session.config.stash.get(SKIPPED_TESTS, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # xdist.workermanage.WorkerController
    node.config.stash[SKIPPED_TESTS] = node.workeroutput["skipped"]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for name in config.stash.get(SKIPPED_TESTS, []):
        terminalreporter.line(f"not run, this machine lacks what it needs: {name}")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    torch.set_num_threads(1)  # the networks are tiny: more threads only wait for one another

    from shared_training import EpochLog

    from kws.training.data.keyword_data import DataFolders, load_keyword_data
    from kws.training.detection.train import train
    from kws.training.fit.config import TrainConfig
    from kws.training.model.network import NetworkConfig

    folder = tmp_path_factory.mktemp("tones")
    data = write_tone_folder(folder / "data")
    config = NetworkConfig(("rise",), channels=16, kernels=(7, 9, 9))
    train_config = TrainConfig(
        epochs=3, steps_per_epoch=120, batch=32, clip_seconds=1.6, learning_rate=6e-3, ema_decay=0.9
    )
    keyword_data = load_keyword_data(
        ["rise"],
        DataFolders(data),
        max_word_seconds=train_config.max_word_seconds,
        warn=lambda text: None,
    )
    progress = EpochLog()
    path = folder / "models" / "rise.kws"
    document = train(
        keyword_data,
        config,
        train_config,
        path,
        device=torch.device("cpu"),
        progress=progress,
        workers=0,
    )
    return TinyModel(path, data, document, progress.epochs)


@pytest.fixture(scope="session")
def radio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long recordings with false alarms of the tiny model."""
    from radio import write_radio_folder

    return write_radio_folder(tmp_path_factory.mktemp("radio"))


@pytest.fixture(scope="session")
def false_alarms(tiny_model: TinyModel, radio: Path) -> list:
    from kws import Spotter
    from kws.training.data.long_recordings import find_mining_clips
    from kws.training.fit.hard_negatives import mine

    clips, _ = find_mining_clips([radio], ["rise"], pytest.fail)
    alarms, _ = mine(Spotter.load(tiny_model.path), clips)
    return alarms


@pytest.fixture(scope="session")
def model_path(tiny_model: TinyModel) -> Path:
    return tiny_model.path


@pytest.fixture
def without_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine for which the kernel was not built."""
    monkeypatch.setattr("kws.runtime.engine._has_kernel", lambda: False)


@pytest.fixture(params=["kernel", "numpy"])
def runner(request: pytest.FixtureRequest) -> str:
    """What runs models in this test."""
    if request.param == "numpy":
        request.getfixturevalue("without_kernel")
    else:
        load_library()  # a test of the kernel must not run in NumPy
    return request.param


@pytest.fixture
def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an installation without the extra `media`."""
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.fixture
def tone_recording() -> Callable[..., Path]:
    """`tone_recording(path, at_seconds, ...)` writes a recording with the word at these times, and
    hiss 30 dB below it."""

    def write(
        path: Path,
        at_seconds: Sequence[float],
        *,
        seconds: float = 5.0,
        word: str = "rise",
        rate: int = RATE,
        **options,
    ) -> Path:
        rng = np.random.default_rng(len(at_seconds))
        audio = 0.005 * rng.standard_normal(int(seconds * RATE)).astype(np.float32)
        for at in at_seconds:
            wave = tone_word(word, rng)
            audio[int(at * RATE) : int(at * RATE) + len(wave)] += wave
        if rate != RATE:
            import soxr

            audio = soxr.resample(audio, RATE, rate)
        soundfile.write(path, audio, rate, **options)
        return path

    return write


@pytest.fixture
def workspace(
    tmp_path: Path, model_path: Path, tone_recording: Callable, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    monkeypatch.chdir(tmp_path)
    tone_recording(tmp_path / "once.wav", ONCE)
    tone_recording(tmp_path / "twice.flac", TWICE, rate=44_100)
    tone_recording(tmp_path / "never.wav", [])
    (tmp_path / "text.wav").write_text("not sound\n" * 50)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "silent").mkdir()
    tone_recording(tmp_path / "folder" / "b.wav", ONCE)
    tone_recording(tmp_path / "folder" / "below" / "a.wav", TWICE)
    return Workspace(tmp_path, ["--model", str(model_path), "--threshold", "0.5"])
