"""
Tests of what threads send to clients.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue
from threading import Event, Thread
from typing import Any

import pytest

from rt_twisted.actions.wsgi.output import MAX_WAITING, ClientGone, ThreadOutput


class Calls:
    """
    A reactor that a test runs by hand.
    """

    def __init__(self) -> None:
        self.calls: Queue[Callable[[], object]] = Queue()

    def callFromThread(self, call: Callable[[], object]) -> None:
        self.calls.put(call)

    def run(self) -> None:
        while not self.calls.empty():
            self.calls.get()()


def make(seconds: float = 20) -> tuple[Calls, ThreadOutput, list[Any]]:
    calls = Calls()
    written: list[Any] = []
    stalled = lambda: written.append("stalled")  # noqa: E731  # short
    return calls, ThreadOutput(calls, written.append, stalled, seconds), written


def in_thread(call: Callable[[], object]) -> tuple[Thread, list[Any]]:
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except ClientGone as error:
            results.append(error)

    thread = Thread(target=run)
    thread.start()
    return thread, results


def test_pieces_arrive_in_order() -> None:
    """
    The reactor is woken once for all pieces that wait.
    """
    calls, output, written = make()
    for number in range(5):
        output.put(number, 1)
    assert calls.calls.qsize() == 1
    calls.run()

    assert written == [0, 1, 2, 3, 4]


def test_pieces_that_are_put_while_one_is_written() -> None:
    """
    A write that resumes the output does not overtake pieces behind its own.
    """
    calls = Calls()
    written: list[int] = []

    def write(piece: int) -> None:
        if piece == 1:
            output.put(3, 1)
            output.resumeProducing()
        written.append(piece)

    output = ThreadOutput(calls, write, list, 20)
    output.put(1, 1)
    output.put(2, 1)
    calls.run()

    assert written == [1, 2, 3]


def test_a_thread_waits_for_its_client() -> None:
    """
    A thread waits while 64 KiB are not written, and goes on when the client receives.
    """
    calls, output, written = make()
    output.put("a", MAX_WAITING)
    output.pauseProducing()
    waiting = Event()

    def send() -> None:
        waiting.set()
        output.put("b", 1)

    thread, _ = in_thread(send)
    assert waiting.wait(20)
    calls.run()
    assert written == []
    output.resumeProducing()
    thread.join(20)
    calls.run()

    assert written == ["a", "b"]


def test_a_client_that_disconnects_or_receives_nothing() -> None:
    """
    The thread gets an OSError, at once or after the time limit.
    """
    calls, output, written = make(0.01)
    output.put("a", MAX_WAITING)
    output.pauseProducing()
    thread, results = in_thread(lambda: output.put("b", 1))
    thread.join(20)
    calls.run()
    assert isinstance(results[0], OSError)
    assert written == ["stalled"]

    calls, output, written = make()
    output.put("a", MAX_WAITING)
    output.stopProducing()
    with pytest.raises(ClientGone):
        output.put("b", 1)
    calls.run()
    assert written == []
