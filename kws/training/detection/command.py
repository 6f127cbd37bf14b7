"""What `kws train` does with its options: reads the folders, trains, and tells a person or a
program how it goes."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from tqdm import tqdm

from kws.audio import recordings
from kws.errors import DataError
from kws.runtime.spotter import Spotter
from kws.synth.confusables import pronunciations
from kws.synth.engines.base import SynthError
from kws.terminal.interrupts import Interrupts
from kws.terminal.printers import check_place
from kws.terminal.progress import Progress
from kws.terminal.stdio import escaped
from kws.training import distributed
from kws.training.data.clips import without_words
from kws.training.data.keyword_data import Folders, Material, check, gather
from kws.training.detection.from_text import Speech, spoken
from kws.training.detection.train import Hooks, train
from kws.training.detection.two_stage import first_path, second, train_in_rounds
from kws.training.fit.trainer import Recipe
from kws.training.model import pretrained
from kws.training.model.network import NetworkConfig
from kws.training.model.pretrained import with_trunk
from kws.training.model.torch_engine import pick_device
from kws.training.speech_commands import command


@dataclass(frozen=True)
class Options:
    """The wishes of one `kws train`. With `speech`, the folder of data is where it is put; `trunk`:
    checkpoint to begin with."""

    folders: Folders
    speech: Speech | None
    trunk: Path | None
    out: Path
    config: NetworkConfig
    recipe: Recipe
    reader: bool
    device: str
    resume: bool
    as_json: bool


def run(options: Options, warn: Callable[[str], None]) -> Path:
    """Trains a detector as wished, with the other processes if torchrun started several; returns
    the path of the model file.

    Raises KwsError.
    """
    path = _model_path(options.out)
    with distributed.joined(pick_device(options.device)):
        device = pick_device(options.device)
        distributed.share(options.recipe.shards)  # raises before anything is read
        if options.folders.mine and distributed.size() > 1:
            raise DataError(
                "--mine works in one process only. Train without torchrun, or without --mine."
            )
        if options.speech and distributed.size() > 1:
            raise DataError("--from-text works in one process only. Train without torchrun.")
        # Before minutes of speaking end at a wrong path.
        check(options.config.words, options.folders)
        folders = (
            _mining(options.folders, options.config.words) if options.speech else options.folders
        )
        rounds = (options.recipe, second(options.recipe)) if folders.mine else (options.recipe,)
        start = (
            with_trunk(options.config, options.trunk, options.recipe.seed)
            if options.trunk
            else None
        )
        card = pretrained.card(options.trunk) if options.trunk else {}
        readings = _readings(options) if options.reader and not options.speech else (None,)
        with _telling(rounds, options.as_json, path, options.resume, warn) as teller:
            if options.speech:
                folders = spoken(options.speech, folders, say=teller.say, warn=warn)
                readings = (_reading(options.speech, warn),)
            material = gather(
                options.config.words,
                folders,
                warn=distributed.by_first(warn),
                progress=teller.reading,
            )
            place = (
                f"{distributed.size()} × {device.type}" if distributed.size() > 1 else device.type
            )
            teller.say(f"{_amount(material)}, on {place}")
            learn = train_in_rounds if folders.mine else train
            document = learn(
                material,
                options.config,
                options.recipe,
                path,
                device=device,
                resume=options.resume,
                start=start,
                hooks=teller.hooks,
                card=card,
                readings=readings,
            )
            if document:
                for line in _summary(document, path):
                    teller.say(line)
                if options.speech:
                    teller.say(
                        f"{_page(path, material, folders, warn)}: what it misses and where it "
                        "fires, to look at and to listen to"
                    )
    return path


def _page(path: Path, material: Material, folders: Folders, warn: Callable[[str], None]) -> Path:
    """An evaluation of the model by what was held out, as a page beside it."""
    from kws.training.evaluate import command
    from kws.training.evaluate.test_streams import CLEAN

    wishes = command.Options(
        positives=folders.data,
        negatives=folders.negatives,
        background=(),
        snrs_db=(CLEAN, 10.0),
        stream_seconds=10.0,
        positions=(),
        part="validation",
        seed=0,
        as_json=False,
        html=path.with_suffix(".html"),
    )
    heldout = {clip.path: clip for bank in material.heldout_negatives for clip in bank.clips}
    command.evaluate(
        Spotter.load(path),
        [word.bank for word in material.heldout_words],
        [*heldout.values()],
        wishes,
        warn,
    )
    return path.with_suffix(".html")


def _mining(folders: Folders, words: Sequence[str]) -> Folders:
    """What fires in the negatives is mined unless other recordings are given for it, if not all of
    them were held out."""
    if folders.mine:
        return folders
    minable = any(clip.part == "train" for clip in without_words(folders.negatives, words)[0])
    return replace(folders, mine=folders.negatives if minable else ())


def _reading(speech: Speech, warn: Callable[[str], None]) -> pretrained.Reading | None:
    """That of a word that is spoken: for certain, as only people's recordings could tell whether
    it helps."""
    try:
        return pretrained.reading({speech.name: speech.sounds})
    except SynthError as error:
        warn(f"the model gets no reader, which would avoid false alarms: {error}")
        return None


def _readings(options: Options) -> Sequence[pretrained.Reading | None]:
    """Of words that people recorded. Raises SynthError where nobody knows how they are pronounced,
    DataError where nothing reads."""
    found = pretrained.readings(
        {word: pronunciations(word.replace("_", " ")) for word in options.config.words}
    )
    if len(found) == 1:
        raise DataError(
            f"models/{pretrained.READER}, which comes with kws, is not there. "
            "Install kws anew, or train without --reader."
        )
    return found


def sort(options: command.Options, as_json: bool, warn: Callable[[str], None]) -> Path:
    """Trains on the clips of a protocol as wished, otherwise like `run`."""
    path = _model_path(options.out)
    with (
        distributed.joined(pick_device(options.device)),
        _telling((options.recipe,), as_json, path, options.resume, warn) as teller,
    ):
        told = command.train(options, teller.hooks, warn, teller.reading)
        for line in told:
            teller.say(line)
    return path


def _model_path(path: Path) -> Path:
    """Checked before hours of training end at a place that cannot be written."""
    if path.suffix != ".onnx":
        raise DataError(f"{path}: a model file is named NAME.onnx. Change --out.")
    check_place(path)
    return path


@contextmanager
def _telling(
    rounds: Sequence[Recipe], as_json: bool, path: Path, resume: bool, warn: Callable[[str], None]
) -> Iterator["_Teller"]:
    """Around a training: Ctrl-C waits for the end of a step, and what was saved is said."""
    teller = _Teller(rounds, as_json, warn)
    try:
        with teller.interrupts:
            yield teller
    except KeyboardInterrupt:
        teller.say(_stopped(teller.checkpoint(path), teller.last_epoch, resume))
        raise
    finally:
        teller.close()


def _amount(material: Material) -> str:
    seconds = (
        sum(word.bank.seconds for word in material.words),
        sum(source.bank.seconds for source in material.negatives),
    )
    return f"{seconds[0] / 60:.1f} min of the word, {seconds[1] / 3600:.2f} h of other sounds"


def _stopped(checkpoint: Path, last_epoch: int, resumed: bool) -> str:
    """A checkpoint that this run did not write may be that of another one."""
    if last_epoch:
        return f"stopped; {checkpoint} holds the last whole epoch, go on with --resume"
    return (
        "stopped before the first epoch was "
        f"saved{f'; {checkpoint} is as it was' if resumed else ''}"
    )


class _Teller:
    """A bar of steps and a line per epoch on stderr, or one JSON object per epoch on stdout; of
    several processes the first alone.

    Ctrl-C waits for the end of a step.
    """

    def __init__(self, rounds: Sequence[Recipe], as_json: bool, warn: Callable[[str], None]):
        self.interrupts = Interrupts(self._stopping)
        self.last_epoch = 0  # that this run saved
        self._as_json = as_json
        self._steps_per_epoch = rounds[0].steps_per_epoch
        # Epochs with which a round ends.
        self._ends = tuple(accumulate(recipe.epochs for recipe in rounds))
        self._visible = sys.stderr.isatty() and distributed.first()
        steps = self._ends[-1] * self._steps_per_epoch
        self._bar = tqdm(
            total=steps,
            unit="step",
            file=sys.stderr,
            disable=not self._visible,
            leave=False,
            delay=0.1,
        )
        self.hooks = Hooks(
            step=self._step, epoch=self._epoch, say=self.say, warn=warn, listening=self._listening
        )

    def reading(self, clips: Iterable) -> Iterable:
        return tqdm(
            clips,
            desc="reading",
            unit="clip",
            file=sys.stderr,
            disable=not self._visible,
            leave=False,
        )

    def say(self, text: str) -> None:
        if distributed.first():
            self._bar.write(escaped(text), file=sys.stderr)

    def close(self) -> None:
        self._bar.close()

    def checkpoint(self, path: Path) -> Path:
        """That of a model file, or of its first round where this is not over."""
        first = len(self._ends) > 1 and self.last_epoch <= self._ends[0]
        return (first_path(path) if first else path).with_suffix(".pt")

    @contextmanager
    def _listening(self, paths: Sequence[Path]) -> Iterator[Callable[[float], None]]:
        progress = Progress(map(recordings.duration_seconds, paths))
        try:
            yield progress.heard
        finally:
            progress.close()

    @staticmethod
    def _stopping() -> None:
        if not distributed.first():
            return
        # From inside a signal handler: Python's own stderr may be in the middle of a line.
        with suppress(OSError):
            os.write(2, b"\nstopping after this step (Ctrl-C again: now)\n")

    def _step(self, step: int, loss: float) -> None:
        last = (step + 1) % self._steps_per_epoch == 0
        # Then comes validation, for which the other processes wait.
        self.interrupts.patient = not (last and distributed.first())
        self.interrupts.check()
        self._bar.n = step + 1
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(0)

    def _epoch(self, entry: dict) -> None:
        self.last_epoch = entry["epoch"]
        self._tell(entry)
        self.interrupts.patient = entry["epoch"] not in self._ends  # after these comes calibration
        self.interrupts.check()

    def _tell(self, entry: dict) -> None:
        if self._as_json:
            print(json.dumps(entry), flush=True)
            return
        self.say(
            f"epoch {entry['epoch']:3d} of {self._ends[-1]}  loss {entry['loss']:.3f}  "
            f"{_validation(entry)}"
        )


def _validation(entry: dict) -> str:
    if "accuracy" in entry:
        return f"{entry['accuracy']:.2%} right (mean of the classes)"
    alarms = entry["false_alarms_per_hour"]
    return (
        f"misses {entry['miss_rate']:.1%}  "
        f"{'no other speech held out' if alarms is None else f'{alarms:.1f} false alarms/h'}"
    )


def _summary(document: dict, path: Path) -> list[str]:
    rows = document["calibration"]["rows"]
    table = [
        (
            f"  {row['word']}: {row['false_alarms_per_hour']:g} false alarms/h at "
            f"{row['threshold']:.3f}, {row['miss_rate']:.1%} missed"
        )
        for row in rows
    ]
    hours = document["calibration"]["hours"]
    if not table:
        table = [
            (
                f"  too little held-out speech ({hours:.2f} h) to say how often it fires for "
                "nothing: add --negatives"
            )
        ]
    alike = document.get("neighbours")
    if alike:
        own = document["events"]["threshold"][0]
        table.append(
            f"  of {alike['clips']} clips of what sounds like it {alike['fire']} fire at "
            f"{own:.3f}, its own threshold"
        )
    return [f"{path} (calibrated on {hours:.2f} h)", *table]
