"""
The words by which twistd starts this daemon, and what each of them sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Command:
    """
    A command of `twistd` and `twist`.

    Args:
        word: follows `twistd`.
        description: the first sentences of its help.
        defaults: of settings that differ from the table, as a user would write them.
    """

    word: str
    description: str
    defaults: Mapping[str, str] = field(default_factory=dict)


REALTIME = Command(
    "realtime",
    "A realtime push server: publish with POST /publish, subscribe with server-sent events.",
)
# Its port and address are written down, so that another default of ours would not move them.
CYCLONE_SSE = Command(
    "cyclone-sse",
    "rt_twisted in place of cyclone-sse, with its options and defaults. Without a key, only this "
    "machine may publish.",
    {
        "port": "8888",
        "listen": "127.0.0.1",
        "export-path": "cyclone-sse",
        "amqp-exchange-name": "sse-cyclone-server",
        "trim": "1",
    },
)
