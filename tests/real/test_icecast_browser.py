"""
Radio in a page: `<audio>` in Chromium, directly and through nginx.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.real.conftest import Browser, Serve, StartDaemon, free_port
from tests.real.live_programs import Camera, start, wait_for
from tests.real.test_icecast import MP3, ROUTES, TONE, Station
from tests.real.test_proxies import serve_nginx

__all__ = ["start"]  # a fixture

OPUS = ("-c:a", "libopus", "-b:a", "96k", "-content_type", "application/ogg", "-f", "ogg")
SITE = "server {{ listen 127.0.0.1:{}; location / {{ proxy_pass http://127.0.0.1:{}; }} }}"
PLAY = "window.a = new Audio('{}'), a.play().then(() => true)"


@pytest.mark.parametrize(("mount", "codec"), [("/live.mp3", MP3), ("/live.ogg", OPUS)])
def test_a_page_plays_a_mount(
    daemon: StartDaemon,
    serve: Serve,
    start: Camera,
    browser: Browser,
    tmp_path: Path,
    mount: str,
    codec: tuple[str, ...],
) -> None:
    """
    The sound goes on, and the listener is counted until the page is left.
    """
    station = Station(daemon(*ROUTES).port)
    front = free_port()
    proxy = serve_nginx(serve, SITE.format(front, station.port), front, tmp_path)
    start("ffmpeg", "ffmpeg", "-v", "error", "-re", *TONE, *codec, station.source_url(mount))
    wait_for(partial(station.is_live, mount))

    for origin in (station.url, proxy.url):
        browser.open(f"{origin}/status-json.xsl")
        browser.click("body")  # a page may play sound only after that
        assert browser.evaluate(PLAY.format(mount))
        browser.wait_for("a.currentTime > 2")
        assert browser.evaluate("a.error === null && !a.paused")
        assert station.sources()[0]["listeners"] == 1
        browser.open("about:blank")
        wait_for(lambda: station.sources()[0]["listeners"] == 0)
