"""
Uploads by curl, tus-js-client and Uppy, unmodified; daemons that are killed, and full disks.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from tests.real.conftest import (
    CLIENTS,
    PATIENCE,
    ROOT,
    Browser,
    Serve,
    Server,
    StartDaemon,
    free_port,
    require,
    require_npm,
)
from tests.real.live_programs import wait_for
from tests.real.redis_server import redis
from tests.real.test_proxies import serve_nginx
from tests.real.test_websocket import open_files

__all__ = ["redis"]  # a fixture

ESBUILD = ROOT / "clients" / "js" / "node_modules" / ".bin" / "esbuild"
SIZE = 20_000_000


def curl(*arguments: str) -> str:
    """
    Return what curl prints.
    """
    command = [require("curl", "curl"), "-s", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout


def tus_headers(*more: str) -> Sequence[str]:
    """
    Return the arguments of curl for a request of tus.
    """
    arguments: list[str] = []
    for header in ("Tus-Resumable: 1.0.0", *more):
        arguments += ["-H", header]
    return arguments


def create(url: str, size: int) -> str:
    """
    Create an upload, and return its URL.
    """
    printed = curl("-i", "-X", "POST", *tus_headers(f"Upload-Length: {size}"), url)
    [location] = [line for line in printed.splitlines() if line.startswith("Location: ")]
    return f"{url.rpartition('/')[0]}/{location.removeprefix('Location: ')}"


def stored(url: str) -> int:
    """
    Return how many bytes of an upload are stored.
    """
    for line in curl("-I", *tus_headers(), url).splitlines():
        if line.startswith("Upload-Offset: "):
            return int(line.removeprefix("Upload-Offset: "))
    raise AssertionError(f"{url} is gone")


def patch(url: str, offset: int, data: Path, *more: str) -> int:
    """
    Send the rest of a file, and return the status.
    """
    rest = data.with_suffix(".rest")
    rest.write_bytes(data.read_bytes()[offset:])
    kind = "Content-Type: application/offset+octet-stream"
    headers = tus_headers(kind, f"Upload-Offset: {offset}")
    body = ("-X", "PATCH", "--data-binary", f"@{rest}", "-o", os.devnull, "-w", "%{http_code}")
    return int(curl(*headers, *body, *more, url))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """
    A file of SIZE random bytes.
    """
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "uploads"
    path.mkdir()
    return path


class NodeClient:
    """
    tus-js-client at work.
    """

    def __init__(self, endpoint: str, path: Path, chunk: int, url: str = "") -> None:
        require_npm("tus-js-client")
        script = CLIENTS / "tus_client.mjs"
        command = [require("node", "nodejs"), str(script), endpoint, str(path), str(chunk), url]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def lines(self) -> Iterator[dict[str, Any]]:
        """
        Yield what it prints.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield json.loads(line)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def test_curl_uploads_a_file_and_a_form(daemon: StartDaemon, folder: Path, data: Path) -> None:
    """
    Both files are what was sent, and a subscriber is notified of each with its SHA-256.
    """
    server = daemon(f"--route=^/upload upload:to={folder},channel=files", "--route=^/$ sse")
    curl("-T", str(data), "-H", "Expect: 100-continue", f"{server.url}/upload/")
    given = ("-H", "Accept: application/json")
    form = json.loads(curl(*given, "-F", f"a=@{data};filename=../b.bin", f"{server.url}/upload"))

    assert [file["name"] for file in form["files"]] == ["b.bin"]
    assert {digest(folder / name) for name in ("data.bin", "b.bin")} == {digest(data)}
    assert form["files"][0]["sha256"] == digest(data)
    events = subprocess.run(
        [require("curl", "curl"), "-sNm", "1", f"{server.url}/?channels=files&history=9"],
        capture_output=True,
        text=True,
    ).stdout
    assert events.count("event: uploaded") == 2
    assert events.count(digest(data)) == 2


@pytest.mark.limit(120)
def test_an_upload_survives_kill_9(daemon: StartDaemon, folder: Path, data: Path) -> None:
    """
    tus-js-client goes on when the daemon is back.
    """
    server = daemon(f"--route=^/upload upload:{folder}")
    client = NodeClient(f"{server.url}/upload", data, 1_000_000)
    try:
        for line in client.lines():
            if line.get("sent", 0) >= 3_000_000:
                server.restart(SIGKILL)
                break
        rest = list(client.lines())
    finally:
        client.end()

    assert rest[-1] == {"done": True}
    assert digest(folder / "data.bin") == digest(data)
    assert {path.suffix for path in folder.glob(".*")} == {".info"}


@pytest.mark.parametrize("workers", [1, 2])
def test_one_request_at_a_time_writes(
    daemon: StartDaemon, redis: Server, folder: Path, data: Path, workers: int
) -> None:
    """
    A client whose connection hangs goes on by another one, whichever worker accepts it: what
    the first one still sends is not written.
    """
    shared = ("--broker=redis", f"--redis-port={redis.port}", f"--workers={workers}")
    server = daemon(f"--route=^/upload upload:{folder}", *shared)
    url = create(f"{server.url}/upload", SIZE)
    content = data.read_bytes()
    sockets = []
    for _ in range(3):
        offset = stored(url)
        stuck = socket.create_connection(("127.0.0.1", server.port))
        sockets.append(stuck)
        head = (
            f"PATCH /upload/{url.rpartition('/')[2]} HTTP/1.1\r\nHost: localhost\r\n"
            "Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
            f"Upload-Offset: {offset}\r\nContent-Length: {SIZE - offset}\r\n\r\n"
        )
        stuck.sendall(head.encode() + content[offset : offset + 1_000_000])
        [part] = folder.glob(".*.part")
        wait_for(lambda: part.stat().st_size > offset)  # noqa: B023  # called at once
    assert patch(url, stored(url), data) == 204
    for stuck in sockets:
        stuck.close()

    [path] = folder.glob("[!.]*")
    assert digest(path) == digest(data)


@pytest.mark.limit(120)
@pytest.mark.parametrize("workers", [1, 2])
def test_two_tabs_upload_the_same_file(
    daemon: StartDaemon, redis: Server, folder: Path, data: Path, workers: int
) -> None:
    """
    Two of tus-js-client that go on with one upload take it from each other; both end well, and
    the file is whole.
    """
    shared = ("--broker=redis", f"--redis-port={redis.port}", f"--workers={workers}")
    server = daemon(f"--route=^/upload upload:{folder}", *shared)
    url = create(f"{server.url}/upload", SIZE)
    clients = [NodeClient(f"{server.url}/upload", data, 2_000_000, url) for _ in range(2)]
    try:
        ends = [list(client.lines())[-1] for client in clients]
    finally:
        for client in clients:
            client.end()

    assert ends == [{"done": True}] * 2
    [path] = folder.glob("[!.]*")
    assert digest(path) == digest(data)


def test_a_full_disk_keeps_what_fits(daemon: StartDaemon, folder: Path, data: Path) -> None:
    """
    The client gets 507, and goes on when there is space; of a plain upload nothing is left.
    """
    server = daemon(f"--route=^/upload upload:{folder}")
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (5_000_000, hard))
    plain = ("-T", str(data), "-o", os.devnull, "-w", "%{http_code}")
    assert curl(*plain, f"{server.url}/upload/") == "507"
    assert list(folder.iterdir()) == []
    url = create(f"{server.url}/upload", SIZE)
    assert patch(url, 0, data) == 507
    assert stored(url) == 5_000_000
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (soft, hard))

    assert patch(url, 5_000_000, data) == 204
    assert digest(folder / "unnamed") == digest(data)


def test_tus_behind_nginx(
    daemon: StartDaemon, serve: Serve, folder: Path, data: Path, tmp_path: Path
) -> None:
    """
    With the lines of the documentation, also if nginx changes the path.
    """
    server = daemon(f"--route=^/upload upload:{folder}")
    text = (ROOT / "docs" / "uploads.md").read_text()
    site = text.rpartition("```nginx\nlocation /upload")[2].partition("```")[0]
    site = site.replace("127.0.0.1:8080;", f"127.0.0.1:{server.port}/upload;")
    port = free_port()
    serve_nginx(
        serve,
        f"server {{ listen 127.0.0.1:{port}; location /files/upload {site} }}",
        port,
        tmp_path,
    )
    client = NodeClient(f"http://127.0.0.1:{port}/files/upload", data, 7_000_000)
    try:
        assert list(client.lines())[-1] == {"done": True}
    finally:
        client.end()
    assert digest(folder / "data.bin") == digest(data)


@pytest.mark.limit(120)
def test_uppy_uploads_from_another_origin(
    daemon: StartDaemon, browser: Browser, folder: Path, tmp_path: Path
) -> None:
    """
    In Chromium, by tus in several requests, and by a form.
    """
    for name in ("core", "tus", "xhr-upload"):
        require_npm(f"@uppy/{name}")
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.html").write_text("<!DOCTYPE html><script src=page.js></script>")
    bundle = [str(ESBUILD), "uppy_page.js", "--bundle", f"--outfile={pages}/page.js"]
    subprocess.run(bundle, cwd=CLIENTS, check=True, capture_output=True, timeout=PATIENCE)
    site = daemon(f"--route=^/site/ static:{pages}")
    server = daemon(f"--route=^/upload upload:to={folder},types=image/*", "--publish-key=secret")
    browser.open(f"{site.url}/site/")
    for kind, name in (("tus", "a.png"), ("form", "b.png")):
        call = f"uploadBy('{kind}', '{server.url}/upload', 'secret', '{name}', 1000000)"
        result = browser.evaluate(call)
        assert result == {"done": 1, "failed": []}, browser.console()
        assert (folder / name).read_bytes() == b"\x07" * 1_000_000


@pytest.mark.limit(120)
@pytest.mark.parametrize("resumed", [False, True])
def test_a_large_upload_takes_little_memory(
    daemon: StartDaemon, folder: Path, tmp_path: Path, resumed: bool
) -> None:
    """
    256 MiB grow the daemon by less than 10 MB at any time.
    """
    server = daemon(f"--route=^/upload upload:{folder}")
    small, large = tmp_path / "small.bin", tmp_path / "large.bin"
    for path, size in ((small, 2**20), (large, 2**28)):
        path.touch()
        os.truncate(path, size)

    def send(path: Path) -> str:
        status = ("-o", os.devnull, "-w", "%{http_code}")
        if not resumed:
            return curl("-T", str(path), *status, f"{server.url}/upload/")
        url = create(f"{server.url}/upload", path.stat().st_size)
        kind = ("Content-Type: application/offset+octet-stream", "Upload-Offset: 0", "Expect:")
        return curl("-X", "PATCH", "-T", str(path), *tus_headers(*kind), *status, url)

    done = "204" if resumed else "200"
    assert send(small) == done
    before = _memory(server.pid, "VmRSS")
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak is that from now on
    assert send(large) == done

    assert _memory(server.pid, "VmHWM") - before < 10_000_000
    assert sorted(path.stat().st_size for path in folder.glob("[!.]*")) == [2**20, 2**28]


def _memory(pid: int, field: str) -> int:
    """
    Return a size of the memory of a process, in bytes.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"there is no {field}")


@pytest.fixture
def many_files() -> Iterator[None]:
    """
    Descriptors for 1,300 connections of the test, and of its daemon.
    """
    with open_files(3000):
        yield


@pytest.mark.limit(120)
def test_slow_uploads_delay_no_subscriber(
    many_files: None, daemon: StartDaemon, folder: Path
) -> None:
    """
    300 uploads at a few bytes per second beside 1,000 subscribers: each message reaches all of
    them before the uploads go on, and all uploads end well.
    """
    routes = ("--route=^/$ sse", "--route=^/publish$ publish")
    server = daemon(f"--route=^/upload upload:{folder}", *routes)
    address = ("127.0.0.1", server.port)
    readers = [socket.create_connection(address, PATIENCE) for _ in range(1000)]
    for reader in readers:
        reader.sendall(b"GET /?channels=news HTTP/1.1\r\nHost: x\r\n\r\n")
    clients = []
    for number in range(300):
        client = socket.create_connection(address, PATIENCE)
        head = f"PUT /upload/{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n"
        client.sendall(head.encode())
        clients.append(client)
    for step in range(10):
        for client in clients:
            client.sendall(b"ab")
        curl("-d", f"channel=news&message=number-{step}", f"{server.url}/publish")
        for reader in readers:
            received = b""
            while b"number-%d" % step not in received:
                piece = reader.recv(65536)
                assert piece, "a subscriber was disconnected"
                received += piece
    for client in clients:
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    for connection in (*clients, *readers):
        connection.close()

    files = list(folder.iterdir())
    assert len(files) == 300
    assert {path.read_bytes() for path in files} == {b"ab" * 10}
