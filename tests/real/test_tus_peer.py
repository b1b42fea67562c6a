"""
The requests of tus to @tus/server and to the daemon: equal answers, but for the differences here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from tests.real.conftest import (
    CLIENTS,
    PATIENCE,
    Serve,
    StartDaemon,
    free_port,
    require,
    require_npm,
)
from tests.real.test_uploads import NodeClient

BODY = {"Content-Type": "application/offset+octet-stream"}
# What @tus/server answers where the daemon answers otherwise, and why.
DIFFERENCES = {
    "no offset": (400, 403),  # a header is missing: nothing is forbidden
    "wrong type": (415, 400),  # tus 1.0, PATCH
    "other version": (412, 400),  # tus 1.0, Tus-Version
    "get": (405, 200),  # nothing that was uploaded is served
    "length later": (400, 201),  # the extension creation-defer-length, which is not announced
}


@dataclass(frozen=True, slots=True)
class TusAnswer:
    """
    A response, without its body.
    """

    status: int
    headers: Mapping[str, str]


class TusPeer:
    """
    A client that sends each request on a connection of its own.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, TusAnswer] = {}

    def ask(
        self,
        name: str,
        method: str,
        url: str,
        body: bytes | None = None,
        **headers: str | int,
    ) -> TusAnswer:
        """
        Send a request, and note its answer as *name*.
        """
        parts = urlsplit(url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        sent = {"Tus-Resumable": "1.0.0", **(BODY if body is not None else {})}
        sent |= {key.replace("_", "-"): str(value) for key, value in headers.items()}
        connection.request(method, parts.path, body, {k: v for k, v in sent.items() if v})
        response = connection.getresponse()
        response.read()
        answer = TusAnswer(response.status, {k.lower(): v for k, v in response.getheaders()})
        connection.close()
        self.answers[name] = answer
        return answer

    def create(self, name: str, body: bytes | None = None, **headers: str | int) -> str:
        """
        Create an upload, and return its URL.
        """
        answer = self.ask(name, "POST", self.url, body, **headers)
        return urljoin(self.url, answer.headers.get("location", ""))


def dialogue(url: str) -> Mapping[str, TusAnswer]:
    """
    Return the answers to all requests, by names.
    """
    peer = TusPeer(url)
    ask = peer.ask
    ask("options", "OPTIONS", url)
    one = peer.create("creation", Upload_Length=10, Upload_Metadata="filename YS5iaW4=")
    ask("head", "HEAD", one)
    ask("first part", "PATCH", one, b"abcde", Upload_Offset=0)
    ask("wrong offset", "PATCH", one, b"abcde", Upload_Offset=0)
    ask("no offset", "PATCH", one, b"fghij")
    ask("negative offset", "PATCH", one, b"fghij", Upload_Offset=-5)
    ask("wrong type", "PATCH", one, b"fghij", Upload_Offset=5, Content_Type="text/plain")
    ask("no version", "PATCH", one, b"fghij", Upload_Offset=5, Tus_Resumable="")
    ask("other version", "PATCH", one, b"fghij", Upload_Offset=5, Tus_Resumable="0.2.2")
    ask("too much", "PATCH", one, b"fghijk", Upload_Offset=5)
    ask("unchanged", "HEAD", one)
    ask("last part", "PATCH", one, b"fghij", Upload_Offset=5)
    ask("complete", "HEAD", one)
    ask("get", "GET", one)
    override = {"X_HTTP_Method_Override": "PATCH"}
    ask("override", "POST", one, b"k", Upload_Offset=99, **override)
    two = peer.create("creation with bytes", b"abc", Upload_Length=10)
    ask("termination", "DELETE", two)
    ask("terminated", "HEAD", two)
    ask("terminated part", "PATCH", two, b"d", Upload_Offset=3)
    ask("unknown", "HEAD", f"{url}/{'0' * 32}")
    peer.create("empty", Upload_Length=0)
    peer.create("no length")
    peer.create("no number", Upload_Length="x")
    peer.create("negative length", Upload_Length=-1)
    peer.create("no base64", Upload_Length=1, Upload_Metadata="a %%%")
    peer.create("length later", Upload_Defer_Length=1)
    return peer.answers


def tus_server(serve: Serve, folder: Path) -> str:
    """
    Start @tus/server, and return the URL at which it creates uploads.
    """
    for package in ("@tus/server", "@tus/file-store"):
        require_npm(package)
    folder.mkdir()
    port = free_port()
    script = str(CLIENTS / "tus_server.mjs")
    serve([require("node", "nodejs"), script, str(port), str(folder)], port)
    return f"http://127.0.0.1:{port}/upload"


def test_answers_are_those_of_another_server(
    daemon: StartDaemon, serve: Serve, tmp_path: Path
) -> None:
    """
    Statuses, offsets, lengths and metadata agree. Of the other one's extensions the daemon has all
    but one.
    """
    theirs = dialogue(tus_server(serve, tmp_path / "theirs"))
    (tmp_path / "ours").mkdir()
    server = daemon(f"--route=^/upload upload:{tmp_path / 'ours'}")
    ours = dialogue(f"{server.url}/upload")

    different = {
        name: (ours[name].status, theirs[name].status)
        for name in theirs
        if ours[name].status != theirs[name].status
    }
    assert different == DIFFERENCES
    for name, answer in theirs.items():
        if name not in DIFFERENCES:
            shown: Sequence[str] = ("upload-length", "upload-metadata", "tus-resumable")
            for header in (*shown, "cache-control", "upload-offset"):
                if header in answer.headers:
                    assert ours[name].headers[header] == answer.headers[header], name
    extensions = [set(one["options"].headers["tus-extension"].split(",")) for one in (ours, theirs)]
    assert extensions[1] - extensions[0] == {"creation-defer-length"}
    assert sorted(path.name for path in (tmp_path / "ours").glob("[!.]*")) == ["a.bin", "unnamed"]


@pytest.mark.parametrize("ours", [True, False])
def test_a_client_works_with_both(
    daemon: StartDaemon, serve: Serve, tmp_path: Path, ours: bool
) -> None:
    """
    tus-js-client sends the same to either.
    """
    data = tmp_path / "data.bin"
    data.write_bytes(bytes(range(256)) * 8000)
    folder = tmp_path / "uploads"
    if ours:
        folder.mkdir()
        url = f"{daemon(f'--route=^/upload upload:{folder}').url}/upload"
    else:
        url = tus_server(serve, folder)
    client = NodeClient(url, data, 500_000)
    try:
        lines = list(client.lines())
    finally:
        client.end()

    assert [line["sent"] for line in lines if "sent" in line] == [
        *range(500_000, 2_000_001, 500_000),
        2_048_000,
    ]
    assert lines[-1] == {"done": True}
    stored = [path for path in folder.iterdir() if path.suffix not in (".info", ".json")]
    assert [path.read_bytes() for path in stored] == [data.read_bytes()]
