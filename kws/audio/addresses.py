"""URLs given instead of a path. kws reads and writes only files, and the error says how to fetch a
recording."""

import os
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

from kws.errors import KwsError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_FETCH_COMMANDS = {  # they write to standard output
    **dict.fromkeys(("http", "https", "ftp", "ftps", "sftp", "scp", "smb", "smbs"), "curl -sL {}"),
    **dict.fromkeys(
        ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp", "mms", "mmsh"),
        "ffmpeg -v error -i {} -f wav -",
    ),
    **{"s3": "aws s3 cp {} -", "gs": "gcloud storage cat {}"},
}


def is_url(name: str) -> bool:
    """Whether a name has a scheme and no such file exists."""
    return bool(_SCHEME.match(name)) and not os.path.lexists(name)


def reject_url(name: str | Path, pipe_command: str = "") -> None:
    """Raises KwsError for a URL. pipe_command: a command that reads a recording from a pipe instead
    of a file, if there is one ("kws detect -")."""
    if not is_url(str(name)):
        return
    name = str(name)
    if _scheme(name) == "file":
        raise KwsError(f"{name}: a URL, and kws reads paths. Give the path: {_local_path(name)}")
    fetch_command = _fetch_command(name)
    if pipe_command and fetch_command:
        raise KwsError(
            f"{name}: a URL, and kws reads files. Pipe it: {fetch_command} | {pipe_command}"
        )
    advice = "Fetch it first, and give the path"
    if fetch_command:
        advice += f": {fetch_command} > FILE"
    else:
        advice += "."
    raise KwsError(f"{name}: a URL, and kws reads and writes files. {advice}")


def _fetch_command(name: str) -> str | None:
    command = _FETCH_COMMANDS.get(_scheme(name))
    return command and command.format(shlex.quote(name))


def _scheme(name: str) -> str:
    return name.partition("://")[0].lower()


def _local_path(name: str) -> str:
    return shlex.quote(unquote(re.sub(r"^file://(localhost(?=/))?", "", name, flags=re.IGNORECASE)))
