"""A data set is complete or absent, whether a download is interrupted, refused or damaged. The
server is local."""

import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kws.cli.main import main
from kws.errors import DataError
from kws.training.data.clips import find_clips
from kws.training.data.download import LIBRISPEECH, SPEECH_COMMANDS, Archive, ensure_archive, fetch

NAME = "speech_commands_v0.02"
FILES = {f"yes/{speaker:08x}_nohash_0.wav": bytes([speaker]) * 20_000 for speaker in range(6)}
LISTS = {
    "testing_list.txt": b"yes/00000000_nohash_0.wav\n",
    "validation_list.txt": b"yes/00000001_nohash_0.wav\n",
}


def make_tar(files: dict[str, bytes]) -> bytes:
    """A tar.gz laid out as the published ones, not compressed, so that its length says what
    it holds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


CONTENT = make_tar(FILES | LISTS)
LIBRISPEECH_FILES = {
    "84/121123/84-121123-0000.flac": bytes(20_000),
    "84/121123/84-121123.trans.txt": b"84-121123-0000 GO ON\n",
}
LIBRISPEECH_CONTENT = make_tar(
    {
        "LibriSpeech/README.TXT": b"",
        **{f"LibriSpeech/dev-clean/{name}": content for name, content in LIBRISPEECH_FILES.items()},
    }
)


class Server(ThreadingHTTPServer):
    """Serves `files` and records the requested ranges. It can break off after some bytes, or ignore
    ranges."""

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files, self.ranges = files, []
        self.breaks_after: int | None = None
        self.supports_ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def archive(self, content: bytes = CONTENT) -> Archive:
        return Archive(NAME, hashlib.sha256(content).hexdigest(), self.url)


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content, byte_range = self.server.files.get(self.path.strip("/")), self.headers["Range"]
        self.server.ranges.append(byte_range)
        if content is None:
            return self.send_error(404)
        start = int(byte_range.removeprefix("bytes=").removesuffix("-"))
        if not self.server.supports_ranges:
            start = 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.breaks_after])
        return None

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    with Server(files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({f"{NAME}.tar.gz": CONTENT}) as server:
        yield server


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine can be reached, even where there is a network."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def kws(*args: object, dataset: str = "speech-commands") -> Result:
    return CliRunner().invoke(main, ["download", dataset, *map(str, args)])


def librispeech_archive(server: Server, content: bytes = LIBRISPEECH_CONTENT) -> Archive:
    server.files["dev-clean.tar.gz"] = content
    return replace(LIBRISPEECH, sha256=hashlib.sha256(content).hexdigest(), server=server.url)


class TestEnsureArchive:
    def test_unpacks_all_files(self, server, tmp_path):
        place = ensure_archive(server.archive(), tmp_path)
        assert place == tmp_path / "SpeechCommands" / NAME
        assert tree(place) == FILES | LISTS
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "SpeechCommands",
            f"{NAME}.tar.gz",
        ]

    def test_torchaudio_finds_speech_commands(self, server, tmp_path):
        from torchaudio.datasets import SPEECHCOMMANDS

        ensure_archive(server.archive(), tmp_path)
        speakers = {
            part: [
                item[3]
                for item in map(SPEECHCOMMANDS(tmp_path, NAME, subset=part).get_metadata, range(n))
            ]
            for part, n in (("training", 4), ("validation", 1), ("testing", 1))
        }
        assert speakers == {
            "training": [f"{i:08x}" for i in range(2, 6)],
            "validation": ["00000001"],
            "testing": ["00000000"],
        }

    def test_torchaudio_finds_librispeech(self, server, tmp_path):
        from torchaudio.datasets import LIBRISPEECH as DATA_SET

        place = ensure_archive(librispeech_archive(server), tmp_path)
        assert tree(place) == LIBRISPEECH_FILES
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "LibriSpeech",
            "dev-clean.tar.gz",
        ]
        assert DATA_SET(tmp_path, "dev-clean").get_metadata(0)[2:] == ("GO ON", 84, 121123, 0)
        assert [clip.speaker for clip in find_clips(place)] == ["84"]

    def test_damaged_librispeech(self, server, tmp_path):
        half = LIBRISPEECH_CONTENT[: len(LIBRISPEECH_CONTENT) // 2]
        for content in (half, b"no archive at all"):
            with pytest.raises(DataError, match=r"dev-clean\.tar\.gz: cannot be unpacked"):
                ensure_archive(librispeech_archive(server, content), tmp_path)
            assert not (tmp_path / "LibriSpeech").exists()
            (tmp_path / "dev-clean.tar.gz").unlink()
        assert tree(ensure_archive(librispeech_archive(server), tmp_path)) == LIBRISPEECH_FILES

    def test_an_unpacked_folder_needs_no_network(self, server, tmp_path):
        place = ensure_archive(server.archive(), tmp_path)
        (tmp_path / f"{NAME}.tar.gz").unlink()
        assert ensure_archive(server.archive(), tmp_path) == place
        assert len(server.ranges) == 1

    def test_an_archive_put_there_by_hand_needs_no_network(self, server, tmp_path):
        (tmp_path / f"{NAME}.tar.gz").write_bytes(CONTENT)
        assert tree(ensure_archive(server.archive(), tmp_path)) == FILES | LISTS
        assert server.ranges == []

    def test_a_wrong_archive_put_there_by_hand_is_refused_and_left_alone(self, server, tmp_path):
        (tmp_path / f"{NAME}.tar.gz").write_bytes(CONTENT[:-1])
        with pytest.raises(DataError, match=r"tar\.gz: not the published archive.*Remove it"):
            ensure_archive(server.archive(), tmp_path)
        assert tree(tmp_path) == {f"{NAME}.tar.gz": CONTENT[:-1]}

    def test_an_archive_that_ends_early_leaves_no_folder(self, server, tmp_path):
        """Files that it did unpack are not taken over by the next call."""
        half = CONTENT[: len(CONTENT) // 2]
        (tmp_path / f"{NAME}.tar.gz").write_bytes(half)
        with pytest.raises(DataError, match="cannot be unpacked"):
            ensure_archive(server.archive(half), tmp_path)
        assert not (tmp_path / "SpeechCommands").exists()
        assert 0 < len(tree(tmp_path / ".unpacking")) < len(FILES)
        (tmp_path / f"{NAME}.tar.gz").unlink()
        assert tree(ensure_archive(server.archive(), tmp_path)) == FILES | LISTS
        assert not (tmp_path / ".unpacking").exists()

    def test_a_folder_that_cannot_be_written(self, server, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="choose another folder with --dir"):
            ensure_archive(server.archive(), tmp_path / "file" / "data")


class TestFetch:
    @pytest.mark.parametrize("breaks_after", [1, 1000, 50_000, len(CONTENT) - 1])
    def test_resumes_where_it_broke_off(self, server, tmp_path, breaks_after):
        server.breaks_after = breaks_after
        with pytest.raises(
            DataError, match=r"broke off after \d+\.\d of 0\.1 MB\. The same command goes on"
        ):
            fetch(server.archive(), tmp_path / "a")
        assert tree(tmp_path) == {"a.part": CONTENT[:breaks_after]}
        server.breaks_after = None
        fetch(server.archive(), tmp_path / "a")
        assert tree(tmp_path) == {"a": CONTENT}
        assert server.ranges == ["bytes=0-", f"bytes={breaks_after}-"]

    def test_resumes_after_many_breaks(self, server, tmp_path):
        server.breaks_after = len(CONTENT) // 5
        for _ in range(5):
            with pytest.raises(DataError, match="broke off"):
                fetch(server.archive(), tmp_path / "a")
        fetch(server.archive(), tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == CONTENT

    def test_a_server_without_ranges_sends_everything_again(self, server, tmp_path):
        (tmp_path / "a.part").write_bytes(CONTENT[:1000])
        server.supports_ranges = False
        fetch(server.archive(), tmp_path / "a")
        assert tree(tmp_path) == {"a": CONTENT}

    def test_a_complete_part_is_not_sent_again(self, server, tmp_path):
        """As Ctrl-C leaves it while its checksum is computed."""
        (tmp_path / "a.part").write_bytes(CONTENT)
        fetch(server.archive(), tmp_path / "a")
        assert tree(tmp_path) == {"a": CONTENT}
        assert server.ranges == [f"bytes={len(CONTENT)}-"]

    @pytest.mark.parametrize(
        "start",
        [b"", b"other bytes than the server's", bytes(len(CONTENT)), CONTENT + b"more"],
        ids=["whole", "resumed", "as long", "longer"],
    )
    def test_a_wrong_checksum_is_refused_and_leaves_nothing(self, server, tmp_path, start):
        (tmp_path / "a.part").write_bytes(start)
        archive = server.archive() if start else server.archive(b"something else")
        with pytest.raises(DataError, match=r"not the published archive.*Call again"):
            fetch(archive, tmp_path / "a")
        assert tree(tmp_path) == {}

    @pytest.mark.parametrize(
        ("archive", "message"),
        [
            (
                lambda server: Archive("absent", "", server.url),
                r"absent\.tar\.gz: the server says 404",
            ),
            (
                lambda server: Archive(NAME, "", "http://127.0.0.1:9"),
                r"cannot be reached \(.*refused.*put a into",
            ),
            (lambda server: Archive(NAME, "", "http://nowhere.invalid"), r"cannot be reached"),
        ],
        ids=["not there", "no server", "no network"],
    )
    def test_failures_are_explained(
        self, server, tmp_path, archive: Callable[[Server], Archive], message
    ):
        with pytest.raises(DataError, match=message):
            fetch(archive(server), tmp_path / "a")
        assert tree(tmp_path) == {}


class TestCommand:
    def test_help_has_an_example(self):
        result = kws("--help")
        assert result.exit_code == 0
        assert "\n  kws download speech-commands\n" in result.stdout

    @pytest.mark.parametrize(
        ("dataset", "file"),
        [("speech-commands", "speech_commands_v0.02"), ("librispeech", "dev-clean")],
    )
    def test_no_network_is_one_line(self, tmp_path, dataset, file):
        result = kws("--dir", tmp_path, dataset=dataset)
        assert (result.exit_code, result.stdout) == (1, "")
        assert re.fullmatch(
            rf"Error: http://\S+/{re.escape(file)}\.tar\.gz: cannot be reached .*\n", result.stderr
        )

    def test_librispeech_has_no_versions(self, tmp_path):
        result = kws("--dir", tmp_path, "--version", "0.01", dataset="librispeech")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--version is of speech-commands" in result.stderr

    def test_an_existing_librispeech_is_printed(self, tmp_path):
        place = tmp_path / "LibriSpeech" / "dev-clean"
        place.mkdir(parents=True)
        result = kws("--dir", tmp_path, dataset="librispeech")
        assert (result.exit_code, result.stdout, result.stderr) == (0, f"{place}\n", "")

    @pytest.mark.parametrize("version", SPEECH_COMMANDS)
    def test_existing_folders_are_printed(self, tmp_path, version):
        places = [
            tmp_path / "SpeechCommands" / f"speech_commands_{kind}v{version}"
            for kind in ("", "test_set_")
        ]
        for place in places:
            place.mkdir(parents=True)
        result = kws("--dir", tmp_path, "--version", version)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.split() == list(map(str, places))

    def test_a_mirror_is_a_url(self, tmp_path):
        result = kws("--dir", tmp_path, "--mirror", "example.org/data")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--mirror example.org/data: a URL begins with http:// or https://." in result.stderr

    def test_a_mirror_is_checked(self, server, tmp_path):
        result = kws("--dir", tmp_path, "--mirror", f"{server.url}/")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "not the published archive" in result.stderr
        assert tree(tmp_path) == {}

    def test_interrupt_keeps_the_part(self, tmp_path):
        """Ctrl-C while the server holds back the rest: exit status 130, and the part stays."""
        hold, sent = threading.Event(), threading.Event()

        class Slow(_Answer):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(2**21))
                self.end_headers()
                self.wfile.write(bytes(2**20))
                sent.set()
                hold.wait(60)

        with serving({}) as server:
            server.RequestHandlerClass = Slow
            line = [
                sys.executable,
                "-m",
                "kws",
                "download",
                "speech-commands",
                "--dir",
                str(tmp_path),
                "--mirror",
                server.url,
            ]
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
            process = subprocess.Popen(
                line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
            )
            assert sent.wait(60)
            part = tmp_path / "speech_commands_v0.02.tar.gz.part"
            while not part.exists() or part.stat().st_size < 2**18:
                pass
            process.send_signal(signal.SIGINT)
            out, complaints = process.communicate(timeout=60)
            hold.set()
        assert (process.returncode, out) == (130, "")
        assert complaints.strip() == "stopped; the same command goes on from here"
        assert part.stat().st_size >= 2**18

    def test_checksums_are_those_of_torchaudio(self):
        from torchaudio.datasets import librispeech, speechcommands

        ours = {
            archive.url: archive.sha256 for pair in SPEECH_COMMANDS.values() for archive in pair
        }
        assert speechcommands._CHECKSUMS.items() <= ours.items()
        assert librispeech._CHECKSUMS[LIBRISPEECH.url] == LIBRISPEECH.sha256
