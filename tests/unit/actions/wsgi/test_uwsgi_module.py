"""
Tests of the module `uwsgi` that applications import.
"""

from __future__ import annotations

import importlib
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rt_twisted.actions.wsgi.action import WsgiAction, uwsgi_of
from rt_twisted.actions.wsgi.output import ClientGone
from rt_twisted.actions.wsgi.websocket import MAX_RECEIVED, ThreadWebSocket
from rt_twisted.brokers.memory import MemoryBroker
from tests.defaults import make_context, make_hub
from tests.inline_threads import InlineReactor

TEXT = """
import uwsgi

calls = []
uwsgi.post_fork_hook = lambda: calls.append(uwsgi.worker_id())

def application(environ, start_response):
    return []
"""


@pytest.fixture
def action(tmp_path: Path) -> WsgiAction:
    path = tmp_path / "importing.py"
    path.write_text(TEXT)
    clock = InlineReactor()
    context = make_context(make_hub(MemoryBroker(clock, "e"), clock), clock, worker=2, workers=3)
    return WsgiAction(str(path), context)


def test_the_module_exists_while_an_application_is_loaded(action: WsgiAction) -> None:
    """
    An application can import the module; where none is loaded, libraries do not find it.
    """
    assert "uwsgi" not in sys.modules
    action.startService()
    assert importlib.import_module("uwsgi") is uwsgi_of(action.context)
    other = WsgiAction(action.name_, action.context)
    other.startService()
    action.stopService()
    assert "uwsgi" in sys.modules
    other.stopService()
    assert "uwsgi" not in sys.modules


def test_the_hook_of_a_new_process(action: WsgiAction) -> None:
    """
    What an application sets as `post_fork_hook`, as `uwsgidecorators.postfork` does, is called
    once in each process, before requests.
    """
    calls = sys.modules[action.application.__module__].calls
    assert calls == []
    action.startService()
    action.stopService()
    action.startService()
    action.stopService()

    assert calls == [2]


def test_what_libraries_look_for(action: WsgiAction) -> None:
    """
    Version, options and numbers have the types of uWSGI; what is missing is an AttributeError
    that says where to read on.
    """
    uwsgi: Any = uwsgi_of(action.context)

    assert uwsgi.version_info[:2] == (2, 0)
    assert uwsgi.version.startswith(b"2.0.")
    assert uwsgi.opt["enable-threads"] is True
    assert int(uwsgi.opt["threads"]) == 10
    assert (uwsgi.worker_id(), uwsgi.numproc, uwsgi.mule_id()) == (2, 3, 0)
    assert uwsgi.masterpid() > 0
    assert uwsgi.log(b"a line") is True
    assert not hasattr(uwsgi, "request_context")
    with pytest.raises(AttributeError) as caught:
        uwsgi.cache_set("a", b"b")
    assert str(caught.value) == (
        "rt_twisted has no uwsgi.cache_set: docs/application.md says what replaces it"
    )
    with pytest.raises(NotImplementedError):
        uwsgi.websocket_send_from_sharedarea(0, 0)


def test_calls_outside_of_a_request(action: WsgiAction) -> None:
    """
    What is about a request is an OSError in a thread that runs none.
    """
    uwsgi = uwsgi_of(action.context)

    for call in (
        lambda: uwsgi.add_var("a", "b"),
        uwsgi.websocket_handshake,
        uwsgi.websocket_recv,
        uwsgi.websocket_recv_nb,
        uwsgi.connection_fd,
    ):
        with pytest.raises(OSError, match="this thread runs no request"):
            call()


class Sink:
    """
    A websocket of the daemon that records what is done to it.
    """

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.behind = False
        self.drained: Callable[[], object] = list

    @property
    def subscriber(self) -> Sink:
        return self

    def watch_backlog(self, drained: Any) -> None:
        self.drained = drained

    def send(self, data: bytes, binary: bool) -> None:
        self.calls.append((data, binary))

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def close(self, code: int, reason: str) -> None:
        self.calls.append(int(code))


@pytest.fixture
def pair() -> Iterator[tuple[ThreadWebSocket, Sink]]:
    websocket, sink = ThreadWebSocket(InlineReactor(), 20), Sink()
    websocket.opened(sink)
    yield websocket, sink
    websocket.release()


def readable(websocket: ThreadWebSocket) -> bool:
    return bool(select.select([websocket.fileno()], [], [], 0)[0])


def test_a_descriptor_to_wait_on(pair: tuple[ThreadWebSocket, Sink]) -> None:
    """
    The descriptor is readable exactly while a message waits, or the websocket is closed.
    """
    websocket, _ = pair
    websocket.message(b"early", True)
    assert readable(websocket)
    websocket.message(b"b", True)
    assert websocket.receive(wait=False) == b"early"
    assert readable(websocket)
    assert websocket.receive(wait=True) == b"b"
    assert not readable(websocket)
    assert websocket.receive(wait=False) == b""
    websocket.message(b"last", True)
    websocket.closed(1000, "")
    assert websocket.receive(wait=False) == b"last"
    assert readable(websocket)
    for wait in (True, False):
        with pytest.raises(OSError, match="unable to receive"):
            websocket.receive(wait)
    with pytest.raises(OSError, match="unable to send"):
        websocket.send(b"x", binary=False)


def test_a_client_that_sends_too_much_is_not_read(pair: tuple[ThreadWebSocket, Sink]) -> None:
    """
    The client is paused while 64 KiB wait for the thread.
    """
    websocket, sink = pair
    websocket.message(b"x" * MAX_RECEIVED, True)
    websocket.message(b"y", True)
    assert sink.calls == ["pause"]
    websocket.receive(wait=True)

    assert sink.calls == ["pause", "resume"]


def test_messages_wait_for_a_slow_client(pair: tuple[ThreadWebSocket, Sink]) -> None:
    """
    While the client is behind, messages wait for it; those that wait are sent before the close.
    """
    websocket, sink = pair
    sink.behind = True
    websocket.send(b"a", binary=False)
    websocket.send(b"b", binary=True)
    assert sink.calls == [(b"a", False)]
    sink.drained()
    assert sink.calls == [(b"a", False), (b"b", True)]
    websocket.send(b"c", binary=True)
    websocket.close(1000)

    assert sink.calls[2:] == [(b"c", True), 1000]
    assert issubclass(ClientGone, OSError)
