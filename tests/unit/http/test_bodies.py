"""
Bodies that are given to an action as a whole.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import fail
from twisted.python.failure import Failure

from rt_twisted.http.collected_body import BodyCall
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError
from tests.unit.http.clients import Place, chunked, post


def late_exchange(*pieces: bytes) -> tuple[Place, Any, IExchange]:
    """
    Return a place, a client that has sent *pieces*, and its exchange, whose body nothing reads.
    """
    place = Place()
    caller = place.call(*pieces)
    (exchange,) = place.waiting
    return place, caller, exchange


def test_a_body_is_given_as_a_whole() -> None:
    """
    An action is called once with the whole body, in however many pieces it came, also if it
    was received before the action has asked for it.
    """
    whole = post(b"abcdef", b"/late")
    in_chunks = chunked(b"3", b"abc", b"3", b"def", b"0", b"", b"", path=b"/late")
    bodies: list[bytes] = []
    for parts in ([whole], [whole[:-6], b"ab", b"cdef"], [in_chunks]):
        _, caller, exchange = late_exchange(*parts)
        exchange.call_with_body(6, bodies.append)
        exchange.answer(200, b"ok")
        assert caller.responses("POST")[0].status == 200
    assert bodies == [b"abcdef"] * 3


def test_the_end_of_a_body_counts_once() -> None:
    """
    A body is given once, whatever follows its end.
    """
    _, caller, exchange = late_exchange(post(b"x", b"/late"))
    bodies: list[object] = []
    call = BodyCall(exchange, 6, bodies.append)
    for piece in (b"abc", b"", b"def"):
        call.data(piece)
    call.end()
    call.end()
    call.lost(HttpError(403, "no"))
    assert bodies == [b"abcdef"]
    assert caller.written() == b""


def test_a_body_over_the_limit_is_refused() -> None:
    """
    A body that is too large is answered with 413, whether it says its length or not; the
    action is not called.
    """
    for request in (
        post(b"abcdef", b"/late"),
        chunked(b"6", b"abcdef", b"0", b"", b"", path=b"/late"),
    ):
        _, caller, exchange = late_exchange(request)

        exchange.call_with_body(5, lambda _: pytest.fail("it was called"))

        assert caller.responses("POST")[0].status == 413


@pytest.mark.parametrize(
    ("error", "status"), [(HttpError(403, "no"), 403), (ZeroDivisionError(), 500)]
)
@pytest.mark.parametrize("later", [False, True])
def test_errors_of_an_action_are_answered(
    error: Exception, status: int, later: bool, clean_reactor: list[Failure]
) -> None:
    """
    What an action raises when it has the body, or what its Deferred fails with, is answered as
    what it raises without a body.
    """
    _, caller, exchange = late_exchange(post(b"x", b"/late"))

    def act(_: bytes) -> Any:
        if later:
            return fail(error)
        raise error

    exchange.call_with_body(10, act)

    assert caller.responses("POST")[0].status == status
    assert len(clean_reactor) == (status == 500)
    clean_reactor.clear()


def test_a_lost_body_calls_nothing() -> None:
    """
    If the client disconnects within the body, the action is not called.
    """
    _, caller, exchange = late_exchange(post(b"abc", b"/late")[:-1])
    exchange.call_with_body(10, lambda _: pytest.fail("it was called"))

    caller.hang_up()

    assert caller.written() == b""
