"""
Host names are looked up in threads that nobody waits for.
"""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import Any

# No public module has it; the reactor's own is one.
from twisted.internet._resolver import GAIResolver
from twisted.python.threadpool import ThreadPool

MOST = 10  # at a time


def use_daemon_resolver(reactor: Any) -> None:
    """
    Let *reactor* stop while names are being looked up.

    Twisted ends with the last of its threads, and where DNS does not answer
    getaddrinfo(3) may take a minute: more than a supervisor waits for us.
    """
    pool = ThreadPool(0, MOST, "names")
    pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]  # for its subclasses
    pool.start()
    reactor.installNameResolver(GAIResolver(reactor, lambda: pool))
