"""
Whether a transport is there.
"""

from __future__ import annotations

from rt_twisted.load.reader import Reader, State
from rt_twisted.load.wires.contract import Heard


class Probe:
    """
    Whether a reader is let in (an `Owner`).
    """

    def __init__(self) -> None:
        self.why = ""  # not

    def opened(self, reader: Reader) -> None:
        """
        It is.
        """
        reader.state = State.OPEN

    def heard(self, reader: Reader, heard: Heard) -> None:
        """
        Not asked for.
        """

    def moved(self, reader: Reader) -> None:
        """
        Nor this.
        """

    def ended(self, reader: Reader, why: str) -> None:
        """
        It is not, if it was not before.
        """
        self.why = why
