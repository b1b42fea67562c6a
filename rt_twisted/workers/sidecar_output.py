"""
What sidecars print, in the daemon's log: bounded in the length of lines and in their rate.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

MAX_LINE = 1000  # bytes of a line; the rest is left out
MAX_LINES = 100  # in a second; further ones are counted
MAX_BYTES = 1 << 18  # in a second; a sidecar that prints more has to wait

_log = Logger()


class SidecarOutput:
    """
    Logs the lines of one process.

    Args:
        name: of the sidecar.
        clock: the reactor.
    """

    def __init__(self, name: str, clock: IReactorTime) -> None:
        self._name = name
        self._clock = clock
        self._rest: dict[int, bytes] = {}  # by descriptor: the line so far
        self._second = 0.0  # when the current second began
        self._lines = 0  # logged in it
        self._dropped = 0  # not logged in it
        self._bytes = 0  # received in it

    def feed(self, descriptor: int, data: bytes) -> float:
        """
        Log the lines that *data* completes.

        Args:
            descriptor: to which the process wrote.
            data: any bytes.

        Returns:
            Seconds for which nothing more should be read from the process; 0 for none.
        """
        now = self._clock.seconds()
        if now - self._second >= 1:
            self._log_dropped()
            self._second, self._lines, self._bytes = now, 0, 0
        *lines, rest = (self._rest.get(descriptor, b"") + data).split(b"\n")
        # One byte more than is logged shows that the line was longer.
        self._rest[descriptor] = rest[: MAX_LINE + 1]
        for line in lines:
            self._log_line(line)
        self._bytes += len(data)
        return max(0.0, self._second + 1 - now) if self._bytes > MAX_BYTES else 0.0

    def end(self) -> None:
        """
        Log incomplete lines, as the process has ended.
        """
        rest, self._rest = self._rest, {}
        for line in rest.values():
            self._log_line(line)
        self._log_dropped()

    def _log_line(self, line: bytes) -> None:
        line = line.rstrip()
        if not line:
            return
        if self._lines >= MAX_LINES:
            self._dropped += 1
            return
        self._lines += 1
        text = line[:MAX_LINE].decode(errors="replace")
        more = "..." if len(line) > MAX_LINE else ""
        _log.info("helper {helper}: {line}{more}", helper=self._name, line=text, more=more)

    def _log_dropped(self) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            _log.warn(
                "helper {helper} printed too fast: {lines} lines are left out of the log",
                helper=self._name,
                lines=dropped,
            )
