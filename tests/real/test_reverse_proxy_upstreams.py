"""
Applications that are reached by TLS and by unix sockets: real servers behind the daemon.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from tests.pems import Authority
from tests.real.conftest import ROOT, Serve, StartDaemon, free_port
from tests.real.proxied_wsgi import PIECE
from tests.real.test_reload import wait_until
from tests.real.test_reverse_proxy import LARGE, WSGI, ask, gunicorn


def secure_gunicorn(serve: Serve, pair: tuple[str, str]) -> int:
    """
    Start gunicorn with a certificate; return its port.
    """
    certificate, key = pair
    return gunicorn(serve, f"--certfile={certificate}", f"--keyfile={key}").port


def test_application_by_tls(serve: Serve, daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Requests, bodies and responses arrive as they are, and a connection is used again.
    """
    authority = Authority(tmp_path)
    port = secure_gunicorn(serve, authority.pair("app", "localhost", "127.0.0.1"))
    front = daemon(
        f"--route=^/name http:to=https://localhost:{port},ca={authority.file}",
        f"--route=^/ http:to=https://127.0.0.1:{port},ca={authority.file}",
        "--upstream-timeout=10s",
    )
    for prefix in ("/name", "/address"):
        status, body, _ = ask(front, f"{prefix}/large")
        assert (status, len(body)) == (200, LARGE)
        assert ask(front, f"{prefix}/echo", "POST", PIECE * 40)[1] == PIECE * 40
        environ = json.loads(ask(front, f"{prefix}/environ")[1])
        assert environ["HTTP_HOST"] == f"127.0.0.1:{front.port}"


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("system", "certificate is not trusted (certificate verify failed)"),
        ("name", "certificate is for another name"),
        ("expired", "certificate is not trusted (certificate verify failed)"),
        ("plain", "does not speak TLS at this port"),
    ],
)
def test_application_that_is_not_trusted(
    case: str, words: str, serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    The client gets 502, the log says why, and the next process of a list is used.
    """
    authority = Authority(tmp_path)
    host = "shop.example" if case == "name" else "localhost"
    pair = authority.pair("app", host, days=-1 if case == "expired" else 30)
    wrong = gunicorn(serve).port if case == "plain" else secure_gunicorn(serve, pair)
    right = secure_gunicorn(serve, authority.pair("right", "localhost"))
    ca = "" if case == "system" else f",ca={authority.file}"
    both = f"to=https://localhost:{wrong},to=https://localhost:{right},ca={authority.file}"
    routes = [f"--route=^/alone http:to=https://localhost:{wrong}{ca}"]
    if case != "system":
        routes.append(f"--route=^/both http:{both}")
    front = daemon(*routes)

    for method in ("GET", "POST"):
        status, body, _ = ask(front, "/alone/post", method, b"secret")
        assert (status, body) == (502, b"the application cannot be reached\n")
    assert f"https://localhost:{wrong}/: the application cannot be reached: the server" in front.log
    assert words in front.log
    assert "secret" not in front.log
    if case != "system":
        for number in range(4):
            assert ask(front, "/both/echo", "POST", b"%d" % number)[1] == b"%d" % number


def test_plain_request_to_a_tls_port(serve: Serve, daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The client gets 502: the connection is closed, or what comes is not HTTP.
    """
    pair = Authority(tmp_path).pair("app", "localhost")
    front = daemon(f"--route=^/ http:localhost:{secure_gunicorn(serve, pair)}")
    assert ask(front, "/environ")[0] == 502
    assert "the application does not send a valid response: " in front.log


def test_application_by_a_unix_socket(serve: Serve, daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Requests, bodies and responses arrive as they are; a socket that is not there yet is 502.
    """
    path = tmp_path / "app.sock"
    front = daemon(f"--route=^/ http:{path}")
    assert ask(front, "/environ")[0] == 502
    assert f"http://unix:{path}:/: the application cannot be reached: " in front.log
    program = str(Path(sys.executable).with_name("gunicorn"))
    port = free_port()  # by which the test sees that it listens
    where = (f"--bind=unix:{path}", f"--bind=127.0.0.1:{port}", f"--chdir={ROOT}")
    serve([program, *where, "--threads=4", WSGI], port)
    wait_until(lambda: ask(front, "/environ")[0] == 200)
    assert len(ask(front, "/large")[1]) == LARGE
    assert ask(front, "/echo", "POST", PIECE * 40)[1] == PIECE * 40
    environ = json.loads(ask(front, "/environ")[1])
    assert environ["HTTP_HOST"] == f"127.0.0.1:{front.port}"
    with socket.create_connection(("127.0.0.1", front.port)) as client:  # without Host
        client.sendall(b"GET /environ HTTP/1.0\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65536), b""))
    environ = json.loads(received.partition(b"\r\n\r\n")[2])
    assert environ["HTTP_HOST"] == "localhost"
