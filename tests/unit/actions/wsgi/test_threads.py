"""
Tests of the threads that run applications.
"""

from __future__ import annotations

from threading import Event, current_thread

from rt_twisted.actions.wsgi.threads import ApplicationThreads


class Jobs:
    """
    Jobs that run until they are released.
    """

    def __init__(self) -> None:
        self.begun = [Event() for _ in range(5)]
        self.release = Event()
        self.ended = [Event() for _ in range(5)]
        self.daemon: list[bool] = []

    def job(self, number: int) -> Job:
        return Job(self, number)


class Job:
    """
    One of them.
    """

    def __init__(self, jobs: Jobs, number: int) -> None:
        self.jobs = jobs
        self.number = number

    def __call__(self) -> None:
        jobs = self.jobs
        jobs.daemon.append(current_thread().daemon)
        jobs.begun[self.number].set()
        assert jobs.release.wait(20)
        jobs.ended[self.number].set()


def test_threads_and_their_queue_are_bounded() -> None:
    """
    As many jobs run as there are threads, some wait, and others are refused.
    """
    jobs = Jobs()
    threads = ApplicationThreads("test", 2, 1)
    accepted = [threads.submit(jobs.job(number)) for number in range(4)]
    assert jobs.begun[0].wait(20) and jobs.begun[1].wait(20)

    assert accepted == [True, True, True, False]
    assert (threads.busy, threads.queued) == (2, 1)
    assert not jobs.begun[2].is_set()
    jobs.release.set()
    assert jobs.ended[2].wait(20)
    assert jobs.daemon == [True] * 3  # a hung one does not keep the process


def test_a_job_leaves_the_queue() -> None:
    """
    A job that waits can be withdrawn, one that has begun cannot.
    """
    jobs = Jobs()
    threads = ApplicationThreads("test", 1, 2)
    first, second = jobs.job(0), jobs.job(1)
    threads.submit(first)
    threads.submit(second)
    assert jobs.begun[0].wait(20)

    assert not threads.withdraw(first)
    assert threads.withdraw(second)
    assert not threads.withdraw(second)
    assert threads.submit(jobs.job(2))
    jobs.release.set()
    assert jobs.ended[2].wait(20)
    assert not jobs.begun[1].is_set()


def test_the_number_of_threads_changes() -> None:
    """
    More threads take what waits at once; fewer end with their jobs, and what waits is still run.
    """
    jobs = Jobs()
    threads = ApplicationThreads("test", 1, 4)
    for number in range(4):
        threads.submit(jobs.job(number))
    threads.resize(3, 4)
    assert all(jobs.begun[number].wait(20) for number in range(3))
    threads.resize(1, 0)
    assert not threads.submit(jobs.job(4))
    jobs.release.set()

    assert jobs.ended[3].wait(20)
