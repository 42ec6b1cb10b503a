import hashlib
import io
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from broker.contract.errors import DataError, SettingsError
from training.__main__ import main
from training.data.corpora import CORPORA
from training.data.download import GUIDES, RAVDESS, Archive, fetch
from training.data.prepare import prepare

Write = Callable[..., Path]

NAME = "Actor_01/03-01-03-01-01-01-01.wav"


class Server(ThreadingHTTPServer):
    """Serves one body at /corpus.zip, on loopback."""

    body = b""
    announced: int | None = None
    """Length to announce where it is not that of the body."""
    asked = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/corpus.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.path != "/corpus.zip":
            self.send_error(404)
            return
        self.send_response(200)
        length = len(self.server.body) if self.server.announced is None else self.server.announced
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def serve(server: Server) -> Callable[..., Archive]:
    """Return the archive that the server gives out with these members."""

    def make(members: dict[str, bytes]) -> Archive:
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        server.body = body.getvalue()
        return _archive(server)

    return make


def _archive(server: Server) -> Archive:
    return Archive(
        title="Corpus",
        folder="corpus",
        url=server.url,
        md5=hashlib.md5(server.body, usedforsecurity=False).hexdigest(),
        size="1 kB",
        licence="",
    )


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_download_leaves_the_unpacked_corpus_alone(
    serve: Callable[..., Archive], server: Server, write: Write, tmp_path: Path
) -> None:
    archive = serve({NAME: write(NAME).read_bytes(), "README.txt": b"read me"})
    place = fetch(archive, tmp_path / "corpora")
    assert place == tmp_path / "corpora/corpus"
    assert _files(tmp_path / "corpora") == {f"corpus/{NAME}", "corpus/README.txt"}
    assert prepare(tmp_path / "corpora", tmp_path / "cache").decoded == 1
    assert fetch(archive, tmp_path / "corpora") == place
    assert server.asked == 1


def test_download_of_another_file_than_published_is_refused(
    serve: Callable[..., Archive], server: Server, tmp_path: Path
) -> None:
    archive = serve({NAME: b"sound"})
    server.body = server.body.replace(b"sound", b"noise")
    with pytest.raises(DataError, match=r"what came is not the published file \(its MD5 differs\)"):
        fetch(archive, tmp_path)
    assert _files(tmp_path) == set()


def test_download_that_is_cut_is_refused_and_can_be_repeated(
    serve: Callable[..., Archive], server: Server, tmp_path: Path
) -> None:
    archive = serve({NAME: b"sound"})
    server.announced = len(server.body) + 100
    with pytest.raises(DataError, match="no connection, or it was cut"):
        fetch(archive, tmp_path)
    assert _files(tmp_path) == set()
    server.announced = None
    fetch(archive, tmp_path)
    assert _files(tmp_path) == {f"corpus/{NAME}"}


def test_download_without_network_says_so_in_one_line(
    serve: Callable[..., Archive], server: Server, tmp_path: Path
) -> None:
    archive = serve({})
    lost = msgspec.structs.replace(archive, url=f"{server.url}.gone")
    with pytest.raises(DataError, match=r"\.gone: the server answers 404 Not Found; try again later"):
        fetch(lost, tmp_path)
    server.shutdown()
    server.server_close()
    with pytest.raises(
        DataError, match=r"no connection, or it was cut \(ConnectionError\); check the network"
    ) as error:
        fetch(archive, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["../outside.wav", "/outside.wav", "a/../../outside.wav", "..\\outside.wav", "C:/x.wav"]
)
def test_download_whose_members_reach_out_is_not_unpacked(
    name: str, serve: Callable[..., Archive], tmp_path: Path
) -> None:
    archive = serve({NAME: b"sound", name: b"outside"})
    with pytest.raises(DataError, match="reaches out of the folder; nothing is unpacked"):
        fetch(archive, tmp_path / "corpora")
    assert _files(tmp_path) == {"corpora/.corpus.zip"}


def test_download_of_no_zip_file_is_refused(server: Server, tmp_path: Path) -> None:
    server.body = b"<html>sign in</html>"
    with pytest.raises(DataError, match="is no zip file that can be unpacked"):
        fetch(_archive(server), tmp_path)
    assert _files(tmp_path) == {".corpus.zip"}


SHORT_OF_SPACE = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
import msgspec
from broker.contract.errors import exit_with_one_line
from training.data.download import Archive, fetch
archive = msgspec.json.decode(sys.argv[1], type=Archive)
sys.exit(exit_with_one_line("download", lambda: fetch(archive, Path(sys.argv[3])) and 0))
"""


@pytest.mark.parametrize("room", [10_000, 50_000], ids=["to download", "to unpack"])
def test_download_without_space_says_so_and_leaves_nothing_half(room: int, server: Server, tmp_path: Path) -> None:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(NAME, bytes(100_000))
        archive.writestr("noise.bin", hashlib.shake_128(b"").digest(20_000))
    server.body = body.getvalue()
    told = msgspec.json.encode(_archive(server)).decode()
    code = ["-c", SHORT_OF_SPACE, told, str(room), str(tmp_path / "out")]
    ran = subprocess.run([sys.executable, *code], capture_output=True, text=True, check=False)
    assert ran.returncode == DataError.exit_code
    assert "no space for Corpus (1 kB); free some or choose another --out" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert _files(tmp_path / "out") <= {".corpus.zip"}
    assert (tmp_path / "out/.corpus.zip").exists() == (room == 50_000)


def test_download_needs_the_licence_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "ravdess", "--out", str(tmp_path)]) == SettingsError.exit_code
    out, err = capsys.readouterr()
    assert RAVDESS.licence in out
    assert err == "sottovoce-train: error: RAVDESS: read the licence above, then add --accept-licence\n"
    assert _files(tmp_path) == set()


def test_download_of_ravdess_is_there_already(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ravdess").mkdir()
    assert main(["download", "ravdess", "--out", str(tmp_path), "--accept-licence"]) == 0
    assert f"prepare --data {tmp_path}" in capsys.readouterr().out


@pytest.mark.parametrize("corpus", GUIDES)
def test_download_of_other_corpora_says_where_they_are(corpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", corpus]) == 0
    assert "http" in capsys.readouterr().out


def test_every_official_corpus_can_be_asked_for() -> None:
    assert {"ravdess", *GUIDES} == {corpus.key for corpus in CORPORA}
