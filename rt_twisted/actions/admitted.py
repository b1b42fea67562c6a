"""
The way into the hub for one more reader.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from rt_twisted.addresses import counted
from rt_twisted.house import House
from rt_twisted.interfaces import IExchange


def when_admitted(house: House, exchange: IExchange, enter: Callable[[str], object]) -> object:
    """
    Call *enter*, with the client's address as the limits count it, when it is
    this reader's turn: before this returns, unless others wait.

    Returns:
        what `IAction.act` may return.

    Raises (here, or when it is waited for):
        Refusal: 503 when the daemon is full or stopping, 429 when the address
            has its share.
    """
    address = address_of(exchange, house)
    house.hub.admit(address)
    turn = house.hub.admission.turn(exchange)
    if turn is not None:
        return _wait(turn, house, address, enter)
    enter(address)
    return None


async def _wait(
    turn: Deferred[None], house: House, address: str, enter: Callable[[str], object]
) -> None:
    await turn
    house.hub.admit(address)
    enter(address)


async def admitted(house: House, exchange: IExchange) -> str:
    """
    `when_admitted` for who waits anyway.

    Returns:
        the client's address.
    """
    address = address_of(exchange, house)
    house.hub.admit(address)
    turn = house.hub.admission.turn(exchange)
    if turn is not None:
        await turn
        house.hub.admit(address)
    return address


def address_of(exchange: IExchange, house: House) -> str:
    """
    The client's, as the limits count it: "" where they do not.
    """
    return counted(exchange.address) if house.count_addresses else ""
