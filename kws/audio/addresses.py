"""Addresses of the web where a file is meant: kws reads and writes files alone, and says how else a
recording comes to it."""

import os
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

from kws.errors import KwsError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_FETCH_COMMANDS = {  # that write what is there to standard output
    **dict.fromkeys(("http", "https", "ftp", "ftps", "sftp", "scp", "smb", "smbs"), "curl -sL {}"),
    **dict.fromkeys(
        ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp", "mms", "mmsh"),
        "ffmpeg -v error -i {} -f wav -",
    ),
    **{"s3": "aws s3 cp {} -", "gs": "gcloud storage cat {}"},
}


def is_url(name: str) -> bool:
    """Whether a name has a scheme and is no file that is there."""
    return bool(_SCHEME.match(name)) and not os.path.lexists(name)


def reject_url(name: str | Path, pipe_command: str = "") -> None:
    """Raises KwsError where a file is to be read, or written, and an address is given. `pipe_command`: a
    command that takes a recording from a pipe in the place of a file, if there is one ("kws
    detect -")."""
    if not is_url(str(name)):
        return
    name = str(name)
    if _scheme(name) == "file":
        raise KwsError(
            f"{name}: an address, and kws takes paths. Give the path: {_local_path(name)}"
        )
    fetch_command = _fetch_command(name)
    if pipe_command and fetch_command:
        raise KwsError(
            f"{name}: an address, and kws reads files. Pipe it: {fetch_command} | {pipe_command}"
        )
    raise KwsError(
        f"{name}: an address, and kws reads and writes files. {_advice(name, fetch_command)}"
    )


def _fetch_command(name: str) -> str | None:
    command = _FETCH_COMMANDS.get(_scheme(name))
    return command and command.format(shlex.quote(name))


def _scheme(name: str) -> str:
    match = _SCHEME.match(name)
    assert match
    return match[1].lower()


def _advice(name: str, fetch_command: str | None) -> str:
    return (
        f"Fetch it first, and give the path: {fetch_command} > FILE"
        if fetch_command
        else "Fetch it first, and give the path."
    )


def _local_path(name: str) -> str:
    return shlex.quote(unquote(re.sub(r"^file://(localhost(?=/))?", "", name, flags=re.IGNORECASE)))
