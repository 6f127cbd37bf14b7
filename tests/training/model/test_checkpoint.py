"""Checkpoints come back as they were, or not at all."""

from pathlib import Path

import pytest
import torch
from factories import make_network

from kws.errors import ModelError
from kws.training.model import checkpoint


def write(path: Path, value: int) -> Path:
    checkpoint.save({"value": value, "tensor": torch.full((100,), float(value))}, path)
    return path


def test_everything_comes_back(tmp_path):
    network = make_network(2)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.randn(1, 8000))[0].logits.sum().backward()
    optimiser.step()
    saved = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": [{"epoch": 1, "loss": 0.25}],
        "text": "ü",
    }
    checkpoint.save(saved, tmp_path / "deep" / "a.pt")
    loaded = checkpoint.load(tmp_path / "deep" / "a.pt")
    assert loaded["format"] == checkpoint.FORMAT
    assert (loaded["history"], loaded["text"]) == (saved["history"], saved["text"])
    assert loaded["network"].keys() == saved["network"].keys()
    assert all(
        torch.equal(value, loaded["network"][name]) for name, value in saved["network"].items()
    )
    assert all(
        torch.equal(value, loaded["optimiser"]["state"][i][name])
        for i, state in saved["optimiser"]["state"].items()
        for name, value in state.items()
    )  # fmt: skip


def test_loaded_network_gives_the_same_scores(tmp_path):
    network, other, audio = make_network(seed=1), make_network(seed=2), torch.randn(1, 16_000)
    checkpoint.save({"network": network.state_dict()}, tmp_path / "a.pt")
    assert not torch.equal(other(audio)[0].logits, network(audio)[0].logits)
    other.load_state_dict(checkpoint.load(tmp_path / "a.pt")["network"])
    assert torch.equal(other(audio)[0].logits, network(audio)[0].logits)


def test_later_save_replaces_the_earlier_one(tmp_path):
    write(write(tmp_path / "a.pt", 1), 2)
    assert checkpoint.load(tmp_path / "a.pt")["value"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize(
    "failure",
    [OSError(28, "No space left on device"), RuntimeError("file write failed")],
    ids=["OSError", "RuntimeError"],
)
@pytest.mark.parametrize("earlier", [True, False], ids=["over an earlier one", "new"])
def test_full_disk_leaves_the_earlier_checkpoint_and_nothing_else(
    failure, earlier, tmp_path, monkeypatch
):
    if earlier:
        write(tmp_path / "a.pt", 1)
    stop_midway(monkeypatch, failure)
    with pytest.raises(ModelError, match=r"a\.pt: cannot be written \(.*\)\. Free some space"):
        write(tmp_path / "a.pt", 2)
    assert_only_the_earlier(tmp_path, earlier)


@pytest.mark.parametrize("earlier", [True, False], ids=["over an earlier one", "new"])
def test_interrupted_write_leaves_the_earlier_checkpoint_and_nothing_else(
    earlier, tmp_path, monkeypatch
):
    if earlier:
        write(tmp_path / "a.pt", 1)
    stop_midway(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.pt", 2)
    assert_only_the_earlier(tmp_path, earlier)


def stop_midway(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    """Makes torch.save write half of the file and then fail."""
    save = torch.save

    def half(value: object, path: Path) -> None:
        save(value, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        raise failure

    monkeypatch.setattr(torch, "save", half)


def assert_only_the_earlier(folder: Path, earlier: bool) -> None:
    assert [path.name for path in folder.iterdir()] == (["a.pt"] if earlier else [])
    assert not earlier or checkpoint.load(folder / "a.pt")["value"] == 1


@pytest.mark.parametrize(
    "place",
    ["file/a.pt", "file/deep/a.pt", "folder.pt"],
    ids=["under a file", "far under a file", "onto a folder"],
)
def test_place_that_cannot_be_written(place, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(ModelError, match="cannot be written"):
        write(tmp_path / place, 1)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.pt"]


# Bytes that an unpickler stumbles over in ways of its own: an unknown memo, an empty stack, half a
# number, text that is no UTF-8.
GARBAGE = {
    "text": b"this is not a checkpoint",
    "empty": b"",
    "zeros": bytes(1000),
    "memo": b"h^\xe17\xe5",
    "stack": b"\x80\x02b\xc3\x1bs",
    "half a number": b"\x80\x02J",
    "no UTF-8": b"\x80\x02X\x04\x00\x00\x00\xcd\xcd\xcd\xcd.",
    "pickle of a call": b"cos\nsystem\n(S'touch called'\ntR.",
    "zip header": b"PK\x03\x04\x00\x00\x08\x08\x00\x00",
    "empty zip": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=list(GARBAGE))
def test_garbage_is_refused(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.pt: not a checkpoint"):
        checkpoint.load(tmp_path / "a.pt")
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.7, 0.99])
def test_truncated_file_is_refused(fraction, tmp_path):
    path = write(tmp_path / "a.pt", 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(ModelError, match=r"a\.pt: not a checkpoint"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "value",
    [
        {"format": checkpoint.FORMAT - 1},
        {"format": checkpoint.FORMAT + 1},
        {"format": str(checkpoint.FORMAT)},
        {"model_state_dict": {}},
        {},
        [1, 2],
        torch.zeros(3),
        5,
    ],
    ids=[
        "older format",
        "newer format",
        "format as text",
        "other keys",
        "empty dict",
        "list",
        "tensor",
        "number",
    ],
)
def test_files_of_others_are_refused(value, tmp_path):
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"a\.pt: not a checkpoint this kws can read"):
        checkpoint.load(tmp_path / "a.pt")


class Custom:
    """Not plain data."""


def test_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"format": checkpoint.FORMAT, "object": Custom()}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"a\.pt: not a checkpoint"):
        checkpoint.load(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["missing.pt", "folder.pt"])
def test_missing_checkpoint(name, tmp_path):
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(ModelError, match=f"{name}: no such checkpoint"):
        checkpoint.load(tmp_path / name)
