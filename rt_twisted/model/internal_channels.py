"""
Channels by which the processes of the daemon talk to each other; no client can name them.
"""

from __future__ import annotations

REVOKED = "rt revoked"  # which tokens are revoked
ACTS = "rt acts"  # administrative acts, and the answers to them
INTERNAL = frozenset((REVOKED, ACTS))
