"""Speech Commands, and a few hours of LibriSpeech, fetched, checked and unpacked where torchaudio's
dataset classes look for them.

torchaudio's own download starts anew each time, checks only what it fetched itself, and unpacks in
place, so that a half unpacked data set looks whole. So an archive is fetched here, going on where
an earlier call stopped, and checked; it is then unpacked beside its place, where it is moved last.
A folder that is there is complete and needs no network.
"""

import hashlib
import shutil
import sys
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from torchaudio.datasets import SPEECHCOMMANDS
from tqdm import tqdm

from kws.errors import DataError
from kws.terminal.stdio import escape_control_chars

SPEECH_COMMANDS_FOLDER = "SpeechCommands"  # the class's own, as is the server
_UNPACKING = ".unpacking"
_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 2**18


@dataclass(frozen=True)
class Archive:
    """NAME.tar.gz on a server, the SHA-256 it must have, and the folder that NAME comes into."""

    name: str
    sha256: str
    server: str = "http://download.tensorflow.org/data"  # what comes from it is checked
    folder: str = SPEECH_COMMANDS_FOLDER

    @property
    def file(self) -> str:
        return f"{self.name}.tar.gz"

    @property
    def url(self) -> str:
        return f"{self.server.rstrip('/')}/{self.file}"


# Of each version of Speech Commands, the data set and the test set of the 12-word protocols. Sums:
# torchaudio, TensorFlow Datasets, and SUPERB (v0.01's test set).
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
# Of 40 readers, 5.4 hours. Sum: torchaudio.
LIBRISPEECH = Archive(
    "dev-clean",
    "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "http://www.openslr.org/resources/12",
    "LibriSpeech",
)
# Bytes that are there, bytes in all where the server tells.
Progress = Callable[[int, int | None], None]


def run(archives: Sequence[Archive], folder: Path, mirror: str | None = None) -> list[Path]:
    """What `kws download` does: tells on stderr how it goes, returns the folders.
    Raises DataError."""
    targets = []
    for archive in archives:
        with _ProgressBar(archive.file) as bar:
            try:
                mirrored = replace(archive, server=mirror or archive.server)
                targets.append(ensure_archive(mirrored, folder, say=bar.say, progress=bar.show))
            except KeyboardInterrupt:
                bar.say("stopped; the same command goes on from here")
                raise
    return targets


def ensure_archive(
    archive: Archive,
    folder: Path,
    *,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress = lambda *bytes_: None,
) -> Path:
    """FOLDER/SpeechCommands/NAME (or LibriSpeech), fetched and unpacked unless it is there.
    FOLDER/NAME.tar.gz is used where it is, and kept.

    Raises DataError where the archive cannot be had, is not what was published, or cannot
    be written.
    """
    target, archive_path = folder / archive.folder / archive.name, folder / archive.file
    if target.is_dir():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not archive_path.exists():
            fetch(archive, archive_path, progress=progress)
        elif _sha256(archive_path) != archive.sha256:
            raise DataError(
                f"{archive_path}: not the published archive, its SHA-256 is another. "
                "Remove it and call again."
            )
        say(f"{archive_path}: unpacking")
        _unpack(archive, folder, target)
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror or error}. "
            "Make room there, or choose another folder with --dir."
        ) from error
    return target


def fetch(archive: Archive, path: Path, *, progress: Progress = lambda *bytes_: None) -> None:
    """Fetches an archive into a file. What came is kept in PATH.part until it is whole, and the
    next call goes on from there.

    Raises DataError where the server cannot be reached, refuses, or falls silent on the way, and
    where what came has another SHA-256 than it must have; OSError where it cannot be written.
    """
    partial_path = path.with_name(f"{path.name}.part")
    # Whole, but for its name: it was stopped while this was looked at.
    if partial_path.exists() and _sha256(partial_path) == archive.sha256:
        partial_path.replace(path)
        return
    with _send_request(
        archive.url, partial_path.stat().st_size if partial_path.exists() else 0, path
    ) as response:
        # 200 brings all of it, whatever was asked for.
        received_bytes = partial_path.stat().st_size if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = received_bytes + int(length) if length else None
        with partial_path.open("ab" if received_bytes else "wb") as file:
            for chunk in _read_chunks(response):
                file.write(chunk)
                received_bytes += len(chunk)
                progress(received_bytes, total)
    if total is not None and received_bytes < total:
        raise DataError(
            f"{archive.url}: broke off after {received_bytes / 1e6:.1f} of {total / 1e6:.1f} MB. "
            "The same command goes on from there."
        )
    if _sha256(partial_path) != archive.sha256:
        partial_path.unlink()
        raise DataError(
            f"{archive.url}: not the published archive, its SHA-256 is another; "
            "it was thrown away. Call again."
        )
    partial_path.replace(path)


def _send_request(url: str, received_bytes: int, path: Path) -> HTTPResponse:
    """The answer to a request for all bytes from `received_bytes` on; for all bytes, where there are none
    from there on."""
    request = Request(
        url,
        headers={
            "User-Agent": "kws",
            **({"Range": f"bytes={received_bytes}-"} if received_bytes else {}),
        },
    )
    try:
        return urlopen(request, timeout=_TIMEOUT_SECONDS)
    except HTTPError as error:
        if (
            error.code == 416 and received_bytes
        ):  # as long as the whole, or longer, and another file
            return _send_request(url, 0, path)
        raise DataError(
            f"{url}: the server says {error.code} {error.reason}. Try later."
        ) from error
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise DataError(
            f"{url}: cannot be reached ({reason}). Connect to the network and call again, or put "
            f"{path.name} into {path.parent} yourself."
        ) from error


def _read_chunks(response: HTTPResponse) -> Iterator[bytes]:
    """All that comes; a connection that breaks only ends it, as a server that closes early does."""
    try:
        while chunk := response.read(_CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException):
        return


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _unpack(archive: Archive, folder: Path, target: Path) -> None:
    """Unpacks into a folder of its own, for only a folder that is whole may stand in its place."""
    unpack_folder = folder / _UNPACKING
    shutil.rmtree(unpack_folder, ignore_errors=True)
    try:
        with warnings.catch_warnings():
            # Python 3.12: they name no filter for what they unpack.
            warnings.simplefilter("ignore", DeprecationWarning)
            if archive.folder == SPEECH_COMMANDS_FOLDER:
                SPEECHCOMMANDS(folder, archive.url, _UNPACKING, download=True)
                unpacked = unpack_folder / archive.name
            else:  # this class looks for its archive where it unpacks it
                shutil.unpack_archive(folder / archive.file, unpack_folder)
                unpacked = unpack_folder / archive.folder / archive.name
    except (tarfile.TarError, shutil.ReadError, EOFError, zlib.error) as error:
        raise DataError(
            f"{folder / archive.file}: cannot be unpacked ({error}). Remove it and call again."
        ) from error
    target.parent.mkdir(exist_ok=True)
    unpacked.replace(target)
    shutil.rmtree(unpack_folder)


class _ProgressBar:
    """A bar of bytes on stderr where that is a terminal; what is said stands above it."""

    def __init__(self, title: str):
        self._bar = tqdm(
            desc=title,
            unit="B",
            unit_scale=True,
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            leave=False,
            delay=0.1,
        )

    def __enter__(self) -> "_ProgressBar":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def say(self, text: str) -> None:
        self._bar.write(escape_control_chars(text), file=sys.stderr)

    def show(self, received_bytes: int, total: int | None) -> None:
        self._bar.total = total
        self._bar.update(received_bytes - self._bar.n)
