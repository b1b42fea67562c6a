"""
Client of server-sent events.
"""

from __future__ import annotations

import json

from rt_twisted.codecs.eventsource import EventReader
from rt_twisted.codecs.response import ReceivedHead, ResponseReader
from rt_twisted.model.message import EXPIRE, GAP
from rt_twisted.tools.clients.http import bearer, path_for, request, retry_after
from rt_twisted.tools.clients.interfaces import ClientEvent, ClientRequest

EVENT_STREAM = "text/event-stream"
COOKIE = "realtime_token"  # the default of the setting token-cookie


class SseClient:
    """
    Client that behaves like an EventSource.

    Args:
        client_request: the subscription.
        position: where the previous connection ended.
    """

    def __init__(self, client_request: ClientRequest, position: str) -> None:
        self.position = position
        self.retry: float | None = None
        self.opened = False
        self.close_reason = ""
        self._client_request = client_request
        self._response = ResponseReader()
        self._events = EventReader(position)
        self._finite = False  # a response with a Content-Length, which is not a stream

    def begin(self) -> bytes:
        client_request = self._client_request
        headers = [f"Accept: {EVENT_STREAM}", "Cache-Control: no-cache"]
        if self.position:
            headers.append(f"Last-Event-ID: {self.position}")
        tokens = client_request.session.tokens
        if tokens is not None and client_request.number % 2:
            headers.append(f"Cookie: {COOKIE}={tokens.current()}")
        else:
            headers += bearer(tokens)
        return request(
            client_request.url,
            f"GET {path_for(client_request.url, client_request.channels)}",
            headers,
        )

    def feed(self, data: bytes) -> list[ClientEvent]:
        response, events = self._response, self._events
        body = response.feed(data)
        known = self.opened or self._finite
        if not known and (response.head is None or not self._opens(response.head)):
            return []
        received: list[ClientEvent] = []
        for event in events.feed(body) if body else ():
            if event.type == EXPIRE:
                self._on_expire()
            elif event.type == GAP:
                received.append(ClientEvent("", gap_end(event.data), True))
            else:
                received.append(ClientEvent(event.data, event.id))
        self.position = events.last_id
        if events.retry is not None:
            self.retry = events.retry / 1e3
        if response.complete:
            self.close_reason = "sent away" if self._finite else "ended by the server"
        return received

    def _on_expire(self) -> None:
        """
        Renew the token for the next connection, as a page renews its cookie.
        """
        tokens = self._client_request.session.tokens
        if tokens is not None:
            tokens.renew()

    def _opens(self, head: ReceivedHead) -> bool:
        media = (head.header("content-type") or "").partition(";")[0].strip()
        if head.status != 200 or media != EVENT_STREAM:
            self.retry = retry_after(head)
            self.close_reason = f"status {head.status}"
            if head.status == 200:
                self.close_reason = f"not an event stream but {media!r}"
            return False
        # A response with a length is a refusal: its `retry` is the time to the reconnect.
        self._finite = head.header("content-length") is not None
        self.opened = not self._finite
        return True

    def data_to_send(self) -> bytes:
        return b""


def gap_end(data: str) -> str:
    """
    Return the position in the data of a gap event; "" without one.
    """
    try:
        gap = json.loads(data)
    except ValueError:
        return ""
    position = gap.get("position") if isinstance(gap, dict) else None
    return position if isinstance(position, str) else ""
