"""
Questions and commands about live streams to the other processes that share a broker: workers and
nodes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rt_twisted.hub.hub import Hub
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.hub.watch import watch_channel
from rt_twisted.model.internal_channels import LIVE
from rt_twisted.model.message import Draft, Message

ANNOUNCE: Final = 1.0  # seconds between two announcements of a process
GONE: Final = 3.5  # seconds without one, after which answers of a process are not awaited
ANSWER_SECONDS: Final = 0.6  # for which answers are awaited
KEPT: Final = 1.0  # seconds for which the answers to a question are used again
PART: Final = 200  # items in one message
MAX_WAITING: Final = 100  # questions at once
MAX_PEERS: Final = 1000

Answer = Callable[[Mapping[str, str]], Awaitable[Sequence[Any]]]

_log = Logger()


@dataclass(slots=True)
class _Question:
    """
    A question that is not answered completely.

    Args:
        missing: how many parts each process has still to send; -1 until its first one.
        open: processes may answer that are not known.
        done: fires when all have answered.
        found: the answers so far.
    """

    missing: dict[str, int]
    open: bool
    done: Deferred[None] = field(default_factory=Deferred)
    found: list[Any] = field(default_factory=list)


class LivePeers(MultiService):
    """
    The other processes with something that others ask for, and what they answer.

    A process announces itself each second while it has that. One that has nothing, and never
    asks, sends and receives nothing.

    Args:
        hub: whose broker all processes share.
        clock: the reactor.
    """

    def __init__(self, hub: Hub, clock: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self.hub = hub
        self._clock = clock
        self._node = secrets.token_hex(4)
        self._watch: Subscriber | None = None
        self._since = 0.0  # when the watch began
        self._seen: dict[str, float] = {}  # other processes, and when each announced itself
        self._answers: dict[str, Answer] = {}
        self._present: list[Callable[[], object]] = []
        self._number = 0
        self._questions: dict[int, _Question] = {}
        self._kept: dict[tuple[str, str], tuple[float, Sequence[Any]]] = {}
        self._asking: dict[tuple[str, str], list[Deferred[Sequence[Any]]]] = {}
        self._further: dict[Hub, LivePeers] = {}
        self._loop = LoopingCall(self.announce)
        self._loop.clock = clock

    def of_hub(self, hub: Hub) -> LivePeers:
        """
        Return the same for *hub*, which may be that of a further server.
        """
        if hub is self.hub:
            return self
        if hub not in self._further:
            self._further[hub] = LivePeers(hub, self._clock)
            self._further[hub].setServiceParent(self)  # type: ignore[no-untyped-call]  # Twisted's
        return self._further[hub]

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # as above
        self._loop.start(ANNOUNCE, now=False)

    def stopService(self) -> Any:
        if self._loop.running:
            self._loop.stop()
        if self._watch is not None and not self._watch.closed:
            self._watch.detach(DisconnectReason.ENDED)
        return super().stopService()  # type: ignore[no-untyped-call]  # as above

    def on_question(
        self, question: str, answer: Answer, present: Callable[[], object] | None = None
    ) -> None:
        """
        Answer *question* of other processes.

        Args:
            question: its name.
            answer: returns items for JSON.
            present: returns whether this process has anything that others can ask for.
        """
        self._answers[question] = answer
        if present is not None:
            self._present.append(present)

    def announce(self) -> None:
        """
        Have the others ask this process from now on, if it has anything.
        """
        if not any(present() for present in self._present):
            return
        self._watch_others()
        if not self.hub.why_not_ready():
            self._publish({})

    async def ask(self, question: str, **arguments: str) -> Sequence[Any]:
        """
        Return what all other processes answer to *question*, as they are now.

        While the broker is away, there are no answers.
        """
        if self.hub.why_not_ready() or len(self._questions) >= MAX_WAITING:
            return []
        self._watch_others()
        subscribed = self.hub.when_subscribed([LIVE])
        if subscribed is not None:
            await subscribed
        now = self._clock.seconds()
        self._forget_gone(now)
        # Until all have announced themselves, the others are not known.
        is_new = now - self._since < 2 * ANNOUNCE
        if not self._seen and not is_new:
            return []
        self._number += 1
        number = self._number
        asked = _Question(dict.fromkeys(self._seen, -1), is_new)
        self._questions[number] = asked
        self._publish({"id": number, "ask": question, "with": arguments})
        timeout = self._clock.callLater(ANSWER_SECONDS, self._finish, number)
        await asked.done
        if timeout.active():
            timeout.cancel()
        return asked.found

    async def ask_often(self, question: str, **arguments: str) -> Sequence[Any]:
        """
        Return what `ask` returns, or has returned in the last second.

        However many clients ask, this process sends one question at a time.
        """
        key = question, json.dumps(arguments, sort_keys=True)
        now = self._clock.seconds()
        self._kept = {one: kept for one, kept in self._kept.items() if now - kept[0] < KEPT}
        if key in self._kept:
            return self._kept[key][1]
        waiting = self._asking.get(key)
        if waiting is not None:
            shared: Deferred[Sequence[Any]] = Deferred()
            waiting.append(shared)
            return await shared
        waiting = self._asking[key] = []
        found: Sequence[Any] = []
        try:
            found = await self.ask(question, **arguments)
            self._kept[key] = self._clock.seconds(), found
        finally:
            del self._asking[key]
            for one in waiting:
                one.callback(found)
        return found

    def _watch_others(self) -> None:
        if self._watch is None:
            self._since = self._clock.seconds()
            self._watch = watch_channel(self.hub, LIVE, self._on_message)

    def _forget_gone(self, now: float) -> None:
        self._seen = {node: at for node, at in self._seen.items() if now - at < GONE}

    def _finish(self, number: int) -> None:
        asked = self._questions.pop(number, None)
        if asked is not None:
            asked.done.callback(None)

    def _on_message(self, message: Message) -> None:
        if message.event is not None and message.event != self._node:
            return  # answers another process
        # Not now: a flush is in progress.
        self._clock.callLater(0, self._receive, message.data)

    def _receive(self, data: bytes) -> None:
        try:
            value = json.loads(data)
            node = str(value["node"])
            if node == self._node:
                return
            if not (node.isalnum() and node.isascii()):
                raise ValueError("a process has a malformed name")
            if "ask" in value:
                arguments = {str(name): str(text) for name, text in value["with"].items()}
                answered = self._answer(node, int(value["id"]), str(value["ask"]), arguments)
                ensureDeferred(answered).addErrback(
                    partial(_log.failure, "while answering another process")
                )
                return
            if node in self._seen or len(self._seen) < MAX_PEERS:
                self._seen[node] = self._clock.seconds()
            if value.get("to") == self._node:
                self._on_answer(node, int(value["id"]), int(value["parts"]), list(value["found"]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            _log.debug("a malformed message on the channel of live streams is ignored")

    def _on_answer(self, node: str, number: int, parts: int, found: list[Any]) -> None:
        asked = self._questions.get(number)
        if asked is None:
            return
        left = asked.missing.get(node, -1)
        asked.missing[node] = (parts if left < 0 else left) - 1
        asked.found += found
        if not asked.open and not any(asked.missing.values()):
            self._finish(number)

    async def _answer(
        self, node: str, number: int, question: str, arguments: Mapping[str, str]
    ) -> None:
        answer = self._answers.get(question)
        if answer is None and not any(present() for present in self._present):
            return
        found = list(await answer(arguments)) if answer is not None else []
        parts = [found[start : start + PART] for start in range(0, len(found), PART)] or [[]]
        for part in parts:
            self._publish({"to": node, "id": number, "parts": len(parts), "found": part}, node)

    def _publish(self, value: dict[str, Any], to: str | None = None) -> None:
        data = json.dumps({"node": self._node, **value}).encode()
        # All processes receive all answers: the event type tells without a parse for whom one is.
        published = self.hub.publish([Draft(LIVE, data, to, transient=True)])
        published.addErrback(
            lambda failure: _log.debug(
                "other processes were not reached: {reason}", reason=failure.getErrorMessage()
            )
        )
