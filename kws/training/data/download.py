"""Downloads Speech Commands, and a few hours of LibriSpeech, to where torchaudio's dataset classes
look for them.

An archive is resumed where an earlier call stopped, checked by its SHA-256, unpacked aside and then
moved into place: a folder that exists is complete. torchaudio's own download and pooch begin anew
after every break, which costs users 2.4 GB on a bad line.
"""

import hashlib
import shutil
import sys
import tarfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from kws.errors import DataError
from kws.terminal.stdio import escape_control_chars

_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 2**18


@dataclass(frozen=True)
class Archive:
    """NAME.tar.gz on a server, its SHA-256, and the folder that NAME is unpacked into.

    With `holds_folder` the archive holds FOLDER/NAME itself, otherwise the files of NAME.
    """

    name: str
    sha256: str
    server: str = "http://download.tensorflow.org/data"  # unencrypted: the checksum protects
    folder: str = "SpeechCommands"
    holds_folder: bool = False

    @property
    def file(self) -> str:
        return f"{self.name}.tar.gz"

    @property
    def url(self) -> str:
        return f"{self.server.rstrip('/')}/{self.file}"


# The data set of each version, and the test set of its 12-word protocol. The checksums are those of
# torchaudio, TensorFlow Datasets, and SUPERB (test set of 0.01).
SPEECH_COMMANDS = {
    "0.02": (
        Archive(
            "speech_commands_v0.02",
            "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        ),
        Archive(
            "speech_commands_test_set_v0.02",
            "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
        ),
    ),
    "0.01": (
        Archive(
            "speech_commands_v0.01",
            "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        ),
        Archive(
            "speech_commands_test_set_v0.01",
            "baa084f6b62c91de660ff0588ae4dfc4e4d534aa99ac0e5f406cba75836cbd00",
        ),
    ),
}
# 5.4 hours by 40 readers. The checksum is that of torchaudio.
LIBRISPEECH = Archive(
    "dev-clean",
    "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    server="http://www.openslr.org/resources/12",
    folder="LibriSpeech",
    holds_folder=True,
)


def download(archives: Sequence[Archive], folder: Path, mirror: str | None = None) -> list[Path]:
    """Makes sure that archives are unpacked below a folder and returns where; shows progress on
    stderr. `mirror`: URL of the archives on another server. Raises DataError."""
    targets = []
    for archive in archives:
        try:
            mirrored = replace(archive, server=mirror or archive.server)
            targets.append(ensure_archive(mirrored, folder))
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            raise
    return targets


def ensure_archive(archive: Archive, folder: Path) -> Path:
    """FOLDER/SpeechCommands/NAME (or LibriSpeech), downloaded and unpacked unless it exists.

    FOLDER/NAME.tar.gz is kept, and used if it exists. Raises DataError where the archive cannot be
    downloaded, is not the published one, or cannot be written.
    """
    target, archive_path = folder / archive.folder / archive.name, folder / archive.file
    if target.is_dir():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not archive_path.exists():
            fetch(archive, archive_path)
        elif _sha256(archive_path) != archive.sha256:
            raise DataError(
                f"{archive_path}: not the published archive, its SHA-256 is another. "
                "Remove it and call again."
            )
        print(escape_control_chars(f"{archive_path}: unpacking"), file=sys.stderr)
        _unpack(archive, archive_path, target)
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror or error}. "
            "Make room there, or choose another folder with --dir."
        ) from error
    return target


def fetch(archive: Archive, path: Path) -> None:
    """Downloads an archive into a file. PATH.part keeps what came until it is complete, and the
    next call resumes it.

    Raises DataError where the server cannot be reached, refuses, or breaks off, and where the
    SHA-256 is wrong; OSError where the file cannot be written.
    """
    partial_path = path.with_name(f"{path.name}.part")
    _download_rest(archive.url, partial_path, path)
    if _sha256(partial_path) != archive.sha256:
        partial_path.unlink()
        raise DataError(
            f"{archive.url}: not the published archive, its SHA-256 is another; "
            "it was thrown away. Call again."
        )
    partial_path.replace(path)


def _download_rest(url: str, partial_path: Path, path: Path) -> None:
    """Appends the bytes of a URL that a file lacks."""
    present_bytes = partial_path.stat().st_size if partial_path.exists() else 0
    response = _request(url, present_bytes, path)
    if response is None:
        return
    with response:
        if response.status != 206:  # the server does not resume, and sends everything
            present_bytes = 0
        length = response.headers.get("Content-Length")
        total_bytes = present_bytes + int(length) if length else None
        with (
            partial_path.open("ab" if present_bytes else "wb") as file,
            _progress_bar(path.name, present_bytes, total_bytes) as progress,
        ):
            for chunk in _read_chunks(response):
                file.write(chunk)
                present_bytes += len(chunk)
                progress.update(len(chunk))
    if total_bytes is not None and present_bytes < total_bytes:
        raise DataError(
            f"{url}: broke off after {present_bytes / 1e6:.1f} of {total_bytes / 1e6:.1f} MB. "
            "The same command goes on from there."
        )


def _request(url: str, first_byte: int, path: Path) -> HTTPResponse | None:
    """The response with the bytes from `first_byte` on, or None where the server has no more."""
    headers = {"User-Agent": "kws", "Range": f"bytes={first_byte}-"}
    try:
        return urlopen(Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code == 416:  # range not satisfiable
            return None
        raise DataError(
            f"{url}: the server says {error.code} {error.reason}. Try later."
        ) from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)  # of a URLError
        raise DataError(
            f"{url}: cannot be reached ({reason}). Connect to the network and call again, or put "
            f"{path.name} into {path.parent} yourself."
        ) from error


def _read_chunks(response: HTTPResponse) -> Iterator[bytes]:
    """What arrives until the end, or until the connection breaks."""
    try:
        while chunk := response.read(_CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException):
        return


def _progress_bar(title: str, present_bytes: int, total_bytes: int | None) -> tqdm:
    return tqdm(
        desc=title,
        initial=present_bytes,
        total=total_bytes,
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
        delay=0.1,
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _unpack(archive: Archive, archive_path: Path, target: Path) -> None:
    """Unpacks beside the target and moves the complete folder there."""
    scratch = archive_path.parent / ".unpacking"
    shutil.rmtree(scratch, ignore_errors=True)
    unpacked = scratch / archive.folder / archive.name
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns where no filter is named, 3.10 may not know filters. The checksum
            # vouches for the archive.
            warnings.simplefilter("ignore", DeprecationWarning)
            shutil.unpack_archive(archive_path, scratch if archive.holds_folder else unpacked)
    except (tarfile.TarError, shutil.ReadError, EOFError, zlib.error) as error:
        raise DataError(
            f"{archive_path}: cannot be unpacked ({error}). Remove it and call again."
        ) from error
    target.parent.mkdir(exist_ok=True)
    unpacked.replace(target)
    shutil.rmtree(scratch)
