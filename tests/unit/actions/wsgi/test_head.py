"""
Tests of the heads of responses that WSGI applications give.
"""

from __future__ import annotations

from typing import Any

import pytest

from rt_twisted.actions.wsgi.head import read_head


@pytest.mark.parametrize(
    ("status", "headers", "code", "reason", "fields", "length"),
    [
        ("200 OK", [], 200, "OK", (), None),
        ("404", [], 404, "", (), None),
        ("299 All fine, really", [], 299, "All fine, really", (), None),
        ("200 OK", [("Content-Length", "5"), ("A", "b")], 200, "OK", (("A", "b"),), 5),
        ("200 OK", (("A", "1"), ("a", "2")), 200, "OK", (("A", "1"), ("a", "2")), None),
        ("200 OK", [("Connection", "close"), ("Date", "x"), ("SERVER", "x")], 200, "OK", (), None),
        ("200 OK", [("Transfer-Encoding", "chunked")], 200, "OK", (), None),
    ],
)
def test_heads(
    status: Any, headers: Any, code: int, reason: str, fields: Any, length: int | None
) -> None:
    """
    Headers are kept in order, those that belong to the connection or the daemon are left out.
    """
    head = read_head(status, headers)

    assert (head.status, head.reason, head.fields, head.length) == (code, reason, fields, length)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("OK", []),
        ("100 Continue", []),
        ("600 x", []),
        ("200 a\r\nb", []),
        ("200 \u20ac", []),
        (b"200 OK", []),
        ("200 OK", [("A", "b\r\nc: d")]),
        ("200 OK", [("A b", "c")]),
        ("200 OK", [("", "c")]),
        ("200 OK", [("A", "\u20ac")]),
        ("200 OK", [("A", b"b")]),
        ("200 OK", [("A",)]),
        ("200 OK", [("Content-Length", "-1")]),
        ("200 OK", [("Content-Length", "1"), ("content-length", "1")]),
        ("200 OK", None),
    ],
)
def test_malformed_heads(status: Any, headers: Any) -> None:
    """
    A head that would break the response is an error of the application.
    """
    with pytest.raises((TypeError, ValueError)):
        read_head(status, headers)


def test_headers_for_the_daemon_are_not_sent() -> None:
    """
    What hands a connection over is not for clients, whether or not it is handed over.
    """
    given = [("X-Accel-Redirect", "/-/x"), ("Grip-Hold", "stream"), ("X-Accel-Buffering", "no")]
    names = [name for name, _ in read_head("403 Forbidden", given).encode().fields]

    assert b"X-Accel-Buffering" in names
    assert b"X-Accel-Redirect" not in names and b"Grip-Hold" not in names
