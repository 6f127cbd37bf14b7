"""What `kws train` does with its options: reads the folders, trains, and tells a person or a
program how it goes."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from tqdm import tqdm

from kws.errors import DataError
from kws.files import check_writable
from kws.runtime.spotter import Spotter
from kws.synth.confusables import pronunciations
from kws.synth.engines.base import SynthError
from kws.terminal.interrupts import Interrupts
from kws.training import distributed
from kws.training.data.clips import exclude_words
from kws.training.data.keyword_data import DataFolders, KeywordData, check, load_keyword_data
from kws.training.detection.from_text import SynthConfig, synthesize_folders
from kws.training.detection.train import train
from kws.training.detection.two_stage import first_stage_path, second_stage_config, train_two_stage
from kws.training.fit.config import TrainConfig
from kws.training.fit.progress import TrainingProgress
from kws.training.model import pretrained
from kws.training.model.network import NetworkConfig
from kws.training.model.pretrained import init_from_pretrained
from kws.training.model.torch_engine import pick_device
from kws.training.speech_commands import command

logger = logging.getLogger("kws")


@dataclass(frozen=True)
class Options:
    """The wishes of one `kws train`. With `speech`, the folder of data is where it is put; `init_from`:
    checkpoint to begin with."""

    folders: DataFolders
    speech: SynthConfig | None
    init_from: Path | None
    out: Path
    config: NetworkConfig
    train_config: TrainConfig
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
    with distributed.init_distributed(pick_device(options.device)):
        device = pick_device(options.device)
        distributed.local_micro_batches(
            options.train_config.accumulate
        )  # raises before anything is read
        if options.folders.hard_negatives and distributed.world_size() > 1:
            raise DataError(
                "--hard-negatives-from works in one process only. Train without torchrun, or without --hard-negatives-from."
            )
        if options.speech and distributed.world_size() > 1:
            raise DataError("--from-text works in one process only. Train without torchrun.")
        # Before minutes of speaking end at a wrong path.
        check(options.config.words, options.folders)
        folders = (
            _default_mining_folders(options.folders, options.config.words)
            if options.speech
            else options.folders
        )
        rounds = (
            (options.train_config, second_stage_config(options.train_config))
            if folders.hard_negatives
            else (options.train_config,)
        )
        init_from = (
            init_from_pretrained(options.config, options.init_from, options.train_config.seed)
            if options.init_from
            else None
        )
        model_card = pretrained.model_card(options.init_from) if options.init_from else {}
        verifier_candidates = (
            _verifiers_from_recordings(options)
            if options.reader and not options.speech
            else (None,)
        )
        with _report_training(rounds, options.as_json, path, options.resume) as reporter:
            if options.speech:
                folders = synthesize_folders(options.speech, folders)
                verifier_candidates = (_verifier_from_text(options.speech, warn),)
            keyword_data = load_keyword_data(
                options.config.words,
                folders,
                max_word_seconds=options.train_config.max_word_seconds,
                warn=warn if distributed.is_rank_zero() else lambda text: None,
                progress=reporter.reading,
            )
            place = (
                f"{distributed.world_size()} × {device.type}"
                if distributed.world_size() > 1
                else device.type
            )
            logger.info(f"{_describe_amount(keyword_data)}, on {place}")
            train_model = train_two_stage if folders.hard_negatives else train
            document = train_model(
                keyword_data,
                options.config,
                options.train_config,
                path,
                device=device,
                resume=options.resume,
                init_from=init_from,
                progress=reporter,
                model_card=model_card,
                verifier_candidates=verifier_candidates,
            )
            if document:
                for line in _summary(document, path):
                    logger.info(line)
                if options.speech:
                    logger.info(
                        f"{_write_report(path, keyword_data, folders, warn)}: what it misses and where it "
                        "fires, to look at and to listen to"
                    )
    return path


def _write_report(
    path: Path, keyword_data: KeywordData, folders: DataFolders, warn: Callable[[str], None]
) -> Path:
    """An evaluation of the model by what was held out, as a page beside it."""
    from kws.cli import evaluate_run
    from kws.training.evaluate.test_streams import CLEAN

    evaluate_options = evaluate_run.EvaluateOptions(
        positives=folders.data,
        negatives=folders.negatives,
        background=(),
        snrs_db=(CLEAN, 10.0),
        stream_seconds=10.0,
        positions=(),
        split="validation",
        seed=0,
        as_json=False,
        html=path.with_suffix(".html"),
    )
    heldout = {
        clip.path: clip for dataset in keyword_data.heldout_negatives for clip in dataset.clips
    }
    evaluate_run.evaluate(
        Spotter.load(path),
        [word.dataset for word in keyword_data.heldout_words],
        [*heldout.values()],
        evaluate_options,
        warn,
    )
    return path.with_suffix(".html")


def _default_mining_folders(folders: DataFolders, words: Sequence[str]) -> DataFolders:
    """What fires in the negatives is mined unless other recordings are given for it, if not all of
    them were held out."""
    if folders.hard_negatives:
        return folders
    has_training_clips = any(
        clip.split == "train" for clip in exclude_words(folders.negatives, words)[0]
    )
    return replace(folders, hard_negatives=folders.negatives if has_training_clips else ())


def _verifier_from_text(
    speech: SynthConfig, warn: Callable[[str], None]
) -> pretrained.VerifierSpec | None:
    """That of a word that is spoken: for certain, as only people's recordings could tell whether
    it helps."""
    try:
        return pretrained.load_verifier({speech.name: speech.pronunciations})
    except SynthError as error:
        warn(f"the model gets no reader, which would avoid false alarms: {error}")
        return None


def _verifiers_from_recordings(options: Options) -> Sequence[pretrained.VerifierSpec | None]:
    """Of words that people recorded. Raises SynthError where nobody knows how they are pronounced,
    DataError where nothing reads."""
    candidates = pretrained.verifier_candidates(
        {word: pronunciations(word.replace("_", " ")) for word in options.config.words}
    )
    if len(candidates) == 1:
        raise DataError(
            f"models/{pretrained.PHONE_RECOGNIZER_FILE}, which comes with kws, is not there. "
            "Install kws anew, or train without --reader."
        )
    return candidates


def train_protocol(options: command.Options, as_json: bool, warn: Callable[[str], None]) -> Path:
    """Trains on the clips of a protocol as wished, otherwise like `run`."""
    path = _model_path(options.out)
    with (
        distributed.init_distributed(pick_device(options.device)),
        _report_training((options.train_config,), as_json, path, options.resume) as reporter,
    ):
        report_lines = command.train(options, reporter, warn, reporter.reading)
        for line in report_lines:
            logger.info(line)
    return path


def _model_path(path: Path) -> Path:
    """Checked before hours of training end at a place that cannot be written."""
    if path.suffix != ".onnx":
        raise DataError(f"{path}: a model file is named NAME.onnx. Change --out.")
    check_writable(path)
    return path


@contextmanager
def _report_training(
    rounds: Sequence[TrainConfig],
    as_json: bool,
    path: Path,
    resume: bool,
) -> Iterator["_ProgressReporter"]:
    """Around a training: Ctrl-C waits for the end of a step, and what was saved is said."""
    reporter = _ProgressReporter(rounds, as_json)
    try:
        with reporter.interrupts:
            yield reporter
    except KeyboardInterrupt:
        logger.info(_stop_message(reporter.checkpoint(path), reporter.last_epoch, resume))
        raise
    finally:
        reporter.close()


def _describe_amount(keyword_data: KeywordData) -> str:
    seconds = (
        sum(word.dataset.seconds for word in keyword_data.words),
        sum(source.dataset.seconds for source in keyword_data.negatives),
    )
    return f"{seconds[0] / 60:.1f} min of the word, {seconds[1] / 3600:.2f} h of other sounds"


def _stop_message(checkpoint: Path, last_epoch: int, resumed: bool) -> str:
    """A checkpoint that this run did not write may be that of another one."""
    if last_epoch:
        return f"stopped; {checkpoint} holds the last whole epoch, go on with --resume"
    return (
        "stopped before the first epoch was "
        f"saved{f'; {checkpoint} is as it was' if resumed else ''}"
    )


class _ProgressReporter(TrainingProgress):
    """A bar of steps and a line per epoch on stderr, or one JSON object per epoch on stdout; of
    several processes the first alone.

    Ctrl-C waits for the end of a step.
    """

    def __init__(self, rounds: Sequence[TrainConfig], as_json: bool):
        self.interrupts = Interrupts(self._announce_stop)
        self.last_epoch = 0  # that this run saved
        self._as_json = as_json
        self._steps_per_epoch = rounds[0].steps_per_epoch
        # Epochs with which a round ends.
        self._round_ends = tuple(accumulate(train_config.epochs for train_config in rounds))
        self._visible = sys.stderr.isatty() and distributed.is_rank_zero()
        steps = self._round_ends[-1] * self._steps_per_epoch
        self._bar = tqdm(
            total=steps,
            unit="step",
            file=sys.stderr,
            disable=not self._visible,
            leave=False,
            delay=0.1,
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

    def close(self) -> None:
        self._bar.close()

    def checkpoint(self, path: Path) -> Path:
        """That of a model file, or of its first round where this is not over."""
        first = len(self._round_ends) > 1 and self.last_epoch <= self._round_ends[0]
        return (first_stage_path(path) if first else path).with_suffix(".pt")

    @staticmethod
    def _announce_stop() -> None:
        if not distributed.is_rank_zero():
            return
        # From inside a signal handler: Python's own stderr may be in the middle of a line.
        with suppress(OSError):
            os.write(2, b"\nstopping after this step (Ctrl-C again: now)\n")

    def step(self, step: int, loss: float) -> None:
        last = (step + 1) % self._steps_per_epoch == 0
        # Then comes validation, for which the other processes wait.
        self.interrupts.graceful = not (last and distributed.is_rank_zero())
        self._bar.n = step + 1
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(0)

    def epoch(self, metrics: dict) -> None:
        self.last_epoch = metrics["epoch"]
        self._report_epoch(metrics)
        # After the last epoch of a stage comes calibration.
        self.interrupts.graceful = metrics["epoch"] not in self._round_ends

    def should_stop(self) -> bool:
        return self.interrupts.requested

    def _report_epoch(self, entry: dict) -> None:
        if self._as_json:
            print(json.dumps(entry), flush=True)
            return
        logger.info(
            f"epoch {entry['epoch']:3d} of {self._round_ends[-1]}  loss {entry['loss']:.3f}  "
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
    confusables = document.get("confusables")
    if confusables:
        threshold = document["events"]["threshold"][0]
        table.append(
            f"  of {confusables['clips']} clips of what sounds like it {confusables['alarms']} fire at "
            f"{threshold:.3f}, its own threshold"
        )
    return [f"{path} (calibrated on {hours:.2f} h)", *table]
