"""kws: a keyword spotter that finds a spoken word in recordings and live audio.

    spotter = Spotter.load("welcome")
    for event in spotter.detect("meeting.flac"):
        print(event.word, event.start, event.end, event.score)

The packages, from the lowest to the highest; a package imports only those before it.

- `kws.errors`: errors for users.
- `kws.audio`: recordings of any format, pipes and microphones as float32 mono samples at 16 kHz.
- `kws.files`: atomic writing of files.
- `kws.runtime`: model files, the engine that runs them, and detection (`spotter` is its front).
- `kws.terminal`: progress, printers, plots and signals of the command line.
- `kws.synth`: synthetic speech, to train from text.
- `kws.training`: data, model, training and evaluation; needs the extra `train`.
- `kws.doctor`: checks of the installation.
- `kws.cli`: the command line.
"""

from typing import TYPE_CHECKING

from kws.errors import KwsError

if TYPE_CHECKING:
    from kws.runtime.postprocess import Detection, Scores
    from kws.runtime.spotter import Spotter
    from kws.runtime.stream import Pool, Stream

    __version__: str

__all__ = ["Detection", "KwsError", "Pool", "Scores", "Spotter", "Stream"]

_MODULES = {
    "Detection": "kws.runtime.postprocess",
    "Pool": "kws.runtime.stream",
    "Scores": "kws.runtime.postprocess",
    "Spotter": "kws.runtime.spotter",
    "Stream": "kws.runtime.stream",
}


def __getattr__(name: str) -> object:
    """Imports the public names at their first use (PEP 562), so that `kws --help` need not wait for
    numpy."""
    if name == "__version__":
        from importlib.metadata import version

        return version("kws")
    if name not in _MODULES:
        raise AttributeError(f"module 'kws' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)
