"""
One daemon in several worker processes on the same ports.

The parent binds the sockets, starts the workers, replaces those that end, and sums
their metrics. It serves no clients itself.
"""
