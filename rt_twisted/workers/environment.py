"""
What a worker inherits from its parent: which one it is, descriptors, settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

NAME = "RT_TWISTED_WORKER"  # of the environment variable; only its own user can read it

Texts = Mapping[str, Sequence[tuple[str, str]]]  # of settings: value and place of each


@dataclass(frozen=True, slots=True)
class WorkerEnvironment:
    """
    Travels in the environment, as the command line is for everybody to see.

    Args:
        number: of the worker, from 1 on.
        size: how many workers there are.
        line: descriptor of the socket to the parent.
        mark: the daemon's, in what workers make ids of.
        ways: descriptors by which connections are passed on; see `Ways.of`.
        sockets: descriptor and address family of each that is bound, in the
            order in which the endpoints ask.
        given: the parent's command line.
        fixed: settings of its file that change with a restart only, as they
            were at its start.
        config: the file, "" for none.
        path: where Python looks for modules.
    """

    number: int
    size: int
    line: int
    mark: str
    handoff_sockets: Sequence[int]
    sockets: Sequence[tuple[int, int]]
    given: Texts
    fixed: Texts
    config: str
    path: Sequence[str]

    def leave(self, environment: MutableMapping[str, str]) -> None:
        """
        Put it into the *environment* of a worker.
        """
        environment[NAME] = json.dumps(asdict(self))

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Self | None:
        """
        Take it out of the *environment*, as it is not for a worker's own children;
        None for who is no worker.
        """
        text = environment.pop(NAME, None)
        return cls(**json.loads(text)) if text is not None else None
