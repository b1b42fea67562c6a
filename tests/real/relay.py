"""
A broker between processes, as a user might write one: a program that keeps a log in
memory, and the class that daemons reach it by.

    python -m tests.real.relay PORT
    twistd -n realtime --broker tests.real.relay.RelayBroker    # RELAY_PORT says where
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Sequence
from typing import Any

from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from twisted.protocols.basic import NetstringReceiver
from zope.interface import implementer

from rt_twisted.brokers.interfaces import IBroker, IHistory, IReady, IReceiver
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import (
    NOWHERE,
    After,
    Draft,
    Message,
    Newest,
    Position,
    PublishResult,
    Replay,
    Since,
)

Entry = tuple[int, str, str, str | None]  # offset, channel, data as Latin-1, event


class Wire(NetstringReceiver):
    """
    JSON in netstrings.
    """

    MAX_LENGTH = 64 << 20

    def __init__(self, peer: Any) -> None:
        self._peer = peer

    def send(self, **words: Any) -> None:
        self.sendString(json.dumps(words).encode())  # type: ignore[no-untyped-call]  # Twisted's

    def connectionMade(self) -> None:
        self._peer.made(self)

    def stringReceived(self, string: bytes) -> None:
        self._peer.on_message(self, json.loads(string))

    def connectionLost(self, reason: Any = None) -> None:
        self._peer.lost(self)


class Relay:
    """
    Numbers and stores published messages, and sends them to all nodes.
    """

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(4)
        self._log: list[Entry] = []
        self._keys: dict[tuple[str, str], int] = {}
        self._nodes: list[Wire] = []

    def made(self, node: Wire) -> None:
        self._nodes.append(node)
        node.send(hello=self._epoch, head=len(self._log))

    def lost(self, node: Wire) -> None:
        self._nodes.remove(node)

    def on_message(self, node: Wire, message: dict[str, Any]) -> None:
        if "drafts" in message:
            before = len(self._log)
            offsets = [self._append(*draft) for draft in message["drafts"]]
            for each in self._nodes:
                each.send(messages=self._log[before:])
            node.send(answer=message["id"], offsets=offsets)
            return
        channels = set(message["channels"])
        found = [entry for entry in self._log[message["after"] :] if entry[1] in channels]
        newest = message["newest"]
        node.send(answer=message["id"], messages=found[-newest:] if newest else found)

    def _append(self, channel: str, data: str, event: str | None, key: str | None) -> int:
        known = self._keys.get((channel, key)) if key is not None else None
        if known is not None:
            return known
        offset = len(self._log) + 1
        self._log.append((offset, channel, data, event))
        if key is not None:
            self._keys[channel, key] = offset
        return offset


@implementer(IBroker, IHistory, IReady)
class RelayBroker(Service):
    """
    Args:
        reactor: the reactor.
        settings: of the daemon.
    """

    def __init__(self, reactor: Any, settings: Any) -> None:
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{os.environ['RELAY_PORT']}")
        self._client = ClientService(endpoint, Factory.forProtocol(lambda: Wire(self)))
        self._wire: Wire | None = None
        self._position = NOWHERE
        self._waiting: list[tuple[str, Deferred[Position]]] = []
        self._answers: dict[int, Deferred[Any]] = {}
        self._last_id = 0
        self._receiver: IReceiver

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        self._client.startService()

    def stopService(self) -> Any:
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's
        return self._client.stopService()

    def attach(self, receiver: IReceiver) -> None:
        self._receiver = receiver

    def position(self) -> Position:
        return self._position

    def ready(self) -> bool:
        return self._wire is not None

    def subscribe(self, channel: str) -> Deferred[Position]:
        subscribed: Deferred[Position] = Deferred()
        if self._wire is not None:
            subscribed.callback(self._position)
        else:
            self._waiting.append((channel, subscribed))
        return subscribed

    def unsubscribe(self, channel: str) -> None:
        self._waiting = [each for each in self._waiting if each[0] != channel]

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        packed = [[d.channel, d.data.decode("latin-1"), d.event, d.key] for d in drafts]
        answer = self._ask(drafts=packed)
        return answer.addCallback(
            lambda message: PublishResult(
                tuple([Position(self._position.epoch, offset) for offset in message["offsets"]])
            )
        )

    def after(self, channels: Sequence[str], since: Since) -> Deferred[Replay]:
        position = since.position if isinstance(since, After) else NOWHERE
        known = position.epoch == self._position.epoch
        start = position.offset if known else 0
        newest = since.count if isinstance(since, Newest) else 0
        answer = self._ask(channels=list(channels), after=start, newest=newest)
        complete = known or not isinstance(since, After)
        return answer.addCallback(
            lambda message: Replay(
                tuple(map(self._message, message["messages"])), complete, self._position
            )
        )

    def made(self, wire: Wire) -> None:
        """
        Ignore the connection; the relay sends `hello` first.
        """

    def lost(self, wire: Wire) -> None:
        self._wire = None

    def on_message(self, wire: Wire, message: dict[str, Any]) -> None:
        if "hello" in message:
            self._wire = wire
            self._position = Position(message["hello"], message["head"])
            self._receiver.reached(self._position)
            waiting, self._waiting = self._waiting, []
            for _, subscribed in waiting:
                subscribed.callback(self._position)
        elif "answer" in message:
            self._answers.pop(message["answer"]).callback(message)
        else:
            for entry in message["messages"]:
                published = self._message(entry)
                self._position = published.position
                self._receiver.receive(published)

    def _ask(self, **words: Any) -> Deferred[Any]:
        if self._wire is None:
            return fail(Unavailable("the relay is away"))
        self._last_id += 1
        self._wire.send(id=self._last_id, **words)
        answer = self._answers[self._last_id] = Deferred()
        return answer

    def _message(self, entry: Entry) -> Message:
        offset, channel, data, event = entry
        position = Position(self._position.epoch, offset)
        return Message(channel, data.encode("latin-1"), position, event)


def main(port: int) -> None:
    """
    Run the relay.
    """
    from twisted.internet import reactor

    loop: Any = reactor
    relay = Relay()
    loop.listenTCP(port, Factory.forProtocol(lambda: Wire(relay)), interface="127.0.0.1")
    loop.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
