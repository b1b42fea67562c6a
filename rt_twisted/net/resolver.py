"""
Resolve host names in daemon threads, which do not delay the end of the process.
"""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import Any

# A private module: the reactor's own resolver is of this class.
from twisted.internet._resolver import GAIResolver
from twisted.python.threadpool import ThreadPool

MAX_THREADS = 10


def use_daemon_resolver(reactor: Any) -> None:
    """
    Let *reactor* stop while names are being resolved.

    Twisted waits for its threads when it stops. Where DNS does not answer,
    getaddrinfo(3) may take a minute: longer than a supervisor waits for the daemon.
    """
    pool = ThreadPool(0, MAX_THREADS, "names")
    pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]  # for its subclasses
    pool.start()
    reactor.installNameResolver(GAIResolver(reactor, lambda: pool))
