"""
What a worker process inherits from its parent: its number, descriptors and settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

VARIABLE = "RT_TWISTED_WORKER"  # only the user of a process can read its environment
# Of systemd, for the daemon alone.
NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID")

SettingTexts = Mapping[str, Sequence[tuple[str, str]]]  # of each setting: texts and their places


def inherited_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """
    Return the variables of *environment* that child processes may inherit.
    """
    return {name: value for name, value in environment.items() if name not in NOT_INHERITED}


@dataclass(frozen=True, slots=True)
class WorkerEnvironment:
    """
    Sent in an environment variable, as every user can read the command line.

    Args:
        number: of the worker, from 1 on.
        size: how many workers there are.
        control_socket: descriptor of the socket to the parent.
        daemon_id: the same in all workers; part of the ids that they create.
        handoff_sockets: descriptors for passing connections on; see `HandoffSockets.of`.
        sockets: descriptor and address family of each bound socket, in the order in
            which the endpoints listen.
        given: settings of the parent's command line, and of its environment.
        fixed: settings of its file that need a restart, as they were at its start.
        config: path of the file, "" for none.
        path: where Python looks for modules.
    """

    number: int
    size: int
    control_socket: int
    daemon_id: str
    handoff_sockets: Sequence[int]
    sockets: Sequence[tuple[int, int]]
    given: SettingTexts
    fixed: SettingTexts
    config: str
    path: Sequence[str]

    def put(self, environment: MutableMapping[str, str]) -> None:
        """
        Add the variable to the *environment* of a worker.
        """
        environment[VARIABLE] = json.dumps(asdict(self))

    @classmethod
    def pop(cls, environment: MutableMapping[str, str]) -> Self | None:
        """
        Remove the variable from *environment*, so that child processes do not inherit it.

        Returns:
            None in a process that is not a worker.
        """
        text = environment.pop(VARIABLE, None)
        return cls(**json.loads(text)) if text is not None else None
