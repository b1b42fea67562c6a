"""
Compressed bodies of many clients are decoded in turns.
"""

from __future__ import annotations

import gzip
import os

from twisted.internet.task import Clock

from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.net.inflate_quota import InflateQuota
from tests.turns import run_turn
from tests.unit.http.clients import Caller, Place, post

MIB = 1 << 20
LARGE = gzip.compress(bytes(MIB - 1000), mtime=0)
CODED = b"Content-Encoding: gzip\r\nContent-Type: application/octet-stream\r\n"


def place_with_memory(limit: int = 0) -> Place:
    """
    Return a place that accepts bodies of a MiB, with a limit for incomplete input.
    """
    clock = Clock()
    inbound = InboundMemory(clock, limit)
    return Place(changed={"max_body": MIB, "max_message": MIB, "inbound": inbound})


def publish(place: Place, body: bytes) -> Caller:
    """
    Post a compressed message from this machine.
    """
    request = post(body, b"/publish?channel=a", CODED).replace(b"Host: a", b"Host: localhost")
    return place.call(request, address="127.0.0.1")


def test_many_bodies_are_decoded_in_turns() -> None:
    """
    About a MiB is decoded in one turn of the reactor, of however many clients; a request without
    a coding is answered at once.
    """
    place = place_with_memory()
    callers = [publish(place, LARGE) for _ in range(10)]
    assert sum(bool(caller.written()) for caller in callers) == 1
    assert place.context.inbound.used > 9 * len(LARGE)
    plain = post(b"x", b"/publish?channel=b").replace(b"Host: a", b"Host: localhost")
    assert place.call(plain, address="127.0.0.1").responses()[0].status == 200

    counts = [1]
    while counts[-1] < 10:
        run_turn(place.clock)
        counts.append(sum(bool(caller.written()) for caller in callers))
        assert counts[-1] - counts[-2] <= 2
    assert len(counts) >= 9
    assert [caller.responses()[0].status for caller in callers] == [200] * 10
    assert place.context.inbound.used == 0
    assert place.hub.current_metrics().published == 11


def test_a_late_fault_is_answered() -> None:
    """
    A body that turns out to be malformed or too large in a later turn is refused as in the first.
    """
    place = place_with_memory()
    publish(place, LARGE)
    noise = gzip.compress(os.urandom(3 * MIB // 4), mtime=0)
    cut = publish(place, noise[:-1])
    bomb = publish(place, gzip.compress(bytes(MIB + 1), mtime=0))
    whole = publish(place, noise)
    while place.context.inbound.used:
        run_turn(place.clock)

    statuses = [caller.responses()[0].status for caller in (cut, bomb, whole)]
    assert statuses == [400, 413, 200]


def test_bodies_that_wait_are_bounded_in_sum() -> None:
    """
    If bodies that wait for their turn take too much memory, the oldest are refused with 503.
    """
    place = place_with_memory(limit=2 * MIB)
    noise = gzip.compress(os.urandom(MIB), mtime=0)[: MIB - 100]
    callers = [publish(place, LARGE), *(publish(place, noise) for _ in range(5))]
    refused = [caller for caller in callers if caller.written().startswith(b"HTTP/1.1 503")]
    assert len(refused) >= 3
    assert place.context.inbound.used <= 2 * MIB
    while place.context.inbound.used:
        run_turn(place.clock)

    assert all(caller.written() for caller in callers)


def test_a_body_of_a_client_that_left_does_not_stay() -> None:
    """
    A client may disconnect while its body waits for its turn.
    """
    place = place_with_memory()
    publish(place, LARGE)
    publish(place, LARGE).hang_up()
    run_turn(place.clock)
    run_turn(place.clock)

    assert place.context.inbound.used == 0
    assert place.context.shared.find(InflateQuota) is not None
    assert not place.context.inbound.paused
