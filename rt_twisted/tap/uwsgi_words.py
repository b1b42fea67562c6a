"""
Words of uWSGI's INI files, and the settings that they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from twisted.internet.endpoints import quoteStringArgument

from rt_twisted.codecs.route_lines import WORDS, LineWord, join_word

SECTION = "[uwsgi]"
# Words that are accepted, and named in the log: what they ask for is always so, or never.
WITHOUT_EFFECT = frozenset(("offload-threads", "plugin"))
BACKLOG = 4096  # connections that the kernel queues; Twisted's 50 lose some when all reconnect

_NAMES: Mapping[str, str] = {"attach-daemon": "helper", "mule": "helper"}
_LINES = WORDS.keys() - {LineWord.ROUTE.value}
_SOCKET = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:/\[\]]*)):(?P<port>[0-9]{1,5})")


def translate(name: str, text: str) -> tuple[str, str]:
    """
    Return the name and the text of the setting that a line `NAME = TEXT` stands for.

    Args:
        name: a word of uWSGI, or any other, which is returned as it is.
        text: its value; "" for unset.

    Raises:
        ValueError: the text cannot be translated; the end of the sentence "NAME must be ...".
    """
    if name in _LINES:
        return "route", join_word(name, text)
    if name == "http-socket":
        return "endpoint", _endpoint(text) if text else ""
    return _NAMES.get(name, name), text


def _endpoint(address: str) -> str:
    """
    Return the endpoint string for the address of a socket, as uWSGI writes it.
    """
    if "/" in address:
        return f"unix:{_quoted(address)}"
    found = _SOCKET.fullmatch(address)
    if found is None or int(found["port"]) > 65535:
        raise ValueError("[ADDRESS]:PORT, or the path of a unix socket")
    host = _quoted(found["six"] or found["host"] or "0.0.0.0")
    return f"tcp:{found['port']}:interface={host}:backlog={BACKLOG}"


def _quoted(text: str) -> str:
    return str(quoteStringArgument(text)).replace("=", r"\=")
