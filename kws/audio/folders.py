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

from kws.audio.file_signatures import HEAD_BYTES, has_audio_signature
from kws.errors import AudioError

_COMMON_AUDIO_SUFFIXES = """
8svx aif aifc aiff aiffc au avr bwf caf flac ircam mp1 mp2 mp3 mpa mpga nist oga ogg opus paf pvf
rf64 sd2 sds sf snd sph spx svx voc vox w64 wav wave wavex wve xi
"""
_FFMPEG_AUDIO_SUFFIXES = """
3g2 3ga 3gp 3gp2 3gpp aa3 aac aax ac3 adts amr amv ape asf avi awb dff dsf dss dts dtshd eac3 ec3
f4a f4v flv gsm gxf latm loas m2a m2ts m4a m4b m4p m4r m4v mka mkv mlp mov mp4 mp4v mpc mpeg mpg mpp
mxf oma ogm ogv ogx qcp qt ra rm rmvb tak thd tta vob vqf weba webm wma wmv wtv wv
"""
_TEXT_SUFFIXES = """
txt text md rst csv tsv json jsonl ndjson xml html htm css xhtml yaml yml toml ini cfg conf log lst
list srt vtt ass ssa sub lrc lab labels textgrid eaf trs ctm stm rttm uem mlf phn wrd tex bib doc
docx odt rtf pdf ps epub xls xlsx ods ppt pptx sql cue m3u m3u8 pls ram nfo sfv md5 sha1 sha256 asc
sig url webloc lnk desktop torrent
"""
_IMAGE_SUFFIXES = "png jpg jpeg gif bmp tif tiff webp heic heif avif svg ico psd xcf"
_DATA_SUFFIXES = """
zip tar gz tgz bz2 xz zst 7z rar iso dmg pkg deb rpm whl egg jar npy npz h5 hdf5 mat pkl pickle
parquet feather arrow db sqlite sqlite3 lock dvc tfrecord
"""
_CODE_SUFFIXES = """
onnx pt pth pb tflite ckpt safetensors joblib py pyc ipynb sh bash bat ps1 c h cpp hpp cc rs go js
jsx tsx java rb pl r m exe dll so dylib
"""
# Beside recordings
_AUDIO_PROJECT_SUFFIXES = (
    "aup aup3 au3 als asd pek pkf reapeaks rpp sfk sesx flp mid midi kar sf2 cda"
)
_DOCUMENT_NAMES = (
    "authors changelog changes contributing copying install license licence makefile manifest news "
    "notice readme"
)


def _suffixes(*lists: str) -> frozenset[str]:
    return frozenset(f".{name_suffix}" for name_suffix in " ".join(lists).split())


# .ts and .mts are films, and programs as well: what is in the file decides.
AUDIO_SUFFIXES = _suffixes(_COMMON_AUDIO_SUFFIXES, _FFMPEG_AUDIO_SUFFIXES)
_NON_AUDIO_SUFFIXES = _suffixes(
    _TEXT_SUFFIXES, _IMAGE_SUFFIXES, _DATA_SUFFIXES, _CODE_SUFFIXES, _AUDIO_PROJECT_SUFFIXES
)
_NON_AUDIO_NAMES = frozenset(_DOCUMENT_NAMES.split())
_MAX_LISTED_KINDS = 3
_MAX_NAME_BYTES = 255  # bytes of a file's name
_DIGEST_LENGTH = 7  # letters, with a hyphen, that tell names apart that begin alike

_log = logging.getLogger("kws")


def normalize_name(name: str) -> str:
    """A name as it is compared, and written: Unicode knows two ways to write "ü", which look the
    same and differ byte by byte; this is the shorter one (NFC). Disks hold both. A path that is
    opened stays as it is."""
    return unicodedata.normalize("NFC", name)


def truncate_with_digest(name: str, max_bytes: int) -> str:
    """A name, or of one that is longer the beginning, in whole characters, and a digest of
    it all."""
    import hashlib  # takes as long to load as all else here

    encoded = os.fsencode(name)
    if len(encoded) <= max_bytes:
        return name
    cut_bytes = max_bytes - _DIGEST_LENGTH
    while cut_bytes and encoded[cut_bytes] & 0xC0 == 0x80:  # inside a character of UTF-8
        cut_bytes -= 1
    return f"{os.fsdecode(encoded[:cut_bytes])}-{hashlib.sha256(encoded).hexdigest()[: _DIGEST_LENGTH - 1]}"


def check_name_length(path: Path) -> None:
    """Raises OSError where the name of a file or folder on the path is too long. The system says so
    only where all before it is there."""
    if any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in path.parts):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def append_suffix(name: str, name_suffix: str) -> str:
    """`name` + `name_suffix`, of which the name is shortened where together they are too long for
    a file."""
    return truncate_with_digest(name, _MAX_NAME_BYTES - len(os.fsencode(name_suffix))) + name_suffix


def sibling_path(path: Path, name_suffix: str) -> Path:
    """The file of this ending that belongs to another, as NAME.first.onnx to NAME.onnx; a long NAME
    is shortened."""
    return path.with_name(append_suffix(path.stem, name_suffix))


def find_on_disk(path: Path) -> Path:
    """The path as its parts are written on the disk, where they are there in another form of
    Unicode; else as it is."""
    if os.path.lexists(path) or path.parent == path:
        return path
    folder = find_on_disk(path.parent)
    try:
        there = os.listdir(folder)
    except OSError:
        return path
    return folder / next(
        (name for name in there if normalize_name(name) == normalize_name(path.name)), path.name
    )


def find_recordings(
    path: Path | str,
    on_error: Callable[[AudioError], None] | None = None,
    first: Iterable[str] = (),
) -> list[Path]:
    """The recording itself, or all recordings below a folder, sorted, hidden ones left out.

    A recording is known by its ending, or, where this says nothing, by its first bytes. How many
    files are of no known kind is a warning of the logger "kws". Links are followed. Each real
    folder is entered once, and each real file is heard once, by the name that is no link if it has
    one in there; `first`: names of folders in this one that are entered before all else, whether
    they are links or not. A link to a folder in which it lies itself leads nowhere new, and is
    passed over.

    `on_error` is told of each folder that cannot be listed, and of links that lead nowhere. Raises
    AudioError for a folder without recordings; where nobody is to be told, for a folder that cannot
    be listed, too, and links are a warning.
    """
    path = Path(path)
    if not os.path.isdir(path):
        return [path]
    scan = _FolderScan(path)
    scan.walk([*_find_subfolders(path, first), path])
    unreadable_errors = [_unreadable_folder_error(error) for error in scan.unreadable]
    if unreadable_errors and (on_error is None or not scan.recordings):
        raise unreadable_errors[0]
    broken_links = _broken_link_errors(path, scan.broken_links)
    for problem in [*unreadable_errors, *broken_links]:
        on_error(problem) if on_error else _log.warning("%s", problem)
    if scan.unknown_files:
        _log.warning("%s", _unknown_files_message(path, scan.unknown_files))
    if not scan.recordings:
        raise AudioError(
            f"{path}: no recordings in this directory or below it (.wav, .flac, .mp3, ...). "
            "Check the path."
        )
    return sorted(scan.recordings)


def _find_subfolders(folder: Path, names: Iterable[str]) -> list[Path]:
    """The folders in one that have these names, in any form of Unicode."""
    wanted_names = set(map(normalize_name, names))
    try:
        return [
            path
            for path in sorted(folder.iterdir())
            if normalize_name(path.name) in wanted_names and path.is_dir()
        ]
    except OSError:
        return []


@dataclass
class _FolderScan:
    """What lies below a folder: recordings, files of no known kind, links that lead nowhere,
    folders that cannot be listed."""

    root: Path
    recordings: list[Path] = field(default_factory=list)
    unknown_files: list[Path] = field(default_factory=list)
    broken_links: list[Path] = field(default_factory=list)
    unreadable: list[OSError] = field(default_factory=list)
    _visited_folders: set[str] = field(default_factory=set)  # real folders
    _visited_files: set[str] = field(default_factory=set)  # real files

    def walk(self, starts: Sequence[Path]) -> None:
        """All below some folders; then below the links that were met, and so on."""
        while starts:
            folder_links = [link for start in starts for link in self._walk_without_links(start)]
            starts = sorted(link for link in folder_links if not self._is_cyclic_link(link))

    def _walk_without_links(self, start: Path) -> list[Path]:
        """Takes what lies below a folder without following links to folders; gives these."""
        folder_links, file_links = [], []
        for folder, folders, names in os.walk(start, onerror=self.unreadable.append):
            real_path = _real_path(folder)
            if real_path in self._visited_folders:
                folders.clear()
                continue
            self._visited_folders.add(real_path)
            folders[:] = [name for name in folders if not name.startswith(".")]
            folder_links += [
                path for path in (Path(folder, name) for name in folders) if os.path.islink(path)
            ]
            for file in (Path(folder, name) for name in names if not name.startswith(".")):
                # Path.is_symlink raises where a folder may be listed, and not entered.
                if os.path.islink(file):
                    file_links.append(file)
                else:
                    self._classify_file(file, os.path.join(real_path, file.name))
        for file in sorted(file_links):
            self._classify_file(file, _real_path(file))
        return folder_links

    def _is_cyclic_link(self, link: Path) -> bool:
        """Whether a link leads to a folder above itself, or above all that is searched."""
        target = _real_path(link)
        return any(
            Path(_real_path(folder)).is_relative_to(target) for folder in (link.parent, self.root)
        )

    def _classify_file(self, file: Path, real_path: str) -> None:
        if _is_non_audio(file):
            return
        has_audio_suffix, there = file.suffix.lower() in AUDIO_SUFFIXES, os.path.exists(real_path)
        if not there and os.path.islink(file):
            self.broken_links.append(file)
        elif (there and not os.path.isfile(real_path)) or real_path in self._visited_files:
            return
        elif has_audio_suffix or _has_audio_header(file):
            self._visited_files.add(real_path)
            self.recordings.append(file)
        else:
            self.unknown_files.append(file)


def _real_path(path: str | Path) -> str:
    """Where a path leads; the path itself where that may not be known."""
    try:
        return os.path.realpath(path)
    except OSError:
        return str(Path(path).absolute())


def _is_non_audio(file: Path) -> bool:
    """Whether a file is known to be no recording."""
    return file.suffix.lower() in _NON_AUDIO_SUFFIXES or file.name.lower() in _NON_AUDIO_NAMES


def _has_audio_header(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return has_audio_signature(stream.read(HEAD_BYTES))
    except OSError:
        return False


def _unreadable_folder_error(error: OSError) -> AudioError:
    return AudioError(
        f"{error.filename}: this directory cannot be listed ({error.strerror}). "
        "Check its permissions."
    )


def _broken_link_errors(folder: Path, broken_links: Sequence[Path]) -> list[AudioError]:
    if not broken_links:
        return []
    first = f"{broken_links[0].relative_to(folder)} to {broken_links[0].readlink()}"
    if len(broken_links) == 1:
        return [AudioError(f"{folder}: a link leads nowhere ({first}). Mend or remove it.")]
    return [
        AudioError(
            f"{folder}: {len(broken_links)} links lead nowhere (the first: {first}). "
            "Mend or remove them."
        )
    ]


def _unknown_files_message(folder: Path, unknown_files: Sequence[Path]) -> str:
    kinds = [
        kind
        for kind, _ in Counter(
            file.suffix.lower() or file.name for file in sorted(unknown_files)
        ).most_common()
    ]
    listed_kinds = ", ".join(
        [*kinds[:_MAX_LISTED_KINDS], *["..."] * (len(kinds) > _MAX_LISTED_KINDS)]
    )
    if len(unknown_files) == 1:
        return f"{folder}: 1 file is not heard, its kind is unknown ({listed_kinds}). Name it to hear it."
    return (
        f"{folder}: {len(unknown_files)} files are not heard, their kind is unknown ({listed_kinds}). "
        "Name them to hear them."
    )
