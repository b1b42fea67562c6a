"""
WebSocket client; each frame is a JSON object (docs/websocket.md).
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, urljoin

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.model.message import EXPIRE
from rt_twisted.tools.clients.http import path_for
from rt_twisted.tools.clients.interfaces import ClientEvent, ClientRequest
from rt_twisted.tools.clients.tokens import TokenRenewal
from rt_twisted.tools.clients.websocket_connection import WebSocketConnection

_RETRY = re.compile(r"retry=([0-9]{1,9})")


class WebSocketClient:
    """
    Subscribe by the URL or by a command, depending on the number; half of both offer compression.

    Args:
        client_request: the subscription.
        position: where the previous connection ended.
    """

    def __init__(self, client_request: ClientRequest, position: str) -> None:
        self.position = position
        self.retry: float | None = None
        self.opened = False
        self.close_reason = ""
        self._channels = list(client_request.channels)
        self._use_command = bool(self._channels) and client_request.number % 2 == 1
        self._requested = False
        # Until the subscription is confirmed, positions do not refer to its channels.
        self._ignoring_positions = self._use_command and bool(position)
        path = path_for(client_request.url, () if self._use_command else client_request.channels)
        if position and not self._use_command:
            path += f"{'&' if '?' in path else '?'}since={quote(position)}"
        tokens = client_request.session.tokens
        self._renewal = TokenRenewal(tokens, client_request.number)
        self._frames = WebSocketConnection(
            urljoin(client_request.url, path), client_request.number // 2 % 2 == 1, tokens=tokens
        )

    def begin(self) -> bytes:
        return self._frames.begin()

    def feed(self, data: bytes) -> list[ClientEvent]:
        frames = self._frames
        received = []
        for text in frames.feed(data):
            event = self._read(text)
            if event is not None:
                received.append(event)
        if frames.open and self._use_command and not self._requested:
            self._requested = True
            wanted: dict[str, Any] = {"type": "subscribe", "id": 1, "channels": self._channels}
            if self.position:
                wanted["since"] = self.position
            frames.send_text(json.dumps(wanted))
        token = self._renewal.token_to_send() if frames.open else ""
        if token:
            frames.send_text(json.dumps({"type": "token", "token": token}))
        self.close_reason = self.close_reason or frames.close_reason
        retry = _RETRY.search(frames.reason)
        if retry:
            self.retry = int(retry[1]) / 1e3
        return received

    def _read(self, text: str | bytes) -> ClientEvent | None:
        try:
            command: dict[str, Any] = json.loads(text)
            kind, position = command["type"], command.get("position", "")
            if kind == "error":
                self.close_reason = f"error {command['status']:d}"
                return None
        except (ValueError, KeyError, TypeError):
            raise RemoteProtocolError("malformed frame") from None
        if kind == EXPIRE:
            self._renewal.on_notice(command.get("seconds", 0))
        if kind == "ack":
            self._ignoring_positions = False
        if kind not in ("message", "position", "gap") or self._ignoring_positions:
            return None
        self.opened = True
        if kind == "gap":
            return ClientEvent("", position, True)
        self.position = position
        return ClientEvent(str(command.get("data", "")), position) if kind == "message" else None

    def data_to_send(self) -> bytes:
        return self._frames.data_to_send()
