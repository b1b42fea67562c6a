"""
Commands to redis and the keys in it; and a log of an earlier version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.real.conftest import Serve, Server, StartDaemon, free_port, require
from tests.recorded.conftest import Check
from tests.recorded.peers import HttpPeer, get, publish
from tests.recorded.redis_peer import Monitor, RedisPeer, blocks
from tests.recorded.transcript import DATA, Transcript

AGE = 10_000 * 86_400  # seconds: what was recorded is not too old for some time
# A node asks once a second where the log stands; how often is a matter of time.
MARK = re.compile(r'"EVALSHA" "SCRIPT" "2" "\S+" "\S+" "RUN" "NODE" "N"\n')


@pytest.fixture
def redis(serve: Serve) -> Server:
    """
    A redis without a file.
    """
    program = require("redis-server", "redis-server")
    port = free_port()
    return serve(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", "."], port
    )


@pytest.fixture
def monitor(redis: Server) -> Iterator[Monitor]:
    """
    Commands to redis.
    """
    with closing(Monitor(redis.port)) as monitor:
        yield monitor


def wait_until_ready(server: Server) -> None:
    """
    Wait until the daemon's broker is there.
    """
    while get(server, "/readyz").status != 200:
        pass


def normal(text: str, run: str) -> str:
    """
    A command without what is another one in each run.
    """
    text = text.replace(run, "RUN")
    text = re.sub(r"(realtime:0:n:)[0-9a-f]{16}(\d*)", r"\1NODE\2", text)
    text = re.sub(r"\b[0-9a-f]{16}(:[0-9a-f]+)?\b", lambda found: "OWNER" if found[1] else "NODE",
                  text)  # fmt: skip
    text = re.sub(r'"(NODE)" "\d+"', r'"\1" "N"', text)
    text = re.sub(r"(n:NODE)\d+", r"\1N", text)
    text = re.sub(r'(n:NODE" ")[0-9a-f]{8} \d+ \d+"', r'\1EPOCH OFFSET N"', text)
    text = re.sub(r"\b1\d{12}\b", "TIME", text)
    text = re.sub(r'"[0-9a-f]{8}"', '"EPOCH"', text)
    return re.sub(r'"[0-9a-f]{8}([. ]\d)', r'"EPOCH\1', text)


def in_order(block: str) -> str:
    """
    A command with its names in order, if they are a set.
    """
    if not block.startswith('"SUBSCRIBE'):
        return block
    command, *names = block.split(" ")
    return " ".join([command, *sorted(names)])


def write(record: Transcript, title: str, commands: list[str], run: str, first: bool) -> None:
    """
    A section with the commands of the connection that listens, then all others.
    """
    record.title(title)
    found = [normal(block, run) for block in blocks(commands)]
    # When the log's age is noted is a matter of time, too.
    found = [block for block in found if first or not MARK.match(block)]
    found = [
        "\n".join(
            line for line in block.split("\n")
            if first or not re.search("realtime:times|\"marked\"", line.partition(" ")[2])
            or "HMGET" in line
        )
        for block in found
    ]  # fmt: skip
    found = [in_order(block) for block in found if not block.startswith('"INFO')]
    listens = [block for block in found if block.startswith(('"SUBSCRIBE', '"UNSUBSCRIBE'))]
    others = [block for block in found if block not in listens]
    for name, part in (("the connection that listens", listens), ("the other one", others)):
        if part:
            record.note(name)
        for block in dict.fromkeys(part):
            record.add(block)


def test_commands(redis: Server, monitor: Monitor, daemon: StartDaemon, check: Check) -> None:
    """
    Commands to redis from the start of a daemon to its end, and the keys in it then.
    """
    run = re.search(r"run_id:(\w+)", monitor.ask("INFO", "server").decode())
    assert run is not None
    record = Transcript()
    server = daemon("--broker=redis", f"--redis-port={redis.port}", "--stop-seconds=1")

    def step(title: str) -> None:
        write(record, title, monitor.so_far(), run[1], False)

    wait_until_ready(server)
    commands = monitor.wait(r'HSET" "realtime:log" "marked"')
    write(record, "start", [each for each in commands if '"SCRIPT"  "LOAD"' not in each
                            and not each.startswith('"SCRIPT" "LOAD"')], run[1], True)  # fmt: skip
    step("nothing")
    with HttpPeer(server) as http:
        http.send("GET /?channels=news,plain")
        http.receive("id: .*?\n\n")
        step("a reader of two channels joins")
        publish(server, "news", "one", "kind")
        http.more("one.*?\n\n")
        step("a message")
        with HttpPeer(server) as other:
            body = json.dumps({"channel": ["news", "other"], "message": {"a": 1}})
            for _ in range(2):
                other.ask("POST /publish", "Content-Type: application/json",
                          "Idempotency-Key: key", body=body)  # fmt: skip
        http.more(r"\{.*?\n\n")
        step("two messages, twice with the same key")
        monitor.ask("PUBLISH", "plain", b"\xff plain")
        http.more("plain.*?\n\n")
        step("a plain PUBLISH")
        monitor.ask("PUBLISH", "plain", b"again")
        http.more("again.*?\n\n")
        step("another one")
    get(server, "/poll?channels=other&since=all")
    step("a reader with history")
    server.kill()
    step("the end")
    keys = sorted(monitor.ask("KEYS", "*"))
    record.title("keys: types and whether they expire")
    for key in keys:
        expires = "expires" if monitor.ask("PTTL", key) >= 0 else "stays"
        record.add(f"{key.decode()}: {text(monitor.ask('TYPE', key))}, {expires}")
    check("redis.txt", record)


def text(value: bytes | str) -> str:
    """
    An answer of redis, whichever kind of text it is.
    """
    return value.decode() if isinstance(value, bytes) else value


def test_log_of_an_earlier_version(redis: Server, daemon: StartDaemon, check: Check) -> None:
    """
    Subscribers resume from a log that an earlier version has written.

    `redis-log.json` is what commit ef43342 left in redis; it is not recorded anew.
    """
    with closing(RedisPeer(redis.port)) as peer:
        info = re.search(r"run_id:(\w+)", peer.ask("INFO", "server").decode())
        assert info is not None
        for command in json.loads((DATA / "redis-log.json").read_text()):
            peer.ask(*(word.encode("latin-1") for word in command))
        peer.ask("HSET", "realtime:log", "run", info[1])  # as if it was never restarted
    server = daemon("--broker=redis", f"--redis-port={redis.port}", f"--history-age={AGE}")
    wait_until_ready(server)
    check("redis-log.txt", replay(server, "9c6cc297"))


def replay(server: Server, epoch: str) -> Transcript:
    """
    Record what subscribers that reconnect to the log *epoch* receive, and its next messages.
    """
    record = Transcript()
    channels = "news,other,%C3%BCber"
    for line, header in (
        (f"GET /?channels={channels}", f"Last-Event-ID: {epoch}.2"),
        (f"GET /?channels={channels}&since=all", "X-None: x"),
        (f"GET /?channels={channels}&since=00000000.7", "X-None: x"),
    ):
        record.title(f"{line} {header}")
        with HttpPeer(server, record) as http:
            http.send(line, header)
            http.receive("é.*?\n\n")
    record.title("poll")
    with HttpPeer(server, record) as http:
        http.ask(f"GET /poll?channels={channels}&since={epoch}.4")
    record.title("an idempotency key of then, and a new message")
    with HttpPeer(server, record) as http:
        body = json.dumps({"channel": ["news", "other"], "message": {"a": 1}})
        http.ask("POST /publish", "Content-Type: application/json", "Idempotency-Key: order-17",
                 body=body)  # fmt: skip
        http.ask("POST /publish?channel=news", "Content-Type: text/plain", body="new")
    return record
