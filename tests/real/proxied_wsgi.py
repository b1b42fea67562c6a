"""
A WSGI application behind the daemon, for gunicorn and uWSGI.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

PIECE = b"0123456789abcdef" * 4096
_posts: list[str] = []


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """
    Answer by the last part of the path.
    """
    name = environ["PATH_INFO"].rpartition("/")[2]
    if name == "websocket":
        return _echo_websocket()
    if name == "large":
        start_response("200 OK", [("Content-Length", str(160 * len(PIECE)))])
        return (PIECE for _ in range(160))
    if name == "parts":
        start_response("200 OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return _parts()
    if name == "hang":
        time.sleep(30)
    if name == "post":
        _posts.append(environ["wsgi.input"].read().decode())
        time.sleep(0.2)
    body = environ["wsgi.input"].read() if name == "echo" else b""
    if name == "posts":
        body = json.dumps(_posts).encode()
    if name == "environ":
        texts = {key: value for key, value in environ.items() if isinstance(value, str)}
        body = json.dumps(texts).encode()
    if name == "secret":
        body = environ["HTTP_COOKIE"].encode() * 50
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def _parts() -> Iterator[bytes]:
    for part in range(3):
        yield b"part %d\n" % part
        time.sleep(0.1)


def _echo_websocket() -> Iterable[bytes]:
    import uwsgi  # type: ignore[import-not-found,import-untyped,unused-ignore]  # in uWSGI alone

    uwsgi.websocket_handshake()
    while True:
        uwsgi.websocket_send(uwsgi.websocket_recv())
