"""
Command line of the doctor: `python -m rt_twisted.doctor URL [KEY]`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import react

from rt_twisted.tools.doctor.checks import ProxyCheck
from rt_twisted.tools.doctor.findings import Verdict, as_dicts, as_text, worst
from rt_twisted.tools.doctor.probe import ProbeTarget

STATUSES = {Verdict.OK: 0, Verdict.WARN: 1, Verdict.FAIL: 2}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """
    Parse the command line.

    Raises:
        SystemExit: the options are wrong, or ask for help.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rt_twisted.doctor",
        description="Check through your public URL whether a proxy breaks event streams, and print "
        "the setting of nginx or haproxy that fixes it. Some test messages are published.",
        epilog="Exit status: 0 no problem, 1 warnings, 2 failures.",
    )
    add = parser.add_argument
    add("url", metavar="URL", help="of the stream, as browsers use it")
    add(
        "key",
        metavar="KEY",
        nargs="?",
        default="",
        help="the secret for publishing; - reads it from the standard input",
    )
    add("--publish", metavar="URL", help="where to publish ('publish' beside the stream)")
    add("--channel", default="", help="the channel of the URL, if its route names the channel")
    add(
        "--patience", type=float, default=65.0, help="seconds to watch a quiet stream (%(default)g)"
    )
    add("--timeout", type=float, default=5.0, help="seconds for each other wait (%(default)g)")
    add("--insecure", action="store_true", help="do not check the server's certificate")
    add("--json", action="store_true", help="the findings as JSON")
    options = parser.parse_args(arguments)
    options.publish = options.publish or urljoin(options.url, "publish")
    for url in (options.url, options.publish):
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if not good:
            parser.error(f"{url!r} is not an http:// or https:// URL")
    if options.key == "-":
        options.key = sys.stdin.readline().strip()
    return options


async def run(reactor: Any, options: argparse.Namespace) -> None:
    """
    Run all checks, print the findings, and exit with the status.
    """
    target, publishing = (
        ProbeTarget(reactor, url, not options.insecure, options.timeout)
        for url in (options.url, options.publish)
    )
    check = ProxyCheck(target, publishing, options.key, options.channel, options.patience)
    found = await check.run_all()
    verdict = worst(found)
    if options.json:
        report = {"url": options.url, "verdict": verdict.value, "checks": as_dicts(found)}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.write(as_text(found))
    raise SystemExit(STATUSES[verdict])


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """
    Run the doctor with `react`.
    """
    return ensureDeferred(run(reactor, parse(arguments)))


if __name__ == "__main__":
    react(main, sys.argv[1:])
