#!/usr/bin/env python3
"""
Check that every subscriber receives every message, even if connections break.

Subscribers of every transport receive numbered messages. All connections go through
proxies of this program, which cut them repeatedly: by RST, by FIN, within a
message, by stalling. The subscribers reconnect and resume from their position.
Meanwhile commands of yours can restart servers.

    python extras/cuttest.py -u http://127.0.0.1:8080/
    python extras/cuttest.py -u http://10.0.0.1:8080/ -u http://10.0.0.2:8080/ \\
        --seconds 600 --disturb 'systemctl restart redis' --disturb 'systemctl restart realtime'

Run it on a machine that reaches your servers. It uses channels of its own. It needs
rt_twisted to be installed. docs/cuttest.md describes it.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from rt_twisted.access.secrets import secret
from rt_twisted.tools.clients.registry import CLIENT_TYPES, ClientType, parse_transport
from rt_twisted.tools.cuttest.options import CutTestOptions
from rt_twisted.tools.cuttest.test_run import CutTest
from rt_twisted.tools.errors import SetupError
from rt_twisted.tools.load.limits import raise_limit
from rt_twisted.tools.load.subscriber import ClientState

ON_A_TERMINAL, ELSEWHERE = 0.5, 5.0  # seconds between two progress lines
FILES_PER_SUBSCRIBER = 3  # descriptors: its own, and two of the proxy
SPARE_FILES = 128
SHOWN_INCIDENTS = 5  # incidents that are printed in full


def parse(arguments: Sequence[str]) -> tuple[CutTestOptions, bool]:
    """
    Parse the command line.

    Returns:
        The options of the test, and whether to print the result as JSON.

    Raises:
        SystemExit: the options are wrong, or ask for help.
    """
    parser = argparse.ArgumentParser(
        prog="cuttest",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(__doc__ or "").strip(),
        epilog="Exit status: 0 everything arrived once and in order, or a gap reported it; "
        "1 something was lost,\nrepeated or reordered; 2 no result: nothing was "
        "published or received, or the test was interrupted.",
    )
    add = parser.add_argument
    add(
        "-u",
        "--url",
        action="append",
        metavar="URL",
        help="of the event streams (http://127.0.0.1:8888/); once for each node of one broker",
    )
    add(
        "--transport",
        type=_transport,
        action="append",
        metavar="NAME[=PATH]",
        help=f"only this one, at PATH instead of the daemon's default; may be repeated. "
        f"{', '.join(_resuming())} (all that the server has)",
    )
    add(
        "-n",
        "--num",
        type=_count,
        default=40,
        help="subscribers, of each transport in turn (%(default)s)",
    )
    add("--channels", default="cut-a,cut-b,cut-c", help="to publish to (%(default)s)")
    add(
        "--publish-url",
        action="append",
        metavar="URL",
        help="where to publish ('publish' beside --url)",
    )
    add("--key", default="", help="the secret for publishing")
    add(
        "--token-key",
        type=_secret,
        default="",
        metavar="SECRET",
        help="the server's token-key: subscribers connect with tokens and renew them. "
        "file:PATH, env:NAME",
    )
    add("--token-seconds", type=_number, default=20.0, help="that a token lives (%(default)g)")
    add("--rate", type=_number, default=50.0, help="messages a second (%(default)g)")
    add("--size", type=_count, default=100, help="bytes of a message (%(default)s)")
    add("--seconds", type=_number, default=60.0, help="how long to cut (%(default)g)")
    add("--away", type=_number, default=2.0, help="seconds a cut lasts (%(default)g)")
    add(
        "--every",
        type=_number,
        default=5.0,
        help="seconds after which a connection is cut, on average (%(default)g)",
    )
    add(
        "--disturb",
        action="append",
        default=[],
        metavar="COMMAND",
        help="run this in a shell at random moments; may be repeated: one of them each time",
    )
    add(
        "--disturb-every",
        type=_number,
        default=15.0,
        metavar="SECONDS",
        help="on average (%(default)g)",
    )
    add(
        "--grace",
        type=_number,
        default=30.0,
        help="seconds at the end for all to reconnect, and for the last messages to "
        "arrive (%(default)g)",
    )
    add("--timeout", type=_number, default=10.0, help="seconds to connect (%(default)g)")
    add("--insecure", action="store_true", help="do not check the servers' certificates")
    add("--seed", type=int, help="of all random choices, as printed by an earlier run")
    add("--json", action="store_true", help="the result as JSON")
    options = parser.parse_args(arguments)
    channels = list(dict.fromkeys(name for name in options.channels.split(",") if name))
    if not channels:
        parser.error("--channels names no channel")
    if min(options.rate, options.every) <= 0:
        parser.error("--rate and --every must be more than 0")
    urls = options.url or ["http://127.0.0.1:8888/"]
    publish_urls = options.publish_url or [urljoin(url, "publish") for url in urls]
    if len(publish_urls) != len(urls):
        parser.error("as many --publish-url as --url, or none")
    transports = options.transport or [(CLIENT_TYPES[name], "") for name in _resuming()]
    test_options = CutTestOptions(
        urls=urls,
        publish_urls=publish_urls,
        transports=transports,
        chosen=bool(options.transport),
        subscribers=options.num,
        channels=channels,
        rate=options.rate,
        size=options.size,
        seconds=options.seconds,
        grace=options.grace,
        away=options.away,
        every=options.every,
        commands=options.disturb,
        disturb_every=options.disturb_every,
        key=options.key,
        token_key=options.token_key,
        token_seconds=options.token_seconds,
        timeout=options.timeout,
        verify=not options.insecure,
        seed=random.SystemRandom().getrandbits(32) if options.seed is None else options.seed,
    )
    return test_options, options.json


def _resuming() -> list[str]:
    return [name for name, choice in CLIENT_TYPES.items() if choice.resumes]


def _transport(text: str) -> tuple[ClientType, str]:
    try:
        choice, path = parse_transport(text)
    except SetupError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not choice.resumes:
        raise argparse.ArgumentTypeError(f"subscribers of {choice.name} cannot resume")
    return choice, path


def _secret(text: str) -> str:
    try:
        return secret(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be {error}") from None


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError("from 1 to 1,000,000")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e7:
        raise argparse.ArgumentTypeError("not negative, and not that large")
    return value


def progress(test_run: CutTest, seconds: float) -> str:
    """
    Format the progress in one line.
    """
    connections = test_run.subscribers.connections
    open = sum(subscriber.state is ClientState.OPEN for subscriber in connections)
    cuts = sum(subscriber.context.cuts for subscriber in connections)
    delivered = sum(subscriber.context.checker.delivered for subscriber in connections)
    accepted = sum(map(test_run.published.accepted, range(len(test_run.options.channels))))
    return (
        f"{seconds:6.1f} s  {test_run.phase}: {open:,} of {len(connections):,} open, "
        f"{cuts:,} cuts, {accepted:,} published, {delivered:,} delivered, "
        f"{test_run.faults():,} faults"
    )


COLUMNS = {
    "readers": "readers",
    "cuts": "cuts",
    "owed": "expected",
    "delivered": "delivered",
    "percent": "%",
    "lost": "lost",
    "repeated": "repeated",
    "out_of_order": "disordered",
    "gaps": "gaps",
    "lost_in_gaps": "lost in gaps",
}


def percentage(value: float) -> str:
    """
    Format with three decimals; 100 only if it is exact.
    """
    return f"{min(value, 99.999 if value < 100 else 100):.3f}"


def report(found: dict[str, Any]) -> str:
    """
    Format the result as text.
    """
    rows = [["", *COLUMNS.values()]]
    for name, counts in [*found["transports"].items(), ("all", found["all"])]:
        cells = [
            percentage(counts[each]) if each == "percent" else f"{counts[each]:,}"
            for each in COLUMNS
        ]
        rows.append([name, *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
    lines.append(
        f"\npublished {found['published']:,} messages by {found['requests']:,} requests in "
        f"{found['seconds']:.1f} s; publishers were cut {found['publisher_cuts']:,} times"
    )
    if found["disturbances"]:
        lines.append(
            f"disturbed {found['disturbances']:,} times, {found['disturbances_failed']:,} failed"
        )
    whole = found["all"]
    if whole["recovered"]:
        lines.append(f"servers restored sessions of Socket.IO {whole['recovered']:,} times")
    if whole["tokens"]:
        lines.append(f"subscribers got {whole['tokens']:,} tokens")
    for name, words in (
        ("misplaced", "messages at another position than in their publisher's answer"),
        ("stray", "messages of a channel that was not subscribed"),
        ("twice_over_gaps", "messages again as a log began anew, after a gap that reported it"),
    ):
        if whole[name]:
            lines.append(f"{whole[name]:,} {words}")
    if found["still_owed"]:
        lines.append(
            f"{found['still_owed']:,} deliveries had not arrived when the test was interrupted"
        )
    lines += [f"without {name}: {why}" for name, why in found["left_out"].items()]
    lines += [f"{count:,} x {kind}" for kind, count in found["errors"].items()]
    for each in found["incidents"][:SHOWN_INCIDENTS]:
        lines.append(
            f"\n{each['fault']}: {each['channel']} {each['number']} at {each['position']}, "
            f"{each['transport']} reader {each['reader']}, after {each['at']:.3f} s"
        )
        lines += [f"    {line}" for line in each["story"]]
    lines.append(f"seed {found['seed']}")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """
    Run the cut test and print the result.

    Returns:
        The exit status.
    """
    options, as_json = parse(arguments)
    from twisted.internet import reactor

    loop: Any = reactor
    screen = sys.stderr
    terminal = screen.isatty()

    def log(text: str) -> None:
        print(f"\r\033[K{text}" if terminal else text, file=screen, flush=True)

    try:
        raise_limit(options.subscribers * FILES_PER_SUBSCRIBER + SPARE_FILES)
        test_run = CutTest(options, loop, log)
    except SetupError as error:
        print(f"cuttest: {error}", file=screen)
        return 2
    log(f"seed {options.seed}")
    failures: list[Failure] = []
    began = loop.seconds()

    def report_progress() -> None:
        line = progress(test_run, loop.seconds() - began)
        if terminal:
            columns = shutil.get_terminal_size().columns
            screen.write(f"\r{line[: columns - 1]}\033[K")
        else:
            screen.write(line + "\n")
        screen.flush()

    reporting = LoopingCall(report_progress)
    reporting.clock = loop
    reporting.start(ON_A_TERMINAL if terminal else ELSEWHERE, now=False)
    # Ctrl-C ends the reactor; the results so far are printed as always.
    loop.addSystemEventTrigger("before", "shutdown", test_run.finish)
    going = ensureDeferred(test_run.go())
    going.addErrback(lambda reason: failures.append(reason) if loop.running else None)
    going.addBoth(lambda _: loop.stop() if loop.running else None)
    loop.run()
    if terminal:
        screen.write("\r\033[K")
    for failure in failures:
        if failure.check(SetupError):
            print(f"cuttest: {failure.getErrorMessage()}", file=screen)
        else:
            failure.printTraceback(screen)
        return 2
    found = test_run.summary()
    print(
        json.dumps(found, indent=2) if as_json else report(found), end="" if not as_json else "\n"
    )
    refused = next(
        (generator.refused for generator in test_run.generators if generator.refused), ""
    )
    if refused:
        print(f"cuttest: publishing was refused: {refused}", file=screen)
    return test_run.status()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
