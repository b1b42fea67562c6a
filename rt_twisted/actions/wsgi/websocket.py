"""
One websocket between the reactor and the thread of an application.

The thread receives and sends by calls that wait. Pings, fragments, limits and the closing
handshake are those of all websockets of the daemon.
"""

from __future__ import annotations

import os
from collections import deque
from threading import Condition
from typing import Any

from zope.interface import implementer

from rt_twisted.actions.interfaces import IWebSocketApp
from rt_twisted.actions.wsgi.output import ClientGone, ThreadOutput
from rt_twisted.codecs.websocket import CloseCode

MAX_RECEIVED = 65536  # bytes of messages that wait for the thread, then the client is not read
OVERHEAD = 100  # bytes that a message takes beside its payload


class WebSocketGone(ClientGone):
    """
    The websocket is closed: nothing more can be received or sent.
    """


@implementer(IWebSocketApp)
class ThreadWebSocket:
    """
    Passes messages between a websocket and one thread.

    Args:
        reactor: the reactor.
        seconds: how long the thread waits for a client that receives nothing.
    """

    def __init__(self, reactor: Any, seconds: float) -> None:
        self._reactor = reactor
        self._changed = Condition()
        self._messages: deque[bytes] = deque()
        self._size = 0
        self._paused = False  # the client is not read
        self._closed = False
        self._descriptor = -1
        self._websocket: Any = None
        self._output = ThreadOutput(reactor, self._write, self._on_stalled, seconds)

    # Called in the reactor's thread.

    def opened(self, websocket: Any) -> None:
        self._websocket = websocket
        websocket.watch_backlog(self._output.resumeProducing)

    def message(self, data: bytes, binary: bool) -> None:
        with self._changed:
            if not self._messages:
                self._signal()
            self._messages.append(data)
            self._size += len(data) + OVERHEAD
            self._changed.notify()
            pause = self._size >= MAX_RECEIVED and not self._paused
            self._paused = self._paused or pause
        if pause:
            self._websocket.pause_reading()

    def closed(self, code: int, reason: str) -> None:
        with self._changed:
            self._closed = True
            self._signal()
            self._changed.notify_all()
        self._websocket = None
        self._output.close()

    def close(self, code: int, reason: str = "") -> None:
        """
        Close the websocket, behind what was sent; do nothing if it is closed.
        """
        self._output.flush(all_of_it=True)
        if self._websocket is not None:
            self._websocket.close(code, reason)

    def _write(self, message: tuple[bytes, bool]) -> None:
        websocket = self._websocket
        if websocket is not None:
            websocket.send(*message)
            if websocket.subscriber.behind:
                self._output.pauseProducing()

    def _on_stalled(self) -> None:
        if self._websocket is not None:
            self._websocket.close(CloseCode.POLICY, "too slow")

    def _resume(self) -> None:
        if self._websocket is not None:
            self._websocket.resume_reading()

    # Called in the application's thread.

    def receive(self, wait: bool) -> bytes:
        """
        Return the next message of the client.

        Args:
            wait: for a message; else b"" is returned if there is none.

        Raises:
            WebSocketGone: the websocket is closed, and all its messages were returned.
        """
        with self._changed:
            while not self._messages:
                if self._closed:
                    raise WebSocketGone("unable to receive websocket message: it is closed")
                if not wait:
                    return b""
                self._changed.wait()
            data = self._messages.popleft()
            self._size -= len(data) + OVERHEAD
            if not self._messages and not self._closed:
                self._clear_signal()
            resume = self._paused and self._size < MAX_RECEIVED // 2
            self._paused = self._paused and not resume
        if resume:
            self._reactor.callFromThread(self._resume)
        return data

    def send(self, data: bytes, binary: bool) -> None:
        """
        Send a message; wait while the client does not receive those before.

        Args:
            data: valid UTF-8 unless *binary*.
            binary: send a binary message.

        Raises:
            WebSocketGone: the websocket is closed.
        """
        try:
            self._output.put((data, binary), len(data) + OVERHEAD)
        except ClientGone:
            raise WebSocketGone("unable to send websocket message: it is closed") from None

    def fileno(self) -> int:
        """
        Return a descriptor that is readable while a message waits, or the websocket is closed.

        The application must not read from the descriptor, which stays open until it returns.
        """
        with self._changed:
            if self._descriptor < 0:
                self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                if self._messages or self._closed:
                    self._signal()
            return self._descriptor

    def release(self) -> None:
        """
        Close the descriptor: the application has returned.
        """
        with self._changed:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    def _signal(self) -> None:
        if self._descriptor >= 0:
            os.eventfd_write(self._descriptor, 1)

    def _clear_signal(self) -> None:
        if self._descriptor >= 0:
            os.eventfd_read(self._descriptor)
