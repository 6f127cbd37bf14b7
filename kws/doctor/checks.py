"""The checks of `kws doctor`: packages, formats, models, the microphone, speech engines.

A check returns a line of text, or raises: a Problem, or any error of the thing that it checks.
Packages that may be missing or broken are imported inside the functions.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from kws.errors import AudioError, KwsError, install_hint

if TYPE_CHECKING:
    import numpy as np

    from kws.doctor.sample_files import Format
    from kws.runtime.spotter import Spotter

WORKS, MISSING, BROKEN, NOT_TRIED = "works", "missing", "broken", "not tried"
REQUIRED = ("numpy", "soundfile", "soxr", "miniaudio", "click", "tqdm")
OPTIONAL = {  # their use, and how to install them
    "av": ("reads M4A, WebM, AMR, ...", "pip install av"),
    "matplotlib": ("draws plots", install_hint("plot")),
    "torch": ("is for training", install_hint("train")),
    "torchaudio": ("is for training", install_hint("train")),
    "librosa": ("is for training", install_hint("train")),
    "onnx": ("is for training", install_hint("train")),
    "onnxscript": ("is for training", install_hint("train")),
}
NEEDED_FORMATS = ("WAV", "FLAC", "Ogg Vorbis", "Opus", "AIFF", "AU", "CAF", "W64", "RF64", "MP3")
PYAV_FORMATS = ("M4A", "WebM", "WMA", "AMR", "3GP")
ENGINES = ("kokoro", "piper", "hibari", "pico", "flite", "espeak", "festival")
_CLONE = Path(__file__).resolve().parents[2]
_REINSTALL = "pip install --force-reinstall kws"
_MAX_DETAIL_CHARS = 300


class Problem(Exception):  # noqa: N818 - a result, not a failure of the check
    """What is wrong, and how to mend it."""

    def __init__(self, status: str, detail: str, remedy: str = ""):
        super().__init__(detail)
        self.status, self.detail, self.remedy = status, detail, remedy


@dataclass(frozen=True)
class Check:
    """The result of a check. needed: whether kws does not work without it. status: WORKS, MISSING,
    BROKEN or NOT_TRIED. remedy: how to mend it, or empty."""

    section: str
    name: str
    needed: bool
    status: str
    detail: str
    remedy: str

    @property
    def fails(self) -> bool:
        """Whether kws does not work because of it."""
        return self.needed and self.status in (MISSING, BROKEN)


@dataclass(frozen=True)
class Probe:
    """Something to check. attempt: returns a line of text if it works. remedy: how to mend it if it
    is broken."""

    section: str
    name: str
    attempt: Callable[[], str]
    remedy: str = ""
    needed: bool = False

    def check(self) -> Check:
        """Runs the check. Raises nothing."""
        try:
            return self.report(WORKS, self.attempt(), "")
        except Problem as problem:
            return self.report(problem.status, problem.detail, problem.remedy)
        except KwsError as error:
            return self.report(BROKEN, str(error), self.remedy)
        except (Exception, SystemExit) as error:  # third-party code may raise anything
            return self.report(BROKEN, f"{type(error).__name__}: {error}", self.remedy)

    def report(self, status: str, detail: str, remedy: str) -> Check:
        """The result, with its detail on one line."""
        line = " ".join(detail.split())[:_MAX_DETAIL_CHARS]
        return Check(self.section, self.name, self.needed, status, line, remedy)


def probes_of(section: str) -> list[Probe]:
    """The probes of a section, always in the same order."""
    return SECTIONS[section]()


# Packages


def _packages() -> list[Probe]:
    optional = (_optional("packages", name) for name in ("av", "matplotlib"))
    return [Probe("packages", "kws", _kws, needed=True), *map(_required, REQUIRED), *optional]


def _training() -> list[Probe]:
    names = ("torch", "torchaudio", "librosa", "onnx", "onnxscript")
    packages = (_optional("training", name) for name in names)
    return [*packages, Probe("training", "gpu", _gpu, "Check the driver: nvidia-smi")]


def _required(name: str) -> Probe:
    attempt = partial(_package, name, "", f"pip install {name}")
    return Probe("packages", name, attempt, f"pip install --force-reinstall {name}", needed=True)


def _optional(section: str, name: str) -> Probe:
    use, remedy = OPTIONAL[name]
    return Probe(section, name, partial(_package, name, f"; it {use}", remedy), remedy)


def _kws() -> str:
    here = Path(__file__).parents[1]
    try:
        version = metadata.version("kws")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return f"{version}, in {here}; Python {sys.version.split()[0]}, {sys.platform}"


def _package(name: str, use: str, remedy: str) -> str:
    try:
        loaded = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise Problem(MISSING, f"not installed{use}", remedy) from None
    if loaded.__file__ is None:
        raise Problem(BROKEN, "its folder is empty", remedy)
    if name == "soundfile":
        return f"{_version(name)}, with libsndfile {loaded.__libsndfile_version__}"
    return _version(name)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # a package may come under another name
        return str(getattr(sys.modules[name], "__version__", "unknown version"))


def _gpu() -> str:
    try:
        import torch
    except (ImportError, OSError):
        raise Problem(MISSING, "needs torch", OPTIONAL["torch"][1]) from None
    if not torch.cuda.is_available():
        raise Problem(MISSING, "torch finds no CUDA device")
    ones = torch.ones(64, 64, device="cuda")
    if (ones @ ones).sum().item() != 64**3:
        raise Problem(BROKEN, "the GPU computes wrongly", "Check the driver: nvidia-smi")
    return f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] / 2**30:.0f} GiB"


# Formats


def _formats() -> list[Probe]:
    libsndfile = "pip install --force-reinstall soundfile miniaudio"
    pyav = "pip install --force-reinstall av"
    needed = [
        Probe("formats", name, partial(_format, name), libsndfile, needed=True)
        for name in NEEDED_FORMATS
    ]
    return needed + [Probe("formats", name, partial(_format, name), pyav) for name in PYAV_FORMATS]


def _format(name: str) -> str:
    """Writes a tone and reads it again."""
    from kws.audio import recordings
    from kws.doctor import sample_files

    audio_format = next(each for each in sample_files.FORMATS if each.name == name)
    with tempfile.TemporaryDirectory(prefix="kws-") as folder:
        path = Path(folder, f"tone{audio_format.suffix}")
        _write_tone(path, audio_format)
        try:
            measurement = recordings.read(path)
        except AudioError as error:
            raise Problem(BROKEN, str(error).removeprefix(f"{path}: ")) from error
    return _check_tone(measurement)


def _write_tone(path: Path, audio_format: "Format") -> None:
    from kws.doctor.sample_files import NoEncoderError, write_tone

    try:
        write_tone(path, audio_format)
    except NoEncoderError as error:
        raise Problem(NOT_TRIED, str(error)) from error
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise Problem(MISSING, "needs PyAV", OPTIONAL["av"][1]) from None


def _check_tone(samples: "np.ndarray") -> str:
    """Raises Problem for samples [n] (16 kHz) that are not the tone that was written."""
    import numpy as np

    from kws.audio.recordings import SAMPLE_RATE
    from kws.doctor.sample_files import TONE_AMPLITUDE, TONE_HERTZ

    seconds, level = len(samples) / SAMPLE_RATE, float(np.sqrt(2 * np.mean(samples**2)))
    pitch = float(np.abs(np.fft.rfft(samples)).argmax() / seconds)
    measurement = f"{seconds:.2f} s of {pitch:.0f} Hz at {level:.2f}"
    is_tone = abs(seconds - 1) <= 0.1 and abs(pitch - TONE_HERTZ) <= 5
    if not (is_tone and TONE_AMPLITUDE / 2 < level < 2 * TONE_AMPLITUDE):
        expected = f"1.00 s of {TONE_HERTZ:.0f} Hz at {TONE_AMPLITUDE:.2f}"
        raise Problem(BROKEN, f"{measurement} read, {expected} written")
    return measurement


# Microphones


def _microphones() -> list[Probe]:
    return [Probe("microphones", "default", _microphone, "kws stream --list-devices")]


def _microphone() -> str:
    import numpy as np

    from kws.audio import microphone

    try:
        names = microphone.list_devices()
    except AudioError as error:
        raise Problem(MISSING, str(error)) from error
    blocks = microphone.blocks(block_seconds=0.1, on_overrun=lambda seconds: None)
    try:
        measurement = np.concatenate([next(blocks) for _ in range(4)])
    except AudioError as error:
        raise Problem(NOT_TRIED, str(error)) from error
    finally:
        blocks.close()
    device_list = f"there are: {', '.join(names)}"
    if not measurement.any():
        raise Problem(
            BROKEN,
            f"gives nothing but digital silence; {device_list}",
            "Unmute it, or choose one: --input-device NAME",
        )
    return f"level {10 * np.log10(np.mean(measurement**2)):.0f} dB of full scale; {device_list}"


# Models


def _models() -> list[Probe]:
    shipped = [
        Probe("models", "shipped", _shipped_model, _REINSTALL, needed=True),
        Probe("models", "kernel", _kernel),
    ]
    own_paths = sorted(
        path for path in Path("models").glob("*.kws") if path.resolve().parent != _CLONE / "models"
    )
    return [
        *shipped,
        *(Probe("models", str(path), partial(_own_model, path)) for path in own_paths),
    ]


def _shipped_model() -> str:
    from kws.runtime.spotter import Spotter

    path = _shipped_path()
    spotter, sample = Spotter.load(path), path.with_suffix(".flac")
    if [event.word for event in spotter.detect(sample)] != ["welcome"]:
        raise Problem(BROKEN, f"does not detect its word in {sample}", _REINSTALL)
    return f"{_thresholds(spotter)}; detected in {sample.name}"


def _shipped_path() -> Path:
    """Raises Problem where it is missing."""
    from kws.runtime.model_file import model_folders

    for folder in model_folders()[1:]:
        if (folder / "welcome.kws").is_file():
            return folder / "welcome.kws"
    raise Problem(MISSING, "welcome.kws is not where kws is installed", _REINSTALL)


def _kernel() -> str:
    """What runs the networks: the instructions that the kernel uses. Without it NumPy does."""
    from kws.runtime.kernel import KernelModel, library_path, load_library

    build = _CLONE / "native" / "build_kernel.py"
    remedy = f"python {build} {library_path()}" if build.is_file() else f"{_REINSTALL} -v"
    try:
        load_library()
    except OSError as error:
        status = BROKEN if library_path().exists() else MISSING
        raise Problem(status, f"NumPy runs the networks, slowly: {error}", remedy) from error
    path = _shipped_path()
    return f"{KernelModel(path.read_bytes(), path).instruction_set} instructions"


def _own_model(path: Path) -> str:
    """Runs the model on noise."""
    import numpy as np

    from kws.runtime.spotter import Spotter

    spotter = Spotter.load(path)
    noise = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    if not np.isfinite(spotter.scores(noise).pooled).all():
        raise Problem(BROKEN, "its scores are not numbers", "Train it again.")
    return _thresholds(spotter)


def _thresholds(spotter: "Spotter") -> str:
    events = spotter.events
    return ", ".join(f"{spotter.words[i]} from {events.threshold[i]:.3g}" for i in events.targets)


# Speech engines


def _engines() -> list[Probe]:
    return [Probe("speech engines", name, partial(_engine, name)) for name in ENGINES]


def _engine(name: str) -> str:
    """Has the engine say a word."""
    import numpy as np

    from kws.synth.engines import kokoro, registry

    engine = registry.ENGINES[name]
    missing_dependency = engine.missing()
    if missing_dependency:
        raise Problem(MISSING, f"needs {missing_dependency}", engine.install)
    os.environ["KWS_KOKORO_VOICES"] = str(kokoro.voices_folder())  # keep the voices in use
    with tempfile.TemporaryDirectory(prefix="kws-") as cache:  # write nothing to the user's cache
        os.environ["XDG_CACHE_HOME"] = cache
        voices = sorted(set(engine.voices()))
        settings = engine.settings(voices[0], np.random.default_rng(0))
        samples, rate = engine.speak("welcome", settings)
    seconds, peak = len(samples) / rate, float(np.abs(samples).max(initial=0.0))
    if not 0.2 < seconds < 5 or peak < 0.01:
        raise Problem(
            BROKEN,
            f"'welcome' is {seconds:.2f} s of sound with a peak of {peak:.3f}",
            engine.install,
        )
    return f"{len(voices)} voice{'s' * (len(voices) > 1)}; says 'welcome' in {seconds:.2f} s"


SECTIONS: dict[str, Callable[[], list[Probe]]] = {
    "packages": _packages,
    "formats": _formats,
    "models": _models,
    "microphones": _microphones,
    "speech engines": _engines,
    "training": _training,
}
