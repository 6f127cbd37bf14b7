"""What a training reports while it runs, and how it is stopped."""

import json


class TrainingProgress:
    """Receives the progress of a training. This one shows nothing and never stops the training;
    a subclass overrides what it needs.

    Messages for people go to the logger "kws" instead.
    """

    def step(self, step: int, loss: float) -> None:
        """Called after each step, in every process. `step` counts from 0 over all epochs."""

    def epoch(self, metrics: dict) -> None:
        """Called after the checkpoint of an epoch is saved, in the first process only. `metrics`:
        epoch (from 1), loss, and what the validation measured."""

    def should_stop(self) -> bool:
        """Asked after each `step` and `epoch`; True raises KeyboardInterrupt in all processes."""
        return False


class PrintedEpochs(TrainingProgress):
    """Prints the metrics of each epoch as a line of JSON, after a name if one is given."""

    def __init__(self, name: str = ""):
        self._prefix = f"{name} " if name else ""

    def epoch(self, metrics: dict) -> None:
        print(f"{self._prefix}{json.dumps(metrics)}", flush=True)
