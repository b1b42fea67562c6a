"""
Plain copies: the names under which numbered messages are published for other programs.

A node that receives plain messages of the same names receives these copies too, and must
not number them again. Two rules exclude them, whatever they contain:

- A copy under the name at which nodes receive plain messages of its channel is announced: the
  numbered message has ANNOUNCED in its flags and a checksum of the names' prefix. The
  script publishes both in one step, and a node subscribes to both names in one command. So the
  copy is the next message on the node's connection, and no other program's can be.
- Names that begin with another prefix carry copies only: nodes do not subscribe to them.

No Twisted.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from rt_twisted.model.message import Draft

ANNOUNCED = 8  # the lowest bit of an announcement in a message's flags
NO, SAME = "no", "same"
_AMBIGUOUS = frozenset(("", "0", "1", "yes", "on", "off", "true", "false"))


def encode(name: str) -> bytes:
    """
    Return *name* as redis gets it; lone surrogates are encoded too.
    """
    return name.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class CopyNames:
    """
    Decides under which name each message is copied.

    Args:
        prefix: what all keys and names of the daemon begin with; no copy does.
        plain: whether this node receives plain messages.
        plain_prefix: what the names of plain messages have before the channel's.
        out: `no`, `same` for the names of plain messages, or the prefix of other names.
    """

    prefix: str
    plain: bool
    plain_prefix: str
    out: str

    @property
    def announcement(self) -> int:
        """
        Return what is added to the flags of a message whose copy has the name of plain
        messages: ANNOUNCED, and above it a checksum of *plain_prefix*.
        """
        return ANNOUNCED | crc32(encode(self.plain_prefix)) * 2 * ANNOUNCED

    def check(self, out: str) -> None:
        """
        Check that *out* can be used.

        Raises:
            ValueError: one sentence.
        """
        if out.lower() in _AMBIGUOUS:
            raise ValueError(f"it must be no, same, or a prefix of names, not {out!r}")
        if out in (NO, SAME):
            return
        if out.startswith(self.prefix):
            raise ValueError("names that begin with redis-prefix are the daemon's own")
        if self.plain and self.plain_prefix.startswith(out) and out != self.plain_prefix:
            raise ValueError(
                f"redis-plain-prefix {self.plain_prefix!r} begins with {out!r}: "
                "plain messages could not be distinguished from copies"
            )

    def reserved(self, out: str) -> bytes:
        """
        Return the prefix of names that carry only copies where *out* is used; b"" for none.
        """
        return b"" if out in (NO, SAME, self.plain_prefix) else encode(out)

    def of_draft(self, draft: Draft) -> bytes:
        """
        Return the argument of publish.lua for the copy of *draft*.
        """
        out = self.out if draft.out is None else draft.out
        if out == NO:
            return b""
        if out in (SAME, self.plain_prefix):
            return self._argument(b"s", self.plain_prefix + draft.channel)
        return self._argument(b"o", out + draft.channel)

    def of_plain(self, channel: str) -> bytes:
        """
        Return the argument of number.lua for a plain message: programs that subscribe to
        its own name have received it.
        """
        if self.out in (NO, SAME, self.plain_prefix):
            return b""
        return self._argument(b"o", self.out + channel)

    def _argument(self, kind: bytes, name: str) -> bytes:
        return b"" if name.startswith(self.prefix) else kind + encode(name)
