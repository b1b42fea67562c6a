"""
Responses that cannot be handed over: the client gets 502, and the log has the reason.
"""

from __future__ import annotations

from twisted.logger import Logger

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.log_once import LogOnce
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError

_log = Logger()


def unusable(exchange: IExchange, reason: str) -> HttpError:
    """
    Return the error for a client whose response cannot be handed over, and log *reason*.
    """
    _log.warn(
        "{method} {path!r}: the application hands the connection over, but {reason}",
        method=exchange.method,
        path=exchange.path,
        reason=reason,
    )
    return HttpError(502, "the response of the application cannot be used")


def log_cut(context: ActionContext) -> None:
    """
    Log once that events of an application are discarded, as its body did not end in time.
    """
    context.shared.get(LogOnce, LogOnce).warn(
        "the application hands a connection over by a text/event-stream whose body does not end: "
        "whole events of its first 64 KiB, and of its first second, are sent, and no others"
    )


def check_name(context: ActionContext, exchange: IExchange, name: str) -> None:
    """
    Check the name of a channel that the application names.

    Raises:
        HttpError: 502, there can be no such channel.
    """
    try:
        context.names.check(name)
    except HttpError as error:
        raise unusable(exchange, error.reason) from None
