"""
The requests of sources, listeners and scripts to icecast2 and to the daemon: equal answers, but
for the differences here.
"""

from __future__ import annotations

import json
import re
import socket
from base64 import b64encode
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.real.conftest import PATIENCE, StartDaemon
from tests.real.live_programs import Camera, start, wait_for
from tests.real.test_icecast import MP3, ROUTES, UPDATE, Station, ffmpeg, icecast2

__all__ = ["start"]  # a fixture

FRAME = bytes.fromhex("fffb9064").ljust(417, b"\x55")  # 26 ms of MP3
NAMED = ("-ice_name", "My Radio", "-ice_genre", "Jazz", "-ice_url", "http://radio.example/")
MOUNT = "mount=/live.mp3"
# What icecast2 answers where the daemon answers otherwise, 0 for a connection that it closes
# without an answer; and why.
DIFFERENCES = {
    "OPTIONS * HTTP/1.1": (204, 0),  # libshout takes either
    "DELETE /live.mp3 HTTP/1.1": (405, 0),
    "HEAD /live.mp3 HTTP/1.1": (200, 400),  # what HTTP requires of a page that GET has
    "POST /live.mp3 HTTP/1.1": (401, 400),  # sources may also send by POST
    # A title without a mode is one; what it is not has a status that scripts see.
    f"GET /admin/metadata?{MOUNT}&song=x HTTP/1.1": (200, 400),
    f"GET /admin/metadata?{MOUNT}&mode=other&song=x HTTP/1.1": (400, 200),
    # A form for the destination, which is a page for a person.
    f"GET /admin/moveclients?{MOUNT} HTTP/1.1": (400, 200),
    # A playlist is served for a mount that has a source.
    "GET /none.mp3.m3u HTTP/1.1": (404, 200),
    # Fallbacks are those of the configuration, and accounts of listeners are tokens.
    f"GET /admin/fallbacks?{MOUNT}&fallback=/x.mp3 HTTP/1.1": (400, 200),
    f"GET /admin/buildm3u?{MOUNT}&username=u&password=p HTTP/1.1": (400, 200),
    # Pages for a person; /status.xsl and the admin API of the daemon have what they show.
    "GET /admin/stats.xsl HTTP/1.1": (404, 200),
    "GET /server_version.xsl HTTP/1.1": (404, 200),
    "GET /live.mp3.vclt HTTP/1.1": (404, 200),
}
# In the XML of the administrator alone: the daemon counts bytes in the metrics of all streams, not
# for each mount; it disconnects no slow listener; the limit is in the configuration, and the
# address of the source in the access log.
NOT_COUNTED = {
    "max_listeners", "slow_listeners", "source_ip", "total_bytes_read", "total_bytes_sent",
}  # fmt: skip
SERVER_NOT_COUNTED = {  # of all mounts; see the metrics
    "client_connections", "clients", "connections", "file_connections", "listener_connections",
    "source_client_connections", "source_relay_connections", "source_total_connections", "stats",
    "stats_connections",
}  # fmt: skip
SOURCES = (
    ("PUT /a.mp3 HTTP/1.1", ""),
    ("PUT /a.mp3 HTTP/1.1", "wrong"),
    ("SOURCE /b.mp3 HTTP/1.0", "wrong"),
    ("SOURCE /c.mp3 HTTP/1.0", "hackme"),
    ("SOURCE /d.mp3 ICE/1.0", "hackme"),
    ("PUT /e.mp3 HTTP/1.0", "hackme"),
    ("SOURCE /live.mp3 HTTP/1.0", "hackme"),  # in use
    ("PUT /live.mp3 HTTP/1.1", "hackme"),
)
REQUESTS = (
    ("OPTIONS * HTTP/1.1", ""),
    ("DELETE /live.mp3 HTTP/1.1", ""),
    ("HEAD /live.mp3 HTTP/1.1", ""),
    ("POST /live.mp3 HTTP/1.1", ""),
    ("GET /none.mp3 HTTP/1.1", ""),
    ("GET / HTTP/1.1", ""),
    *[
        (f"GET /admin/{page} HTTP/1.1", "boss")
        for page in (
            f"metadata?{MOUNT}&mode=updinfo&song=x",
            f"metadata?{MOUNT}&song=x",
            f"metadata?{MOUNT}&mode=other&song=x",
            "metadata?mode=updinfo&song=x",
            "metadata?mount=/none.mp3&mode=updinfo&song=x",
            "stats",
            "stats.xsl",
            "listmounts",
            f"listclients?{MOUNT}",
            "listclients?mount=/none.mp3",
            "listclients",
            f"killclient?{MOUNT}",
            f"killclient?{MOUNT}&id=999999",
            f"moveclients?{MOUNT}",
            f"moveclients?{MOUNT}&destination=/none.mp3",
            f"moveclients?{MOUNT}&destination=/live.mp3",
            f"fallbacks?{MOUNT}&fallback=/x.mp3",
            f"buildm3u?{MOUNT}&username=u&password=p",
            "unknown",
        )
    ],
    ("GET /admin/stats?any HTTP/1.1", ""),
    ("GET /admin/stats?source HTTP/1.1", "hackme"),
    (f"GET /admin/metadata?{MOUNT}&mode=updinfo&song=y HTTP/1.1", "hackme"),
    (f"GET /admin/metadata?{MOUNT}&mode=updinfo&song=z HTTP/1.1", "wrong"),
    ("GET /live.mp3.m3u HTTP/1.1", ""),
    ("GET /live.mp3.xspf HTTP/1.1", ""),
    ("GET /live.mp3.vclt HTTP/1.1", ""),
    ("GET /none.mp3.m3u HTTP/1.1", ""),
    ("GET /status.xsl HTTP/1.1", ""),
    ("GET /status-json.xsl HTTP/1.1", ""),
    ("GET /server_version.xsl HTTP/1.1", ""),
    (f"GET /admin/killsource?{MOUNT} HTTP/1.1", "boss"),
)
LISTENED = ("GET /live.mp3 HTTP/1.1", "GET /live.mp3 HTTP/1.0")


def ask(station: Station, line: str, password: str, more: str = "") -> tuple[int, dict[str, str]]:
    """
    Return status and headers of the answer to a request; 0 if there is none.
    """
    login = b64encode(f"source:{password}".encode()).decode()
    if password == "boss":
        login = b64encode(b"admin:boss").decode()
    head = f"{line}\r\nHost: localhost\r\n{more}"
    head += f"Authorization: Basic {login}\r\n\r\n" if password else "\r\n"
    with socket.create_connection(("127.0.0.1", station.port), PATIENCE) as client:
        client.sendall(head.encode())
        if line.startswith(("PUT", "SOURCE")) and password == "hackme":
            client.sendall(FRAME * 20)
        received = b""
        while b"\r\n\r\n" not in received and (piece := client.recv(65536)):
            received += piece
    first, *fields = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    pairs = [field.partition(":") for field in fields]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return int(first.split()[1]) if first else 0, headers


def shape(station: Station) -> tuple[set[str], set[str], set[str]]:
    """
    Return what a source has in the JSON and the XML of monitoring, and the server in the latter.
    """
    [source] = station.sources()
    text = station.get("/admin/stats", "boss")[1]
    inner = text.partition('<source mount="/live.mp3">')[2].partition("</source>")[0]
    server = text.partition("<icestats>")[2].partition("<source ")[0]
    named = re.compile(r"<([\w-]+)>")
    return set(source), set(named.findall(inner)), set(named.findall(server))


def answers(station: Station, start: Camera) -> tuple[Mapping[str, int], list[dict[str, str]]]:
    """
    Return the statuses of all answers, and the headers of those for listeners.
    """
    ffmpeg(start, station.source_url(), 300, *MP3, *NAMED)
    wait_for(station.is_live)
    assert station.get(UPDATE, "boss")[0] == 200
    wait_for(lambda: "title" in station.sources()[0])
    typed = "Content-Type: audio/mpeg\r\n"
    found = {f"{line} {key}": ask(station, line, key, typed)[0] for line, key in SOURCES}
    listener = start("curl", "curl", "-sN", "-o", "/dev/null", f"{station.url}/live.mp3")
    wait_for(lambda: station.sources()[0]["listeners"] == 1)
    headers = [ask(station, line, "", "Icy-MetaData: 1\r\n")[1] for line in LISTENED]
    for line, key in REQUESTS:
        found[line] = ask(station, line, key)[0]
    listener.wait(PATIENCE)  # the source was ended
    return found, headers


def test_answers_are_those_of_icecast2(daemon: StartDaemon, start: Camera, tmp_path: Path) -> None:
    """
    Statuses agree, and listeners get every header that icecast2 sends.
    """
    ours, headers = answers(Station(daemon(*ROUTES).port), start)
    with ExitStack() as stack:
        theirs, headers_there = answers(icecast2(tmp_path, stack), start)

    pairs = {line: (ours[line], theirs[line]) for line in theirs}
    assert {line: pair for line, pair in pairs.items() if pair[0] != pair[1]} == DIFFERENCES
    for mine, other in zip(headers, headers_there, strict=True):
        assert other.keys() <= mine.keys()
        for name in other.keys() - {"server", "date", "connection", "ice-audio-info"}:
            assert mine[name] == other[name], name


def test_monitoring_finds_what_icecast2_has(
    daemon: StartDaemon, start: Camera, tmp_path: Path
) -> None:
    """
    A source has the same fields, but for those that icecast2 takes from its own configuration.
    """
    with ExitStack() as stack:
        stations = [Station(daemon(*ROUTES).port), icecast2(tmp_path, stack)]
        for station in stations:
            ffmpeg(start, station.source_url(), 60, *MP3, *NAMED)
            wait_for(station.is_live)
            assert station.get(UPDATE, "boss")[0] == 200
            wait_for(lambda: "title" in station.sources()[0])  # noqa: B023  # called at once
        ours, theirs = map(shape, stations)
    assert theirs[0] - ours[0] == set()
    assert theirs[1] - ours[1] == NOT_COUNTED
    assert theirs[2] - ours[2] == SERVER_NOT_COUNTED


def test_monitoring_asks_for_one_mount(daemon: StartDaemon, start: Camera, tmp_path: Path) -> None:
    """
    Both servers show one of two mounts, nothing for one without a source, and all without a name.
    """
    mounts = ("/live.mp3", "/other.mp3")
    with ExitStack() as stack:
        for station in (Station(daemon(*ROUTES).port), icecast2(tmp_path, stack)):
            nothing = json.loads(station.get("/status-json.xsl")[1])["icestats"]
            for mount in mounts:
                ffmpeg(start, station.source_url(mount), 60)
            wait_for(lambda: all(map(station.is_live, mounts)))  # noqa: B023  # called at once
            page = "/status-json.xsl"
            some = json.loads(station.get(f"{page}?mount=/live.mp3")[1])["icestats"]
            none = json.loads(station.get(f"{page}?mount=/none.mp3")[1])["icestats"]
            every = json.loads(station.get(page)[1])["icestats"]
            assert some["source"]["listenurl"].endswith("/live.mp3")
            assert [one["listenurl"][-9:] for one in every["source"]] == ["/live.mp3", "other.mp3"]
            assert none.keys() == nothing.keys() == every.keys() - {"source"} | {"dummy"}
            one = station.get("/admin/stats?mount=/live.mp3", "boss")[1]
            assert re.findall(r'<source mount="([^"]*)"', one) == ["/live.mp3"]
            assert station.get("/admin/stats", "boss")[1].count("<source mount=") == 2
            for wrong in ("/none.mp3", ""):
                assert station.get(f"/admin/stats?mount={wrong}", "boss")[0] == 400
