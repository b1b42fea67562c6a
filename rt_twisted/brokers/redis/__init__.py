"""
Several nodes on one redis: one log, one order, replay on every node.

Building a `broker.RedisBroker` imports txredisapi, which installs the reactor: do it late.
"""
