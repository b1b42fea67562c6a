"""
The memory of processes that share pages.
"""

from __future__ import annotations

from rt_twisted.metrics.memory import (
    MEASURED,
    WorkerMemory,
    proportional_memory,
    resident_memory,
)


def test_the_kernel_reports_both() -> None:
    """
    Shared pages count in part: there is less proportional than resident memory.
    """
    assert 1 << 20 < proportional_memory() <= resident_memory()


def test_what_others_share_is_subtracted() -> None:
    """
    In a large process it is not measured again, as that takes long, and the last value is used.
    """
    sizes = iter([50 << 20, MEASURED + 1, MEASURED + 9])
    calls = [30 << 20]
    memory = WorkerMemory(lambda: next(sizes), calls.pop)

    assert memory.measure() == 30 << 20
    assert memory.measure() == MEASURED + 1 - (20 << 20)
    assert memory.measure() == MEASURED + 9 - (20 << 20)


def test_without_a_report_of_the_kernel_memory_is_resident() -> None:
    """
    Before Linux 4.14, and in some containers, all of it counts.
    """
    assert WorkerMemory(lambda: 5000, lambda: 0).measure() == 5000
