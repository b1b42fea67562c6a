"""
What the broker of a hub can do beside publishing and delivering.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed

from rt_twisted.brokers.interfaces import (
    IBroker,
    ICopying,
    IForgetting,
    IHistory,
    ILimited,
    IPatterns,
    IReady,
    IReconfigurable,
    IRefusing,
)
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.model.errors import HttpError
from rt_twisted.model.retention import Retention


class BrokerCapabilities:
    """
    Calls the interfaces that a broker may provide, and stands in for those that it does not.

    Args:
        broker: provides some of them.
    """

    def __init__(self, broker: IBroker) -> None:
        self._broker = broker
        self._ready: IReady | None = IReady(broker, None)
        self._refusing: IRefusing | None = IRefusing(broker, None)
        self._copying: ICopying | None = ICopying(broker, None)
        self._forgetting: IForgetting | None = IForgetting(broker, None)
        self._limited: ILimited | None = ILimited(broker, None)
        self._reconfigurable: IReconfigurable | None = IReconfigurable(broker, None)

    def is_ready(self) -> bool:
        """
        Return whether the broker can be reached.
        """
        return self._ready is None or bool(self._ready.ready())

    def is_refusing(self) -> bool:
        """
        Return whether the broker is full.
        """
        return self._refusing is not None and bool(self._refusing.refuses())

    def check_channel(self, name: Selector) -> None:
        """
        Check that the broker can carry the channel or pattern *name*.

        Raises:
            HttpError: 400; see `ILimited.check_channel` and `IPatterns.check_pattern`.
        """
        if not isinstance(name, str):
            if not IPatterns.providedBy(self._broker):
                raise HttpError(400, "the broker carries no patterns")
            self._broker.check_pattern(name)
        elif self._limited is not None:
            self._limited.check_channel(name)

    def check_copies(self, out: str) -> None:
        """
        Check that the broker can publish copies under the names of *out*.

        Raises:
            ValueError: see `ICopying.check_copies`; or the broker publishes no copies.
        """
        if self._copying is None:
            raise ValueError("only redis has copies: set broker = redis, or add server=")
        self._copying.check_copies(out)

    def reserve_copies(self, out: str) -> None:
        """
        See `ICopying.reserve_copies`. Call `check_copies` first.
        """
        assert self._copying is not None
        self._copying.reserve_copies(out)

    @property
    def reports_deletion(self) -> bool:
        """
        Return whether the broker reports a gap on all nodes when it deletes messages.
        """
        return self._forgetting is not None

    def forget(self, channel: str) -> Deferred[None]:
        """
        Delete what the broker stores of *channel*.

        Raises (in the Deferred):
            Unavailable: see `IForgetting.forget`.
            HttpError: 409, the broker stores messages that cannot be deleted.
        """
        if self._forgetting is not None:
            return self._forgetting.forget(channel)
        if IHistory.providedBy(self._broker):
            return fail(HttpError(409, "the broker cannot delete messages; they expire by age"))
        return succeed(None)

    def reconfigure(self, retention: Retention) -> None:
        """
        Use another *retention*, if the broker retains messages itself.
        """
        if self._reconfigurable is not None:
            self._reconfigurable.reconfigure(retention)
