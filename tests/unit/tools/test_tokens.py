"""
Subscribers of the cut test have tokens, and renew them.
"""

from __future__ import annotations

import jwt

from rt_twisted.access.tokens import TokenKey, TokenVerifier
from rt_twisted.tools.clients.interfaces import ClientRequest, SessionState
from rt_twisted.tools.clients.sse import SseClient
from rt_twisted.tools.clients.tokens import TokenRenewal, TokenSource

SECRET = "0123456789abcdef" * 2
NOW = 1_800_000_000.0


class Watch:
    """
    A clock that the test sets.
    """

    now = NOW

    def __call__(self) -> float:
        return self.now


def make_tokens(watch: Watch) -> TokenSource:
    return TokenSource(SECRET, 20.0, "mia", ["news"], watch)


def test_the_server_accepts_the_tokens() -> None:
    """
    They grant the channels to the subject, until they expire.
    """
    watch = Watch()
    grant = TokenVerifier([TokenKey.of(SECRET)], now=watch).verify(make_tokens(watch).current())
    assert (grant.subject, grant.expires) == ("mia", NOW + 20)
    assert grant.covers("news")
    assert not grant.covers("other")


def test_a_connection_begins_with_a_token_that_lasts() -> None:
    """
    The last one is used again while a quarter of its time is left.
    """
    watch = Watch()
    tokens = make_tokens(watch)
    first = tokens.current()
    watch.now += 15
    assert tokens.current() == first
    watch.now += 1
    assert tokens.current() != first
    tokens.last(500)
    assert jwt.decode(tokens.current(), options={"verify_signature": False})["exp"] == NOW + 516
    assert tokens.made == 3


def test_a_token_is_renewed_between_the_notice_and_the_end() -> None:
    """
    Once; every fourth subscriber, and those without tokens, never.
    """
    watch = Watch()
    renewal = TokenRenewal(make_tokens(watch), 0, watch)
    never = [TokenRenewal(make_tokens(watch), 3, watch), TokenRenewal(None, 0, watch)]
    assert renewal.token_to_send() == ""
    for each in (renewal, *never):
        each.on_notice(20)
    watch.now += 9
    assert renewal.token_to_send() == ""
    watch.now += 1
    assert renewal.token_to_send().count(".") == 2
    watch.now += 100
    assert [each.token_to_send() for each in (renewal, *never)] == ["", "", ""]


def test_event_streams_renew_it_for_the_next_connection() -> None:
    """
    In the header, or as the cookie.
    """
    watch = Watch()
    tokens = make_tokens(watch)
    url = "http://127.0.0.1:8888/"
    for number, name in ((0, "Authorization: Bearer "), (1, "Cookie: realtime_token=")):
        client_request = ClientRequest(url, ["a"], number, session=SessionState(tokens=tokens))
        client = SseClient(client_request, "e.1")
        assert f"\r\n{name}{tokens.current()}\r\n" in client.begin().decode()
        made = tokens.made
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        assert client.feed(head + b'event: expire\ndata: {"seconds": 20}\n\n') == []
        assert (client.position, tokens.made) == ("e.1", made + 1)
