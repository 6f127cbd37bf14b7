"""kws: hear one word, wherever it is said.

The map: `spotter` (load a model, listen) uses `engine` (one stateful step), `events` (scores → events), `modelfile` and `audio`;
`microphone`, `output` and `plot` serve the command line in `cli.py`. `kws.training` makes models; it needs the extra `train`.
"""

from kws.errors import KwsError
from kws.events import Detection, Scores
from kws.spotter import Spotter, Stream

__all__ = ["Detection", "KwsError", "Scores", "Spotter", "Stream"]
