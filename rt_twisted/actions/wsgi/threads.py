"""
Threads that run the code of applications, with bounds.

They are apart from the reactor's own threads: an application that hangs does not take those that
resolve names. They are daemon threads: one that hangs does not keep the process from ending.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

Job = Callable[[], object]

KEEP_SECONDS = 30.0  # after which a thread without a job ends


class ApplicationThreads:
    """
    Runs jobs on at most so many threads; further jobs wait in a queue.

    All methods return at once. A thread is started when a job needs one.

    Args:
        name: of the threads.
        limit: threads at the same time.
        queue: jobs that may wait.
    """

    def __init__(self, name: str, limit: int, queue: int) -> None:
        self._name = name
        self._limit = limit
        self._queue_limit = queue
        self._waiting: deque[Job] = deque()
        self._changed = Condition()
        self._threads = 0
        self._idle = 0

    @property
    def busy(self) -> int:
        """
        Threads that run a job.
        """
        return self._threads - self._idle

    @property
    def queued(self) -> int:
        """
        Jobs that wait for a thread.
        """
        return max(0, len(self._waiting) - self._idle)

    def resize(self, limit: int, queue: int) -> None:
        """
        Change the bounds. Threads above the limit end with their jobs.
        """
        with self._changed:
            self._limit = limit
            self._queue_limit = queue
            while self._threads < limit and len(self._waiting) > self._idle:
                self._start()
            self._changed.notify_all()

    def submit(self, job: Job) -> bool:
        """
        Run *job*, which must not raise, as soon as a thread is free.

        Returns:
            False if the queue is full, and *job* will not be run.
        """
        with self._changed:
            free = self._idle - len(self._waiting)
            if free > 0:
                self._waiting.append(job)
                self._changed.notify()
            elif self._threads < self._limit:
                self._waiting.append(job)
                self._start()
            elif -free < self._queue_limit:
                self._waiting.append(job)
            else:
                return False
            return True

    def withdraw(self, job: Job) -> bool:
        """
        Take *job* out of the queue.

        Returns:
            False if it has begun, or has ended.
        """
        with self._changed:
            try:
                self._waiting.remove(job)
            except ValueError:
                return False
            return True

    def _start(self) -> None:
        self._threads += 1
        self._idle += 1  # until it takes its job
        Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            job()
            del job  # it would be kept until the next one comes
            with self._changed:
                self._idle += 1

    def _next(self) -> Job | None:
        """
        Return the next job, whose thread is busy then; None if the thread has to end.
        """
        with self._changed:
            while not self._waiting or self._threads > self._limit:
                above = self._threads > self._limit
                if above or (not self._changed.wait(KEEP_SECONDS) and not self._waiting):
                    self._threads -= 1
                    self._idle -= 1
                    return None
            self._idle -= 1
            return self._waiting.popleft()
