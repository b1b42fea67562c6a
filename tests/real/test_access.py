"""
Tokens that other implementations make, with the daemon and real clients.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.real.conftest import (
    CLIENTS,
    PATIENCE,
    Browser,
    Server,
    StartDaemon,
    require,
    require_npm,
)
from tests.real.redis_server import redis  # noqa: F401  # a fixture
from tests.real.test_daemon import publish
from tests.real.test_javascript import connect
from tests.real.test_reload import reload

SECRET = "0123456789abcdef" * 4
LIBRARIES = ("eventsource", "@microsoft/fetch-event-source", "reconnecting-eventsource")
ALGORITHMS: dict[str, Callable[[], Any]] = {
    **{
        f"{kind}{size}": lambda: rsa.generate_private_key(65537, 2048)
        for kind in ("RS", "PS")
        for size in (256, 384, 512)
    },
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def request(port: int, path: str, token: str = "", *options: str) -> int:
    """
    Return the status of a request with *token*.
    """
    command = [require("curl", "curl"), "-s", "-o", "/dev/null", "-w", "%{http_code}", *options]
    if token:
        command += ["-H", f"Authorization: Bearer {token}"]
    command += ["--max-time", "20", f"http://127.0.0.1:{port}{path}"]
    return int(subprocess.run(command, capture_output=True, check=False, text=True).stdout)


def token(seconds: float = 60, **claims: Any) -> str:
    return jwt.encode({"sub": "mia", "exp": time.time() + seconds, **claims}, SECRET)


@pytest.mark.limit(60)
@pytest.mark.parametrize("library", ["jose", "jsonwebtoken"])
def test_tokens_of_node_libraries(daemon: StartDaemon, tmp_path: Path, library: str) -> None:
    """
    Every algorithm that the library has, each with its own key in a PEM file.
    """
    require_npm(library)
    found = {f"HS{size}": tmp_path / "secret" for size in (256, 384, 512)}
    (tmp_path / "secret").write_text(SECRET)
    options = [f"--token-key=file:{tmp_path / 'secret'}"]
    for algorithm, make in ALGORITHMS.items():
        if library == "jsonwebtoken" and algorithm == "EdDSA":
            continue  # it has none
        key, public = make(), tmp_path / f"{algorithm}.pub"
        found[algorithm] = tmp_path / f"{algorithm}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        found[algorithm].write_bytes(private)
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        public.write_bytes(pem)
        options.append(f"--token-key=file:{public}")
    server = daemon("--route=^/poll$ poll", "--allow=token", *options)
    claims = json.dumps({"sub": "mia", "channels": ["news"], "exp": int(time.time()) + 60})
    for algorithm, path in found.items():
        command = ["node", "make_token.js", library, algorithm, str(path), claims]
        done = subprocess.run(command, cwd=CLIENTS, capture_output=True, check=True, text=True)
        made = done.stdout.strip()
        assert request(server.port, "/poll", made) == 200, algorithm
        assert request(server.port, "/poll?channels=other", made) == 403
        assert request(server.port, "/poll", made[:-3] + "AAA") == 401


def after_renewal(kinds: list[str]) -> list[str]:
    """
    Return the kinds of events since the client has its next token.
    """
    return kinds[kinds.index("renewed") :] if "renewed" in kinds else []


@pytest.mark.limit(90)
@pytest.mark.parametrize("library", LIBRARIES)
def test_event_streams_renew_their_token_and_miss_nothing(
    daemon: StartDaemon, library: str
) -> None:
    """
    Libraries of npm are notified, end, reconnect with the next token, and have every message.
    """
    require_npm(library)
    me = "--route=^/me$ sse:subscribe=user-${grant[sub]},allow=token"
    server = daemon(me, "--route=^/publish$ publish", f"--token-key={SECRET}", "--token-leeway=0s")
    url = f"http://127.0.0.1:{server.port}/me"
    command = ["node", "expiring_events.js", library, url, token(12), token(300)]
    with subprocess.Popen(command, cwd=CLIENTS, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            lines = client.stdout
            assert json.loads(lines.readline())[0] == "open"
            sent, received = 0, list[int]()
            kinds: list[str] = []
            until = time.monotonic() + PATIENCE
            while "open" not in after_renewal(kinds) and time.monotonic() < until:
                sent += 1
                assert publish(server.port, channel="user-mia", message=str(sent)) == 200
                kind, data = json.loads(lines.readline())
                kinds.append(kind)
                while kind != "message":
                    kind, data = json.loads(lines.readline())
                    kinds.append(kind)
                received.append(int(data))
                time.sleep(0.05)
            while len(received) < sent:
                kind, data = json.loads(lines.readline())
                if kind == "message":
                    received.append(int(data))
        finally:
            client.kill()
    assert "expire" in kinds
    assert "open" in after_renewal(kinds)
    assert "gap" not in kinds
    assert received == list(range(1, sent + 1))


RENEWING = """
    document.cookie = "realtime_token=FIRST; path=/";
    Object.assign(window, { kinds: [], received: [], events: new EventSource("/?channels=news") });
    events.onopen = () => kinds.push("open");
    events.onmessage = ({ data }) => received.push(data);
    events.addEventListener("gap", () => kinds.push("gap"));
    events.addEventListener("expire", () => {
        kinds.push("expire");
        document.cookie = "realtime_token=SECOND; path=/";
    });
"""


@pytest.mark.limit(90)
def test_the_event_source_of_a_browser_renews_its_cookie(
    daemon: StartDaemon, browser: Browser
) -> None:
    """
    On the notice the page has another cookie; the browser reconnects with it by itself, and has
    every message.
    """
    server = daemon("--allow=token", f"--token-key={SECRET}", "--token-leeway=0s")
    first, second = (token(seconds, channels=["news"]) for seconds in (10, 300))
    browser.open(f"{server.url}/healthz")
    script = RENEWING.replace("FIRST", first).replace("SECOND", second)
    browser.evaluate(f"(() => {{ {script} }})()")
    browser.wait_for("kinds.includes('open')")
    sent, until = 0, time.monotonic() + 12
    while time.monotonic() < until:
        sent += 1
        publish(server.port, channel="news", message=str(sent))
        time.sleep(0.1)
    browser.wait_for(f"received.length >= {sent}")

    assert browser.evaluate("received") == [str(number) for number in range(1, sent + 1)]
    assert browser.evaluate("kinds") == ["open", "expire", "open"]


@pytest.mark.limit(60)
def test_all_workers_check_tokens(daemon: StartDaemon, redis: Server) -> None:  # noqa: F811
    """
    Whichever of two workers accepts the connection.
    """
    server = daemon("--allow=token", f"--token-key={SECRET}", "--route=^/poll$ poll",
                    "--route=^/say$ publish:allow=token", "--workers=2", "--broker=redis",
                    f"--redis-port={redis.port}")  # fmt: skip
    good = token(channels=["news"], publish=["news"])
    fields = ("-d", "channel=news&message=x")
    end = time.monotonic() + PATIENCE
    # Tokens wait until the revoked ones are known.
    while {request(server.port, "/poll", good) for _ in range(6)} != {200}:
        assert time.monotonic() < end
    for _ in range(5):
        assert request(server.port, "/poll", good) == 200
        assert request(server.port, "/poll") == 401
        assert request(server.port, "/say", good, *fields) == 200
        assert request(server.port, "/say", "", *fields) == 401


@pytest.mark.limit(90)
@pytest.mark.parametrize("transport", ["sse", "websocket", "poll"])
def test_the_browser_client_renews_its_token(
    daemon: StartDaemon, browser: Browser, transport: str
) -> None:
    """
    The function `token` of a page is called again before the token expires, and nothing is lost.
    """
    options = ("--token-leeway=0s", "--retry=0.3")  # polls end behind the leeway
    server = daemon("--allow=token", f"--token-key={SECRET}", *options)
    tokens = [token(seconds, channels=["news"]) for seconds in (6, 300)]
    connect(browser, server.url, transport, *tokens)
    browser.wait_for("live.state === 'open'")
    sent, until = 0, time.monotonic() + 7
    while time.monotonic() < until:
        sent += 1
        publish(server.port, channel="news", message=str(sent))
        time.sleep(0.1)
    browser.wait_for(f"received.length >= {sent}")

    assert browser.evaluate("received") == [str(number) for number in range(1, sent + 1)]
    assert browser.evaluate("[gaps, errors, asked]") == [0, [], 2]


@pytest.mark.limit(60)
def test_a_reload_rotates_keys(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    With both keys nobody is disconnected; when the old one is removed, its clients are, and the
    others stay.
    """
    file, other = tmp_path / "a.conf", SECRET[::-1]
    file.write_text(f"allow = token\ntoken-key = {SECRET}\n")
    server = daemon("--config=a.conf", folder=tmp_path)
    old = token(300, channels=["news"])
    claims = {"sub": "eve", "channels": ["news"], "exp": time.time() + 300}
    new = jwt.encode(claims, other)

    def stream(made: str) -> subprocess.Popen[bytes]:
        command = ["curl", "-sN", "-H", f"Authorization: Bearer {made}", f"{server.url}/"]
        client = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert client.stdout is not None and client.stdout.readline()
        return client

    clients = [stream(old)]
    try:
        assert request(server.port, "/poll", new) == 401
        file.write_text(f"allow = token\ntoken-key = {SECRET}\ntoken-key = {other}\n")
        reload(server, "reloaded")
        clients.append(stream(new))
        assert request(server.port, "/poll", old) == request(server.port, "/poll", new) == 200
        assert clients[0].poll() is None
        file.write_text(f"allow = token\ntoken-key = {other}\n")
        reload(server, "reloaded")
        assert request(server.port, "/poll", old) == 401
        assert clients[0].wait(PATIENCE) == 0
        assert publish(server.port, channel="news", message="on") == 200
        assert clients[1].stdout is not None
        while b"on" not in clients[1].stdout.readline():
            assert clients[1].poll() is None
    finally:
        for client in clients:
            client.kill()
            client.communicate()
