"""Training by two processes: what one process would have learned from the same shards, and no one
left waiting when one stops."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from conftest import write_tone_folder
from shared_training import DETECTION, LESSONS, detection, small

from kws.errors import KwsError, ModelError
from kws.training import distributed
from kws.training.model import checkpoint, network

ROOT = Path(__file__).resolve().parents[3]


def torchrun(*args: str | Path) -> subprocess.CompletedProcess:
    """Two processes on this machine; what they print together."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        *map(str, args),
    ]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


@dataclass(frozen=True)
class Shared:
    """What two processes left: their checkpoints, and for each process its weights and what became
    of its attempts."""

    folder: Path
    ranks: list[dict]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Shared:
    folder = tmp_path_factory.mktemp("shared")
    done = torchrun(ROOT / "tests" / "shared_training.py", folder)
    assert done.returncode == 0, done.stderr
    return Shared(folder, [checkpoint.load(folder / f"rank{rank}.pt") for rank in (0, 1)])


def assert_same(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(
            tensor,
            theirs[name],
            atol=1e-5,
            rtol=1e-5,
            msg=lambda text, name=name: f"{name}: {text}",
        )


class TestTwoProcesses:
    @pytest.mark.parametrize("lesson", LESSONS)
    def test_they_learn_what_one_learns_from_the_same_shards(self, shared, lesson, tmp_path):
        one = LESSONS[lesson]().run(tmp_path / "one.pt")
        two = checkpoint.load(shared.folder / f"{lesson}.pt")
        assert_same(one.network.state_dict(), two["network"])  # batch norms' running statistics too
        assert_same(one.ema_network.state_dict(), two["ema_network"])
        assert [entry["loss"] for entry in one.history] == pytest.approx(
            [entry["loss"] for entry in two["history"]], abs=2e-5
        )

    def test_a_network_of_full_size_loses_as_much_in_its_first_step(self, shared, tmp_path):
        """After that AdamW makes steps of what is nothing but rounding in so many
        weights (docs/explanation/training-objective.md)."""
        one, two = small().run(tmp_path / "one.pt"), checkpoint.load(shared.folder / "small.pt")
        assert one.history[0]["loss"] == pytest.approx(two["history"][0]["loss"], abs=1e-4)

    @pytest.mark.parametrize("lesson", LESSONS)
    def test_they_hold_the_same_weights(self, shared, lesson):
        first, second = (rank["weights"][lesson] for rank in shared.ranks)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_one_process_goes_on_where_two_stopped(self, shared, tmp_path):
        stopped = checkpoint.load(shared.folder / "stopped.pt")
        assert len(stopped["history"]) == 1
        del stopped["format"]
        checkpoint.save(stopped, tmp_path / "stopped.pt")
        assert_same(
            detection().run(tmp_path / "stopped.pt").network.state_dict(),
            shared.ranks[0]["weights"]["detection"],
        )

    @pytest.mark.parametrize(
        ("attempt", "first", "second"),
        [
            ("interrupted", "KeyboardInterrupt: ", "KeyboardInterrupt: "),
            (
                "failed",
                "DataError: the disk is full",
                "KwsError: process 1 stopped because another one did, which tells why.",
            ),
            *[
                (
                    "uneven",
                    *[
                        (
                            "KwsError: 2 processes cannot share 3 shards evenly. "
                            "Use --accumulate 2, or a multiple of it."
                        )
                    ]
                    * 2,
                )
            ],
        ],
    )
    def test_when_one_stops_all_stop(self, shared, attempt, first, second):
        assert [rank["outcomes"][attempt] for rank in shared.ranks] == [first, second]


def test_command(tmp_path):
    """One of the two speaks and writes."""
    data = write_tone_folder(tmp_path / "data", 12)
    options = (
        "--data",
        data,
        "--out",
        tmp_path / "rise.onnx",
        "--epochs",
        "2",
        "--steps-per-epoch",
        "1",
        "--json",
        "--device",
        "cpu",
    )
    done = torchrun("-m", "kws", "train", "rise", *options)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["epoch"] for line in done.stdout.splitlines()] == [1, 2]
    assert "of other sounds, on 2 × cpu" in done.stderr
    assert done.stderr.count("calibrated on") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "rise.onnx", "rise.pt"]
    assert checkpoint.load(tmp_path / "rise.pt")["train_config"]["accumulate"] == 2
    assert checkpoint.load(tmp_path / "rise.pt")["provenance"]["command"].startswith(
        "torchrun --nproc-per-node 2 -m kws train rise --data "
    )


class Watched(torch.utils.data.Dataset):
    """Tells which batches were asked for."""

    def __init__(self, batches: torch.utils.data.Dataset):
        self.batches, self.asked = batches, []

    def __getitem__(self, index: int) -> tuple:
        self.asked.append(index)
        return self.batches[index]


@pytest.mark.parametrize(("accumulate", "asked"), [(1, [0, 1]), (3, [0, 1, 2, 3, 4, 5])])
def test_every_shard_of_every_step_is_a_batch_of_its_own(tmp_path, accumulate, asked):
    lesson = detection(replace(DETECTION, accumulate=accumulate, epochs=1, steps_per_epoch=2))
    watched = Watched(lesson.batches)
    replace(lesson, batches=watched).run(tmp_path / "a.pt")
    assert watched.asked == asked


def test_older_checkpoint_is_of_one_shard(tmp_path):
    lesson = detection(replace(DETECTION, accumulate=1))
    lesson.run(tmp_path / "a.pt")
    saved = checkpoint.load(tmp_path / "a.pt")
    del saved["train_config"]["accumulate"], saved["format"]
    checkpoint.save(saved, tmp_path / "a.pt")
    assert len(lesson.run(tmp_path / "a.pt").history) == DETECTION.epochs


class TestOneProcess:
    def test_nothing_is_joined_without_torchrun(self):
        with distributed.init_distributed(torch.device("cpu")):
            assert (
                distributed.launched_world_size(),
                distributed.world_size(),
                distributed.rank(),
                distributed.is_rank_zero(),
            ) == (
                1,
                1,
                0,
                True,
            )
            assert distributed.local_micro_batches(3) == range(3)

    def test_error_passes_as_it_is(self):
        with pytest.raises(KeyboardInterrupt), distributed.raise_on_any_rank():
            raise KeyboardInterrupt

    @pytest.mark.parametrize(
        ("device", "message"),
        [("mps", "cannot train together on mps"), ("cuda", "this machine has 0 GPUs, too few")],
        ids=["mps", "cuda"],
    )
    def test_devices_that_cannot_be_shared(self, monkeypatch, device, message):
        for name, value in {
            "RANK": "1",
            "LOCAL_RANK": "1",
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": "1",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        with (
            pytest.raises(ModelError, match=message),
            distributed.init_distributed(torch.device(device)),
        ):
            pass

    def test_uneven_shares(self, monkeypatch):
        monkeypatch.setattr(distributed, "world_size", lambda: 4)
        monkeypatch.setattr(distributed, "rank", lambda: 2)
        assert distributed.local_micro_batches(8) == range(4, 6)
        with pytest.raises(KwsError, match="4 processes cannot share 6 shards evenly"):
            distributed.local_micro_batches(6)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_mixed_precision_learns_nearly_the_same(device):
    """Only training, only the blocks: scores are float32, and a network in eval mode is
    not touched."""
    torch.manual_seed(3)
    lesson = detection(replace(DETECTION, seed=1))
    learner = network.ScanningCNN(lesson.config).to(device)
    audio = lesson.batches[0].audio.to(device)

    def heard(places: tuple[str, ...], training: bool) -> torch.Tensor:
        learner.mixed_precision = places
        return learner.train(training)(audio)[0].logits

    exact, mixed = heard((), True), heard((device,), True)
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - exact).abs().max() < 0.05 * exact.std()
    mixed.sum().backward()
    assert all(
        parameter.grad is None or parameter.grad.isfinite().all()
        for parameter in learner.parameters()
    )
    assert torch.equal(heard((), False), heard((device,), False))
