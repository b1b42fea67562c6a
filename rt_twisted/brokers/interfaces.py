"""
Interfaces of brokers, and the interface that the hub provides to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.message import Draft, Message, Position, PublishResult, Replay, Since
from rt_twisted.model.retention import Retention

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class IReceiver(Interface):
    """
    Receives messages from a broker, on the reactor's thread; the hub provides it.
    """

    def receive(message: Message) -> None:
        """
        Receive the next message of the log; messages come in order of position, each once.

        A new epoch means that the earlier log is gone: all subscribers get a gap.
        """

    def reached(position: Position) -> None:
        """
        Move the cursors of subscribers to *position*: every message up to it, of the
        subscribed channels, has been received.

        The position never goes back; a new epoch means the same as in `receive`.
        """

    def missed(channel: Selector, position: Position) -> None:
        """
        Report a gap to the subscribers of *channel*, or of a pattern: messages up to
        *position* may be lost. A channel's gap is one of the patterns that match it, too.

        *position* is after all that was received before, and before all that is received next.
        """


class IBroker(Interface):
    """
    Gives messages their position and carries them between nodes.

    A broker may also provide `twisted.application.service.IService`: it is then
    started and stopped with the daemon.

    Delivery: what was published while the broker was reachable is received on
    every node that is subscribed to its channel, once and in order of position. What
    was published while a node was cut off is received late, or reported as `missed`,
    or the epoch changes.
    """

    def attach(receiver: IReceiver) -> None:
        """
        Set the receiver of messages. Called once, before anything else.
        """

    def position() -> Position:
        """
        Return the last position that the receiver has got.

        It is known without waiting once the broker is started; NOWHERE before a log is known.
        """

    def subscribe(channel: str) -> Deferred[Position]:
        """
        Subscribe to *channel*, and again on each new connection.

        Subscribing twice is the same as once.

        Returns:
            fires when the subscription is active, with a position that is not after
            `position()`: everything after it is received. May have fired
            already; waits while the broker is away; does not fail, and never
            fires after `unsubscribe`.
        """

    def unsubscribe(channel: str) -> None:
        """
        End the subscription to *channel*. A message may still be received afterwards.
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
            Unavailable: nothing or only a part was published; a publisher that
                sends again with idempotency keys duplicates nothing.
            HttpError: 400 or 413, one of them can never be published, however often
                it is sent. All are checked before any is sent.
        """


class IReady(Interface):
    """
    Reports whether the broker is reachable: provided beside `IBroker` by a broker that can
    be away. A broker without it is always ready.
    """

    def ready() -> bool:
        """
        Return whether messages can be published and received now.

        Must not wait: each request to `/readyz` calls it.
        """


class IRefusing(Interface):
    """
    Reports whether the broker rejects messages: provided beside `IReady` by a broker whose
    memory or disk can be full.

    All nodes are affected alike, and subscribers receive and replay as before. The
    broker stays ready: no other node could do better.
    """

    def refuses() -> bool:
        """
        Return whether the broker is reachable and rejects messages now. Must not wait.
        """


class ILimited(Interface):
    """
    Bounds channel names: provided by a broker beside `IBroker` if there are names
    that it can never carry, whatever `channel-pattern` allows.
    """

    def check_channel(channel: str) -> None:
        """
        Accept *channel*, for subscribers and publishers, or reject it.

        Raises:
            HttpError: 400, no message of this channel can be carried.
        """


class IPatterns(Interface):
    """
    Carries patterns of channels: provided beside `IBroker` by a broker whose `subscribe` and
    `unsubscribe`, and `IHistory.after`, also accept a `Wildcard` in place of a channel.

    A subscription to a pattern is one to all channels that its `matches` accepts, also to
    those that no subscriber has named. A message is received once, whatever else it matches.
    """

    def check_pattern(pattern: Wildcard) -> None:
        """
        Accept *pattern*, or reject it.

        Raises:
            HttpError: 400, the messages of its channels cannot be carried; the reason says
                which setting can change that.
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


class ICopying(Interface):
    """
    Publishes a copy of each message for programs that are not nodes: provided by a broker
    beside `IBroker` if a route can choose the copies' names, by `Draft.out`.
    """

    def check_copies(out: str) -> None:
        """
        Check that *out* can be used for the copies.

        Raises:
            ValueError: one sentence that says why not.
        """

    def reserve_copies(out: str) -> None:
        """
        Never receive as messages what is published under names of *out*. Called again
        with the same *out* it does nothing.
        """


class ClaimTaken(Exception):
    """
    Raised when another run holds the claim to a name.
    """


class IClaim(Interface):
    """
    The claim of one run to a name, from `IClaims.claim` until it is lost or released.
    """

    lost = Attribute("Deferred[str]: fires with the reason when another run has the claim.")

    def release() -> None:
        """
        Give the claim up; another run can claim the name as soon as the broker has been
        notified. `lost` does not fire. A second call has no effect.
        """


class IClaims(Interface):
    """
    Grants each name to one run among all nodes: provided beside `IBroker` by a broker that
    nodes share. Without it the node grants names itself.

    While the broker is away claims are kept. A node that ends without releasing its claims
    loses them within seconds.
    """

    def claim(name: str, run: str, takeover: bool) -> Deferred[Any]:
        """
        Claim *name* for one run among all nodes.

        Args:
            name: a channel's.
            run: letters and digits, unique among all runs.
            takeover: take the claim from the run that holds it, whose `lost` fires.

        Returns:
            fires with an `IClaim`.

        Raises (in the Deferred):
            ClaimTaken: another run holds it, and *takeover* is False.
            Unavailable: the broker is away.
        """

    def is_claimed(name: str) -> Deferred[bool]:
        """
        Return whether a run holds *name*, on any node.

        Raises (in the Deferred):
            Unavailable: the broker is away.
        """


class IForgetting(Interface):
    """
    Deletes stored messages on request: provided beside `IHistory` by a broker that can.
    """

    def forget(channel: str) -> Deferred[None]:
        """
        Delete the stored messages of *channel*, and report a gap to the receivers of all nodes
        (`IReceiver.missed`). A replay of an earlier position is incomplete from then on.

        Raises (in the Deferred):
            Unavailable: nothing was deleted.
        """


class IHistory(Interface):
    """
    Replays messages that this node never received: provided by a broker that stores
    them for all nodes.
    """

    def after(channels: Sequence[str], since: Since) -> Deferred[Replay]:
        """
        Return the messages of all *channels* that *since* selects, in order of position.

        A replay is never partial without notice: `complete` is False if a message is
        forgotten. The caller is subscribed to all of *channels*.

        Returns:
            fires when the live stream has reached the replay's position, and
            not with one ahead of `IBroker.position()`. Waits while the broker
            is away; otherwise takes no longer than the broker's own time limit for an
            answer. The caller cancels it when the subscriber has left.

        Raises (in the Deferred):
            Unavailable: there is no answer; the subscriber then gets what this
                node retains, and a gap before it.
        """
