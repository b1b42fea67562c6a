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

    def say(self, **words: Any) -> None:
        self.sendString(json.dumps(words).encode())  # type: ignore[no-untyped-call]  # Twisted's

    def connectionMade(self) -> None:
        self._peer.made(self)

    def stringReceived(self, string: bytes) -> None:
        self._peer.hears(self, json.loads(string))

    def connectionLost(self, reason: Any = None) -> None:
        self._peer.lost(self)


class Relay:
    """
    Numbers what is published, remembers it and tells everybody.
    """

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(4)
        self._log: list[Entry] = []
        self._keys: dict[tuple[str, str], int] = {}
        self._nodes: list[Wire] = []

    def made(self, node: Wire) -> None:
        self._nodes.append(node)
        node.say(hello=self._epoch, head=len(self._log))

    def lost(self, node: Wire) -> None:
        self._nodes.remove(node)

    def hears(self, node: Wire, said: dict[str, Any]) -> None:
        if "drafts" in said:
            before = len(self._log)
            offsets = [self._append(*draft) for draft in said["drafts"]]
            for each in self._nodes:
                each.say(messages=self._log[before:])
            node.say(answer=said["id"], offsets=offsets)
            return
        wanted = set(said["channels"])
        found = [entry for entry in self._log[said["after"] :] if entry[1] in wanted]
        newest = said["newest"]
        node.say(answer=said["id"], messages=found[-newest:] if newest else found)

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
        self._asked = 0
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
        heard: Deferred[Position] = Deferred()
        if self._wire is not None:
            heard.callback(self._position)
        else:
            self._waiting.append((channel, heard))
        return heard

    def unsubscribe(self, channel: str) -> None:
        self._waiting = [each for each in self._waiting if each[0] != channel]

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        packed = [[d.channel, d.data.decode("latin-1"), d.event, d.key] for d in drafts]
        answer = self._ask(drafts=packed)
        return answer.addCallback(
            lambda said: PublishResult(
                tuple([Position(self._position.epoch, offset) for offset in said["offsets"]])
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
            lambda said: Replay(
                tuple(map(self._message, said["messages"])), complete, self._position
            )
        )

    def made(self, wire: Wire) -> None:
        """
        See `Wire`; what matters comes with hello.
        """

    def lost(self, wire: Wire) -> None:
        self._wire = None

    def hears(self, wire: Wire, said: dict[str, Any]) -> None:
        if "hello" in said:
            self._wire = wire
            self._position = Position(said["hello"], said["head"])
            self._receiver.reached(self._position)
            waiting, self._waiting = self._waiting, []
            for _, heard in waiting:
                heard.callback(self._position)
        elif "answer" in said:
            self._answers.pop(said["answer"]).callback(said)
        else:
            for entry in said["messages"]:
                message = self._message(entry)
                self._position = message.position
                self._receiver.receive(message)

    def _ask(self, **words: Any) -> Deferred[Any]:
        if self._wire is None:
            return fail(Unavailable("the relay is away"))
        self._asked += 1
        self._wire.say(id=self._asked, **words)
        answer = self._answers[self._asked] = Deferred()
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
