"""
`python -m rt_twisted.doctor URL [KEY]`
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
        SystemExit: they are wrong, or ask for help.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rt_twisted.doctor",
        description="Looks through your real URL whether a proxy harms event streams, and says "
        "which line of nginx or haproxy cures it. It publishes some test messages.",
        epilog="Exit status: 0 all is well, 1 something could be better, 2 something is broken.",
    )
    add = parser.add_argument
    add("url", metavar="URL", help="of the stream, as browsers see it")
    add("key", metavar="KEY", nargs="?", default="", help="the secret for publishing; - to read it")
    add("--publish", metavar="URL", help="where to publish ('publish' beside the stream)")
    add("--channel", default="", help="which the URL reads, if it names its channels itself")
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
            parser.error(f"{url!r} is no http:// or https:// URL")
    if options.key == "-":
        options.key = sys.stdin.readline().strip()
    return options


async def run(reactor: Any, options: argparse.Namespace) -> None:
    """
    Look, tell, and end with the exit status.
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
    Run the doctor; the main function for `react`.
    """
    return ensureDeferred(run(reactor, parse(arguments)))


if __name__ == "__main__":
    react(main, sys.argv[1:])
