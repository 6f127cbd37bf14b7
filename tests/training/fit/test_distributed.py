"""Training by two processes: the same weights as one process computes from the same micro-batches,
and an error in one stops both."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from shared_training import DETECTION, TRAININGS, detection, first_gradient
from tones import write_tone_folder

from kws.errors import KwsError, ModelError
from kws.training import distributed
from kws.training.augment.waveform import seeded_generator
from kws.training.model import checkpoint
from kws.training.model.network import ScanningCNN

ROOT = Path(__file__).resolve().parents[3]


def torchrun(*args: str | Path) -> subprocess.CompletedProcess:
    """Two processes on this machine, and what they print together."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
        "OMP_NUM_THREADS": "1",
    }
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", "2", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


@dataclass(frozen=True)
class TwoProcesses:
    """The files of two processes; of each its weights, its gradients and the outcome of its
    attempts."""

    folder: Path
    ranks: list[dict]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> TwoProcesses:
    folder = tmp_path_factory.mktemp("shared")
    done = torchrun(ROOT / "tests" / "support" / "shared_training.py", folder)
    assert done.returncode == 0, done.stderr
    return TwoProcesses(folder, [checkpoint.load(folder / f"rank{rank}.pt") for rank in (0, 1)])


class TestTwoProcesses:
    @pytest.mark.parametrize("name", TRAININGS)
    def test_their_gradient_is_that_of_one_process(self, two_processes, name, tmp_path):
        gradients = first_gradient(TRAININGS[name](), tmp_path / "one.pt")
        for parameter, gradient in two_processes.ranks[0]["gradients"][name].items():
            torch.testing.assert_close(gradient, gradients[parameter], atol=1e-7, rtol=1e-4)

    @pytest.mark.parametrize("name", TRAININGS)
    def test_their_losses_are_those_of_one_process(self, two_processes, name, tmp_path):
        one = TRAININGS[name]().run(tmp_path / "one.pt").history
        two = checkpoint.load(two_processes.folder / f"{name}.pt")["history"]
        assert [entry["loss"] for entry in two] == pytest.approx(
            [entry["loss"] for entry in one], rel=1e-2
        )

    @pytest.mark.parametrize("name", TRAININGS)
    def test_they_have_the_same_weights(self, two_processes, name):
        first, second = (rank["weights"][name] for rank in two_processes.ranks)
        assert all(torch.equal(first[parameter], second[parameter]) for parameter in first)

    def test_one_process_resumes_their_checkpoint(self, two_processes, tmp_path):
        saved = checkpoint.load(two_processes.folder / "a.pt")
        assert len(saved.pop("history")) == 1
        (tmp_path / "a.pt").write_bytes((two_processes.folder / "a.pt").read_bytes())
        history = detection().run(tmp_path / "a.pt").history
        uninterrupted = checkpoint.load(two_processes.folder / "detection.pt")["history"]
        assert [entry["loss"] for entry in history] == pytest.approx(
            [entry["loss"] for entry in uninterrupted], rel=1e-2
        )

    @pytest.mark.parametrize(
        ("attempt", "first", "second"),
        [
            ("interrupted", "KeyboardInterrupt: ", "KeyboardInterrupt: "),
            (
                "failed",
                "DataError: the disk is full",
                "KwsError: process 1 stopped because another one failed. See its message.",
            ),
            (
                "uneven",
                "KwsError: 2 processes cannot share 3 micro-batches evenly. "
                "Use --accumulate 2, or a multiple of it.",
                "KwsError: 2 processes cannot share 3 micro-batches evenly. "
                "Use --accumulate 2, or a multiple of it.",
            ),
        ],
    )
    def test_an_error_in_one_stops_both(self, two_processes, attempt, first, second):
        assert [rank["outcomes"][attempt] for rank in two_processes.ranks] == [first, second]


def test_command_prints_and_writes_once(tmp_path):
    data = write_tone_folder(tmp_path / "data", 12)
    options = ("--data", data, "--out", tmp_path / "rise.kws", "--json", "--device", "cpu")
    length = ("--epochs", "2", "--steps-per-epoch", "1")
    done = torchrun("-m", "kws", "train", "rise", *options, *length)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["epoch"] for line in done.stdout.splitlines()] == [1, 2]
    assert "of other sounds, on 2 × cpu" in done.stderr
    assert done.stderr.count("calibrated on") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "rise.kws", "rise.pt"]
    saved = checkpoint.load(tmp_path / "rise.pt")
    assert saved["train_config"]["accumulate"] == 2
    assert saved["provenance"]["command"].startswith(
        "torchrun --nproc-per-node 2 -m kws train rise --data "
    )


class RecordedIndices(torch.utils.data.Dataset):
    """A data set that keeps the numbers of the batches it gave."""

    def __init__(self, batches: torch.utils.data.Dataset):
        self.batches, self.indices = batches, []

    def __getitem__(self, index: int) -> tuple:
        self.indices.append(index)
        return self.batches[index]


@pytest.mark.parametrize(("accumulate", "indices"), [(1, [0, 1]), (3, [0, 1, 2, 3, 4, 5])])
def test_every_micro_batch_of_every_step_is_another_batch(tmp_path, accumulate, indices):
    training = detection(replace(DETECTION, accumulate=accumulate, epochs=1, steps_per_epoch=2))
    recorded = RecordedIndices(training.batches)
    replace(training, batches=recorded).run(tmp_path / "a.pt")
    assert recorded.indices == indices


def test_the_gradient_of_a_step_is_the_mean_over_its_micro_batches(tmp_path):
    training = detection(replace(DETECTION, accumulate=3))
    torch.manual_seed(training.train_config.seed)  # as the training begins
    network = ScanningCNN(training.config).train()
    for index in range(3):
        generator = seeded_generator(training.train_config.seed, index)
        prepared = training.objective.prepare(training.batches[index], generator)
        (1e-3 * training.objective.loss(network, prepared) / 3).backward()
    for name, gradient in first_gradient(training, tmp_path / "a.pt").items():
        torch.testing.assert_close(gradient, network.get_parameter(name).grad)


class TestOneProcess:
    def test_without_torchrun_there_is_one(self):
        with distributed.init_distributed(torch.device("cpu")):
            assert distributed.launched_world_size() == distributed.world_size() == 1
            assert distributed.rank() == 0
            assert distributed.is_rank_zero()
            assert distributed.local_micro_batches(3) == range(3)

    def test_an_error_passes_unchanged(self):
        with pytest.raises(KeyboardInterrupt), distributed.raise_on_any_rank():
            raise KeyboardInterrupt

    @pytest.mark.parametrize(
        ("device", "message"),
        [("mps", "cannot train together on mps"), ("cuda", "this machine has 0 GPUs, too few")],
        ids=["mps", "cuda"],
    )
    def test_devices_that_cannot_be_shared(self, monkeypatch, device, message):
        launched = {
            "RANK": "1",
            "LOCAL_RANK": "1",
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": "1",
        }
        for name, value in launched.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        with (
            pytest.raises(ModelError, match=message),
            distributed.init_distributed(torch.device(device)),
        ):
            pass

    def test_micro_batches_are_shared_evenly(self, monkeypatch):
        monkeypatch.setattr(distributed, "world_size", lambda: 4)
        monkeypatch.setattr(distributed, "rank", lambda: 2)
        assert distributed.local_micro_batches(8) == range(4, 6)
        with pytest.raises(KwsError, match="4 processes cannot share 6 micro-batches evenly"):
            distributed.local_micro_batches(6)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_mixed_precision_changes_training_slightly_and_inference_not_at_all(device):
    torch.manual_seed(3)
    training = detection(replace(DETECTION, seed=1))
    network = ScanningCNN(training.config).to(device)
    audio = training.batches[0].audio.to(device)

    def logits(mixed_precision: tuple[str, ...], is_training: bool) -> torch.Tensor:
        network.mixed_precision = mixed_precision
        return network.train(is_training)(audio)[0].logits

    exact, mixed = logits((), True), logits((device,), True)
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - exact).square().mean().sqrt() < 0.02 * exact.std()
    mixed.sum().backward()
    assert all(
        parameter.grad is None or parameter.grad.isfinite().all()
        for parameter in network.parameters()
    )
    assert torch.equal(logits((), False), logits((device,), False))
