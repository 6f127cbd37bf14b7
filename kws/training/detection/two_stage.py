"""Training in two rounds: the second goes on from the first, and learns besides from what fired in
it (see `kws.training.fit.hard_negatives`).

    NAME.first.pt, .onnx    the first round, a model of its own
    NAME.mined.csv          what fired in it, highest score first: file, seconds, word, score
    NAME.pt, .onnx          the second round

Each round is a whole run with a schedule of its own, so both resume bit for bit. The list is made
when the first round is over, and belongs to it: a run that goes on takes the list as it is. So
whoever deletes lines of it and resumes has the second round alone learned again, without them;
whoever deletes the file has it made anew. A run that does not resume makes everything anew.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from kws.audio.folders import beside
from kws.errors import DataError, KwsError
from kws.runtime.engine import OnnxEngine
from kws.runtime.spotter import Spotter
from kws.terminal.printers import replace_file
from kws.training.data.keyword_data import Material
from kws.training.detection.train import Hooks, train
from kws.training.fit.hard_negatives import (
    Finding,
    cut,
    fingerprint,
    mine,
    read_findings,
    with_mined,
    write_findings,
)
from kws.training.fit.trainer import Recipe
from kws.training.model import checkpoint
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.pretrained import Reading
from kws.training.model.torch_engine import load_network


def second(recipe: Recipe) -> Recipe:
    """The recipe of the second round: half as long as the first, a third of its learning rate,
    other examples."""
    return replace(
        recipe,
        epochs=max(recipe.epochs // 2, 1),
        learning_rate=recipe.learning_rate / 3,
        seed=recipe.seed + 1,
    )


def first_path(path: Path) -> Path:
    return beside(path, ".first.onnx")


def list_path(path: Path) -> Path:
    return beside(path, ".mined.csv")


def train_in_rounds(
    material: Material,
    config: NetworkConfig,
    recipe: Recipe,
    path: Path,
    *,
    device: torch.device,
    hooks: Hooks,
    resume: bool = False,
    start: ScanningCNN | None = None,
    card: dict[str, Any] | None = None,
    readings: Sequence[Reading | None] = (None,),
    workers: int = 1,
) -> dict | None:
    """As `kws.training.detection.train.train`, in two rounds. `recipe` and `start` are of the first; the
    epochs told of are counted through."""
    first, then = first_path(path), second(recipe)
    document = train(
        material,
        config,
        recipe,
        first,
        device=device,
        resume=resume,
        start=start,
        hooks=hooks,
        card=card,
        readings=readings,
        workers=workers,
    )
    findings = _findings(material, path, hooks)
    if not findings:
        hooks.say(f"nothing to learn from in a second round; {path} is the model of the first")
        for suffix in (".pt", ".onnx"):
            replace_file(path.with_suffix(suffix), first.with_suffix(suffix).read_bytes())
        return document
    with hooks.listening(list(dict.fromkeys(finding.file for finding in findings))) as heard:
        mined = cut(findings, heard)
    material = replace(material, negatives=with_mined(material.negatives, mined))
    return train(
        material,
        config,
        then,
        path,
        device=device,
        resume=resume and _is_of(path.with_suffix(".pt"), then, material),
        start=load_network(first.with_suffix(".pt")),
        hooks=_counted_through(hooks, recipe),
        card={
            **(card or {}),
            "mined": {
                "stretches": len(mined),
                "seconds": round(mined.seconds, 1),
                "first_round": asdict(recipe),
            },
        },
        readings=readings,
        workers=workers,
    )


def _findings(material: Material, path: Path, hooks: Hooks) -> list[Finding]:
    """What the list holds, if it is of this first round; else what its network finds, written to
    the list."""
    listed, state = list_path(path), first_path(path).with_suffix(".pt")
    saved, mined = checkpoint.load(state), fingerprint(material.mined)
    if saved.get("mined") and listed.exists():
        if saved["mined"] not in (mined, True):  # True: of before it said more
            raise DataError(
                f"{listed}: is of other recordings than those of --mine now. "
                "Give the same, or delete it to have it made anew."
            )
        findings = read_findings(listed)
        hooks.say(f"{listed}: {len(findings)} stretches to learn from")
        return findings
    hooks.say(f"listening to {len(material.mined):,} recordings for what fires")
    with hooks.listening([clip.path for clip in material.mined]) as heard:
        findings, seconds = mine(
            _alone(first_path(path)), material.mined, warn=hooks.warn, heard=heard
        )
    write_findings(findings, listed)
    checkpoint.save({**saved, "mined": mined}, state)
    hooks.say(f"{len(findings)} stretches in {seconds / 3600:.2f} h fire or nearly do")
    if findings:
        hooks.say(
            f"{listed} lists them, the highest scores first. "
            "Listen to those: where the word is really said, delete the line and run "
            "the same command with --resume; the second round is learned again without it."
        )
    return read_findings(listed)


def _alone(path: Path) -> Spotter:
    """The network of a model by itself: what it takes for the word is its lesson, even where a
    reader would have known better."""
    engine = OnnxEngine(str(path), alone=True)
    return Spotter(engine, engine.info.events)


def _is_of(state: Path, recipe: Recipe, material: Material) -> bool:
    """Whether a checkpoint is of this second round, and not of one with other stretches."""
    try:
        saved = checkpoint.load(state)
    except KwsError:
        return False
    # Mixed precision goes on as it began.
    begun = {**saved.get("recipe", {}), "mixed_precision": recipe.mixed_precision}
    return (begun, saved.get("fingerprint")) == (asdict(recipe), material.fingerprint())


def _counted_through(hooks: Hooks, before: Recipe) -> Hooks:
    """Hooks for a round after another."""
    return replace(
        hooks,
        step=lambda step, loss: hooks.step(before.epochs * before.steps_per_epoch + step, loss),
        epoch=lambda entry: hooks.epoch({**entry, "epoch": before.epochs + entry["epoch"]}),
        say=lambda text: hooks.say(f"second round: {text}"),
    )
