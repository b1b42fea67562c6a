"""
The cut test against real daemons: without faults it reports none, and it finds forged ones.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.endpoints import TCP4ServerEndpoint, clientFromString, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread

from tests.pems import Authority
from tests.real.conftest import PATIENCE, PAUSE, ROOT, Serve, Server, StartDaemon, free_port
from tests.real.redis_server import start_redis
from tests.real.test_access import SECRET

SCRIPT = str(ROOT / "extras" / "cuttest.py")
MUCH = "--history=100000"
FAST = ("--every=1.5", "--away=0.4", "--rate=60", "--grace=20")
NOTHING = ("lost", "repeated", "out_of_order", "stray", "misplaced")


@contextmanager
def started(urls: Sequence[str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """
    Yield the running script, and kill it at the end.
    """
    command = [sys.executable, SCRIPT, *[f"--url={url}/" for url in urls], *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "70"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as running:
        try:
            yield running
        finally:
            running.kill()


def cut(urls: Sequence[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """
    Run the script to its end.

    Returns:
        exit status, result, and the text of standard error.
    """
    with started(urls, "--json", *arguments) as running:
        out, log = running.communicate(timeout=PATIENCE * 2)
    assert "Traceback" not in log, log
    return running.returncode, json.loads(out) if out else {}, log


def check_faultless(found: dict[str, Any], transports: Sequence[str]) -> None:
    """
    Check that each transport was cut, and that all messages were delivered without faults.
    """
    assert set(found["transports"]) == set(transports)
    for name, counts in found["transports"].items():
        assert counts["cuts"] > counts["readers"], name
        assert counts["delivered"] == counts["owed"] > 0, (name, found["incidents"])
        assert [counts[fault] for fault in NOTHING] == [0] * len(NOTHING), found["incidents"]


ALL = ("sse", "websocket", "poll", "socketio", "socketio-polling", "socketio-recovery")


def test_nothing_is_lost_on_any_transport(daemon: StartDaemon) -> None:
    """
    Connections of subscribers and publishers break in all ways; each subscriber receives each
    message once, in order, without a gap.
    """
    status, found, _ = cut([daemon(MUCH).url], *FAST, "-n30", "--seconds=10")

    check_faultless(found, ALL)
    assert found["all"]["percent"] == 100
    assert found["all"]["gaps"] == 0
    recovered = {name: counts["recovered"] for name, counts in found["transports"].items()}
    assert recovered.pop("socketio-recovery") > 0
    assert set(recovered.values()) == {0}
    assert found["published"] > 100
    assert found["publisher_cuts"] > 0
    assert (status, found["ended"], found["still_owed"]) == (0, True, 0)


def test_nothing_is_lost_while_tokens_expire(daemon: StartDaemon) -> None:
    """
    Tokens live for six seconds. Most subscribers renew theirs on the open connection; event
    streams, polls and the others connect again. None is refused.
    """
    server = daemon(MUCH, "--allow=token", f"--token-key={SECRET}")
    given = (f"--token-key={SECRET}", "--token-seconds=6")
    status, found, log = cut([server.url], *FAST, "-n48", "--seconds=14", *given)

    check_faultless(found, ALL)
    assert found["all"]["gaps"] == 0
    for name, counts in found["transports"].items():
        assert counts["tokens"] >= 2 * counts["readers"], name
    refused = [kind for kind in found["errors"] if re.search("40[13]|refused", kind)]
    assert (status, refused) == (0, []), log


def test_publishers_may_use_another_server(daemon: StartDaemon, serve: Serve) -> None:
    """
    Subscribers use one server, as behind a balancer that has no publishing, and publishers
    another.
    """
    options = (MUCH, "--broker=redis", f"--redis-port={start_redis(serve).port}")
    outer = daemon(*options, "--route=^/$ sse")
    inner = daemon(*options, "--route=^/inner$ publish")
    publishing = f"--publish-url={inner.url}/inner"
    status, found, log = cut([outer.url], *FAST, "-n5", "--seconds=5", publishing)

    assert status == 0, log
    assert found["published"] > 0
    assert found["publisher_cuts"] > 0


def test_tls(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    TLS connections pass the cutting proxy, and the server's certificate is verified.
    """
    certificate, key = Authority(tmp_path).pair("daemon", "localhost")
    port = free_port()
    daemon(
        MUCH,
        f"--endpoint=ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}",
    )
    url = f"https://localhost:{port}"
    status, found, _ = cut([url], *FAST, "-n10", "--seconds=6", "--insecure")
    check_faultless(found, ALL)
    assert status == 0

    status, found, log = cut([url], "-n5", "--seconds=1")
    assert (status, found) == (2, {})
    assert f"cuttest: sse at {url}/: TLS error\n" in log


def test_losses_in_gaps_are_counted_separately(daemon: StartDaemon) -> None:
    """
    With little history many messages are lost, and gaps report each loss.
    """
    status, found, _ = cut([daemon("--history=3").url], *FAST, "-n12", "--seconds=8")

    counts = found["all"]
    assert counts["gaps"] > 0
    assert counts["lost_in_gaps"] > 0
    assert counts["owed"] == counts["delivered"] + counts["lost_in_gaps"]
    assert counts["percent"] < 100
    assert [counts[fault] for fault in NOTHING] == [0] * len(NOTHING), found["incidents"]
    assert status == 0


@pytest.mark.parametrize("out", ["no", "same"])
def test_nothing_is_lost_while_redis_is_killed(
    serve: Serve, daemon: StartDaemon, tmp_path: Path, out: str
) -> None:
    """
    Two daemons on one redis with a file; it is killed and started again while
    subscribers and publishers change between the nodes. Plain copies change nothing.
    """
    redis = start_redis(serve, "--appendonly", "yes", "--save", "")
    broker = ("--broker=redis", f"--redis-port={redis.port}", MUCH, f"--redis-plain-out={out}")
    urls = [daemon(*broker).url, daemon(*broker).url]
    # The script chooses the moment; the test, which has started redis, restarts it.
    flag = tmp_path / "asked"
    command = f"touch {flag}; while [ -e {flag} ]; do sleep 0.05; done"
    disturb = (f"--disturb={command}", "--disturb-every=4")
    stop = threading.Event()

    def restart() -> None:
        while not stop.wait(PAUSE):
            if flag.exists():
                redis.restart(signal.SIGKILL)
                flag.unlink()

    restarting = threading.Thread(target=restart)
    restarting.start()
    try:
        with started(urls, "--json", *FAST, "-n30", "--seconds=14", *disturb) as running:
            out, log = running.communicate(timeout=PATIENCE * 2)
    finally:
        stop.set()
        restarting.join()
    found = json.loads(out)

    check_faultless(found, ALL)
    assert found["all"]["gaps"] == 0
    assert (found["disturbances"] > 0, found["disturbances_failed"]) == (True, 0), log
    assert found["published"] > 100
    assert running.returncode == 0


class Forger(Protocol):
    """
    One end of a relayed connection; data of the server is forged.
    """

    transport: Any

    def __init__(self, forge: Callable[[bytes], bytes], port: int) -> None:
        self._forge = forge
        self._port = port
        self._other: Any = None
        self._early = b""

    def connectionMade(self) -> None:
        """
        Connect to the server, if this is the client's end.
        """
        if not self._port:
            return
        from twisted.internet import reactor

        server_end = Forger(self._forge, 0)
        server_end._other = self
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self._port}")
        connectProtocol(endpoint, server_end).addCallbacks(self._connected, self._failed)

    def _connected(self, server_end: Forger) -> None:
        self._other = server_end
        server_end.transport.write(self._early)

    def _failed(self, _: object) -> None:
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """
        Relay the data to the other end.
        """
        if self._other is None:
            self._early += data
        else:
            self._other.transport.write(data if self._port else self._forge(data))

    def connectionLost(self, reason: object = connectionDone) -> None:
        """
        Close the other end.
        """
        if self._other is not None:
            self._other.transport.loseConnection()


class Forgery:
    """
    Replaces some messages by others of the same length, so that positions and lengths stay.

    Args:
        numbers: message to the message that replaces it; None for a text of no message.
    """

    def __init__(self, numbers: dict[int, int | None]) -> None:
        self._numbers = numbers
        self.done: set[int] = set()

    def __call__(self, data: bytes) -> bytes:
        """
        Return *data* with replaced messages.
        """
        return re.sub(rb"cut-([0-9a-f]+)-0-([0-9]+)-", self._replaced, data)

    def _replaced(self, found: re.Match[bytes]) -> bytes:
        number = int(found[2])
        if number not in self._numbers:
            return found[0]
        self.done.add(number)
        other = self._numbers[number]
        if other is None:
            return b"CUT" + found[0][3:]
        return b"cut-%s-0-%d-" % (found[1], other)


@pytest.mark.parametrize(
    ("transport", "numbers", "faults"),
    [
        *[(name, {10: None}, {"lost": 1}) for name in ALL],
        ("sse", {11: 10}, {"lost": 1, "repeated": 1}),
        ("poll", {11: 10}, {"lost": 1, "repeated": 1}),
        ("sse", {10: None, 13: 10}, {"lost": 1, "out_of_order": 1}),
        ("sse", {}, {}),
    ],
)
async def test_forged_faults_are_found(
    daemon: StartDaemon, transport: str, numbers: dict[int, int | None], faults: dict[str, int]
) -> None:
    """
    If a proxy loses, repeats or swaps messages, the script names the fault and the subscriber's
    recent events, and exits with status 1.
    """
    from twisted.internet import reactor

    server = daemon(MUCH)
    forgery = Forgery(numbers)
    factory = Factory.forProtocol(lambda: Forger(forgery, server.port))
    factory.noisy = False
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    url = f"http://127.0.0.1:{port.getHost().port}"
    few_cuts = ("-n1", "--every=1000", "--rate=40", "--seconds=2", "--grace=15", "--channels=one")
    try:
        status, found, _ = await deferToThread(
            cut, [url], f"--publish-url={server.url}/publish", f"--transport={transport}", *few_cuts
        )
    finally:
        await port.stopListening()

    assert forgery.done == set(numbers)
    counts = found["all"]
    assert {fault: counts[fault] for fault in NOTHING if counts[fault]} == faults
    assert status == bool(faults)
    assert len(found["incidents"]) >= sum(faults.values())
    assert all(each["story"] for each in found["incidents"])


def test_missing_transports_are_left_out(daemon: StartDaemon) -> None:
    """
    The result lists missing transports; naming one in an option is an error.
    """
    server = daemon("--route=^/$ sse", "--route=^/publish$ publish")
    few = ("-n3", "--seconds=1", "--channels=one")
    status, found, _ = cut([server.url], *few)
    assert (status, list(found["transports"])) == (0, ["sse"])
    assert set(found["left_out"]) == set(ALL) - {"sse"}

    status, found, log = cut([server.url], *few, "--transport=poll")
    assert (status, found) == (2, {})
    assert log.startswith("seed ")
    assert f"cuttest: poll at {server.url}/poll: status 404\n" in log


def test_a_run_without_results_is_an_error(daemon: StartDaemon) -> None:
    """
    No server at the URL, or a missing key, is an error with status 2.
    """
    status, found, log = cut([f"http://127.0.0.1:{free_port()}"], "-n3", "--seconds=1")
    assert (status, found) == (2, {})
    assert "cuttest: sse at " in log

    server = daemon("--http-secret=sesame")
    few = ("-n3", "--seconds=2", "--channels=one", "--transport=sse")
    status, found, log = cut([server.url], *few)
    assert (status, found["published"]) == (2, 0)
    assert "cuttest: publishing was refused: status 401\n" in log
    status, found, log = cut([server.url], *few, "--key=sesame")
    assert status == 0


def test_an_interrupted_run_prints_its_results(daemon: StartDaemon) -> None:
    """
    An interrupted run prints its results so far and exits with status 2.
    """
    server = daemon(MUCH)
    with started([server.url], *FAST, "-n8", "--seconds=600", "--seed=4711") as running:
        wait_for_subscribers(server, 5)
        running.send_signal(signal.SIGINT)
        out, log = running.communicate(timeout=PATIENCE * 2)

    assert running.returncode == 2
    assert "seed 4711" in log
    assert out.endswith("seed 4711\n")
    assert re.search(r"^all +8 ", out, re.MULTILINE)
    assert "Traceback" not in log


def wait_for_subscribers(server: Server, count: int) -> None:
    """
    Wait until the daemon has *count* subscribers.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", "/stats?format=full")
        text = connection.getresponse().read()
        connection.close()
        if json.loads(text)["readers"]["now"] >= count:
            return
        assert time.monotonic() < deadline, text
        time.sleep(PAUSE)
