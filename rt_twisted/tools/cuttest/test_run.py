"""
Cut test: cut subscribers while messages are published, and check what they receive.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import LoopingCall, deferLater

from rt_twisted.tools.clients.interfaces import ClientRequest, SessionState
from rt_twisted.tools.clients.registry import ClientType
from rt_twisted.tools.clients.tokens import TokenSource
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

POLL_INTERVAL = 0.05  # seconds between two checks of a condition
TICK = 0.02  # seconds between two portions of what is due
CUT_INTERVAL = 0.1  # seconds between two random decisions whether a publisher is cut
CONNECTS_PER_TICK = 50  # readers that begin to connect in one tick
SHOWN_EVENTS = 3  # last events that are printed of a subscriber that does not reconnect
SPARE_SECONDS = 120  # that tokens live longer than the end of the test can take
ABSENT = frozenset(("status 404", "status 405", "status 501"))


class CutTest:
    """
    One cut test.

    Args:
        options: of the test.
        reactor: runs it.
        log: called with each line for the user.
    """

    def __init__(self, options: CutTestOptions, reactor: Any, log: Callable[[str], object]) -> None:
        self.options = options
        self.phase = "starting"
        self.left_out: dict[str, str] = {}  # transports that are not there, and why
        self.ended = False  # completed
        self.seconds = 0.0
        self._reactor = reactor
        self._log = log
        self._rng = random.Random(options.seed)
        run = f"{random.SystemRandom().getrandbits(48):012x}"
        self.published = Published(options.channels, options.size, run)
        self.errors: Counter[str] = Counter()
        self.subscribers = CheckedSubscribers(
            self.published, options.away, options.every, self._rng, reactor
        )
        # Publishers may bypass the load balancer of the subscribers.
        self._nodes, self._publish_nodes = (
            [Node.find(reactor, url, options.timeout, options.verify) for url in urls]
            for urls in (options.urls, options.publish_urls)
        )
        routes = [node.route(node.url, options.verify) for node in self._publish_nodes]
        self.generators = [
            Generator(
                self._picking(routes), options.key, self.published, channel, self.errors, reactor
            )
            for channel in range(len(options.channels))
        ]
        self.generator_cuts = 0
        self.nemesis = Nemesis(options.commands, options.disturb_every, self._rng, reactor, log)
        self._looping: list[LoopingCall] = []
        self._finished = False
        self._due = 0.0

    def _picking(self, routes: Sequence[NodeRoute]) -> Callable[[], Any]:
        return lambda: self._rng.choice(routes).target

    async def go(self) -> None:
        """
        Run the test.

        Raises:
            SetupError: the test cannot start; the text says why.
        """
        options, subscribers = self.options, self.subscribers
        try:
            routes = await self._find_transports()
            self.phase = "connecting"
            await self._connect(routes)
            began = self._reactor.seconds()
            self.phase = "cutting"
            self._every(TICK, self._publish)
            self._every(1.0, subscribers.check_timeouts)
            self._every(CUT_INTERVAL, self._cut_generators)
            subscribers.begin()
            self.nemesis.start()
            await self._until(
                lambda: any(generator.refused for generator in self.generators), options.seconds
            )
            self.seconds = self._reactor.seconds() - began
            self.phase = "waiting for all to reconnect"
            subscribers.end(SPARE_SECONDS + 2 * options.grace)
            for generator in self.generators:
                generator.drop()
            await self.nemesis.stop()  # a command that takes too long is killed
            await self._finish()
            self.ended = True
        finally:
            self.finish()
        await deferLater(self._reactor, 0)  # Twisted aborts connections in its next turn

    async def _find_transports(self) -> list[tuple[ClientType, list[NodeRoute]]]:
        """
        Return the transports that all nodes have.
        """
        options = self.options
        found: list[tuple[ClientType, list[NodeRoute]]] = []
        for choice, path in options.transports:
            routes = []
            for node in self._nodes:
                route = node.route(choice.url(node.url, path), options.verify)
                why = await self._probe(choice, route)
                if not why:
                    routes.append(route)
                    continue
                if why not in ABSENT or options.chosen:
                    raise SetupError(f"{choice.name} at {route.url}: {why}")
                self.left_out[choice.name] = f"{why} at {route.url}"
            if len(routes) == len(self._nodes):
                found.append((choice, routes))
            else:
                self._log(f"without {choice.name}: {self.left_out[choice.name]}")
        if not found:
            raise SetupError("no transport is available at all URLs")
        return found

    async def _probe(self, choice: ClientType, route: NodeRoute) -> str:
        """
        Return why a transport is not available; "" if it is.
        """
        probe = Probe()
        session = SessionState(tokens=self._tokens("probe"))
        client_request = ClientRequest(route.url, [self.options.channels[0]], session=session)
        subscriber = ClientConnection(
            probe, 0, lambda position: choice.make(client_request, position), None
        )
        subscriber.connect(route.target, self._reactor.seconds())
        await self._until(lambda: bool(probe.why) or subscriber.state is ClientState.OPEN, 10)
        open = subscriber.state is ClientState.OPEN
        subscriber.disconnect("")
        await self._until(lambda: subscriber.transport is None, 1)
        return "" if open else probe.why or "no answer"

    def _tokens(self, subject: str) -> TokenSource | None:
        options = self.options
        if not options.token_key:
            return None
        return TokenSource(options.token_key, options.token_seconds, subject, options.channels)

    async def _connect(self, routes: Sequence[tuple[ClientType, list[NodeRoute]]]) -> None:
        options, subscribers = self.options, self.subscribers
        everything = range(len(options.channels))
        for number in range(options.subscribers):
            choice, there = routes[number % len(routes)]
            few = self._rng.randint(1, len(everything))
            # Each transport has subscribers of all channels, which check the order across channels.
            whole = number // len(routes) % 3 == 0
            mine = everything if whole else sorted(self._rng.sample(everything, few))
            subscribers.add(choice, there, mine, self._tokens(f"subscriber {number}"))
            if number % CONNECTS_PER_TICK == CONNECTS_PER_TICK - 1:
                await deferLater(self._reactor, TICK)
        await self._until(lambda: not subscribers.not_ready(), options.grace)
        if not any(subscriber.context.checker.started for subscriber in subscribers.connections):
            raise SetupError("no reader was admitted")

    def _publish(self) -> None:
        if self.phase != "cutting":
            return
        self._due += self.options.rate * TICK
        while self._due >= 1:
            self._due -= 1
            self._rng.choice(self.generators).add()

    def _cut_generators(self) -> None:
        if self.phase != "cutting":
            return
        for generator in self.generators:
            if (
                generator.transport is None
                or self._rng.random() > CUT_INTERVAL / self.options.every
            ):
                continue
            port = generator.transport.getPeer().port
            node = next(node for node in self._publish_nodes if node.proxy.port == port)
            mode = self._rng.choice(tuple(CutMode))
            left = self._rng.randint(0, 200)
            self.generator_cuts += node.cut(generator.transport, mode, self.options.away, left)

    async def _finish(self) -> None:
        """
        Wait until all have reconnected and received a last message on each channel.

        Repeated messages would arrive before that one.
        """
        subscribers, grace = self.subscribers, self.options.grace
        refused = any(generator.refused for generator in self.generators)
        await self._until(
            lambda: (
                refused
                or (
                    all(generator.idle for generator in self.generators)
                    and not subscribers.not_ready()
                )
            ),
            grace,
        )
        for subscriber in subscribers.not_ready():
            last = "; ".join(tuple(subscriber.context.recent_events)[-SHOWN_EVENTS:])
            self._log(
                f"{subscriber.context.choice.name} subscriber {subscriber.number} "
                f"has not reconnected: {last}"
            )
        self.phase = "waiting for the last message"
        if not refused:
            for generator in self.generators:
                generator.add()
        await self._until(
            lambda: (
                (refused or all(generator.idle for generator in self.generators))
                and not subscribers.is_waiting()
            ),
            grace,
        )

    def finish(self) -> None:
        """
        Check the results and close all connections. May be called twice.
        """
        if self._finished:
            return
        self._finished = True
        self.phase = "over"
        for looping in self._looping:
            looping.stop()
        self.nemesis.kill()
        self.count_expected = sum(
            subscriber.context.checker.count_expected()
            for subscriber in self.subscribers.connections
        )
        if self.ended:
            self.subscribers.checker()
        self.subscribers.close()
        for generator in self.generators:
            generator.close()
        for node in (*self._nodes, *self._publish_nodes):
            node.proxy.close()

    def _every(self, seconds: float, call: Callable[[], object]) -> None:
        looping = LoopingCall(call)
        looping.clock = self._reactor
        looping.start(seconds, now=False)
        self._looping.append(looping)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        end = self._reactor.seconds() + seconds
        while not condition() and self._reactor.seconds() < end:
            await deferLater(self._reactor, POLL_INTERVAL)

    def faults(self) -> int:
        """
        Return the number of faults.
        """
        return sum(
            subscriber.context.checker.faults.total() for subscriber in self.subscribers.connections
        )

    def summary(self) -> dict[str, Any]:
        """
        Return all results, ready for JSON.
        """
        subscribers, published = self.subscribers, self.published
        names = dict.fromkeys(
            subscriber.context.choice.name for subscriber in subscribers.connections
        )
        groups = {
            name: [each for each in subscribers.connections if each.context.choice.name == name]
            for name in names
        }
        accepted = range(len(published.channels))
        return {
            "seed": self.options.seed,
            "urls": list(self.options.urls),
            "ended": self.ended,
            "seconds": round(self.seconds, 1),
            "published": sum(published.accepted(channel) for channel in accepted),
            "requests": sum(generator.tried for generator in self.generators),
            "publisher_cuts": self.generator_cuts,
            "disturbances": self.nemesis.count,
            "disturbances_failed": self.nemesis.failed,
            "left_out": self.left_out,
            "transports": {name: count(connections) for name, connections in groups.items()},
            "all": count(subscribers.connections),
            "still_owed": 0 if self.ended else self.count_expected,
            "others": subscribers.others,
            "errors": dict((subscribers.errors + self.errors).most_common()),
            "incidents": [
                {
                    "at": each.at,
                    "fault": each.fault.value,
                    "transport": each.transport,
                    "reader": each.subscriber,
                    "channel": each.channel,
                    "number": each.number,
                    "position": each.position,
                    "story": list(each.recent_events),
                }
                for each in subscribers.incidents
            ],
        }

    def status(self) -> int:
        """
        Return the exit status: 0 no fault, 1 faults, 2 no result.
        """
        if self.faults():
            return 1
        started = all(
            subscriber.context.checker.started for subscriber in self.subscribers.connections
        )
        published = sum(map(self.published.accepted, range(len(self.options.channels))))
        delivered = sum(
            subscriber.context.checker.delivered for subscriber in self.subscribers.connections
        )
        fine = self.ended and started and published and delivered
        return 0 if fine and not any(generator.refused for generator in self.generators) else 2
