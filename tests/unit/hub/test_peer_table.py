"""
What other processes have announced lately.
"""

from __future__ import annotations

from twisted.internet.task import Clock

from rt_twisted.hub.peer_table import MAX_PEERS, PeerTable


def test_the_last_announcement_of_each_process() -> None:
    """
    An announcement replaces the one before it; one process can be forgotten.
    """
    table: PeerTable[str] = PeerTable(Clock().seconds, 6.0)
    table.put("a", "old")
    table.put("b", "other")
    table.put("a", "new")
    assert table.current() == {"a": "new", "b": "other"}

    table.discard("b")
    table.discard("never seen")
    assert table.current() == {"a": "new"}


def test_silent_processes_are_forgotten() -> None:
    """
    A process whose last announcement is too old has ended.
    """
    clock = Clock()
    table: PeerTable[None] = PeerTable(clock.seconds, 6.0)
    table.put("a", None)
    table.put("b", None)
    clock.advance(5.0)
    table.put("b", None)
    assert table.current().keys() == {"a", "b"}

    clock.advance(1.5)
    assert table.current().keys() == {"b"}


def test_the_processes_are_bounded() -> None:
    """
    Announcements under ever other names do not fill the memory; known processes stay.
    """
    clock = Clock()
    table: PeerTable[int] = PeerTable(clock.seconds, 6.0)
    for number in range(2 * MAX_PEERS):
        table.put(str(number), number)
    table.put("0", -1)

    assert len(table.current()) == MAX_PEERS
    assert table.current()["0"] == -1
    clock.advance(7.0)
    table.put("later", 1)
    assert table.current() == {"later": 1}
