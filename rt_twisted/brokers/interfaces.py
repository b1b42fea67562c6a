"""
Interfaces of brokers, and the one that the hub provides to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zope.interface import Interface

from rt_twisted.model.message import Draft, Message, Position, PublishResult, Replay, Since
from rt_twisted.model.retention import Retention

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class IReceiver(Interface):
    """
    What a broker tells, on the reactor's thread; the hub provides it.
    """

    def receive(message: Message) -> None:
        """
        *message* is the next of the log: in order of position, each once.

        A new epoch says that the log before is gone: every reader is told of a gap.
        """

    def reached(position: Position) -> None:
        """
        Every message up to *position*, of the channels that are heard, has been
        received: readers' cursors may move there. Never goes back; a new epoch
        says what it says in `receive`.
        """

    def missed(channel: str, position: Position) -> None:
        """
        Messages of *channel* may be lost, all of them up to *position*, which
        lies behind what was received before, and before what is received next:
        its readers are told of a gap.
        """


class IBroker(Interface):
    """
    Gives messages their position and carries them between nodes.

    A broker may also provide `twisted.application.service.IService`: it is then
    started and stopped with the daemon.

    Delivery: what was published while the broker was reachable is received on
    every node that hears its channel, once and in order of position. What came
    while it was out of reach is received late, or it is said that it is
    `missed`, or the epoch changes.
    """

    def attach(receiver: IReceiver) -> None:
        """
        Name the one who is told. Called once, before anything else.
        """

    def position() -> Position:
        """
        Where the log stands, as it was last told; known without waiting once
        started. Before a log is known it is NOWHERE.
        """

    def subscribe(channel: str) -> Deferred[Position]:
        """
        Wish for *channel*: kept, and said again on every new connection.

        Saying it twice is saying it once.

        Returns:
            fires when the channel is heard, with a position that is not after
            `position()`: everything after it is received. May have fired
            already; waits while the broker is away; does not fail, and never
            fires if the wish is taken back before.
        """

    def unsubscribe(channel: str) -> None:
        """
        Take the wish back. A message may still come afterwards.
        """

    def publish(drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        """
        Append *drafts* to the log, in order.

        Returns:
            the positions, in the order of *drafts*; the old one for a draft whose
            idempotency key is known. `durable` is False if the broker could not
            store the messages although it promises to. May have fired already; may
            fire before the messages are received here, or after.

        Raises (in the Deferred):
            Unavailable: nothing or only a part was taken; a publisher that
                sends again with idempotency keys doubles nothing.
            Refusal: 400 or 413, one of them can never be published, however often
                it is sent. All are checked before any is sent.
        """


class IReady(Interface):
    """
    Can be away: provided by a broker beside `IBroker`. One that does not
    provide it is always there.
    """

    def ready() -> bool:
        """
        Whether messages can be published and received now. Known without
        waiting: every look at `/readyz` asks.
        """


class IRefusing(Interface):
    """
    Can refuse what is published, on every node alike, while readers hear and
    replay all there is: its memory or its disk is full. Provided by a broker
    beside `IReady`. It stays ready: no other node could do better.
    """

    def refuses() -> bool:
        """
        Whether it takes no messages now although it is there. Known without
        waiting.
        """


class ILimited(Interface):
    """
    Bounds channel names: provided by a broker beside `IBroker` if there are names
    that it can never carry, whatever `channel-pattern` allows.
    """

    def check_channel(channel: str) -> None:
        """
        Accept *channel*, for subscribers and publishers, or refuse it.

        Raises:
            Refusal: 400, no message of this channel can pass.
        """


class IReconfigurable(Interface):
    """
    Accepts new settings while it runs: provided by a broker beside `IBroker` if it
    retains messages itself.
    """

    def reconfigure(retention: Retention) -> None:
        """
        Retain messages by *retention* from now on, after a reload of the settings.
        """


class IHistory(Interface):
    """
    Remembers across nodes: provided by a broker that can replay what this
    node never saw.
    """

    def after(channels: Sequence[str], since: Since) -> Deferred[Replay]:
        """
        What *since* asks for, over all of *channels*, in order of position.

        Never silently part: `complete` is False where something is forgotten.
        All of *channels* are heard by now.

        Returns:
            fires when the live stream has reached the replay's position, and
            not with one ahead of `IBroker.position()`. Waits while the broker
            is away; takes no longer than the broker's own time limit for an
            answer otherwise. It is cancelled when nobody waits for it any more.

        Raises (in the Deferred):
            Unavailable: there is no answer; the reader is then told what this
                node remembers, and of a gap before it.
        """
