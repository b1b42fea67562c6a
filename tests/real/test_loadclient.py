"""
The load client against a real daemon.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

from tests.real.conftest import PATIENCE, ROOT, Server, StartDaemon, free_port
from tests.real.test_doctor import Proxy, certificate, nginx

__all__ = ["nginx"]  # a fixture

SCRIPT = str(ROOT / "extras" / "loadclient.py")


def load(server: Server | str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """
    Run the load client with *arguments*.

    Returns:
        its exit status and its summary.
    """
    done = _run(server, "--json", *arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def _run(server: Server | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = server if isinstance(server, str) else server.url + "/"
    command = [sys.executable, SCRIPT, "-u", url, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "70"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, env=environment
    )


LOAD = ("-n60", "-c600", "--publish=50", "--messages=40")


def test_a_run_measures_and_ends(daemon: StartDaemon) -> None:
    """
    Every subscriber receives each message of its channels, once and in order.
    """
    status, found = load(daemon(), *LOAD)

    assert status == 0
    assert found["readers"] == {"asked": 60, "opened": 60, "open_at_end": 60, "reconnects": 0}
    assert found["published"] == 40
    # Eight on the channel of all, eight on each of four, which have 15 subscribers each.
    assert found["delivered"] == 8 * 60 + 4 * 8 * 15
    assert (found["lost"], found["repeated"], found["out_of_order"], found["gaps"]) == (0, 0, 0, 0)
    assert found["errors"] == {}
    assert 0 < found["connect_ms"]["p50"] <= found["connect_ms"]["max"]
    assert (
        0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"] <= found["latency_ms"]["max"]
    )
    channels = found["channels"]
    assert list(channels) == ["general", "base", "extras", "cats", "dogs"]
    assert [each["readers"] for each in channels.values()] == [60, 15, 15, 15, 15]
    assert [each["messages"] for each in channels.values()] == [8] * 5
    for each in channels.values():
        assert 0 < each["latency_ms"]["p50"] <= each["last_ms"]["p50"]
        assert each["last_ms"]["max"] == each["latency_ms"]["max"]


def test_the_other_channels_can_be_spread_at_random(daemon: StartDaemon) -> None:
    """
    With `--spread random` every subscriber still receives each message of its two channels.
    """
    status, found = load(daemon(), *LOAD, "--spread=random")

    assert (status, found["lost"]) == (0, 0)
    counts = [each["readers"] for each in found["channels"].values()]
    assert counts[0] == sum(counts[1:]) == 60
    assert found["delivered"] == 8 * 60 + 8 * 60


def test_the_histogram_as_text_and_svg(daemon: StartDaemon, tmp_path: Any) -> None:
    """
    The results have a histogram as text, and as SVG in a file.
    """
    picture = tmp_path / "latency.svg"
    done = _run(daemon(), *LOAD, f"--svg={picture}")

    assert done.returncode == 0
    assert "0 lost, 0 repeated, 0 out of order, 0 gaps" in done.stdout
    assert "█" in done.stdout
    root = ElementTree.parse(picture).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [each.text for each in root if each.text]
    assert texts[0] == "960 deliveries to 60 subscribers"


TRANSPORTS = ("sse", "websocket", "poll", "stream", "socketio", "socketio-polling")


def test_all_transports(daemon: StartDaemon) -> None:
    """
    Several transports are used in turn, each has its own latencies, and none loses messages.
    """
    many = [f"--transport={name}" for name in TRANSPORTS]
    status, found = load(daemon(), *LOAD, *many, "--channels=news")

    assert status == 0
    assert (found["readers"]["opened"], found["errors"]) == (60, {})
    assert list(found["transports"]) == list(TRANSPORTS)
    for each in found["transports"].values():
        assert each["delivered"] == 40 * 60 // len(TRANSPORTS)
        assert 0 < each["latency_ms"]["p50"] <= each["latency_ms"]["max"]
    assert (found["lost"], found["repeated"], found["out_of_order"]) == (0, 0, 0)


def test_a_transport_at_another_path(daemon: StartDaemon) -> None:
    """
    The path of a transport can be given.
    """
    server = daemon("--route=^/deep/(.*)$ websocket", "--route=^/publish$ publish")
    status, found = load(server, *LOAD, "--transport=websocket=/deep/ws")
    assert (status, found["delivered"], found["transports"]) == (0, 960, {})

    status, found = load(server, "-n2", "--seconds=1", "--transport=websocket")
    assert (status, found["errors"]) == (2, {"status 404": 2})


def test_subscribers_that_reconnect_lose_nothing(daemon: StartDaemon) -> None:
    """
    With --reconnect no message is lost although the streams end all the time.
    """
    server = daemon("--retry=0.1")
    url = f"{server.url}/?evs_buffer_size_limit=900"
    status, found = load(url, *LOAD, "--channels=news", "--reconnect", "--grace=20")

    assert found["readers"]["reconnects"] > 60
    assert found["errors"]["ended by the server"] > 60
    assert (found["delivered"], found["lost"], found["repeated"]) == (40 * 60, 0, 0)
    assert status == 0


def test_losses_are_counted(daemon: StartDaemon) -> None:
    """
    Without history there are gaps and losses, and the exit status is 1.
    """
    server = daemon("--retry=0.1", "--history=0")
    url = f"{server.url}/?evs_buffer_size_limit=900"
    status, found = load(url, *LOAD, "--channels=news", "--reconnect", "--grace=0.1")

    assert status == 1
    assert found["lost"] > 0
    assert found["gaps"] > 0
    assert found["delivered"] + found["lost"] == 40 * 60


def test_refused_subscribers_are_counted(daemon: StartDaemon) -> None:
    """
    Refused subscribers are counted by kind, and the others are measured.
    """
    status, found = load(daemon("--max-readers=20"), *LOAD)

    assert status == 0
    assert found["readers"]["opened"] == 20
    assert found["errors"] == {"sent away": 40}
    assert found["lost"] == 0


def test_a_run_without_measurements_is_an_error(daemon: StartDaemon) -> None:
    """
    No server at the URL, or a missing key, is an error with status 2.
    """
    status, found = load(f"http://127.0.0.1:{free_port()}/", "-n3", "--seconds=1")
    assert status == 2
    assert found["errors"] == {"connection refused": 3}

    server = daemon("--http-secret=sesame")
    status, found = load(server, "-n3", "--publish=50", "--messages=2")
    assert status == 2
    assert set(found["errors"]) == {"publish: status 401"}
    status, found = load(server, "-n3", "--publish=50", "--messages=2", "--key=sesame")
    assert status == 0


def test_messages_of_others_are_counted(daemon: StartDaemon) -> None:
    """
    Without --publish the client waits for messages of others, and prints a summary at Ctrl-C.
    """
    server = daemon()
    command = [sys.executable, SCRIPT, "-u", server.url + "/", "-n2", "--json", "--seconds=600"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    other = load(server, "-n1", "--publish=50", "--messages=10")
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=PATIENCE)

    assert other[0] == 0
    assert running.returncode == 0
    found = json.loads(output)
    assert found["readers"]["asked"] == 2
    assert found["published"] == found["delivered"] == 0


def test_tls(daemon: StartDaemon, nginx: Proxy, tmp_path: Any) -> None:
    """
    An untrusted certificate is an error, except with --insecure.
    """
    proxy = nginx(daemon(), certificate=certificate(tmp_path))
    url = f"https://127.0.0.1:{proxy.port}/"
    status, found = load(url, *LOAD, "--insecure")
    assert (status, found["delivered"]) == (0, 960)

    status, found = load(url, "-n2", "--seconds=1")
    assert status == 2
    assert sum(found["errors"].values()) == 2
