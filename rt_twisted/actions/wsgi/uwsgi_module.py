"""
The module `uwsgi`, as applications and libraries that were written for uWSGI import it.

The module has those functions of uWSGI's that can do the same in this daemon. It is in
`sys.modules` only while an application is loaded: many libraries take its presence for a sign that
they run in uWSGI.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from types import ModuleType
from typing import Any

from twisted.logger import Logger

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.wsgi.call import ApplicationCall
from rt_twisted.actions.wsgi.websocket import ThreadWebSocket

NAME = "uwsgi"
VERSION = (2, 0, 31, 0, "")  # of uWSGI, whose interface this is

_log = Logger(namespace="wsgi")


class UwsgiModule(ModuleType):
    """
    The module of one process.

    Args:
        context: settings, and the number of the process.
        current: has the attribute `call` in a thread that runs one.
    """

    def __init__(self, context: ActionContext, current: local) -> None:
        super().__init__(NAME, "uWSGI's interface, as far as rt_twisted has it.")
        workers = context.workers
        self._current = current
        self._users = 0
        self._forked = False
        self._worker = context.worker
        self.version = ".".join(map(str, VERSION[:3])).encode()
        self.version_info = VERSION
        self.hostname = socket.gethostname().encode()
        self.numproc = workers
        self.started_on = int(time.time())
        self.opt: dict[str, Any] = {
            "enable-threads": True,
            "http-websockets": True,
            "lazy-apps": True,
            "processes": b"%d" % workers,
            "threads": b"%d" % context.wsgi.threads,
        }

    def __getattr__(self, name: str) -> Any:
        # Called for what is not there.
        raise AttributeError(
            f"rt_twisted has no uwsgi.{name}: docs/application.md says what replaces it"
        )

    @contextmanager
    def imported(self) -> Iterator[None]:
        """
        Have the module importable in this context.
        """
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire(self) -> None:
        """
        Make the module importable, until as many calls of `release`.
        """
        self._users += 1
        sys.modules.setdefault(NAME, self)

    def release(self) -> None:
        """
        Undo one `acquire`.
        """
        self._users -= 1
        if not self._users and sys.modules.get(NAME) is self:
            del sys.modules[NAME]

    def run_post_fork_hook(self) -> None:
        """
        Call what the application has set as `post_fork_hook`, once in a process.
        """
        hook = self.__dict__.get("post_fork_hook")
        if hook is not None and not self._forked:
            self._forked = True
            try:
                hook()
            except Exception:
                _log.failure("uwsgi.post_fork_hook has failed")

    # What applications call, in their threads.

    def add_var(self, name: str | bytes, value: str | bytes) -> bool:
        """
        Set a variable of the request that this thread runs, for the lines of routes.
        """
        self._call().variables[_text(name)] = _text(value)
        return True

    def worker_id(self) -> int:
        """
        Return the number of this process, from 1 on.
        """
        return self._worker

    def masterpid(self) -> int:
        """
        Return the id of the process that starts the others, or of the only one.
        """
        return os.getppid() if self.numproc > 1 else os.getpid()

    def mule_id(self) -> int:
        """
        Return 0: this is no mule.
        """
        return 0

    def log(self, text: str | bytes) -> bool:
        """
        Write a line to the daemon's log.
        """
        _log.info("{text}", text=_text(text).rstrip())
        return True

    def websocket_handshake(
        self, key: str | bytes = "", origin: str | bytes = "", proto: str | bytes = ""
    ) -> None:
        """
        Respond to the client's opening handshake.

        Args:
            key: is not used, as the request has it.
            origin: likewise; `websocket-origins` decides.
            proto: the subprotocol; "" for the first that the client offers.

        Raises:
            OSError: the client has asked for no websocket, or is not allowed to open one. It
                was answered.
        """
        self._call().open_websocket(_text(proto or ""))

    def websocket_recv(self) -> bytes:
        """
        Wait for the next message of the client.

        Raises:
            OSError: the client has closed the websocket, or does not answer pings.
        """
        return self._websocket().receive(wait=True)

    def websocket_recv_nb(self) -> bytes:
        """
        Return the next message of the client; b"" if there is none yet.

        Raises:
            OSError: as `websocket_recv`.
        """
        return self._websocket().receive(wait=False)

    def websocket_send(self, message: str | bytes) -> None:
        """
        Send a text message; wait while the client does not receive those before.

        Raises:
            OSError: the websocket is closed.
            UnicodeDecodeError: bytes that are not UTF-8: use `websocket_send_binary`.
        """
        if isinstance(message, str):
            data = message.encode()
        else:
            data = bytes(message)
            data.decode()
        self._websocket().send(data, binary=False)

    def websocket_send_binary(self, message: str | bytes) -> None:
        """
        Send a binary message, as `websocket_send` does.
        """
        data = message.encode() if isinstance(message, str) else bytes(message)
        self._websocket().send(data, binary=True)

    def websocket_send_from_sharedarea(self, *arguments: object) -> None:
        """
        Refuse: there are no shared areas.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "rt_twisted has no shared areas: pass the bytes to websocket_send"
        )

    websocket_send_binary_from_sharedarea = websocket_send_from_sharedarea

    def connection_fd(self) -> int:
        """
        Return a descriptor that is readable while a message of the client waits, or the websocket
        is closed. The application must not read from the descriptor.

        Raises:
            OSError: the request has no websocket.
        """
        return self._websocket().fileno()

    def _call(self) -> ApplicationCall:
        call: ApplicationCall | None = getattr(self._current, "call", None)
        if call is None:
            raise OSError("this thread runs no request: call uwsgi in the thread of the request")
        return call

    def _websocket(self) -> ThreadWebSocket:
        websocket = self._call().websocket
        if websocket is None:
            raise OSError("the request has no websocket: call uwsgi.websocket_handshake first")
        return websocket


def _text(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode(errors="surrogateescape")
