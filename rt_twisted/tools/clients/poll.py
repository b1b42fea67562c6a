"""
Long-polling client: one request after another on one connection.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.response import ResponseReader
from rt_twisted.tools.clients.http import bearer, path_for, request, retry_after
from rt_twisted.tools.clients.interfaces import ClientEvent, ClientRequest

MAX_RESPONSE = 64 * 1024 * 1024  # bytes


class PollClient:
    """
    Poll from the last position, by `If-None-Match` or by `since=`, depending on the number.

    Args:
        client_request: the subscription.
        position: where the previous connection ended.
    """

    def __init__(self, client_request: ClientRequest, position: str) -> None:
        self.position = position
        self.retry: float | None = None
        self.opened = bool(position)  # the first response may take until there is a message
        self.close_reason = ""
        self._client_request = client_request
        self._path = path_for(client_request.url, client_request.channels)
        self._use_etag = client_request.number % 2 == 1
        self._response = ResponseReader()
        self._body = bytearray()
        self._next = b""

    def begin(self) -> bytes:
        headers = ["Accept: application/json", *bearer(self._client_request.session.tokens)]
        path = self._path
        if self.position and self._use_etag:
            headers.append(f'If-None-Match: "{self.position}"')
        elif self.position:
            path += f"{'&' if '?' in path else '?'}since={quote(self.position)}"
        return request(self._client_request.url, f"GET {path}", headers)

    def feed(self, data: bytes) -> list[ClientEvent]:
        response = self._response
        self._body += response.feed(data)
        if len(self._body) > MAX_RESPONSE:
            raise RemoteProtocolError(f"a response has more than {MAX_RESPONSE} bytes")
        if response.head is None or not response.complete:
            return []
        status = response.head.status
        events: list[ClientEvent] = []
        if status == 200:
            events = self._read(bytes(self._body))
        elif status != 304:
            self.retry = retry_after(response.head)
            self.close_reason = f"status {status}"
            return []
        self.opened = True
        if self.retry:
            self.close_reason = "sent away"
        elif not response.keep_alive:
            self.close_reason, self.retry = "ended by the server", 0.0
        else:
            self._response = ResponseReader()
            self._body.clear()
            self._next = self.begin()
        return events

    def _read(self, body: bytes) -> list[ClientEvent]:
        try:
            answer: dict[str, Any] = json.loads(body)
            position = str(answer["position"])
            events = [
                ClientEvent(str(message.get("data", "")), str(message["id"]))
                for message in answer["messages"]
            ]
            if answer["gap"]:
                events.insert(0, ClientEvent("", position, True))
            retry = answer.get("retry")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RemoteProtocolError("malformed response to a poll") from None
        self.position = position
        if isinstance(retry, int):
            self.retry = retry / 1e3
        return events

    def data_to_send(self) -> bytes:
        data, self._next = self._next, b""
        return data
