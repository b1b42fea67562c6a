#!/usr/bin/env python3
"""
Load test: many subscribers of a server, from one process. It measures how long it takes to connect
them and to deliver messages, and checks that each receives every message once and in order.

    python extras/loadclient.py -n 1000 -c 200 -u http://127.0.0.1:8888/ --publish 5
    python extras/loadclient.py -n 10000 -c 1000 --publish 2 --seconds 30 --svg latency.svg

Use it on your own servers only: on others it is an attack. It needs nothing but rt_twisted
installed. docs/loadclient.md describes it.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from rt_twisted.tools.clients.interfaces import ClientRequest
from rt_twisted.tools.clients.registry import CLIENT_TYPES, ClientType, parse_transport
from rt_twisted.tools.errors import SetupError
from rt_twisted.tools.load.charts import svg_histogram, text_histogram
from rt_twisted.tools.load.limits import raise_limit
from rt_twisted.tools.load.publisher import Publisher
from rt_twisted.tools.load.report import report
from rt_twisted.tools.load.sent import SentLog
from rt_twisted.tools.load.subscriber import ClientState
from rt_twisted.tools.load.subscribers import LoadSubscribers
from rt_twisted.tools.load.target import Target

CHANNELS = "general,base,extras,cats,dogs"  # cyclone-sse's
SPARE_FILES = 64  # descriptors for everything but subscribers
POLL_INTERVAL = 0.05  # seconds between two checks of a condition
TICK = 0.02  # seconds between two groups of connections
ON_A_TERMINAL, ELSEWHERE = 0.5, 5.0  # seconds between two progress lines


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """
    Parse the command line.

    Raises:
        SystemExit: the options are wrong, or ask for help.
    """
    parser = argparse.ArgumentParser(
        prog="loadclient",
        description="Hold many connections open and measure. For your own servers only.",
        epilog="Exit status: 0 all arrived, 1 something was lost, repeated or out of order, "
        "2 nothing could be measured.",
    )
    add = parser.add_argument
    add("-n", "--num", type=_count, default=350, help="subscribers in all (%(default)s)")
    add(
        "-c",
        "--concurrency",
        type=_count,
        default=50,
        help="new connections a second (%(default)s)",
    )
    add("-u", "--url", default="http://localhost:8888/", help="of the stream (%(default)s)")
    add(
        "--channels",
        default=CHANNELS,
        help="every subscriber has the first and one of the others (%(default)s); "
        "only published to if the URL itself names channels",
    )
    add(
        "--spread",
        choices=("even", "random"),
        default="even",
        help="how the other channels are given to subscribers: in turn, or at random, as by "
        "cyclone-sse (%(default)s)",
    )
    add(
        "--transport",
        type=_transport,
        action="append",
        metavar="NAME[=PATH]",
        help=f"{', '.join(CLIENT_TYPES)} (sse); may be repeated, to use several in turn. "
        "sse is at --url, the others at the daemon's default paths beside it, or at PATH",
    )
    add("--publish", type=_rate, default=0.0, metavar="RATE", help="messages a second (none)")
    add("--publish-url", metavar="URL", help="where to publish ('publish' beside the stream)")
    add("--key", default="", help="the secret for publishing")
    add("--size", type=_count, default=100, help="bytes of a message (%(default)s)")
    add("--seconds", type=_rate, help="duration, counted from when all are connected (10)")
    add(
        "--messages", type=_count, help="end after this many published; without --publish, received"
    )
    add("--grace", type=_rate, default=5.0, help="seconds for the last to arrive (%(default)g)")
    add("--timeout", type=_rate, default=30.0, help="seconds to connect (%(default)g)")
    add(
        "--reconnect",
        action="store_true",
        help="reconnect after a disconnect, from the last position",
    )
    add("--insecure", action="store_true", help="do not check the server's certificate")
    add("--svg", type=Path, metavar="FILE", help="draw the latencies into this file")
    add("--json", action="store_true", help="the summary as JSON")
    options = parser.parse_args(arguments)
    options.names = list(dict.fromkeys(filter(None, options.channels.split(","))))
    options.transport = options.transport or [(CLIENT_TYPES["sse"], "")]
    if not options.names:
        parser.error("--channels names no channel")
    return options


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _transport(text: str) -> tuple[ClientType, str]:
    try:
        return parse_transport(text)
    except SetupError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rate(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError("not negative, and not that large")
    return value


class Run:
    """
    One load test.

    Args:
        options: of the command line.
        reactor: runs it.
        screen: for progress.
    """

    def __init__(self, options: argparse.Namespace, reactor: Any, screen: Any) -> None:
        self.options = options
        verify = not options.insecure
        target = Target.find(reactor, options.url, options.num, options.timeout, verify)
        self.names = options.names
        given = parse_qs(urlsplit(options.url).query).get("channels")
        if given:
            self.names = list(dict.fromkeys(filter(None, ",".join(given).split(","))))
        self.shared = bool(given)  # every subscriber has all channels
        self.sent_log = SentLog(self.names, options.size)
        self.subscribers = LoadSubscribers(target, self.sent_log, options.reconnect, reactor)
        self.publisher: Publisher | None = None
        if options.publish:
            url = options.publish_url or urljoin(options.url, "publish")
            publish_target = Target.find(reactor, url, 1, options.timeout, verify)
            errors = self.subscribers.errors
            self.publisher = Publisher(publish_target, options.key, self.sent_log, errors, reactor)
        self.phase = "connecting"
        self._reactor = reactor
        self._screen = screen
        self._terminal = screen.isatty()
        self._began = reactor.seconds()
        self._measured = 0.0  # seconds, without connecting
        self._busy = 0.0

    async def go(self) -> None:
        """
        Connect, publish, wait for the last messages, and disconnect.
        """
        reporting = LoopingCall(self._report_progress)
        reporting.clock = self._reactor
        reporting.start(ON_A_TERMINAL if self._terminal else ELSEWHERE, now=False)
        timeouts = LoopingCall(self.subscribers.abort_unanswered)
        timeouts.clock = self._reactor
        timeouts.start(1, now=False)
        try:
            await self._connect()
            # Objects that exist now live until the end, so the collector can skip them.
            gc.collect()
            gc.freeze()
            await self._measure()
        finally:
            for looping in (reporting, timeouts):
                looping.stop()
            self.finish()
        await deferLater(self._reactor, 0)  # Twisted aborts connections in its next turn

    def finish(self) -> None:
        """
        Count lost messages and close all connections. May be called twice.
        """
        if self.phase == "over":
            return
        self.phase = "over"
        self.lost = self.subscribers.lost()
        self.open_at_end = self.subscribers.states[ClientState.OPEN]
        self.subscribers.close()
        if self.publisher is not None:
            self.publisher.close()
        if self._terminal:
            self._screen.write("\r\033[K")

    async def _connect(self) -> None:
        options, subscribers = self.options, self.subscribers
        began = self._reactor.seconds()
        while len(subscribers.connections) < options.num:
            due = int((self._reactor.seconds() - began + TICK) * options.concurrency)
            while len(subscribers.connections) < min(due, options.num):
                self._add()
            await deferLater(self._reactor, TICK)
        # Do not wait for refused subscribers that reconnect later.
        await self._until(
            lambda: not subscribers.states[ClientState.CONNECTING], options.timeout + 2
        )

    def _add(self) -> None:
        options, number = self.options, len(self.subscribers.connections)
        if self.shared:
            numbers = list(range(len(self.names)))
        else:
            numbers = [0]
            others = len(self.names) - 1
            if others:
                random_one = options.spread == "random"
                numbers.append(1 + (random.randrange(others) if random_one else number % others))
        choice, place = options.transport[number % len(options.transport)]
        url = choice.url(options.url, place)
        # The number within the transport, so that each one has all its variants.
        index = number // len(options.transport)
        client_request = ClientRequest(
            url, [self.names[each] for each in numbers], index, options.size
        )
        self.subscribers.add(numbers, partial(choice.make, client_request), choice.name)

    async def _measure(self) -> None:
        options, subscribers, sent_log = self.options, self.subscribers, self.sent_log
        if not subscribers.states[ClientState.OPEN] and not options.reconnect:
            return
        self.phase = "measuring"
        began, processor = self._reactor.seconds(), time.process_time()
        seconds = options.seconds
        if seconds is None:
            seconds = float("inf") if options.messages else 10.0
        limit = options.messages or float("inf")
        if self.publisher is not None:
            written = 0
            while written < limit:
                passed = self._reactor.seconds() - began
                while written < min(limit, passed * options.publish) and passed < seconds:
                    self.publisher.add()
                    written += 1
                self.publisher.push()
                if passed >= seconds:
                    break
                rest = (written + 1) / options.publish - passed
                await deferLater(self._reactor, min(max(rest, 0.001), POLL_INTERVAL))
            # Its own answers keep it going.
            await self._until(lambda: self.publisher is None or self.publisher.idle, options.grace)
        else:
            await self._until(lambda: subscribers.others >= limit or self._all_closed(), seconds)
        self._measured = self._reactor.seconds() - began
        self._busy = (time.process_time() - processor) / max(self._measured, 1e-3)
        if sent_log.accepted:
            self.phase = "waiting for the last"
            await self._until(lambda: not subscribers.lost() or self._all_closed(), options.grace)

    def _all_closed(self) -> bool:
        return not self.options.reconnect and not self.subscribers.states[ClientState.OPEN]

    async def _until(self, condition: Any, seconds: float) -> None:
        end = self._reactor.seconds() + seconds
        while not condition() and self._reactor.seconds() < end:
            await deferLater(self._reactor, POLL_INTERVAL)

    def _report_progress(self) -> None:
        subscribers = self.subscribers
        latency = subscribers.latency
        median = f", p50 {latency.percentile(0.5) * 1e3:.1f} ms" if latency.count else ""
        line = (
            f"{self._reactor.seconds() - self._began:6.1f} s  {self.phase}: "
            f"{subscribers.states[ClientState.OPEN]:,} of {len(subscribers.connections):,} open, "
            f"{self.sent_log.accepted:,} published, {subscribers.delivered:,} delivered, "
            f"{subscribers.errors.total():,} errors{median}"
        )
        if self._terminal:
            columns = shutil.get_terminal_size().columns
            self._screen.write(f"\r{line[: columns - 1]}\033[K")
        else:
            self._screen.write(line + "\n")
        self._screen.flush()

    def summary(self) -> dict[str, Any]:
        """
        Return all results, ready for JSON; times are in milliseconds.
        """
        subscribers, sent_log = self.subscribers, self.sent_log
        return {
            "url": self.options.url,
            "readers": {
                "asked": self.options.num,
                "opened": subscribers.ever_open,
                "open_at_end": self.open_at_end,
                "reconnects": subscribers.reconnects,
            },
            "connect_ms": subscribers.connecting.summary(),
            "seconds": round(self._measured, 3),
            "published": sent_log.accepted,
            "unsure": len(sent_log.unconfirmed),
            "delivered": subscribers.delivered,
            "latency_ms": subscribers.latency.summary(),
            "transports": {
                name: {"delivered": latencies.count, "latency_ms": latencies.summary()}
                for name, latencies in (
                    subscribers.transports.items() if len(subscribers.transports) > 1 else ()
                )
            },
            "channels": {
                name: channel.summary()
                for name, channel in zip(self.names, subscribers.channels, strict=True)
            },
            "lost": self.lost,
            "repeated": subscribers.wrong["repeated"],
            "out_of_order": subscribers.wrong["out of order"],
            "stray": subscribers.wrong["stray"],
            "gaps": subscribers.gaps,
            "other_events": subscribers.others,
            "errors": dict(subscribers.errors.most_common()),
            "client_busy": round(self._busy, 2),
        }

    def status(self) -> int:
        """
        Return the exit status.
        """
        subscribers = self.subscribers
        if not subscribers.ever_open or (self.publisher is not None and not self.sent_log.accepted):
            return 2
        return 1 if self.lost or subscribers.wrong.total() else 0


def main(arguments: Sequence[str]) -> int:
    """
    Run the load test and print the results.

    Returns:
        The exit status.
    """
    options = parse(arguments)
    try:
        raise_limit(options.num + SPARE_FILES)
        if options.svg is not None:
            options.svg.touch()  # fail now, not after an hour
    except (SetupError, OSError) as error:
        print(f"loadclient: {error}", file=sys.stderr)
        return 2
    from twisted.internet import reactor

    loop: Any = reactor
    failures: list[Failure] = []
    try:
        run = Run(options, loop, sys.stderr)
    except SetupError as error:
        print(f"loadclient: {error}", file=sys.stderr)
        return 2
    # Ctrl-C ends the reactor; the results so far are printed as always.
    loop.addSystemEventTrigger("before", "shutdown", run.finish)
    going = ensureDeferred(run.go())
    going.addErrback(lambda reason: failures.append(reason) if loop.running else None)
    going.addBoth(lambda _: loop.stop() if loop.running else None)
    loop.run()
    for failure in failures:
        failure.printTraceback(sys.stderr)
    found = run.summary()
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        columns = shutil.get_terminal_size().columns
        print(report(found) + "\n" + text_histogram(run.subscribers.latency, columns), end="")
    if options.svg is not None:
        opened = found["readers"]["opened"]
        title = f"{found['delivered']:,} deliveries to {opened:,} subscribers"
        wrong = f"{found['lost']:,} lost, {found['repeated']:,} repeated"
        subtitle = f"{found['published']:,} messages in {found['seconds']:.0f} s, {wrong}"
        options.svg.write_text(svg_histogram(run.subscribers.latency, title, subtitle))
    return 2 if failures else run.status()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
