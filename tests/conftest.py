"""
Limits the time of every test, and checks what it leaves behind.

Tests that wait are `async def`. No test module may import the reactor at module level:
pytest-twisted installs the one that `--reactor` names.
"""

from __future__ import annotations

import functools
import gc
import inspect
import signal
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import hypothesis
import pytest
import pytest_twisted
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

LIMIT = 60.0  # seconds for a test without a mark of its own...
LEAST = 240.0  # ...and at least so many for one with processes, which a busy machine may delay

# How long an example takes says nothing on a machine that others use too.
hypothesis.settings.register_profile("tests", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("tests")


def pytest_configure() -> None:
    """
    Let the processes that tests start have the usual signals, also in the background.

    A shell starts programs in the background with SIGINT ignored, and nohup with SIGHUP. Children
    inherit what is ignored, but not what is handled. Here both stay without effect.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, _without_effect)


def _without_effect(number: int, frame: FrameType | None) -> None:
    pass


def pytest_collection_finish() -> None:
    """
    Freeze all objects that tests share, as `clean_reactor` collects garbage after each test.
    """
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """
    Limit the test, with all its hypothesis examples, by `@pytest.mark.limit(seconds)`.

    pytest-timeout is not used, as it ends the reactor as well.
    """
    __tracebackhide__ = True
    mark = pyfuncitem.get_closest_marker("limit")
    limit = mark.args[0] if mark else LIMIT
    if {"real", "recorded"} & set(pyfuncitem.path.parts):
        limit = max(limit, LEAST)
    end = time.monotonic() + limit
    examples = getattr(pyfuncitem.obj, "hypothesis", None)
    if examples is None:
        pyfuncitem.obj = _bounded(pyfuncitem.obj, end)
        return (yield)
    test = examples.inner_test
    examples.inner_test = _bounded(test, end)
    try:
        return (yield)
    finally:
        # pytest-twisted wraps it as well; the next parameter set needs it bare.
        examples.inner_test = test


def _bounded(test: Callable[..., object], end: float) -> Callable[..., object]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> object:
        from twisted.internet import reactor

        clock: Any = reactor
        left = max(end - time.monotonic(), 0.001)
        with _alarm(left):
            result = test(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = ensureDeferred(result)
        if isinstance(result, Deferred):
            result.addTimeout(left, clock, onTimeoutCancel=_too_late)
        return result

    return run


def _too_late(result: object, _: float) -> object:
    cause = result.value if isinstance(result, Failure) else None
    raise TimeoutError("the time is up: see where it was waiting, or mark its limit") from cause


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("the time is up: see where it was busy, or mark its limit")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest_twisted.async_yield_fixture(autouse=True)
async def clean_reactor() -> AsyncIterator[list[Failure]]:
    """
    Fail a test that leaves errors, delayed calls or open sockets behind.

    Yields:
        the failures logged so far, those of forgotten Deferreds among them; a
        test that expects some looks at them and clears the list.
    """
    from twisted.internet import reactor

    loop: Any = reactor
    failures: list[Failure] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            failures.append(event["log_failure"])

    def sockets() -> set[FileDescriptor]:
        watched = {*loop.getReaders(), *loop.getWriters()}
        return {each for each in watched if isinstance(each, FileDescriptor)}

    calls_before = set(loop.getDelayedCalls())
    sockets_before = sockets()
    globalLogPublisher.addObserver(observe)
    yield failures
    for _ in range(20):  # that one side has closed reaches the other some turns later
        if not sockets() - sockets_before:
            break
        await deferLater(loop, 0.01)
    gc.collect()  # a lost Deferred logs its failure when it is collected
    gc.freeze()  # what is left is shared: without this each collection takes longer than the last
    globalLogPublisher.removeObserver(observe)
    calls = set(loop.getDelayedCalls()) - calls_before
    left = sockets() - sockets_before
    for call in calls:
        call.cancel()
    for descriptor in left:
        _close(descriptor)
    complaints = [
        *(f"logged: {failure.getTraceback()}" for failure in failures),
        *(f"still to be called: {call}" for call in calls),
        *(f"still open: {descriptor}" for descriptor in left),
    ]
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


def _close(descriptor: Any) -> None:
    if hasattr(descriptor, "stopListening"):
        descriptor.stopListening()
    elif hasattr(descriptor, "abortConnection"):
        descriptor.abortConnection()
    else:
        descriptor.loseConnection()
