"""
Turns of a reactor, one by one.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock


def run_turn(clock: Clock) -> None:
    """
    Run the calls that are due now, as a turn of a reactor does.

    `Clock.advance` runs those too that are added meanwhile; a reactor does so in its next turn.
    """
    for call in cast(list[DelayedCall], clock.getDelayedCalls()):
        if call.active() and call.getTime() <= clock.seconds():
            clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)
