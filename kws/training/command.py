"""What `kws train` does with its options: reads the folders, trains, and tells a person or a program how it goes."""

import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from kws import audio
from kws.errors import DataError, ModelError
from kws.terminal import Progress
from kws.training.fit import Recipe
from kws.training.material import Folders, gather
from kws.training.network import NetworkConfig
from kws.training.rounds import second, train_in_rounds
from kws.training.session import Hooks, train
from kws.training.torch_engine import pick_device


@dataclass(frozen=True)
class Options:
    """The wishes of one `kws train`."""

    folders: Folders
    out: Path | None
    config: NetworkConfig
    recipe: Recipe
    device: str
    resume: bool
    as_json: bool


def run(options: Options, warn: Callable[[str], None]) -> Path:
    """Trains as wished; returns the path of the model file. Raises KwsError."""
    path = options.out or Path("models") / f"{'_'.join(options.config.words)}.onnx"
    if path.suffix != ".onnx":
        raise DataError(f"{path}: a model file is named NAME.onnx. Change --out.")
    device = pick_device(options.device)
    _make_room(path.parent)
    epochs = options.recipe.epochs + (second(options.recipe).epochs if options.folders.mine else 0)
    teller = _Teller(epochs, options, warn)
    material = gather(options.config.words, options.folders, warn=warn, progress=teller.reading)
    seconds = sum(word.bank.seconds for word in material.words), sum(source.bank.seconds for source in material.negatives)
    teller.say(f"{seconds[0] / 60:.1f} min of the word, {seconds[1] / 3600:.2f} h of other sounds, on {device.type}")
    try:
        with _interrupts_between_steps(teller):
            learn = train_in_rounds if options.folders.mine else train
            document = learn(material, options.config, options.recipe, path, device=device, resume=options.resume, hooks=teller.hooks)
    except KeyboardInterrupt:
        teller.say(f"stopped; the checkpoint beside {path} holds the last whole epoch, go on with --resume")
        raise
    finally:
        teller.close()
    teller.say(_summary(document, path))
    return path


def _make_room(folder: Path) -> None:
    """Hours of training should not end at a folder that cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written ({error.strerror}). Choose another place with --out.") from error


@contextmanager
def _interrupts_between_steps(teller: "_Teller") -> Iterator[None]:
    """The first Ctrl-C waits for the end of a step: raised anywhere, it can be lost in a callback. The second does not wait."""

    def on_interrupt(number: int, frame: object) -> None:
        if teller.stop_wished:
            raise KeyboardInterrupt
        teller.stop_wished = True

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Teller:
    """A bar of steps and a line per epoch on stderr, or one JSON object per epoch on stdout."""

    def __init__(self, epochs: int, options: Options, warn: Callable[[str], None]):
        self.stop_wished = False
        self._as_json = options.as_json
        self._epochs = epochs
        self._visible = sys.stderr.isatty()
        steps = epochs * options.recipe.steps_per_epoch
        self._bar = tqdm(total=steps, unit="step", file=sys.stderr, disable=not self._visible, leave=False, delay=0.1)
        self.hooks = Hooks(step=self._step, epoch=self._epoch, say=self.say, warn=warn, listening=self._listening)

    def reading(self, clips: Iterable) -> Iterable:
        return tqdm(clips, desc="reading", unit="clip", file=sys.stderr, disable=not self._visible, leave=False)

    def say(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()

    @contextmanager
    def _listening(self, paths: Sequence[Path]) -> Iterator[Callable[[float], None]]:
        progress = Progress(map(audio.duration_seconds, paths))

        def heard(seconds: float) -> None:
            self._stop_if_wished()
            progress.heard(seconds)

        try:
            yield heard
        finally:
            progress.close()

    def _stop_if_wished(self) -> None:
        if self.stop_wished:
            raise KeyboardInterrupt

    def _step(self, step: int, loss: float) -> None:
        self._stop_if_wished()
        self._bar.n = step + 1
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(0)

    def _epoch(self, entry: dict) -> None:
        if self._as_json:
            print(json.dumps(entry), flush=True)
            return
        alarms = entry["false_alarms_per_hour"]
        told = "no other speech held out" if alarms is None else f"{alarms:.1f} false alarms/h"
        self.say(f"epoch {entry['epoch']:3d} of {self._epochs}  loss {entry['loss']:.3f}  misses {entry['miss_rate']:.1%}  {told}")


def _summary(document: dict, path: Path) -> str:
    rows = document["calibration"]["rows"]
    table = [
        f"  {row['word']}: {row['false_alarms_per_hour']:g} false alarms/h at {row['threshold']:.3f}, {row['miss_rate']:.1%} missed"
        for row in rows
    ]
    hours = document["calibration"]["hours"]
    if not table:
        table = [f"  too little held-out speech ({hours:.2f} h) to say how often it fires for nothing: add --negatives"]
    return "\n".join([f"{path} (calibrated on {hours:.2f} h)", *table])
