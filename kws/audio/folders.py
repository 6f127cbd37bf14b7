"""The recordings of a path: a file, or all recordings in a folder and below it. Also how names are
compared and shortened."""

# Methods of Path raise for names that are too long, and in folders that may be listed but not
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
kws onnx pt pth pb tflite ckpt safetensors joblib py pyc ipynb sh bash bat ps1 c h cpp hpp cc rs go
js jsx tsx java rb pl r m exe dll so dylib
"""
# Files of audio programs that are no recordings.
_AUDIO_PROJECT_SUFFIXES = (
    "aup aup3 au3 als asd pek pkf reapeaks rpp sfk sesx flp mid midi kar sf2 cda"
)
_DOCUMENT_NAMES = (
    "authors changelog changes contributing copying install license licence makefile manifest news "
    "notice readme"
)


def _suffixes(*lists: str) -> frozenset[str]:
    return frozenset(f".{name_suffix}" for name_suffix in " ".join(lists).split())


# .ts and .mts may be videos or source code: their content decides.
AUDIO_SUFFIXES = _suffixes(_COMMON_AUDIO_SUFFIXES, _FFMPEG_AUDIO_SUFFIXES)
_NON_AUDIO_SUFFIXES = _suffixes(
    _TEXT_SUFFIXES, _IMAGE_SUFFIXES, _DATA_SUFFIXES, _CODE_SUFFIXES, _AUDIO_PROJECT_SUFFIXES
)
_NON_AUDIO_NAMES = frozenset(_DOCUMENT_NAMES.split())
_MAX_LISTED_KINDS = 3
_MAX_NAME_BYTES = 255
_DIGEST_LENGTH = 7  # characters, with the hyphen

_log = logging.getLogger("kws")


def normalize_name(name: str) -> str:
    """A name as it is compared and printed: in the composed form of Unicode (NFC). Disks hold "ü"
    in both forms, which look the same. A path that is opened stays as it is."""
    return unicodedata.normalize("NFC", name)


def truncate_with_digest(name: str, max_bytes: int) -> str:
    """A name; if it is too long, its first whole characters and a digest of the whole name."""
    import hashlib  # takes as long to load as everything else here

    encoded = os.fsencode(name)
    if len(encoded) <= max_bytes:
        return name
    cut_bytes = max_bytes - _DIGEST_LENGTH
    while cut_bytes and encoded[cut_bytes] & 0xC0 == 0x80:  # inside a character of UTF-8
        cut_bytes -= 1
    digest = hashlib.sha256(encoded).hexdigest()[: _DIGEST_LENGTH - 1]
    return f"{os.fsdecode(encoded[:cut_bytes])}-{digest}"


def check_name_length(path: Path) -> None:
    """Raises OSError if a name on the path is too long. The system only does so if all folders
    before it exist."""
    if any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in path.parts):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def append_suffix(name: str, name_suffix: str) -> str:
    """`name` + `name_suffix`, with a shortened name if they are too long for a file name."""
    return truncate_with_digest(name, _MAX_NAME_BYTES - len(os.fsencode(name_suffix))) + name_suffix


def sibling_path(path: Path, name_suffix: str) -> Path:
    """The path with another suffix, such as NAME.first.kws for NAME.kws; a long NAME is
    shortened."""
    return path.with_name(append_suffix(path.stem, name_suffix))


def find_on_disk(path: Path) -> Path:
    """The path as it is written on the disk, if it exists there in another form of Unicode; else
    unchanged."""
    if os.path.lexists(path) or path.parent == path:
        return path
    folder = find_on_disk(path.parent)
    try:
        names = os.listdir(folder)
    except OSError:
        return path
    wanted_name = normalize_name(path.name)
    matches = [name for name in names if normalize_name(name) == wanted_name]
    return folder / (matches[0] if matches else path.name)


def find_recordings(
    path: Path | str,
    on_error: Callable[[AudioError], None] | None = None,
    first: Iterable[str] = (),
) -> list[Path]:
    """The path of a recording itself, or all recordings below a folder, sorted and without hidden
    files.

    A recording is recognized by its suffix, or by its first bytes if the suffix is unknown. The
    logger "kws" warns of files of unknown kind. Links are followed. Each real folder is entered
    once, and each real file is given once, by a name that is no link if there is one. A link to a
    folder above itself is skipped. first: names of folders in this one that are entered before all
    others, even if they are links.

    on_error: called for each folder that cannot be listed, and for broken links. Raises AudioError
    for a folder without recordings. Without `on_error` it is raised for a folder that cannot be
    listed, too, and broken links are a warning.
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
        if on_error:
            on_error(problem)
        else:
            _log.warning("%s", problem)
    if scan.unknown_files:
        _log.warning("%s", _unknown_files_message(path, scan.unknown_files))
    if not scan.recordings:
        raise AudioError(
            f"{path}: no recordings in this directory or below it (.wav, .flac, .mp3, ...). "
            "Check the path."
        )
    return sorted(scan.recordings)


def _find_subfolders(folder: Path, names: Iterable[str]) -> list[Path]:
    """The subfolders with these names, in any form of Unicode."""
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
    """What is below a folder: recordings, files of unknown kind, broken links, and folders that
    cannot be listed."""

    root: Path
    recordings: list[Path] = field(default_factory=list)
    unknown_files: list[Path] = field(default_factory=list)
    broken_links: list[Path] = field(default_factory=list)
    unreadable: list[OSError] = field(default_factory=list)
    _visited_folders: set[str] = field(default_factory=set)  # real folders
    _visited_files: set[str] = field(default_factory=set)  # real files

    def walk(self, starts: Sequence[Path]) -> None:
        """Scans folders, then the folders that links in them lead to, and so on."""
        while starts:
            folder_links = [link for start in starts for link in self._walk_without_links(start)]
            starts = sorted(link for link in folder_links if not self._is_cyclic_link(link))

    def _walk_without_links(self, start: Path) -> list[Path]:
        """Scans a folder without following links to folders. Returns these links."""
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
        """Whether a link leads to a folder above itself, or above the root of the scan."""
        target = _real_path(link)
        return any(
            Path(_real_path(folder)).is_relative_to(target) for folder in (link.parent, self.root)
        )

    def _classify_file(self, file: Path, real_path: str) -> None:
        if _is_non_audio(file):
            return
        exists = os.path.exists(real_path)
        if not exists and os.path.islink(file):
            self.broken_links.append(file)
        elif (exists and not os.path.isfile(real_path)) or real_path in self._visited_files:
            return
        elif file.suffix.lower() in AUDIO_SUFFIXES or _has_audio_header(file):
            self._visited_files.add(real_path)
            self.recordings.append(file)
        else:
            self.unknown_files.append(file)


def _real_path(path: str | Path) -> str:
    """Where a path leads; the path itself if that is not permitted."""
    try:
        return os.path.realpath(path)
    except OSError:
        return str(Path(path).absolute())


def _is_non_audio(file: Path) -> bool:
    """Whether a file is certainly no recording, by its name."""
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
        return [AudioError(f"{folder}: a broken link ({first}). Repair or remove it.")]
    return [
        AudioError(
            f"{folder}: {len(broken_links)} broken links (the first: {first}). "
            "Repair or remove them."
        )
    ]


def _unknown_files_message(folder: Path, unknown_files: Sequence[Path]) -> str:
    counts = Counter(file.suffix.lower() or file.name for file in sorted(unknown_files))
    kinds = [kind for kind, _ in counts.most_common()]
    if len(kinds) > _MAX_LISTED_KINDS:
        kinds[_MAX_LISTED_KINDS:] = ["..."]
    listed_kinds = ", ".join(kinds)
    if len(unknown_files) == 1:
        return f"{folder}: 1 file of unknown kind is skipped ({listed_kinds}). Name it to read it."
    return (
        f"{folder}: {len(unknown_files)} files of unknown kind are skipped ({listed_kinds}). "
        "Name them to read them."
    )
