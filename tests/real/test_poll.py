"""
Long-polling and plain streams with real clients: curl, and one that is cut off.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
from typing import Any
from urllib.parse import urlencode

from tests.real.conftest import PATIENCE, Server, StartDaemon, require
from tests.real.test_daemon import publish


def curl(*arguments: str) -> str:
    """
    What curl prints; it must be content.
    """
    command = [require("curl", "curl"), "-sS", "--fail", *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


class Polling:
    """
    A client that polls, on a connection as long as that holds.
    """

    def __init__(self, server: Server, path: str = "/poll", **query: str) -> None:
        self._port = server.port
        self._path = path
        self._query = query
        self._connection: http.client.HTTPConnection | None = None
        self.requests = 0
        self.connections = 0

    def ask(self, **query: Any) -> Any:
        """
        The next answer.
        """
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
            self.connections += 1
        self.requests += 1
        self._connection.request("GET", f"{self._path}?{urlencode(self._query | query)}")
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return json.loads(body)

    def hang_up(self) -> None:
        """
        Go away, whatever is on its way.
        """
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def test_curl_on_one_connection(daemon: StartDaemon) -> None:
    """
    Several polls, one connection: each answer has its length, and the connection
    goes on. ETag and If-None-Match are all that a client has to know.
    """
    server = daemon("--poll-seconds=0.5")
    assert publish(server.port, channel="news", message="one") == 200
    url = f"{server.url}/poll?channels=news&since=all"
    shown = curl(url, url, "-w", "%{num_connects} %{http_code}\n")
    assert shown.count('"data": "one"') == 2
    assert [line for line in shown.splitlines() if line[0].isdigit()] == ["1 200", "0 200"]
    position = json.loads(curl(url))["position"]
    quiet = ("-H", f'If-None-Match: "{position}"', "-o", "/dev/null", "-w")
    assert curl(f"{server.url}/poll?channels=news", *quiet, "%{http_code} %header{etag}") == (
        f'304 "{position}"'
    )


def test_curl_reads_a_stream_of_lines(daemon: StartDaemon) -> None:
    """
    Bytes as they were published, a line each.
    """
    server = daemon(
        r"--route=^/lines$ stream:subscribe=news,suffix=\n,type=text/plain,history=10",
        "--route=^/publish$ publish",
    )
    texts = ["one", "two"]
    for text in texts:
        assert publish(server.port, channel="news", message=text) == 200
    for version in ("--http1.0", "--http1.1"):
        command = [require("curl", "curl"), "-sSN", version, f"{server.url}/lines"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None
            assert [reader.stdout.readline().rstrip("\n") for _ in texts] == texts
            texts.append(f"by {version}")
            assert publish(server.port, channel="news", message=texts[-1]) == 200
            assert reader.stdout.readline() == f"{texts[-1]}\n"
            reader.terminate()


def test_cut_off_again_and_again(daemon: StartDaemon) -> None:
    """
    A publisher that never pauses, and clients that hang up in the middle of polls,
    wait or not, and take little at a time: 0 lost, 0 repeated, in order.
    """
    server = daemon("--history=5000", "--poll-bytes=2k")
    count = 1500
    begun = threading.Event()

    def say() -> None:
        begun.wait()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        for number in range(count):
            body = urlencode({"channel": f"c{number % 3}", "message": str(number)})
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/publish", body, form)
            assert connection.getresponse().read()
        connection.close()

    publisher = threading.Thread(target=say)
    publisher.start()
    pollings = [Polling(server, channels="c0,c1,c2") for _ in range(4)]
    since = [polling.ask()["position"] for polling in pollings]
    heard: list[list[int]] = [[] for _ in pollings]
    begun.set()
    while any(len(each) < count for each in heard):
        for index, polling in enumerate(pollings):
            if len(heard[index]) == count:
                continue
            if polling.requests % (3 + index) == 0:
                # Asked, and gone before the answer is read: nobody knows what it was.
                polling.hang_up()
                abandoned = Polling(server, channels="c0,c1,c2")
                abandoned.ask(since=since[index], wait=0)
                abandoned.hang_up()
            answer = polling.ask(since=since[index], wait=index % 2)
            assert not answer["gap"]
            since[index] = answer["position"]
            heard[index] += [int(message["data"]) for message in answer["messages"]]
    publisher.join()
    for each in heard:
        assert each == list(range(count))
    for polling in pollings:
        polling.hang_up()


def test_any_node_answers(daemon: StartDaemon, tmp_path: Any) -> None:
    """
    There is no session: a client that comes back to a daemon that was restarted
    goes on where it was, as its log was kept.
    """
    server = daemon(f"--history-file={tmp_path}/log")
    polling = Polling(server, channels="news")
    position = polling.ask()["position"]
    assert publish(server.port, channel="news", message="kept") == 200
    server.restart()
    polling.hang_up()
    answer = polling.ask(since=position)

    assert [message["data"] for message in answer["messages"]] == ["kept"]
    assert answer["gap"] is False
    polling.hang_up()


def test_a_stop_answers_who_waits(daemon: StartDaemon) -> None:
    """
    With where to go on, and when to come back.
    """
    server = daemon("--retry=3")
    polling = Polling(server, channels="news")
    position = polling.ask()["position"]
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(polling.ask(since=position)))
    waiting.start()
    counted = Polling(server, "/stats", format="full")
    while counted.ask()["readers"]["now"] == 0:
        pass
    counted.hang_up()
    server.kill()
    waiting.join()

    assert 3000 <= answers[0].pop("retry") <= 6000
    assert answers == [{"messages": [], "position": position, "gap": False}]
    polling.hang_up()
    server.start()
