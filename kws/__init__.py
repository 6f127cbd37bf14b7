"""kws: hear one word, wherever it is said.

The map: `spotter` (load a model, listen) uses `engine` (one stateful step), `reader` (a second
opinion), `events` (scores → events), `modelfile`, and `audio`, which stands on `decoders` (samples
of any format) and `channels` (mono of several). `folders` finds recordings, by their names and
`signatures`, and compares names; what goes wrong is told by `errors`, and of `addresses` of the web
how they come to be files. Beside this library there is what the command line in `cli.py` needs:
`detecting` (recordings), `streaming` (live audio) and `recording` (one's own examples), with
`microphone`, `output`, `plot`, `describe`, `terminal` (bar and meter), `ranges` and `paths` (of
options), `interrupts` (Ctrl-C) and `standard` (standard streams that are closed or full, and what
may be written to them); `doctor` says what works here, by `checks` that read what `encoding` wrote.
`__main__` is `python -m kws`.
`kws.training` makes and judges models; it needs the extra `train`. `kws.synth` speaks words made
from text.
"""

import os
import sys
from typing import TYPE_CHECKING

from kws.errors import KwsError

if TYPE_CHECKING:
    from kws.runtime.postprocess import Detection, Scores
    from kws.runtime.spotter import Spotter, Stream

    __version__: str

__all__ = ["Detection", "KwsError", "Scores", "Spotter", "Stream"]

_MODULES = {
    "Detection": "kws.runtime.postprocess",
    "Scores": "kws.runtime.postprocess",
    "Spotter": "kws.runtime.spotter",
    "Stream": "kws.runtime.spotter",
}

# ONNX Runtime reports to its maker, and keeps a number for this machine in the home folder, unless
# this is set before its first import. Nothing leaves the machine: whatever was set before is
# replaced. After its import only some reports can be stopped.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
if "onnxruntime" in sys.modules:
    sys.modules["onnxruntime"].disable_telemetry_events()


def __getattr__(name: str) -> object:
    """Loads the front door when it is opened: `kws --help` and errors in usage should not wait for
    numpy (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("kws")
    if name not in _MODULES:
        raise AttributeError(f"module 'kws' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)
