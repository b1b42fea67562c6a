"""
Long polling and plain streams with curl, and with a client that disconnects at random.
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
    Run curl with success, and return its output.
    """
    command = [require("curl", "curl"), "-sS", "--fail", *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


class PollingClient:
    """
    A client that polls on one connection as long as that is open.
    """

    def __init__(self, server: Server, path: str = "/poll", **query: str) -> None:
        self._port = server.port
        self._path = path
        self._query = query
        self._connection: http.client.HTTPConnection | None = None
        self.requests = 0
        self.connections = 0

    def poll(self, **query: Any) -> Any:
        """
        Return the next response.
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

    def disconnect(self) -> None:
        """
        Close the connection, whatever is being transferred.
        """
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def test_curl_polls_on_one_connection(daemon: StartDaemon) -> None:
    """
    Several polls share a connection: each response has a length. ETag and If-None-Match are
    all that a client needs.
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


def test_curl_receives_a_stream_of_lines(daemon: StartDaemon) -> None:
    """
    Messages arrive as published, one in each line.
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
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert [process.stdout.readline().rstrip("\n") for _ in texts] == texts
            texts.append(f"by {version}")
            assert publish(server.port, channel="news", message=texts[-1]) == 200
            assert process.stdout.readline() == f"{texts[-1]}\n"
            process.terminate()


def test_no_message_is_lost_by_disconnecting_polls(daemon: StartDaemon) -> None:
    """
    The publisher never pauses, and clients disconnect within polls, wait or not, and limit
    their responses: no message is lost, repeated or reordered.
    """
    server = daemon("--history=5000", "--poll-bytes=2k")
    count = 1500
    begun = threading.Event()

    def publish_next() -> None:
        begun.wait()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        for number in range(count):
            body = urlencode({"channel": f"c{number % 3}", "message": str(number)})
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/publish", body, form)
            assert connection.getresponse().read()
        connection.close()

    publisher = threading.Thread(target=publish_next)
    publisher.start()
    pollings = [PollingClient(server, channels="c0,c1,c2") for _ in range(4)]
    since = [polling.poll()["position"] for polling in pollings]
    received: list[list[int]] = [[] for _ in pollings]
    begun.set()
    while any(len(each) < count for each in received):
        for index, polling in enumerate(pollings):
            if len(received[index]) == count:
                continue
            if polling.requests % (3 + index) == 0:
                # Disconnect before the response is read: its content stays unknown.
                polling.disconnect()
                abandoned = PollingClient(server, channels="c0,c1,c2")
                abandoned.poll(since=since[index], wait=0)
                abandoned.disconnect()
            answer = polling.poll(since=since[index], wait=index % 2)
            assert not answer["gap"]
            since[index] = answer["position"]
            received[index] += [int(message["data"]) for message in answer["messages"]]
    publisher.join()
    for each in received:
        assert each == list(range(count))
    for polling in pollings:
        polling.disconnect()


def test_poll_resumes_after_a_restart(daemon: StartDaemon, tmp_path: Any) -> None:
    """
    There is no session: a client resumes from its position at a restarted daemon that has
    kept its log.
    """
    server = daemon(f"--history-file={tmp_path}/log")
    polling = PollingClient(server, channels="news")
    position = polling.poll()["position"]
    assert publish(server.port, channel="news", message="kept") == 200
    server.restart()
    polling.disconnect()
    answer = polling.poll(since=position)

    assert [message["data"] for message in answer["messages"]] == ["kept"]
    assert answer["gap"] is False
    polling.disconnect()


def test_stop_answers_waiting_polls(daemon: StartDaemon) -> None:
    """
    Waiting polls are answered with the position and a retry delay.
    """
    server = daemon("--retry=3")
    polling = PollingClient(server, channels="news")
    position = polling.poll()["position"]
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(polling.poll(since=position)))
    waiting.start()
    counted = PollingClient(server, "/stats", format="full")
    while counted.poll()["readers"]["now"] == 0:
        pass
    counted.disconnect()
    server.kill()
    waiting.join()

    assert 3000 <= answers[0].pop("retry") <= 6000
    assert answers == [{"messages": [], "position": position, "gap": False}]
    polling.disconnect()
    server.start()
