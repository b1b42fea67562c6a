"""
Errors of redis, and of the connections to it.
"""

from __future__ import annotations

import re

TEMPORARY_ERRORS = ("LOADING", "MASTERDOWN", "READONLY", "BUSY")
# A permission that is missing, a command that a proxy does not know, a cluster.
PERMANENT_ERRORS = ("NOPERM", "ERR", "CROSSSLOT", "MOVED")
_SCRIPT_PLACE = re.compile(r" script: [0-9a-f]{40}")


class RedisUnavailable(Exception):
    """
    Raised when redis cannot be used now; the text is the reason.
    """


class AuthFailed(Exception):
    """
    Raised when redis denies access; the text is the reason. An operator has to change something.
    """


class ResponseError(Exception):
    """
    The answer of redis to a command that failed; the text is as received.
    """


def reason_of(error: BaseException | None) -> str:
    """
    Return the text of an error of redis, without the place in our script.
    """
    text = str(error)
    if text.startswith("ERR Error running script"):  # redis before 7
        text = text.rpartition(": -")[2]
    return _SCRIPT_PLACE.split(text)[0]
