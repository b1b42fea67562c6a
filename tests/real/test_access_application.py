"""
Applications that are asked, filter messages and publish their keys, over real connections.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.pems import Authority
from tests.real.conftest import PATIENCE, StartDaemon, require
from tests.real.test_access import request
from tests.real.test_admin import until

ROOM = r"--route=^/room/(\w+)$ poll:subscribe=room-$1"
Headers = Mapping[str, str]
Answer = tuple[int, Mapping[str, str], bytes]


@dataclass(eq=False)
class Application:
    """
    An HTTP server whose responses a test decides.

    Attributes:
        answer: called with the headers and the body of each request.
        asked: the headers of all requests so far.
        connections: from which they came.
        url: of the server.
        authority: file of the certificate that signed the server's; "" without TLS.
    """

    answer: Callable[[Headers, bytes], Answer] = lambda headers, body: (204, {}, b"")
    asked: list[dict[str, str]] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    url: str = ""
    authority: str = ""


class UnixServer(ThreadingMixIn, UnixStreamServer):
    """
    A server on a unix socket.
    """

    daemon_threads = True


@pytest.fixture(params=["tcp"])
def application(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    """
    Run an application; a test may ask for one on a unix socket, or with TLS.
    """
    made = Application()

    class Asked(BaseHTTPRequestHandler):
        """
        A request, which is answered as the test decides.
        """

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            made.asked.append(dict(self.headers))
            made.connections.add(self.connection.fileno())
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            status, headers, data = made.answer(made.asked[-1], body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def address_string(self) -> str:
            return "client"

        def log_message(self, *words: object) -> None:
            pass

    server: Any
    if request.param == "unix":
        path = str(tmp_path / "app.sock")
        server = UnixServer(path, Asked)
        made.url = f"http://unix:{path}:/may"
    else:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        made.url = f"http://127.0.0.1:{server.server_address[1]}/may"
    if request.param == "tls":
        authority = Authority(tmp_path)
        secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        secure.load_cert_chain(*authority.pair("app", "localhost"))
        server.socket = secure.wrap_socket(server.socket, server_side=True)
        made.url = f"https://localhost:{server.server_address[1]}/may"
        made.authority = authority.file
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


def fetch(port: int, path: str, *options: str) -> tuple[int, str, str]:
    """
    Return status, head and body of a response.
    """
    command = [require("curl", "curl"), "-si", "--max-time", "20", *options]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
    )
    head, _, body = done.stdout.partition("\n\n")
    return int(head.split()[1]), head, body


@pytest.mark.limit(60)
@pytest.mark.parametrize("application", ["tcp", "unix"], indirect=True)
def test_what_an_application_is_asked(daemon: StartDaemon, application: Application) -> None:
    """
    All that nginx and nchan send, and the headers of `authorize-headers`; what the client itself
    sends under these names does not count. Connections are kept.
    """
    server = daemon(
        ROOM, "--allow=app", f"--authorize={application.url}", "--authorize-headers=x-tenant"
    )
    sent = {
        "Cookie": "session=mia", "Authorization": "Basic bWlhOmE=", "X-Tenant": "shop",
        "X-Other": "no", "X-Forwarded-For": "192.0.2.7", "X-Channels": "room-8",
        "X-Action": "publish", "X-Original-URI": "/",
    }  # fmt: skip
    options = [part for name, value in sent.items() for part in ("-H", f"{name}: {value}")]
    for _ in range(3):
        assert fetch(server.port, "/room/7?format=json", *options)[0] == 200
    [asked, *_] = application.asked
    assert "X-Other" not in asked
    assert {name: asked[name] for name in (*sent, "X-Original-Method", "X-Transport",
            "X-Forwarded-Proto", "X-Forwarded-Host") if name in asked} == {
        "Cookie": "session=mia", "Authorization": "Basic bWlhOmE=", "X-Tenant": "shop",
        "X-Forwarded-For": "127.0.0.1", "X-Channels": "room-7", "X-Action": "subscribe",
        "X-Original-URI": "/room/7?format=json", "X-Original-Method": "GET",
        "X-Transport": "poll", "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": f"127.0.0.1:{server.port}",
    }  # fmt: skip
    assert len(application.asked) == 3
    assert len(application.connections) == 1


@pytest.mark.limit(60)
@pytest.mark.parametrize("application", ["tls"], indirect=True)
def test_an_application_is_asked_over_tls(daemon: StartDaemon, application: Application) -> None:
    """
    Its certificate must be signed by an authority that the machine trusts: otherwise it is not
    asked, and no client is admitted.
    """
    options = (ROOM, "--allow=app", f"--authorize={application.url}")
    trusting = daemon(*options, environment={"SSL_CERT_FILE": application.authority})
    for _ in range(2):
        assert fetch(trusting.port, "/room/7?format=json")[0] == 200
    assert len(application.asked) == 2
    assert len(application.connections) == 1
    doubting = daemon(*options)
    assert fetch(doubting.port, "/room/7?format=json")[0] == 503
    assert len(application.asked) == 2
    assert "certificate" in doubting.log


@pytest.mark.limit(60)
def test_how_an_application_refuses(daemon: StartDaemon, application: Application) -> None:
    """
    Statuses, bodies and headers that a client needs are passed on; a page to log in is 401, and
    what decides nothing 503, which an EventSource gets as a stream that ends.
    """
    server = daemon(ROOM, "--allow=app", f"--authorize={application.url}", "--route=^/$ sse")
    for status, headers, expected, kept in (
        (401, {"WWW-Authenticate": "Basic realm=x"}, 401, "WWW-Authenticate: Basic realm=x"),
        (403, {"Set-Cookie": "a=1"}, 403, "Set-Cookie: a=1"),
        (404, {}, 404, ""),
        (410, {}, 410, ""),
        (429, {"Retry-After": "7"}, 429, "Retry-After: 7"),
        (302, {"Location": "/login"}, 401, "WWW-Authenticate: Bearer"),
        (500, {"X-User": "mia"}, 503, "Retry-After:"),
        (200, {"X-Expires-In": "soon"}, 503, "Retry-After:"),
    ):
        decided = (status, headers, b"the reason")
        application.answer = partial(_always, decided)
        found, head, body = fetch(server.port, "/room/7")
        assert found == expected, status
        assert kept.lower() in head.lower()
        assert ("the reason" in body) == (status in (401, 403, 404, 410, 429)), status
    source = fetch(server.port, "/?channels=a", "-H", "Accept: text/event-stream")
    assert source[0] == 200 and "retry: " in source[2]


def _always(decided: Answer, headers: Headers, body: bytes) -> Answer:
    return decided


@pytest.mark.limit(60)
def test_clients_that_hang_up_leave_no_question(
    daemon: StartDaemon, application: Application
) -> None:
    """
    With one slot, which a slow answer holds, those that wait and disconnect are not asked about.
    """
    release = threading.Event()

    def slowly(headers: Headers, body: bytes) -> Answer:
        release.wait(PATIENCE)
        return 204, {}, b""

    application.answer = slowly
    server = daemon(ROOM, "--allow=app", f"--authorize={application.url}",
                    "--authorize-concurrency=1", "--authorize-timeout=20s")  # fmt: skip
    url = f"http://127.0.0.1:{server.port}/room"
    first = subprocess.Popen(["curl", "-s", f"{url}/0"], stdout=subprocess.DEVNULL)
    until(lambda: application.asked)
    waiting = [
        subprocess.Popen(["curl", "-s", f"{url}/{number}"], stdout=subprocess.DEVNULL)
        for number in range(1, 9)
    ]
    time.sleep(0.5)  # they have sent their requests, or never will
    for client in waiting:
        client.kill()
        client.wait()
    last = subprocess.Popen(["curl", "-s", f"{url}/9"], stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    release.set()
    assert (first.wait(PATIENCE), last.wait(PATIENCE)) == (0, 0)
    assert [asked["X-Channels"] for asked in application.asked] == ["room-0", "room-9"]


@pytest.mark.limit(60)
def test_an_application_filters_messages(daemon: StartDaemon, application: Application) -> None:
    """
    Messages pass, or are changed, dropped or refused; a large one is never published.
    """
    answers: dict[bytes, Answer] = {
        b"pass": (304, {}, b""),
        b"same": (200, {}, b""),
        b"bad word": (200, {}, b"*** word"),
        b"spam": (204, {}, b""),
        b"rude": (403, {}, b"be polite"),
        b"large": (200, {}, b"x" * 2000),
        b"broken": (500, {}, b""),
    }
    application.answer = lambda headers, body: answers[body]
    server = daemon(f"--route=POST ^/say$ publish:channel=news,filter={application.url}",
                    "--route=^/poll$ poll:news,history=100", "--max-message=1000")  # fmt: skip
    statuses = {}
    for text in answers:
        body = json.dumps({"message": text.decode(), "event": "chat"})
        given = ("-H", "Content-Type: application/json", "-d", body)
        statuses[text.decode()] = fetch(server.port, "/say", *given)[0]
    assert statuses == {"pass": 200, "same": 200, "bad word": 200, "spam": 200, "rude": 403,
                        "large": 503, "broken": 503}  # fmt: skip
    published = json.loads(fetch(server.port, "/poll")[2])["messages"]
    assert [one["data"] for one in published] == ["pass", "same", "*** word"]
    asked = application.asked[0]
    assert (asked["X-Event"], asked["X-Channels"], asked["X-Action"]) == ("chat", "news", "publish")


@pytest.mark.limit(90)
def test_keys_are_fetched_and_rotated(daemon: StartDaemon, application: Application) -> None:
    """
    At the start, and for a key that is not known yet; the last good set stays while the server
    fails. Secrets in a set verify nothing.
    """
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("old", "new")}
    secret = {"kty": "oct", "kid": "shared", "k": "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE"}
    shown = ["old"]

    def key_set(headers: Headers, body: bytes) -> Answer:
        if not shown:
            return 500, {}, b""
        found: list[Any] = [secret]
        for name in shown:
            public = keys[name].public_key()
            found.append({**jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True), "kid": name})
        return 200, {}, json.dumps({"keys": found}).encode()

    def token(name: str) -> str:
        claims = {"channels": ["news"], "exp": time.time() + 300}
        return jwt.encode(claims, keys[name], "ES256", {"kid": name})

    application.answer = key_set
    server = daemon("--allow=token", f"--token-jwks={application.url}")
    until(lambda: request(server.port, "/poll", token("old")) == 200)
    forged = jwt.encode({"channels": ["news"], "exp": time.time() + 300}, "a" * 32, "HS256",
                        {"kid": "shared"})  # fmt: skip
    assert request(server.port, "/poll", forged) == 401
    shown[:] = ["old", "new"]
    until(lambda: request(server.port, "/poll", token("new")) == 200)
    shown.clear()
    assert request(server.port, "/poll", token("old")) == 200
    assert len(application.asked) == 2
