"""
Streams from other servers, and sources of SHOUTcast: by icecast2, libshout and raw bytes.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Callable
from contextlib import ExitStack
from ctypes.util import find_library
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, ROOT, Serve, StartDaemon, free_port, require
from tests.real.live_programs import Camera, start, wait_for
from tests.real.test_icecast import (
    ROUTES,
    TONE,
    UPDATE,
    Station,
    check_audio,
    ffmpeg,
    icecast2,
    listen,
    split_titles,
    wait_for_more,
)
from tests.real.test_proxies import serve_nginx

__all__ = ["start"]  # a fixture
FRAME = bytes.fromhex("fffb9064").ljust(417, b"\x55")  # 26 ms of MP3
HTTP, ICY = 0, 2  # SHOUT_PROTOCOL_*
MP3 = 1  # SHOUT_FORMAT_MP3


@pytest.mark.parametrize("demand", [False, True])
def test_a_mount_is_relayed(
    daemon: StartDaemon, start: Camera, tmp_path: Path, demand: bool
) -> None:
    """
    From icecast2, with its titles; on demand only while it has listeners.
    """
    with ExitStack() as stack:
        origin = icecast2(tmp_path, stack)
        ffmpeg(start, origin.source_url(), 60)
        wait_for(origin.is_live)
        url = f"url={origin.url}/live.mp3,demand={'yes' if demand else 'no'}"
        relay = f"--route=^/- icecast-relay:channel=radio/live.mp3,mount=/live.mp3,{url}"
        station = Station(daemon(relay, *ROUTES[:2], f"{ROUTES[2]},wait=20").port)
        title = "/admin/metadata?mount=/live.mp3&mode=updinfo&song=Relayed"
        assert origin.get(title, "boss")[0] == 200
        if demand:
            assert not station.is_live()
        else:
            wait_for(station.is_live)
        received = tmp_path / "received.mp3"
        listener = start("curl", "curl", "-sN", "-o", str(received), f"{station.url}/live.mp3")
        wait_for(lambda: station.is_live() and station.sources()[0].get("title") == "Relayed")
        wait_for_more(received)
        assert origin.sources()[0]["listeners"] == 1
        listener.terminate()
        listener.wait(PATIENCE)
        check_audio(received.read_bytes(), received, 0.9)
        if demand:
            wait_for(lambda: origin.sources()[0]["listeners"] == 0)


def two_ports() -> tuple[int, int]:
    """
    Return two free ports, one behind the other.
    """
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port, port + 1


@pytest.fixture
def shoutcast(daemon: StartDaemon) -> Station:
    """
    A daemon that accepts ICY, and listens on the port behind its own, too.
    """
    port, second = two_ports()
    icy = "--route=^/- icecast-icy:mount=/live.mp3,password=hackme"
    return Station(daemon(icy, *ROUTES, f"--icy-port={second}", port=port).port)


def test_a_source_of_shoutcast(shoutcast: Station) -> None:
    """
    The source gets OK2 for its password, sends headers, and then audio.
    """
    with socket.create_connection(("127.0.0.1", shoutcast.port + 1), PATIENCE) as source:
        source.sendall(b"hackme\r\n")
        assert source.recv(100) == b"OK2\r\nicy-caps:11\r\n\r\n"
        source.sendall(b"content-type:audio/mpeg\r\nicy-name:My Radio\r\nicy-br:128\r\n\r\n")
        source.sendall(FRAME * 100)
        wait_for(shoutcast.is_live)
        [shown] = shoutcast.sources()
        assert (shown["server_name"], shown["bitrate"]) == ("My Radio", 128)
        head, audio = listen(f"{shoutcast.url}/live.mp3", 1)
        assert "icy-br: 128" in head
        assert audio.startswith(FRAME)
        with socket.create_connection(("127.0.0.1", shoutcast.port), PATIENCE) as second:
            second.sendall(b"hackme\r\n")
            assert second.recv(100) == b"invalid password\r\n"  # the mount is in use
    wait_for(lambda: not shoutcast.is_live())


@pytest.mark.parametrize("protocol", [HTTP, ICY])
def test_libshout(shoutcast: Station, protocol: int) -> None:
    """
    The library of most source clients connects, sends, and sets a title.
    """
    require("ezstream", "ezstream")  # its package has the library
    name = find_library("shout")
    assert name is not None
    shout = ctypes.CDLL(name)
    shout.shout_new.restype = ctypes.c_void_p
    shout.shout_metadata_new.restype = ctypes.c_void_p
    shout.shout_get_error.restype = ctypes.c_char_p
    shout.shout_init()
    self = ctypes.c_void_p(shout.shout_new())

    def call(function: Callable[..., int], *arguments: object) -> None:
        assert function(self, *arguments) == 0, shout.shout_get_error(self)

    call(shout.shout_set_host, b"127.0.0.1")
    call(shout.shout_set_port, ctypes.c_ushort(shoutcast.port))
    call(shout.shout_set_protocol, protocol)
    call(shout.shout_set_format, MP3)
    call(shout.shout_set_password, b"hackme")
    call(shout.shout_set_mount, b"/live.mp3")
    call(shout.shout_set_name, b"By libshout")
    call(shout.shout_open)
    for _ in range(60):
        call(shout.shout_send, FRAME, len(FRAME))
    wait_for(shoutcast.is_live)
    assert shoutcast.sources()[0]["server_name"] == "By libshout"
    if protocol == HTTP:  # ICY has one mount, and titles by another page
        metadata = ctypes.c_void_p(shout.shout_metadata_new())
        assert shout.shout_metadata_add(metadata, b"song", "Tïtle".encode()) == 0
        call(shout.shout_set_metadata, metadata)
        shout.shout_metadata_free(metadata)
        for _ in range(10):
            call(shout.shout_send, FRAME, len(FRAME))
        wait_for(lambda: shoutcast.sources()[0].get("title") == "Tïtle")
    call(shout.shout_close)
    shout.shout_free(self)


def test_sources_pass_nginx_by_chunks(
    daemon: StartDaemon, serve: Serve, start: Camera, tmp_path: Path
) -> None:
    """
    With the lines of the documentation: source, title and listener; a source that sends no chunks
    is one without audio to nginx.
    """
    server = daemon(*ROUTES)
    text = (ROOT / "docs" / "icecast.md").read_text()
    site = text.partition("```nginx\n")[2].partition("```")[0]
    site = site.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    port = free_port()
    proxy = f"server {{ listen 127.0.0.1:{port}; {site} }}"
    serve_nginx(serve, proxy, port, tmp_path)
    front = Station(port)
    chunked = ("-method", "PUT", "-auth_type", "basic", "-content_type", "audio/mpeg", "-f", "mp3")
    sound = ("-nostdin", "-v", "error", "-re", *TONE, "-c:a", "libmp3lame", "-b:a", "128k")
    url = f"http://source:hackme@127.0.0.1:{port}/live.mp3"
    source = start("ffmpeg", "ffmpeg", *sound, *chunked, url)
    wait_for(front.is_live)
    assert front.get(UPDATE, "hackme")[0] == 200
    wait_for(lambda: front.sources()[0].get("title") == "Artist - Tïtle")
    assert front.sources()[0]["listenurl"] == f"{front.url}/live.mp3"

    head, body = listen(f"{front.url}/live.mp3", 3, "-H", "Icy-MetaData: 1")

    assert "\r\nicy-metaint: 16000" in head
    assert "chunked" not in head
    audio, titles = split_titles(body, 16_000)
    check_audio(audio, tmp_path / "a.mp3", 3)
    assert titles[0] == "StreamTitle='Artist - Tïtle';".encode()
    source.kill()
    wait_for(lambda: not front.is_live())
    plain = start("ffmpeg", "ffmpeg", *sound, "-t", "2", "-f", "mp3", front.source_url())
    plain.wait(PATIENCE)
    assert not Station(server.port).is_live()
