"""What a training shows: a bar of steps, a line or a JSON object per epoch; and Ctrl-C."""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from kws.errors import DataError
from kws.files import check_writable
from kws.terminal.interrupts import Interrupts
from kws.terminal.progress import progress_bar
from kws.training import distributed
from kws.training.fit.config import TrainConfig
from kws.training.fit.progress import TrainingProgress

logger = logging.getLogger("kws")


@dataclass(frozen=True)
class Stage:
    """One training run, and the checkpoint that it writes."""

    train_config: TrainConfig
    checkpoint: Path


class TrainingReporter(TrainingProgress):
    """Shows a bar of steps and a line per epoch on stderr, or prints one JSON object per epoch on
    stdout; of several processes the first alone.

    Ctrl-C waits for the end of a step. It stops validation, export and calibration at once.
    """

    def __init__(self, stages: Sequence[Stage], *, as_json: bool):
        self.interrupts = Interrupts(self._announce_stop)
        self._stages = stages
        self._as_json = as_json
        self.last_epoch = 0  # that this run has saved
        self._last_epochs = tuple(accumulate(stage.train_config.epochs for stage in stages))
        self._steps_per_epoch = stages[0].train_config.steps_per_epoch
        self._bar = progress_bar(
            None,
            "",
            unit="step",
            total=self._last_epochs[-1] * self._steps_per_epoch,
            visible=distributed.is_rank_zero(),
        )

    def close(self) -> None:
        self._bar.close()

    def reading(self, clips: Iterable) -> Iterable:
        """The clips, with a bar while they are read."""
        return progress_bar(clips, "reading", unit="clip", visible=distributed.is_rank_zero())

    def step(self, step: int, loss: float) -> None:
        is_last = (step + 1) % self._steps_per_epoch == 0
        # The first process validates after the last step, while the others wait.
        self.interrupts.graceful = not (is_last and distributed.is_rank_zero())
        self._bar.n = step + 1
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(0)

    def epoch(self, metrics: dict) -> None:
        self.last_epoch = metrics["epoch"]
        if self._as_json:
            print(json.dumps(metrics), flush=True)
        else:
            logger.info(
                f"epoch {metrics['epoch']:3d} of {self._last_epochs[-1]}  "
                f"loss {metrics['loss']:.3f}  {_format_validation(metrics)}"
            )
        # Calibration follows the last epoch of a stage.
        self.interrupts.graceful = metrics["epoch"] not in self._last_epochs

    def should_stop(self) -> bool:
        return self.interrupts.requested

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the stage that has been reached."""
        stages = zip(self._stages, self._last_epochs, strict=True)
        return next(stage.checkpoint for stage, last in stages if self.last_epoch <= last)

    @staticmethod
    def _announce_stop() -> None:
        if not distributed.is_rank_zero():
            return
        # From inside a signal handler: Python's own stderr may be in the middle of a line.
        with suppress(OSError):
            os.write(2, b"\nstopping after this step (Ctrl-C again: now)\n")


@contextmanager
def report_training(
    stages: Sequence[Stage], *, as_json: bool, resume: bool
) -> Iterator[TrainingReporter]:
    """Around a training: shows its progress, and says on Ctrl-C what is saved."""
    reporter = TrainingReporter(stages, as_json=as_json)
    try:
        with reporter.interrupts:
            yield reporter
    except KeyboardInterrupt:
        logger.info(_stop_message(reporter, resume))
        raise
    finally:
        reporter.close()


def _stop_message(reporter: TrainingReporter, resume: bool) -> str:
    if reporter.last_epoch:
        return f"stopped; {reporter.checkpoint} holds the last complete epoch, go on with --resume"
    # A checkpoint that this run did not write may be that of another one.
    note = f"; {reporter.checkpoint} is as it was" if resume else ""
    return f"stopped before the first epoch was saved{note}"


def _format_validation(metrics: dict) -> str:
    if "accuracy" in metrics:
        return f"accuracy {metrics['accuracy']:.2%} (mean of the classes)"
    rate = metrics["false_alarms_per_hour"]
    alarms = "no other speech held out" if rate is None else f"{rate:.1f} false alarms/h"
    return f"miss rate {metrics['miss_rate']:.1%}  {alarms}"


def check_model_path(path: Path) -> None:
    """Raises KwsError where the model cannot be written, before hours of training."""
    if path.suffix != ".kws":
        raise DataError(f"{path}: a model file is named NAME.kws. Change --out.")
    check_writable(path)
