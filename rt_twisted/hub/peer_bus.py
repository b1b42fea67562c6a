"""
Requests to the other processes that share a broker, workers and nodes, and their replies.

All processes receive all messages of one channel, which no client can name.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.codecs.json_steps import list_to_json
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft, Message
from rt_twisted.net.slices import run_in_slices

REPLY_SECONDS: Final = 0.6  # for which replies are collected
PART: Final = 200  # items in one message
MAX_WAITING: Final = 100  # requests at once
MAX_NODE: Final = 64  # characters of a process's name

# What a responder raises for arguments that it does not understand.
_BAD_ARGUMENTS = (ValueError, KeyError, HttpError)
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)

Publish = Callable[[Sequence[Draft]], Deferred[Any]]
Responder = Callable[[Mapping[str, str]], Awaitable[Sequence[Any]]]
OnAnnounced = Callable[[str, Mapping[str, Any]], object]

_log = Logger()


def _log_unsent(failure: Failure) -> None:
    _log.debug("other processes were not reached: {reason}", reason=failure.getErrorMessage())


@dataclass(slots=True)
class _PendingRequest:
    """
    A request that is not replied to completely.

    Args:
        missing: how many parts each process has still to send; -1 until its first one.
        open: processes may reply that are not known.
        done: fires with the items of all replies.
        found: the items so far.
    """

    missing: dict[str, int]
    open: bool
    done: Deferred[list[Any]] = field(default_factory=Deferred)
    found: list[Any] = field(default_factory=list)


class PeerBus:
    """
    One process on a channel by which processes send each other announcements and requests.

    It receives nothing by itself: pass the messages of the channel to `receive`; see
    `watch_channel`.

    Args:
        channel: its name; see `internal_channels`.
        publish: publishes to the broker that all processes share.
        clock: the reactor.
        on_announced: called with the name of a process and what it has announced.
        on_unsent: called with the failure to publish; None to log it at `debug`.

    Attributes:
        node: names this process.
    """

    def __init__(
        self,
        channel: str,
        publish: Publish,
        clock: Any,
        on_announced: OnAnnounced | None = None,
        on_unsent: Callable[[Failure], object] = _log_unsent,
    ) -> None:
        self.node = secrets.token_hex(4)
        self._channel = channel
        self._publish_drafts = publish
        self._clock = clock
        self._on_announced = on_announced
        self._on_unsent = on_unsent
        self._responders: dict[str, Responder] = {}
        self._number = 0
        self._pending: dict[int, _PendingRequest] = {}

    def on_request(self, name: str, responder: Responder) -> None:
        """
        Reply to the requests *name* of other processes.

        Args:
            name: of the request.
            responder: returns items for JSON; ValueError, KeyError and HttpError mean that the
                arguments are malformed, and there is no reply.
        """
        self._responders[name] = responder

    def announce(self, values: Mapping[str, Any]) -> None:
        """
        Send *values* to all processes.

        Args:
            values: for JSON; their names are not `node`, `ask` or `to`.
        """
        self._publish(json.dumps({"node": self.node, **values}).encode())

    @property
    def is_full(self) -> bool:
        """
        Return whether as many requests wait for replies as may.
        """
        return len(self._pending) >= MAX_WAITING

    def request(
        self, name: str, arguments: Mapping[str, str], expected: Collection[str] | None = None
    ) -> Deferred[list[Any]]:
        """
        Send a request to all other processes.

        Args:
            name: of the request.
            arguments: for the responder.
            expected: the processes whose replies are awaited; None if they are not known.

        Returns:
            A Deferred of the items of all replies. It fires when all that are *expected* have
            replied, and after REPLY_SECONDS in any case.
        """
        self._number += 1
        number = self._number
        pending = _PendingRequest(dict.fromkeys(expected or (), -1), expected is None)
        self._pending[number] = pending
        sent = {"node": self.node, "id": number, "ask": name, "with": dict(arguments)}
        self._publish(json.dumps(sent).encode())
        timeout = self._clock.callLater(REPLY_SECONDS, self._finish, number)

        def end(found: list[Any]) -> list[Any]:
            if timeout.active():
                timeout.cancel()
            return found

        return pending.done.addCallback(end)

    def receive(self, message: Message) -> None:
        """
        Take a message of the channel; what is malformed is ignored.
        """
        # All processes receive all replies: the event type tells without a parse for whom one is.
        if message.event is not None and message.event != self.node:
            return
        # Not now: a flush is in progress.
        self._clock.callLater(0, self._receive, message.data)

    def _receive(self, data: bytes) -> None:
        try:
            value = json.loads(data)
            node = str(value["node"])
            if node == self.node:
                return
            if not (node.isalnum() and node.isascii() and len(node) <= MAX_NODE):
                raise ValueError("a process has a malformed name")
            if "ask" in value:
                arguments = {str(name): str(text) for name, text in value["with"].items()}
                replied = self._reply(node, int(value["id"]), str(value["ask"]), arguments)
                ensureDeferred(replied).addErrback(
                    partial(_log.failure, "while replying to another process")
                )
            elif "to" not in value:
                if self._on_announced is not None:
                    self._on_announced(node, value)
            elif value["to"] == self.node:
                self._on_reply(node, int(value["id"]), int(value["parts"]), list(value["found"]))
        except _MALFORMED:
            self._log_malformed()

    def _on_reply(self, node: str, number: int, parts: int, found: list[Any]) -> None:
        pending = self._pending.get(number)
        if pending is None:
            return
        left = pending.missing.get(node, -1)
        if not left:
            return  # the broker has delivered it twice
        if parts < 1:
            raise ValueError("a reply has no parts")
        pending.missing[node] = (parts if left < 0 else left) - 1
        pending.found += found
        if not pending.open and not any(pending.missing.values()):
            self._finish(number)

    def _finish(self, number: int) -> None:
        pending = self._pending.pop(number, None)
        if pending is not None:
            pending.done.callback(pending.found)

    async def _reply(self, node: str, number: int, name: str, arguments: Mapping[str, str]) -> None:
        responder = self._responders.get(name)
        try:
            # A process that does not know the request may be awaited all the same.
            found = list(await responder(arguments)) if responder is not None else []
        except _BAD_ARGUMENTS:
            self._log_malformed()
            return
        parts = [found[start : start + PART] for start in range(0, len(found), PART)] or [[]]
        head = json.dumps({"node": self.node, "to": node, "id": number, "parts": len(parts)})
        for part in parts:
            listed = await run_in_slices(self._clock, list_to_json(part))
            self._publish(f'{head[:-1]}, "found": {listed}}}'.encode(), node)

    def _log_malformed(self) -> None:
        _log.debug("a malformed message on {channel!r} is ignored", channel=self._channel)

    def _publish(self, data: bytes, to: str | None = None) -> None:
        published = self._publish_drafts([Draft(self._channel, data, to, transient=True)])
        published.addErrback(self._on_unsent)
