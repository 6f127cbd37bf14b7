"""Which recordings a name stands for: a file, or all that lie in a folder and below it; and how
names are compared."""

# Methods of Path raise for names that are too long, and in folders that may be listed and not
# entered.
# ruff: noqa: PTH110, PTH112, PTH113, PTH114, PTH118, PTH208

import errno
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kws.audio.file_signatures import HEAD_BYTES, looks_like_a_recording
from kws.errors import AudioError

_BY_LIBRARIES = """
8svx aif aifc aiff aiffc au avr bwf caf flac ircam mp1 mp2 mp3 mpa mpga nist oga ogg opus paf pvf
rf64 sd2 sds sf snd sph spx svx voc vox w64 wav wave wavex wve xi
"""
_BY_FFMPEG = """
3g2 3ga 3gp 3gp2 3gpp aa3 aac aax ac3 adts amr amv ape asf avi awb dff dsf dss dts dtshd eac3 ec3
f4a f4v flv gsm gxf latm loas m2a m2ts m4a m4b m4p m4r m4v mka mkv mlp mov mp4 mp4v mpc mpeg mpg mpp
mxf oma ogm ogv ogx qcp qt ra rm rmvb tak thd tta vob vqf weba webm wma wmv wtv wv
"""
_TEXTS = """
txt text md rst csv tsv json jsonl ndjson xml html htm css xhtml yaml yml toml ini cfg conf log lst
list srt vtt ass ssa sub lrc lab labels textgrid eaf trs ctm stm rttm uem mlf phn wrd tex bib doc
docx odt rtf pdf ps epub xls xlsx ods ppt pptx sql cue m3u m3u8 pls ram nfo sfv md5 sha1 sha256 asc
sig url webloc lnk desktop torrent
"""
_PICTURES = "png jpg jpeg gif bmp tif tiff webp heic heif avif svg ico psd xcf"
_DATA = """
zip tar gz tgz bz2 xz zst 7z rar iso dmg pkg deb rpm whl egg jar npy npz h5 hdf5 mat pkl pickle
parquet feather arrow db sqlite sqlite3 lock dvc tfrecord
"""
_PROGRAMS = """
onnx pt pth pb tflite ckpt safetensors joblib py pyc ipynb sh bash bat ps1 c h cpp hpp cc rs go js
jsx tsx java rb pl r m exe dll so dylib
"""
# Beside recordings
_OF_AUDIO_PROGRAMS = "aup aup3 au3 als asd pek pkf reapeaks rpp sfk sesx flp mid midi kar sf2 cda"
_NAMES = (
    "authors changelog changes contributing copying install license licence makefile manifest news "
    "notice readme"
)


def _endings(*lists: str) -> frozenset[str]:
    return frozenset(f".{ending}" for ending in " ".join(lists).split())


# .ts and .mts are films, and programs as well: what is in the file decides.
SUFFIXES = _endings(_BY_LIBRARIES, _BY_FFMPEG)
_OTHER_SUFFIXES = _endings(_TEXTS, _PICTURES, _DATA, _PROGRAMS, _OF_AUDIO_PROGRAMS)
_OTHER_NAMES = frozenset(_NAMES.split())
_MOST_NAMED = 3
_LONGEST_NAME = 255  # bytes of a file's name
_DIGEST = 7  # letters, with a hyphen, that tell names apart that begin alike

_log = logging.getLogger("kws")


def normalized(name: str) -> str:
    """A name as it is compared, and written: Unicode knows two ways to write "ü", which look the
    same and differ byte by byte; this is the shorter one (NFC). Disks hold both. A path that is
    opened stays as it is."""
    return unicodedata.normalize("NFC", name)


def shortened(name: str, most_bytes: int) -> str:
    """A name, or of one that is longer the beginning, in whole characters, and a digest of
    it all."""
    import hashlib  # takes as long to load as all else here

    whole = os.fsencode(name)
    if len(whole) <= most_bytes:
        return name
    cut = most_bytes - _DIGEST
    while cut and whole[cut] & 0xC0 == 0x80:  # inside a character of UTF-8
        cut -= 1
    return f"{os.fsdecode(whole[:cut])}-{hashlib.sha256(whole).hexdigest()[: _DIGEST - 1]}"


def check_length(path: Path) -> None:
    """Raises OSError where the name of a file or folder on the path is too long. The system says so
    only where all before it is there."""
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def fitting(name: str, ending: str) -> str:
    """`name` + `ending`, of which the name is shortened where together they are too long for
    a file."""
    return shortened(name, _LONGEST_NAME - len(os.fsencode(ending))) + ending


def beside(path: Path, ending: str) -> Path:
    """The file of this ending that belongs to another, as NAME.first.onnx to NAME.onnx; a long NAME
    is shortened."""
    return path.with_name(fitting(path.stem, ending))


def on_disk(path: Path) -> Path:
    """The path as its parts are written on the disk, where they are there in another form of
    Unicode; else as it is."""
    if os.path.lexists(path) or path.parent == path:
        return path
    folder = on_disk(path.parent)
    try:
        there = os.listdir(folder)
    except OSError:
        return path
    return folder / next(
        (name for name in there if normalized(name) == normalized(path.name)), path.name
    )


def find_recordings(
    path: Path | str, lost: Callable[[AudioError], None] | None = None, first: Iterable[str] = ()
) -> list[Path]:
    """The recording itself, or all recordings below a folder, sorted, hidden ones left out.

    A recording is known by its ending, or, where this says nothing, by its first bytes. How many
    files are of no known kind is a warning of the logger "kws". Links are followed. Each real
    folder is entered once, and each real file is heard once, by the name that is no link if it has
    one in there; `first`: names of folders in this one that are entered before all else, whether
    they are links or not. A link to a folder in which it lies itself leads nowhere new, and is
    passed over.

    `lost` is told of each folder that cannot be listed, and of links that lead nowhere. Raises
    AudioError for a folder without recordings; where nobody is to be told, for a folder that cannot
    be listed, too, and links are a warning.
    """
    path = Path(path)
    if not os.path.isdir(path):
        return [path]
    search = _Search(path)
    search.walk([*_named(path, first), path])
    unlisted = [_told_of_closed(error) for error in search.closed]
    if unlisted and (lost is None or not search.found):
        raise unlisted[0]
    dangling = _told_of_links(path, search.dangling)
    for trouble in [*unlisted, *dangling]:
        lost(trouble) if lost else _log.warning("%s", trouble)
    if search.unknown:
        _log.warning("%s", _told_of_unknown(path, search.unknown))
    if not search.found:
        raise AudioError(
            f"{path}: no recordings in this directory or below it (.wav, .flac, .mp3, ...). "
            "Check the path."
        )
    return sorted(search.found)


def _named(folder: Path, names: Iterable[str]) -> list[Path]:
    """The folders in one that have these names, in any form of Unicode."""
    wanted = set(map(normalized, names))
    try:
        return [
            path
            for path in sorted(folder.iterdir())
            if normalized(path.name) in wanted and path.is_dir()
        ]
    except OSError:
        return []


@dataclass
class _Search:
    """What lies below a folder: recordings, files of no known kind, links that lead nowhere,
    folders that cannot be listed."""

    top: Path
    found: list[Path] = field(default_factory=list)
    unknown: list[Path] = field(default_factory=list)
    dangling: list[Path] = field(default_factory=list)
    closed: list[OSError] = field(default_factory=list)
    _entered: set[str] = field(default_factory=set)  # real folders
    _heard: set[str] = field(default_factory=set)  # real files

    def walk(self, starts: Sequence[Path]) -> None:
        """All below some folders; then below the links that were met, and so on."""
        while starts:
            links = [link for start in starts for link in self._walk_real(start)]
            starts = sorted(link for link in links if not self._leads_back(link))

    def _walk_real(self, start: Path) -> list[Path]:
        """Takes what lies below a folder without following links to folders; gives these."""
        links, linked_files = [], []
        for folder, folders, names in os.walk(start, onerror=self.closed.append):
            real = _real(folder)
            if real in self._entered:
                folders.clear()
                continue
            self._entered.add(real)
            folders[:] = [name for name in folders if not name.startswith(".")]
            links += [
                path for path in (Path(folder, name) for name in folders) if os.path.islink(path)
            ]
            for file in (Path(folder, name) for name in names if not name.startswith(".")):
                # Path.is_symlink raises where a folder may be listed, and not entered.
                if os.path.islink(file):
                    linked_files.append(file)
                else:
                    self._take(file, os.path.join(real, file.name))
        for file in sorted(linked_files):
            self._take(file, _real(file))
        return links

    def _leads_back(self, link: Path) -> bool:
        """Whether a link leads to a folder above itself, or above all that is searched."""
        target = _real(link)
        return any(Path(_real(folder)).is_relative_to(target) for folder in (link.parent, self.top))

    def _take(self, file: Path, real: str) -> None:
        if _is_other(file):
            return
        known, there = file.suffix.lower() in SUFFIXES, os.path.exists(real)
        if not there and os.path.islink(file):
            self.dangling.append(file)
        elif (there and not os.path.isfile(real)) or real in self._heard:
            return
        elif known or _begins_as_a_recording(file):
            self._heard.add(real)
            self.found.append(file)
        else:
            self.unknown.append(file)


def _real(path: str | Path) -> str:
    """Where a path leads; the path itself where that may not be known."""
    try:
        return os.path.realpath(path)
    except OSError:
        return str(Path(path).absolute())


def _is_other(file: Path) -> bool:
    """Whether a file is known to be no recording."""
    return file.suffix.lower() in _OTHER_SUFFIXES or file.name.lower() in _OTHER_NAMES


def _begins_as_a_recording(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return looks_like_a_recording(opened.read(HEAD_BYTES))
    except OSError:
        return False


def _told_of_closed(error: OSError) -> AudioError:
    return AudioError(
        f"{error.filename}: this directory cannot be listed ({error.strerror}). "
        "Check its permissions."
    )


def _told_of_links(folder: Path, dangling: Sequence[Path]) -> list[AudioError]:
    if not dangling:
        return []
    first = f"{dangling[0].relative_to(folder)} to {dangling[0].readlink()}"
    if len(dangling) == 1:
        return [AudioError(f"{folder}: a link leads nowhere ({first}). Mend or remove it.")]
    return [
        AudioError(
            f"{folder}: {len(dangling)} links lead nowhere (the first: {first}). "
            "Mend or remove them."
        )
    ]


def _told_of_unknown(folder: Path, unknown: Sequence[Path]) -> str:
    kinds = [
        kind
        for kind, _ in Counter(
            file.suffix.lower() or file.name for file in sorted(unknown)
        ).most_common()
    ]
    named = ", ".join([*kinds[:_MOST_NAMED], *["..."] * (len(kinds) > _MOST_NAMED)])
    if len(unknown) == 1:
        return f"{folder}: 1 file is not heard, its kind is unknown ({named}). Name it to hear it."
    return (
        f"{folder}: {len(unknown)} files are not heard, their kind is unknown ({named}). "
        "Name them to hear them."
    )
