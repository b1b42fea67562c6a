"""
The whole: readers are cut while messages are published, and what came is judged.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import LoopingCall, deferLater

from rt_twisted.tools.clients.interfaces import ClientRequest
from rt_twisted.tools.clients.registry import ClientType
from rt_twisted.tools.cuttest.generator import Generator
from rt_twisted.tools.cuttest.nemesis import Nemesis
from rt_twisted.tools.cuttest.node import Node, NodeRoute
from rt_twisted.tools.cuttest.options import CutTestOptions
from rt_twisted.tools.cuttest.probe import Probe
from rt_twisted.tools.cuttest.proxy import CutMode
from rt_twisted.tools.cuttest.published import Published
from rt_twisted.tools.cuttest.subscribers import CheckedSubscribers
from rt_twisted.tools.cuttest.totals import count
from rt_twisted.tools.errors import SetupError
from rt_twisted.tools.load.subscriber import ClientConnection, ClientState

LOOK = 0.05  # seconds between two looks whether something has come true
TICK = 0.02  # seconds between two portions of what is due
CUTS = 0.1  # seconds between two throws of the dice whether a publisher is cut
CROWD = 50  # readers that begin to connect in one tick
TOLD = 3  # last events of a reader that does not come back
ABSENT = frozenset(("status 404", "status 405", "status 501"))


class CutTest:
    """
    One trial.

    Args:
        terms: what it is to be.
        reactor: runs it.
        say: is told what an onlooker wants to know.
    """

    def __init__(self, terms: CutTestOptions, reactor: Any, say: Callable[[str], object]) -> None:
        self.terms = terms
        self.phase = "looking"
        self.left_out: dict[str, str] = {}  # transports that are not there, and why
        self.ended = False  # it went to its end
        self.seconds = 0.0
        self._reactor = reactor
        self._say = say
        self._rng = random.Random(terms.seed)
        run = f"{random.SystemRandom().getrandbits(48):012x}"
        self.published = Published(terms.channels, terms.size, run)
        self.errors: Counter[str] = Counter()
        self.audience = CheckedSubscribers(
            self.published, terms.away, terms.every, self._rng, reactor
        )
        # Messages may go somewhere else: past the balancer that readers come through.
        self._nodes, self._doors = (
            [Node.find(reactor, url, terms.patience, terms.verify) for url in urls]
            for urls in (terms.urls, terms.publish_urls)
        )
        ways = [door.way(door.url, terms.verify) for door in self._doors]
        self.feeds = [
            Generator(self._picking(ways), terms.key, self.published, channel, self.errors, reactor)
            for channel in range(len(terms.channels))
        ]
        self.feed_cuts = 0
        self.disturbance = Nemesis(terms.commands, terms.disturb_every, self._rng, reactor, say)
        self._looping: list[LoopingCall] = []
        self._over = False
        self._due = 0.0

    def _picking(self, ways: Sequence[NodeRoute]) -> Callable[[], Any]:
        return lambda: self._rng.choice(ways).target

    async def go(self) -> None:
        """
        From the first look to the judgment.

        Raises:
            SetupError: there is nothing to judge, and why.
        """
        terms, audience = self.terms, self.audience
        try:
            ways = await self._look()
            self.phase = "connecting"
            await self._connect(ways)
            began = self._reactor.seconds()
            self.phase = "cutting"
            self._every(TICK, self._publish)
            self._every(1.0, audience.sweep)
            self._every(CUTS, self._cut_feeds)
            audience.begin()
            self.disturbance.start()
            await self._until(lambda: any(feed.refused for feed in self.feeds), terms.seconds)
            self.seconds = self._reactor.seconds() - began
            self.phase = "waiting for all to come back"
            audience.end()
            for feed in self.feeds:
                feed.drop()
            await self.disturbance.stop()  # a command that takes too long is killed
            await self._finish()
            self.ended = True
        finally:
            self.finish()
        await deferLater(self._reactor, 0)  # Twisted aborts connections in its next turn

    async def _look(self) -> list[tuple[ClientType, list[NodeRoute]]]:
        """
        Which transports there are.
        """
        terms = self.terms
        found: list[tuple[ClientType, list[NodeRoute]]] = []
        for choice, place in terms.transports:
            ways = []
            for node in self._nodes:
                way = node.way(choice.url(node.url, place), terms.verify)
                why = await self._probe(choice, way)
                if not why:
                    ways.append(way)
                    continue
                if why not in ABSENT or terms.chosen:
                    raise SetupError(f"{choice.name} at {way.url}: {why}")
                self.left_out[choice.name] = f"{why} at {way.url}"
            if len(ways) == len(self._nodes):
                found.append((choice, ways))
            else:
                self._say(f"without {choice.name}: {self.left_out[choice.name]}")
        if not found:
            raise SetupError("none of the transports is there")
        return found

    async def _probe(self, choice: ClientType, way: NodeRoute) -> str:
        """
        Returns:
            why it is of no use; "" if it is.
        """
        probe = Probe()
        asking = ClientRequest(way.url, [self.terms.channels[0]])
        reader = ClientConnection(probe, 0, lambda position: choice.make(asking, position), None)
        reader.call(way.target, self._reactor.seconds())
        await self._until(lambda: bool(probe.why) or reader.state is ClientState.OPEN, 10)
        open = reader.state is ClientState.OPEN
        reader.hang_up("")
        await self._until(lambda: reader.transport is None, 1)
        return "" if open else probe.why or "no answer"

    async def _connect(self, ways: Sequence[tuple[ClientType, list[NodeRoute]]]) -> None:
        terms, audience = self.terms, self.audience
        everything = range(len(terms.channels))
        for number in range(terms.readers):
            choice, there = ways[number % len(ways)]
            few = self._rng.randint(1, len(everything))
            # Every kind has readers of all channels: these see the order over all.
            whole = number // len(ways) % 3 == 0
            mine = everything if whole else sorted(self._rng.sample(everything, few))
            audience.add(choice, there, mine)
            if number % CROWD == CROWD - 1:
                await deferLater(self._reactor, TICK)
        await self._until(lambda: not audience.unsettled(), terms.grace)
        if not any(reader.receipt.judge.begun for reader in audience.readers):
            raise SetupError("no reader was let in")

    def _publish(self) -> None:
        if self.phase != "cutting":
            return
        self._due += self.terms.rate * TICK
        while self._due >= 1:
            self._due -= 1
            self._rng.choice(self.feeds).add()

    def _cut_feeds(self) -> None:
        if self.phase != "cutting":
            return
        for feed in self.feeds:
            if feed.transport is None or self._rng.random() > CUTS / self.terms.every:
                continue
            port = feed.transport.getPeer().port
            door = next(door for door in self._doors if door.proxy.port == port)
            manner = self._rng.choice(tuple(CutMode))
            left = self._rng.randint(0, 200)
            self.feed_cuts += door.cut(feed.transport, manner, self.terms.away, left)

    async def _finish(self) -> None:
        """
        All come back, a last message goes to each channel, and all hear it: who is
        told something again on coming back hears it before that.
        """
        audience, grace = self.audience, self.terms.grace
        refused = any(feed.refused for feed in self.feeds)
        await self._until(
            lambda: refused or (all(feed.idle for feed in self.feeds) and not audience.unsettled()),
            grace,
        )
        for reader in audience.unsettled():
            last = "; ".join(tuple(reader.receipt.story)[-TOLD:])
            self._say(f"{reader.receipt.choice.name} reader {reader.number} is not back: {last}")
        self.phase = "waiting for the last message"
        if not refused:
            for feed in self.feeds:
                feed.add()
        await self._until(
            lambda: (refused or all(feed.idle for feed in self.feeds)) and not audience.waits(),
            grace,
        )

    def finish(self) -> None:
        """
        Judge what came, hang up. May be called twice.
        """
        if self._over:
            return
        self._over = True
        self.phase = "over"
        for looping in self._looping:
            looping.stop()
        self.disturbance.kill()
        self.owing = sum(reader.receipt.judge.owing() for reader in self.audience.readers)
        if self.ended:
            self.audience.judge()
        self.audience.close()
        for feed in self.feeds:
            feed.close()
        for node in (*self._nodes, *self._doors):
            node.proxy.close()

    def _every(self, seconds: float, call: Callable[[], object]) -> None:
        looping = LoopingCall(call)
        looping.clock = self._reactor
        looping.start(seconds, now=False)
        self._looping.append(looping)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        end = self._reactor.seconds() + seconds
        while not condition() and self._reactor.seconds() < end:
            await deferLater(self._reactor, LOOK)

    # What was found.

    def faults(self) -> int:
        """
        Everything that must not have happened.
        """
        return sum(reader.receipt.judge.faults.total() for reader in self.audience.readers)

    def summary(self) -> dict[str, Any]:
        """
        All that was found, ready for JSON.
        """
        audience, published = self.audience, self.published
        names = dict.fromkeys(reader.receipt.choice.name for reader in audience.readers)
        groups = {
            name: [each for each in audience.readers if each.receipt.choice.name == name]
            for name in names
        }
        accepted = range(len(published.channels))
        return {
            "seed": self.terms.seed,
            "urls": list(self.terms.urls),
            "ended": self.ended,
            "seconds": round(self.seconds, 1),
            "published": sum(published.accepted(channel) for channel in accepted),
            "requests": sum(feed.tried for feed in self.feeds),
            "publisher_cuts": self.feed_cuts,
            "disturbances": self.disturbance.count,
            "disturbances_failed": self.disturbance.failed,
            "left_out": self.left_out,
            "transports": {name: count(readers) for name, readers in groups.items()},
            "all": count(audience.readers),
            "still_owed": 0 if self.ended else self.owing,
            "others": audience.others,
            "errors": dict((audience.errors + self.errors).most_common()),
            "incidents": [
                {
                    "at": each.at,
                    "fault": each.fault.value,
                    "transport": each.transport,
                    "reader": each.reader,
                    "channel": each.channel,
                    "number": each.number,
                    "position": each.position,
                    "story": list(each.story),
                }
                for each in audience.incidents
            ],
        }

    def status(self) -> int:
        """
        The exit status: 0 all is well, 1 something is wrong, 2 it cannot be said.
        """
        if self.faults():
            return 1
        begun = all(reader.receipt.judge.begun for reader in self.audience.readers)
        published = sum(map(self.published.accepted, range(len(self.terms.channels))))
        delivered = sum(reader.receipt.judge.delivered for reader in self.audience.readers)
        fine = self.ended and begun and published and delivered
        return 0 if fine and not any(feed.refused for feed in self.feeds) else 2
