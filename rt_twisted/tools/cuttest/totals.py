"""
What several readers have got, in one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rt_twisted.tools.cuttest.checker import Fault
from rt_twisted.tools.load.subscriber import ClientConnection


def count(readers: Sequence[ClientConnection]) -> dict[str, Any]:
    """
    Sums by name, ready for JSON.
    """
    judges = [reader.receipt.judge for reader in readers]
    faults: Counter[Fault] = Counter()
    for judge in judges:
        faults.update(judge.faults)
    delivered = sum(judge.delivered for judge in judges)
    said = sum(judge.said for judge in judges)
    owed = delivered + said + faults[Fault.LOST]
    return {
        "readers": len(readers),
        "cuts": sum(reader.receipt.cuts for reader in readers),
        "recovered": sum(reader.receipt.memory.recovered for reader in readers),
        "owed": owed,
        "delivered": delivered,
        "percent": 100 * delivered / owed if owed else 0.0,
        "lost": faults[Fault.LOST],
        "repeated": faults[Fault.REPEATED],
        "out_of_order": faults[Fault.DISORDERED],
        "stray": faults[Fault.STRAY],
        "misplaced": faults[Fault.MISPLACED],
        "gaps": sum(judge.gaps for judge in judges),
        "lost_in_gaps": said,
        "twice_over_gaps": sum(judge.twice for judge in judges),
    }
