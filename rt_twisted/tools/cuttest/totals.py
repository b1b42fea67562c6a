"""
Totals over several subscribers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rt_twisted.tools.clients.interfaces import SessionState
from rt_twisted.tools.cuttest.checker import Fault
from rt_twisted.tools.load.subscriber import ClientConnection


def _tokens(session: SessionState) -> int:
    return session.tokens.made if session.tokens is not None else 0


def count(connections: Sequence[ClientConnection]) -> dict[str, Any]:
    """
    Return the sums by name, ready for JSON.
    """
    judges = [subscriber.context.checker for subscriber in connections]
    faults: Counter[Fault] = Counter()
    for checker in judges:
        faults.update(checker.faults)
    delivered = sum(checker.delivered for checker in judges)
    reported = sum(checker.reported_lost for checker in judges)
    owed = delivered + reported + faults[Fault.LOST]
    return {
        "readers": len(connections),
        "cuts": sum(subscriber.context.cuts for subscriber in connections),
        "recovered": sum(subscriber.context.session.recovered for subscriber in connections),
        "tokens": sum(_tokens(subscriber.context.session) for subscriber in connections),
        "owed": owed,
        "delivered": delivered,
        "percent": 100 * delivered / owed if owed else 0.0,
        "lost": faults[Fault.LOST],
        "repeated": faults[Fault.REPEATED],
        "out_of_order": faults[Fault.DISORDERED],
        "stray": faults[Fault.STRAY],
        "misplaced": faults[Fault.MISPLACED],
        "gaps": sum(checker.gaps for checker in judges),
        "lost_in_gaps": reported,
        "twice_over_gaps": sum(checker.republished for checker in judges),
    }
