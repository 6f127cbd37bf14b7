"""Trains and evaluates BC-ResNet (arXiv 2106.04140) on the clips that the networks of kws learn
from.

    python benchmarks/speech_commands/bc_resnet.py --data DATA --runs RUNS [--protocol sc-8]
        [--width 3] [--seeds 0 1 2] [--epochs 40]
    python benchmarks/speech_commands/bc_resnet.py --data DATA --runs RUNS --evaluate

DATA as for classifiers.py. With the same protocol, seed and number of epochs as there, a run sees
the same clips in the same order, and as many: the batches are those of classifiers.py, with the
same shift, tempo, rooms, filters, noise, gain, mixup and smoothed targets. From the paper are the
network, its features, SpecAugment (two masks over bands, at most 5 wide at width 3 and 7 at width
8, and two over time, at most 25 frames; they show the mean of the clip), and the training: SGD with
momentum 0.9, weight decay 0.001, a learning rate of 0.1 after a warm-up over 1/40 of the steps,
then half a cosine. The weights are random at first, and are not averaged.

RUNS keeps a checkpoint per run, written after each epoch. Runs that are finished are not trained
again; one that was stopped is resumed. --evaluate uses the test split.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.report import add_out_option, write_report
from benchmarks.speech_commands.bc_resnet_network import MELS, BCResNet, LogMelSpectrogram
from benchmarks.speech_commands.classifiers import (
    PARTS,
    TrainingData,
    load_protocol,
    load_training_data,
)
from kws.training.augment.config import SpecAugmentConfig
from kws.training.augment.rooms import simulate_room_responses
from kws.training.augment.spec_augment import draw_spec_masks
from kws.training.augment.waveform import seeded_generator
from kws.training.data.dataset import concatenate_datasets
from kws.training.fit.config import bfloat16_devices
from kws.training.model import checkpoint
from kws.training.speech_commands.accuracy import evaluate_sets, format_report
from kws.training.speech_commands.batches import ClassificationBatch, ClassificationBatches
from kws.training.speech_commands.config import ClassifierTrainConfig
from kws.training.speech_commands.dataset import CLIP_SAMPLES, LabeledClips
from kws.training.speech_commands.objective import augment_and_mix
from kws.training.speech_commands.predict import PREDICTION_BATCH, balanced_accuracy
from kws.training.speech_commands.protocols import Protocol
from kws.training.speech_commands.train import ROOM_COUNT
from kws.training.speech_commands.unknowns import cut_speech_clips

MAX_MASK_BANDS = {3: 5, 8: 7}  # by width
MAX_MASK_FRAMES = 25
MOMENTUM = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--protocol", choices=PARTS, default="sc-8")
    parser.add_argument("--width", type=int, choices=MAX_MASK_BANDS, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=ClassifierTrainConfig.epochs)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--evaluate", action="store_true", help="evaluate the runs in RUNS")
    add_out_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    protocol = load_protocol(args.protocol, args.data)
    rows = evaluate_runs(args, protocol) if args.evaluate else train_runs(args, protocol)
    write_report({"runs": rows}, args.out)


def train_runs(args: argparse.Namespace, protocol: Protocol) -> list[dict]:
    """Trains a run with each seed. Prints a line of JSON for each."""
    data, rows = load_training_data(args.data), []
    for seed in args.seeds:
        name = f"{args.protocol}-bc_resnet{args.width}-{args.epochs}-seed{seed}"
        train_config = make_train_config(args.epochs, seed)
        run = Run.begin_or_resume(
            args.runs / f"{name}.pt", args.width, train_config, protocol, args.device
        )
        start = time.perf_counter()
        train(run, protocol, data)
        predicted = predict(run.network, protocol.validation)
        rows.append(
            {
                "run": name,
                "parameters": count_parameters(run.network),
                "clips_seen": train_config.steps * train_config.batch,
                "validation_accuracy": round(balanced_accuracy(protocol.validation, predicted), 4),
                "minutes": round((time.perf_counter() - start) / 60, 1),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def make_train_config(epochs: int, seed: int) -> ClassifierTrainConfig:
    """Examples as for a classifier of kws, and the learning rate of the paper."""
    return ClassifierTrainConfig(
        epochs=epochs,
        learning_rate=0.1,
        weight_decay=1e-3,
        warmup=1 / 40,
        mixed_precision=bfloat16_devices(),
        seed=seed,
    )


@dataclass
class Run:
    """A training between two epochs, and the file that keeps it."""

    path: Path
    width: int
    protocol: str
    classes: tuple[str, ...]
    train_config: ClassifierTrainConfig
    network: BCResNet
    optimiser: torch.optim.SGD
    finished_epochs: int

    @classmethod
    def begin_or_resume(
        cls,
        path: Path,
        width: int,
        train_config: ClassifierTrainConfig,
        protocol: Protocol,
        device: str,
    ) -> "Run":
        torch.manual_seed(train_config.seed)
        network = BCResNet(width, len(protocol.classes)).to(device)
        optimiser = torch.optim.SGD(
            network.parameters(),
            lr=train_config.learning_rate,
            momentum=MOMENTUM,
            weight_decay=train_config.weight_decay,
        )
        run = cls(path, width, protocol.name, protocol.classes, train_config, network, optimiser, 0)
        if path.exists():
            saved = checkpoint.load(path)
            network.load_state_dict(saved["network"])
            optimiser.load_state_dict(saved["optimiser"])
            run.finished_epochs = saved["finished_epochs"]
        return run

    def save(self) -> None:
        checkpoint.save(
            {
                "protocol": self.protocol,
                "width": self.width,
                "classes": list(self.classes),
                "finished_epochs": self.finished_epochs,
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
            self.path,
        )


def train(run: Run, protocol: Protocol, data: TrainingData) -> None:
    """Trains from where the run stands to its last epoch."""
    config = run.train_config
    device = run.network.classifier.weight.device
    room_responses = simulate_room_responses(ROOM_COUNT, np.random.default_rng(0))
    rooms = torch.from_numpy(room_responses).to(device)
    features = LogMelSpectrogram().to(device)
    masks = SpecAugmentConfig(2, MAX_MASK_BANDS[run.width], 2, MAX_MASK_FRAMES)
    steps = range(run.finished_epochs * config.steps_per_epoch, config.steps)
    batches = DataLoader(
        make_batches(protocol, data, config), batch_size=None, sampler=steps, num_workers=1
    )
    losses: list[float] = []
    run.network.train()
    for step, batch in zip(steps, batches, strict=True):
        generator = seeded_generator(config.seed, step)
        torch.manual_seed(generator.initial_seed())  # of dropout: a resumed run draws the same
        log_mel, targets = prepare(
            batch.to(device),
            rooms,
            features,
            len(run.classes),
            config,
            masks,
            generator,
        )
        is_mixed = device.type in config.mixed_precision
        with torch.autocast(device.type, torch.bfloat16, enabled=is_mixed):
            logits = run.network(log_mel)
        loss = F.cross_entropy(logits.float(), targets)
        run.optimiser.zero_grad()
        loss.backward()
        for group in run.optimiser.param_groups:
            group["lr"] = config.learning_rate_at(step)
        run.optimiser.step()
        losses.append(loss.item())
        if len(losses) == config.steps_per_epoch:
            run.finished_epochs += 1
            run.save()
            mean_loss = round(float(np.mean(losses)), 5)
            print(json.dumps({"epoch": run.finished_epochs, "loss": mean_loss}), flush=True)
            losses = []


def make_batches(
    protocol: Protocol, data: TrainingData, config: ClassifierTrainConfig
) -> ClassificationBatches:
    """The batches of a classifier of kws, of clips of one second."""
    return ClassificationBatches(
        protocol.train,
        protocol.classes,
        concatenate_datasets([protocol.noise, *data.background]),
        cut_speech_clips(data.other_speech, {*protocol.train.words} - {""}),
        CLIP_SAMPLES,
        config,
    )


def prepare(
    batch: ClassificationBatch,
    rooms: Tensor,
    features: nn.Module,
    class_count: int,
    config: ClassifierTrainConfig,
    masks: SpecAugmentConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Masked log-mel energies [B, MELS, T] of a batch, and its targets [B, class_count]."""
    audio, targets = augment_and_mix(batch, rooms, CLIP_SAMPLES, class_count, config, generator)
    log_mel = features(audio)
    mask = draw_spec_masks(len(log_mel), MELS, log_mel.shape[-1], masks, generator)
    mean = log_mel.mean((1, 2), keepdim=True)
    return mean + mask.to(log_mel.device) * (log_mel - mean), targets


@torch.no_grad()
def predict(network: BCResNet, part: LabeledClips) -> np.ndarray:
    """Class of each clip [n]."""
    network.eval()
    device = network.classifier.weight.device
    features = LogMelSpectrogram().to(device)
    classes = []
    for start in range(0, len(part), PREDICTION_BATCH):
        clips = torch.from_numpy(part.samples[start : start + PREDICTION_BATCH]).to(device)
        classes.append(network(features(clips.float() / 32768)).argmax(1).cpu().numpy())
    return np.concatenate(classes)


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def evaluate_runs(args: argparse.Namespace, protocol: Protocol) -> list[dict]:
    """Evaluates all runs of the protocol on the test split. Prints the metrics of each."""
    rows = []
    for path in sorted(args.runs.glob(f"{args.protocol}-bc_resnet*.pt")):
        saved = checkpoint.load(path)
        network = BCResNet(saved["width"], len(saved["classes"])).to(args.device)
        network.load_state_dict(saved["network"])
        metrics = {
            "protocol": protocol.name,
            "trained_protocol": saved["protocol"],
            "test_set": protocol.test_set_description,
            "parameters": count_parameters(network),
            "finished_epochs": saved["finished_epochs"],
            "sets": evaluate_sets(protocol, partial(predict, network)),
        }
        print(path.stem, format_report(metrics), sep="\n", flush=True)
        rows.append({"run": path.stem, **metrics})
    return rows


if __name__ == "__main__":
    main()
