"""
The way into the hub for one more reader.
"""

from __future__ import annotations

from rt_twisted.house import House
from rt_twisted.interfaces import IExchange


async def admitted(house: House, exchange: IExchange) -> str:
    """
    Wait until it is this reader's turn.

    Returns:
        the client's address, as the limits count it.

    Raises:
        Refusal: 503 when the daemon is full or stopping, 429 when the address
            has its share.
    """
    address = exchange.address if house.count_addresses else ""
    house.hub.admit(address)
    turn = house.hub.admission.turn(exchange)
    if turn is not None:
        await turn
        house.hub.admit(address)
    return address
