"""Downloads from a server on this machine, and all the ways in which there is none."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recipe.data.cifar import download, facts
from recipe.data.cifar.archive import Archive
from recipe.data.cifar.download import DownloadFailed, download_archive

CONTENT = bytes(range(256)) * 12_000  # 3 MB: several chunks
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def send(handler: http.server.BaseHTTPRequestHandler, content: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Archive]]:
    """Start a server that answers every request with the given function; returns the archive it offers."""
    servers = []

    def start(answer: Answer) -> Archive:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *args: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        servers.append(server)
        return official(f"http://127.0.0.1:{server.server_port}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def official(site: str) -> Archive:
    archive = facts.CIFAR["cifar10"].archives[0]
    digest = hashlib.sha256(CONTENT).hexdigest()
    return dataclasses.replace(archive, url=f"{site}/{archive.file}", size=len(CONTENT), digest=digest)


def assert_fails(archive: Archive, folder: Path, reason: str, seconds: float = 2) -> None:
    before = set(folder.rglob("*"))
    start = time.monotonic()
    with pytest.raises(DownloadFailed, match=reason) as caught:
        download_archive(archive, folder / "downloads" / archive.file)
    assert time.monotonic() - start < seconds
    assert "\n" not in str(caught.value)
    assert {path for path in folder.rglob("*") if path.is_file()} <= before


def test_download(serve, tmp_path, capfd):
    archive = serve(lambda handler: send(handler, CONTENT))
    target = tmp_path / "downloads" / archive.file
    download_archive(archive, target)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    assert capfd.readouterr() == ("", ""), "a progress bar off the terminal"


def test_progress_on_a_terminal(serve, tmp_path, capfd, monkeypatch):
    archive = serve(lambda handler: send(handler, CONTENT))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    download_archive(archive, tmp_path / archive.file)
    assert "100%" in capfd.readouterr().err


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"?", b"<html>please log in</html>"])
def test_wrong_content(content, serve, tmp_path):
    archive = serve(lambda handler: send(handler, content))
    assert_fails(archive, tmp_path, "^what 127.0.0.1 sent is not the file it should be$")


def test_cut_off(serve, tmp_path):
    archive = serve(lambda handler: send(handler, CONTENT[: len(CONTENT) // 2], len(CONTENT)))
    assert_fails(archive, tmp_path, "^the connection to 127.0.0.1 failed: ")


def test_stalled(serve, tmp_path, monkeypatch):
    def stall(handler: http.server.BaseHTTPRequestHandler) -> None:
        send(handler, CONTENT[:100_000], len(CONTENT))
        handler.wfile.flush()
        time.sleep(5)

    monkeypatch.setattr(download, "_STALL_SECONDS", 0.2)
    assert_fails(serve(stall), tmp_path, "^the connection to 127.0.0.1 failed: .*timed out")


def test_not_found(serve, tmp_path):
    archive = serve(lambda handler: handler.send_error(404))
    assert_fails(archive, tmp_path, "^127.0.0.1 answered 404 Not Found$")
    assert list(tmp_path.iterdir()) == []


def test_file_in_place_survives_a_failure(serve, tmp_path):
    archive = serve(lambda handler: send(handler, b"?"))
    target = tmp_path / archive.file
    target.write_bytes(b"old")
    with pytest.raises(DownloadFailed):
        download_archive(archive, target)
    assert target.read_bytes() == b"old"


def test_closed_port(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    archive = official(f"http://127.0.0.1:{port}")
    assert_fails(archive, tmp_path, r"^the connection to 127.0.0.1 failed: \[Errno \d+\] Connection refused$")
    assert list(tmp_path.iterdir()) == []


def test_silent_server(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        archive = official(f"http://127.0.0.1:{server.getsockname()[1]}")
        assert_fails(archive, tmp_path, r"^127.0.0.1 did not answer within 0\.3 s$")
    assert list(tmp_path.iterdir()) == []


def test_name_look_up_hangs(tmp_path, monkeypatch):
    assert download._CONNECT_SECONDS <= 5  # what a person without a network waits
    monkeypatch.setattr(download, "_CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(5))
    assert_fails(official("https://cifar.invalid"), tmp_path, r"^cifar.invalid did not answer within 0\.3 s$")


def test_name_is_unknown(tmp_path, monkeypatch):
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert_fails(
        official("https://cifar.invalid"), tmp_path, "cifar.invalid failed: .*Name or service not known"
    )


def test_folder_that_cannot_be_written(serve, tmp_path):
    archive = serve(lambda handler: send(handler, CONTENT))
    (tmp_path / "downloads").write_text("a file where the folder should be")
    assert_fails(archive, tmp_path, "File exists: '.*downloads'")


def test_interrupted_by_the_user(tmp_path, serve, monkeypatch):
    def interrupt(*args: object) -> bool:
        raise KeyboardInterrupt

    archive = serve(lambda handler: send(handler, CONTENT))
    monkeypatch.setattr(Archive, "matches", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download_archive(archive, tmp_path / archive.file)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_official_addresses(name):
    for archive in facts.CIFAR[name].archives:
        assert archive.url.startswith("https://www.cs.toronto.edu/~kriz/cifar-")
        assert archive.url.endswith(".tar.gz")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_checksums_are_those_of_tensorflow_datasets(name):
    tfds = pytest.importorskip("tensorflow_datasets")
    (line,) = (tfds.core.tfds_path() / "url_checksums" / f"{name}.txt").read_text().splitlines()
    archive = facts.CIFAR[name].archives[0]
    assert line.split("\t") == [archive.url, str(archive.size), archive.digest, archive.file]
