"""
Brokers by name: they give messages their positions and carry them between nodes.
"""

from __future__ import annotations

# The dotted names of functions that take (reactor, settings) and return an `IBroker`: importing
# the modules of redis and amqp installs the reactor. `settings` is a `GivenSettings`.
BROKERS = {
    "amqp": "rt_twisted.brokers.amqp.factory.build_broker",
    "http": "rt_twisted.brokers.embedded.build_broker",
    "memory": "rt_twisted.brokers.embedded.build_broker",
    "redis": "rt_twisted.brokers.redis.factory.build_broker",
}
EMBEDDED = frozenset(("http", "memory"))  # inside the process: these alone use `history-file`
