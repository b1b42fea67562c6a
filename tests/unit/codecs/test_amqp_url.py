"""
URLs and host lists of AMQP servers.
"""

from __future__ import annotations

import pytest

from rt_twisted.codecs.amqp_url import AmqpUrl, parse_amqp_url, parse_hosts


def test_urls() -> None:
    """
    URLs have RabbitMQ's syntax and its defaults; several hosts are separated by commas.
    """
    assert parse_amqp_url("amqp://a") == AmqpUrl((("a", 5672),), "/", "guest", "guest", False)
    assert parse_amqp_url("amqps://u%40x:p%2F@[::1]/%2Fv%20w") == AmqpUrl(
        (("::1", 5671),), "/v w", "u@x", "p/", True
    )
    several = parse_amqp_url("amqp://u:p@a,b:1,[::1]:2/v")
    assert several.hosts == (("a", 5672), ("b", 1), ("::1", 2))


@pytest.mark.parametrize(
    "wrong", ["http://a", "amqp://", "amqp://a:x", "amqp://a?heartbeat=1", "a"]
)
def test_wrong_urls(wrong: str) -> None:
    """
    What is not an AMQP URL is rejected with an example of one.
    """
    with pytest.raises(ValueError, match="a URL such as"):
        parse_amqp_url(wrong)


def test_hosts() -> None:
    """
    A host without a port gets the default port; blanks around commas are ignored.
    """
    assert parse_hosts("::1", 7) == (("::1", 7),)
    assert parse_hosts("a, b:2", 7) == (("a", 7), ("b", 2))


@pytest.mark.parametrize("wrong", ["", "a,", "a:x", "a:0", "u@a", "a/b", "[::1"])
def test_wrong_hosts(wrong: str) -> None:
    """
    What is not a list of hosts is rejected with an example of one.
    """
    with pytest.raises(ValueError, match="hosts such as"):
        parse_hosts(wrong, 7)
