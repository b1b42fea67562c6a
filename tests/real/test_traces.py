"""
Trace context (W3C) from the client through the daemon to the application.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.real.conftest import PATIENCE, StartDaemon

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STATE = "vendor=00f067aa0ba902b7"


class Application(HTTPServer):
    """
    Answers `/may` for channel `news` with 200 and others with 403, any other path with 200.

    Attributes:
        traces: path and trace headers of each request.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.traces: list[tuple[str, str | None, str | None]] = []


class _Requests(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        trace = self.headers["traceparent"], self.headers["tracestate"]
        server: Any = self.server
        server.traces.append((path, *trace))
        refused = path == "/may" and "secret" in f"{self.path} {self.headers}"
        self.send_response(403 if refused else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def application() -> Iterator[Application]:
    """
    Yield an application that listens.
    """
    server = Application()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(url: str) -> int:
    """
    Return the status of a request with trace headers.
    """
    request = Request(url, headers={"traceparent": TRACE, "tracestate": STATE})
    try:
        with urlopen(request, timeout=PATIENCE) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


def test_a_trace_reaches_the_application_and_the_logs(
    daemon: StartDaemon, application: Application, tmp_path: Path
) -> None:
    """
    A proxied request and a question to the application have the trace headers of the client; the
    access log has the trace of each request, the audit log that of a refused one.
    """
    port = application.server_address[1]
    server = daemon(
        f"--route=^/app http:127.0.0.1:{port}",
        "--route=^/poll$ poll",
        "--allow=app",
        f"--authorize=http://127.0.0.1:{port}/may",
        f"--access-log={tmp_path / 'access.log'}",
        "--access-log-format=json",
        f"--audit-log={tmp_path / 'audit.log'}",
    )
    assert ask(f"{server.url}/app/page") == 200
    assert ask(f"{server.url}/poll?channels=news&wait=1") == 200
    assert ask(f"{server.url}/poll?channels=secret") == 403

    assert application.traces == [
        ("/app/page", TRACE, STATE),
        ("/may", TRACE, STATE),
        ("/may", TRACE, STATE),
    ]
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert [(line["status"], line["traceparent"]) for line in lines] == [
        (200, TRACE),
        (200, TRACE),
        (403, TRACE),
    ]
    audited = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(line["status"], line["traceparent"]) for line in audited] == [(403, TRACE)]
