"""
Channels that no client can name: those by which the processes of the daemon talk to each other,
and those with what is published for responses that are held by GRIP.
"""

from __future__ import annotations

REVOKED = "rt revoked"  # which tokens are revoked
ACTS = "rt acts"  # administrative acts, and the answers to them
CLOSED = "rt grip"  # channels whose held streams end
STREAMS = "rt streams"  # the live streams of each node
LIVE = "rt live"  # which processes have listeners or sources, and what they answer about them
INTERNAL = frozenset((REVOKED, ACTS, CLOSED, STREAMS, LIVE))
_HELD = "grip "  # begins the names of the channels of held responses


def held_channel(kind: str, name: str) -> str:
    """
    Return the channel of what is published for held responses.

    Args:
        kind: of the response, without blanks.
        name: of the channel that the application names.
    """
    return f"{_HELD}{kind} {name}"


def is_unnamable(name: str) -> bool:
    """
    Return whether no client, and no pattern, can name the channel *name*.
    """
    return name in INTERNAL or name.startswith(_HELD)
