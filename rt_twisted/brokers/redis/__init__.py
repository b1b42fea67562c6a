"""
Several nodes on one redis: one log, one order, replay on every node.

`broker.RedisBroker` is the whole; importing it imports txredisapi, which
installs the reactor, so do that late.
"""
