"""
Hosts and ports of requests.
"""

from __future__ import annotations

import pytest

from rt_twisted.codecs.authority import split_authority


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("", "", ""),
        ("shop.example", "shop.example", ""),
        ("shop.example:8080", "shop.example", "8080"),
        ("shop.example:", "shop.example", ""),
        ("[::1]", "[::1]", ""),
        ("[::1]:8080", "[::1]", "8080"),
        (":8080", "", "8080"),
        ("a:b", "a:b", ""),
        ("a:\xb2", "a:\xb2", ""),
    ],
)
def test_hosts_and_ports(text: str, host: str, port: str) -> None:
    """
    A port is what stands behind the last colon, if it is digits or nothing.
    """
    assert split_authority(text) == (host, port)
