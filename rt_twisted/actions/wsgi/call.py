"""
One request to a WSGI application (PEP 3333), between the reactor and a thread.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from threading import get_ident
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.actions.wsgi.handed import ApplicationResponse
from rt_twisted.actions.wsgi.head import ApplicationHead, read_head
from rt_twisted.actions.wsgi.output import MAX_WAITING, ClientGone, ThreadOutput
from rt_twisted.actions.wsgi.threads import ApplicationThreads
from rt_twisted.actions.wsgi.waiting import call_reactor
from rt_twisted.actions.wsgi.websocket import ThreadWebSocket
from rt_twisted.codecs.websocket import CloseCode
from rt_twisted.formats import build_format
from rt_twisted.http.interfaces import IExchange, IResponseStream
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import NOWHERE

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_log = Logger()


@dataclass(frozen=True, slots=True)
class _WholeBody:
    """
    A body that is sent with its head.
    """

    data: bytes


class ApplicationCall:
    """
    Calls an application in a thread, and sends its response.

    Args:
        context: limits and metrics.
        application: is called.
        exchange: the request.
        match: of its route.
        environ: of the request.
        current: has the attribute `call` in the thread that runs a call.
        endpoint: opens websockets for the application.

    Attributes:
        variables: that the application has set by `uwsgi.add_var`; written by its thread.
        websocket: that the application has opened; None without one.
    """

    def __init__(
        self,
        context: ActionContext,
        application: Application,
        exchange: IExchange,
        match: Match,
        environ: dict[str, Any],
        current: Any,
        endpoint: WebSocketEndpoint,
    ) -> None:
        self.exchange = exchange
        self.variables: dict[str, str] = {}
        self.websocket: ThreadWebSocket | None = None
        self._match = match
        self._endpoint = endpoint
        self._handed: ApplicationResponse | None = None  # to what takes the connection over
        self.environ = environ
        self._body = environ["wsgi.input"]  # middleware may replace it
        self._context = context
        self._reactor = context.reactor
        self._metrics = context.metrics
        self._application = application
        self._current = current
        self._threads: ApplicationThreads | None = None
        self._timer: IDelayedCall | None = None
        self._began = 0.0
        self._thread = 0
        self._position = NOWHERE  # of the log, when the application is called
        self._head: ApplicationHead | None = None
        self._head_used = False  # a piece of the body was put behind it
        self._stream: IResponseStream | None = None
        self._output = ThreadOutput(
            self._reactor, self._write, self._on_stalled, context.wsgi.send_seconds
        )

    # Called by the reactor.

    def start(self, threads: ApplicationThreads) -> None:
        """
        Have a thread call the application.

        Raises:
            HttpError: 503, as many requests as may wait do so already.
        """
        self._metrics.wsgi_requests += 1
        self._threads = threads
        self._began = self._reactor.seconds()
        self.exchange.watch(self._on_lost)
        if not threads.submit(self.run):
            self._metrics.wsgi_refused += 1
            self._body.close()
            raise _busy(self._context)
        if not self.exchange.answered:
            self._timer = self._reactor.callLater(self._context.wsgi.timeout, self._on_timeout)

    def _withdraw(self) -> bool:
        if self._threads is None or not self._threads.withdraw(self.run):
            return False
        self._body.close()
        return True

    def _on_lost(self) -> None:
        self._withdraw()
        self._end()

    def _on_timeout(self) -> None:
        self._timer = None
        self._metrics.wsgi_timeouts += 1
        if self._withdraw():
            refusal = _busy(self._context)
        else:
            refusal = HttpError(504, "the application has not answered in time")
            _log.warn(
                "{method} {path!r}: the application has not answered after {seconds} seconds "
                "(wsgi-timeout); its thread is at {place}",
                method=self.exchange.method,
                path=self.exchange.path,
                seconds=self._context.wsgi.timeout,
                place=_place_of(self._thread),
            )
        self._end()
        self.exchange.refuse(refusal)

    def _on_stalled(self) -> None:
        if self._stream is not None:
            self._stream.abort()
        self._end()

    def _write(self, piece: bytes | _WholeBody | None) -> None:
        """
        Send a piece of the body, or all of it, or end the response.
        """
        if self._output.closed:
            return
        whole = piece.data if isinstance(piece, _WholeBody) else None
        if self._stream is None and self._handed is None:
            self._begin(whole)
        if isinstance(piece, _WholeBody):
            piece = piece.data
        stream = self._stream
        if self._handed is not None:
            self._handed.add(piece)
        elif stream is None:
            return
        elif piece is not None:
            stream.write(piece)
        else:
            stream.finish()
            self._end()

    def _begin(self, whole: bytes | None) -> None:
        """
        Begin the response, unless it hands its connection over.

        Args:
            whole: the body, with which the response ends; None if it follows.
        """
        exchange, head, handover = self.exchange, self._head, self._context.handover
        if exchange.answered:
            self._output.close()
            return
        self._stop_timer()
        if handover is not None:
            handed = ApplicationResponse(
                exchange,
                self._match,
                head,
                self.variables,
                self._position,
                self._reactor,
                self._output,
                self._end,
            )
            self._handed = handed
            if handover.offer(handed) is not False:
                if not handed.was_read:  # the thread must not wait for a reader
                    handed.read(0, 0.0)
                return
            self._handed = None
        if head is None:
            _log.error(
                "{method} {path!r}: the application has called uwsgi.add_var and not "
                "start_response, and no line of routes takes the connection over",
                method=exchange.method,
                path=exchange.path,
            )
            self._metrics.wsgi_failed += 1
            exchange.refuse(HttpError(500, "internal error"))
            self._end()
            return
        encoded = head.encode(handover.hidden if handover is not None else ())
        if whole is not None:
            exchange.respond(encoded, head.length, whole)
            self._end()
            return
        self._stream = exchange.stream(encoded, head.length)
        self._stream.register_producer(self._output)

    def _open(self, subprotocol: str) -> ThreadWebSocket:
        exchange, context = self.exchange, self._context
        if exchange.answered:
            raise ClientGone("the client has disconnected")
        self._end()
        try:
            offered = (subprotocol,) if subprotocol else ()
            handshake = self._endpoint.check(exchange, offered)
        except HttpError as error:
            exchange.refuse(error)
            reason = f"unable to complete websocket handshake: {error.reason}"
            raise ClientGone(reason) from None
        limits = context.backlog_limits_for(SlowConsumerPolicy.DISCONNECT)
        websocket = ThreadWebSocket(self._reactor, 2 * limits.seconds)
        format = build_format("websocket-raw", deflate=handshake.deflate)
        self._endpoint.open(exchange, handshake, websocket, format, backlog_limits=limits)
        return websocket

    def _fail(self, failure: Failure) -> None:
        """
        Answer 500, or break the response off.
        """
        self._metrics.wsgi_failed += 1
        _log.failure(
            "{method} {path!r}: the application has failed",
            failure,
            method=self.exchange.method,
            path=self.exchange.path,
        )
        if self._stream is not None:
            self._stream.abort()
        elif self._handed is not None:
            self._handed.stop()
        elif not self.exchange.answered:
            self.exchange.refuse(HttpError(500, "internal error"))
        self._end()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _end(self) -> None:
        self._stop_timer()
        self._output.close()
        if self._began:
            self._metrics.wsgi_seconds += self._reactor.seconds() - self._began
            self._began = 0.0

    # Called in the thread.

    def run(self) -> None:
        """
        Call the application, and send what it returns.
        """
        self._thread = get_ident()
        self._current.call = self
        try:
            self._run()
            self._close_websocket(CloseCode.NORMAL)
        except ClientGone:
            self._close_websocket(CloseCode.NORMAL)  # the reactor has ended the call
        except BaseException:  # also SystemExit: it must not end the thread
            self._reactor.callFromThread(self._fail, Failure())
            self._close_websocket(CloseCode.INTERNAL_ERROR)
        finally:
            self._current.call = None
            self._thread = 0
            self._body.close()

    def _run(self) -> None:
        if self._output.closed:
            return
        if self._context.handover is not None:
            self._position = self._context.handover.position()
        result = self._application(self.environ, self.start_response)
        try:
            if self.websocket is not None:
                return
            if isinstance(result, (list, tuple)) and not self._head_used:
                self._send_whole(b"".join(result))
            else:
                for piece in result:
                    if piece:
                        self.write(piece)
                    elif self._output.closed:
                        return
            self._require_head()
            self._output.put(None, 0)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def open_websocket(self, subprotocol: str) -> None:
        """
        Respond to the client's opening handshake.

        Args:
            subprotocol: that the application speaks; "" for the first that the client offers.

        Raises:
            ClientGone: the client has asked for none, or for one that is refused. It was
                answered.
            OSError: there is a websocket, or another response, already.
        """
        if self.websocket is not None or self._head_used:
            raise OSError("unable to complete websocket handshake: the response has begun")
        self.websocket = call_reactor(self._reactor, partial(self._open, subprotocol))

    def _close_websocket(self, code: int) -> None:
        websocket = self.websocket
        if websocket is not None:
            self._reactor.callFromThread(websocket.close, code)
            websocket.release()

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        """
        Set the head of the response, which is sent with the first bytes of the body.

        Returns:
            a function that sends bytes of the body.

        Raises:
            TypeError, ValueError: see `read_head`.
            RuntimeError: it is called a second time, without an error.
        """
        try:
            if exc_info and self._head_used:
                raise exc_info[1].with_traceback(exc_info[2])
            if self._head is not None and not exc_info:
                raise RuntimeError("start_response is called a second time")
        finally:
            exc_info = None  # else it would be in a reference cycle with this frame
        self._head = read_head(status, headers)
        return self.write

    def write(self, data: bytes) -> None:
        """
        Send bytes of the body; wait while the client does not receive those before.

        Raises:
            ClientGone: the client has disconnected.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"the body must be bytes, not {type(data).__name__}")
        self._require_head()
        for at in range(0, len(data), MAX_WAITING):
            piece = data[at : at + MAX_WAITING]
            self._output.put(piece, len(piece))

    def _send_whole(self, body: bytes) -> None:
        """
        Send a body that is complete, so that its length is known.
        """
        self._require_head()
        head, is_head = self._head, self.exchange.method == "HEAD"
        if head is not None and head.length is None and not is_head:
            self._head = head = replace(head, length=len(body))
        fits = head is not None and (is_head or head.length == len(body))
        if fits and len(body) <= MAX_WAITING:
            self._output.put(_WholeBody(body), len(body))
        else:
            self.write(body)

    def _require_head(self) -> None:
        if self._head is None and not self.variables:
            raise RuntimeError("the application has not called start_response")
        self._head_used = True


def _busy(context: ActionContext) -> HttpError:
    retry = context.hub.admission.spread_retry(1)
    return HttpError(503, "all threads of the application are busy", retry=retry)


def _place_of(thread: int) -> str:
    """
    Return where *thread* is, as file and line; "?" if it has ended.
    """
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "?"
    (last,) = traceback.extract_stack(frame, limit=1)
    return f"{last.filename}:{last.lineno} in {last.name}"
