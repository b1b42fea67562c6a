"""
The way into the hub for one more reader.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from rt_twisted.actions.context import ActionContext
from rt_twisted.codecs.addresses import counted
from rt_twisted.http.interfaces import IExchange


def when_admitted(
    context: ActionContext, exchange: IExchange, enter: Callable[[str], object]
) -> object:
    """
    Call *enter*, with the client's address as the limits count it, when it is
    this reader's turn: before this returns, unless others wait.

    Returns:
        what `IAction.act` may return.

    Raises (here, or when it is waited for):
        Refusal: 503 when the daemon is full or stopping, 429 when the address
            has its share.
    """
    address = address_of(exchange, context)
    context.hub.admit(address)
    slot = context.hub.admission.request_slot(lambda: exchange.answered)
    if slot is not None:
        return _wait(slot, context, address, enter)
    enter(address)
    return None


async def _wait(
    slot: Deferred[None], context: ActionContext, address: str, enter: Callable[[str], object]
) -> None:
    await slot
    context.hub.admit(address)
    enter(address)


async def admitted(context: ActionContext, exchange: IExchange) -> str:
    """
    `when_admitted` for who waits anyway.

    Returns:
        the client's address.
    """
    address = address_of(exchange, context)
    context.hub.admit(address)
    slot = context.hub.admission.request_slot(lambda: exchange.answered)
    if slot is not None:
        await slot
        context.hub.admit(address)
    return address


def address_of(exchange: IExchange, context: ActionContext) -> str:
    """
    The client's, as the limits count it: "" where they do not.
    """
    return counted(exchange.address) if context.count_addresses else ""
