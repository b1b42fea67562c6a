"""
The ways on which a live stream reaches its viewers: TLS, HTTP/2, HTTP/1.0, nginx.
"""

from __future__ import annotations

from pathlib import Path

from tests.pems import Authority
from tests.real.conftest import Serve, StartDaemon, free_port
from tests.real.live_programs import (
    QUICK,
    ROUTES,
    STATS,
    Camera,
    camera,
    is_live,
    largest_step,
    output,
    start,
    stats,
    video,
    viewer,
    wait_for,
)
from tests.real.media_programs import decoded, probe
from tests.real.test_proxies import serve_nginx

__all__ = ["camera", "start", "viewer"]  # fixtures

NGINX = """
server {
    listen 127.0.0.1:%d;
    location / {
        proxy_pass http://127.0.0.1:%d;
        proxy_http_version 1.1;
        proxy_request_buffering off;
        proxy_buffering off;
        client_max_body_size 0;
    }
}
"""


def test_a_stream_reaches_viewers_on_every_way(
    daemon: StartDaemon, serve: Serve, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    The publisher is behind nginx too. Each viewer begins at a keyframe, gets every frame, and a
    clean end.
    """
    certificate, key = Authority(tmp_path).pair("live", "localhost")
    port, front = free_port(), free_port()
    tls = ("--use-ssl=1", f"--ssl-port={port}", f"--ssl-cert={certificate}", f"--ssl-key={key}")
    server = daemon(*ROUTES, STATS, *QUICK, *tls)
    proxy = serve_nginx(serve, NGINX % (front, server.port), front, tmp_path)
    publisher = camera(f"{proxy.url}/cam.webm", 6, "-cluster_time_limit", "200")
    wait_for(lambda: is_live(server))
    plain, secure = f"{server.url}/cam.webm", f"https://localhost:{port}/cam.webm"
    ways = {
        "http10": (plain, "--http1.0"),
        "http11": (plain, "--http1.1", "-H", "Range: bytes=0-"),
        "tls": (secure, "-k", "--http1.1"),
        "http2": (secure, "-k", "--http2"),
        "nginx": (f"{proxy.url}/cam.webm",),
    }
    seen = {name: viewer(url, name, *more) for name, (url, *more) in ways.items()}
    wait_for(lambda: stats(server)["live"]["viewers"] == len(ways))

    assert output(publisher) == ""
    counts = set()
    for name, process in seen.items():
        assert output(process) == '200 video/webm; codecs="vp8,opus"'
        counts.add(decoded(tmp_path / name)[0])
        packets = probe(tmp_path / name)
        assert video(packets)[0].key
        assert largest_step(packets) < 0.09
    assert min(counts) > 50
