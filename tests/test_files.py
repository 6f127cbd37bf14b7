"""Files are whole, or not there at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kws.errors import KwsError
from kws.files import check_writable, write_atomically


@pytest.mark.parametrize("name", ["new.wav", "old.wav", "folder", "new/folder/x.wav"])
def test_a_check_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "old.wav").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    check_writable(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "old.wav"]
    assert (tmp_path / "old.wav").read_bytes() == b"old"


@pytest.mark.parametrize(
    "name", ["old.wav/x.wav", "old.wav/new/x.wav", f"{300 * 'n'}/x.wav", f"new/{300 * 'n'}x.wav"]
)
def test_paths_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "old.wav").touch()
    with pytest.raises(
        KwsError, match=r"x\.wav: cannot be written \(.*\)\. Make room, or write elsewhere"
    ):
        check_writable(tmp_path / name)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        KwsError, match=r"file/x\.wav: cannot be written \(.*\)\. Make room, or write elsewhere"
    ):
        write_atomically(tmp_path / "file" / "x.wav", b"new")


def test_a_pipe_gets_the_bytes_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.html"
    os.mkfifo(pipe)
    cat_process = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    check_writable(pipe)
    write_atomically(pipe, b"page")
    assert cat_process.communicate()[0] == b"page"
    assert pipe.is_fifo() and [*tmp_path.iterdir()] == [pipe]


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.html").write_bytes(b"old")
    (tmp_path / "link.html").symlink_to(tmp_path / "there" / "real.html")
    write_atomically(tmp_path / "link.html", b"new")
    assert (tmp_path / "link.html").is_symlink() and (
        tmp_path / "there" / "real.html"
    ).read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["real.html"]


def test_standard_output_can_be_named(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from kws.files import *; p = Path('/dev/stdout'); "
        "check_writable(p); write_atomically(p, b'page')"
    )
    write = [sys.executable, "-c", code]
    assert subprocess.run(write, stdout=subprocess.PIPE, check=True).stdout == b"page"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(write, stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"page"
    assert Path("/dev/stdout").is_symlink()


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.wav"
    target.write_bytes(b"old")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(KwsError, match="No space left on device"):
        write_atomically(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"] and target.read_bytes() == b"old"
