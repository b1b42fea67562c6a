"""
The command line and the file, read.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence

from twisted.python import usage

from rt_twisted.tap.settings import SETTINGS, GivenValue, SettingError, like, read_file, read_value
from rt_twisted.tap.start import settle_pid_file
from rt_twisted.workers.environment import Texts, WorkerEnvironment

# What a reload takes on; everything else needs a restart.
LIVE = frozenset(
    "stop-seconds route origins credentials allowed-headers exposed-headers access-log "
    "trusted-proxies "
    "client-address-header http-secret "
    "publish-key "
    "max-body max-message max-batch trim history history-bytes history-age history-memory "
    "inbound-memory replay-bytes linger heartbeat retry poll-seconds poll-bytes slow backlog-bytes "
    "backlog-seconds max-readers max-readers-per-address max-reader-channels join-rate join-queue "
    "channel-pattern "
    "max-line max-headers max-header-bytes head-seconds body-seconds idle-seconds "
    "max-idle-connections stats-key "
    "websocket-origins websocket-message websocket-message-seconds websocket-rate "
    "websocket-bytes websocket-tolerance websocket-close-seconds websocket-compress "
    "socketio-ping-interval socketio-ping-timeout socketio-connect-seconds "
    "socketio-handshake-seconds socketio-max-pending "
    "log-level "
    "socketio-upgrade-seconds socketio-max-payload socketio-recovery worker-timeout".split()
)


def _repeated(name: str) -> Callable[[Options, str], None]:
    """
    What usage.Options calls for an option that may be given several times.
    """

    def give(self: Options, value: str) -> None:
        self._give(name, value)

    give.__doc__ = SETTINGS[name].help
    return give


class Options(usage.Options):
    """
    The command line of `twistd realtime`; afterwards a mapping of every
    setting's name to its value.
    """

    optParameters = [
        [setting.name, setting.short or None, None, f"{setting.help} [default: {setting.default}]"]
        for setting in SETTINGS.values()
        if not setting.repeated
    ] + [["config", "c", None, "File with the same settings, 'name = value' a line."]]
    optFlags = [["check", None, "Say whether the settings are right, and exit."]]
    synopsis = "[options]"
    longdesc = (
        "A realtime server: publish with POST /publish, read with server-sent events. "
        "The command line overrides the file. An empty value is an unset one."
    )

    opt_endpoint = _repeated("endpoint")
    opt_route = _repeated("route")
    opt_publish_key = _repeated("publish-key")
    opt_ssl_cert = _repeated("ssl-cert")
    opt_ssl_key = _repeated("ssl-key")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given: dict[str, list[GivenValue]] = {}
        self._from_file: dict[str, list[GivenValue]] = {}
        self._folder = os.getcwd()
        self.places: dict[str, list[str]] = {}
        self.inheritance: WorkerEnvironment | None = None  # a worker's

    def _give(self, name: str, value: str) -> None:
        self._given.setdefault(name, []).append(GivenValue(value, f"--{name}"))

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the command line.

        Raises:
            SystemExit: one sentence, where twistd would say it below all of its help.
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            sys.exit(f"realtime: {self._explained(str(error))}")

    def parseArgs(self, *words: str) -> None:
        """
        There are none but options.
        """
        if words:
            raise usage.UsageError(f"{words[0]!r} is not an option")

    def _explained(self, reason: str) -> str:
        option = re.fullmatch("option --?(.+) not recognized", reason)  # getopt's words
        if option is None:
            return reason
        twistd = self.parent.longOpt if self.parent is not None else ()
        if option[1] in (name.removesuffix("=") for name in twistd):
            return f"--{option[1]} is twistd's own, and stands before the word realtime"
        return f"there is no setting {option[1]!r}{like(option[1])}"

    def postOptions(self) -> None:
        """
        Read the file, then every value.

        Raises:
            SystemExit: one sentence about the first thing that is wrong.
        """
        self._inherit(WorkerEnvironment.take(os.environ))
        try:
            self._read()
        except SettingError as error:
            sys.exit(f"realtime: {error}")
        if self["check"]:
            from rt_twisted.tap import makeService

            makeService(self)
            print("realtime: the settings are right")  # noqa: T201  # the answer to --check
            sys.exit(0)
        if self.parent is not None:
            settle_pid_file(self.parent)

    def again(self) -> Options:
        """
        The same command line, with the file and the secrets as they are now.

        Raises:
            WrongSetting: with file and line.
        """
        fresh = Options()
        fresh.parent = self.parent
        fresh._given = self._given
        # Whoever has become a daemon has changed its folder.
        fresh._folder = self._folder
        fresh["config"] = self["config"] and os.path.join(self._folder, self["config"])
        fresh.inheritance = self.inheritance
        fresh._read()
        return fresh

    def leave(
        self,
        number: int,
        line: int,
        mark: str,
        handoff_sockets: Sequence[int],
        sockets: Sequence[tuple[int, int]],
    ) -> WorkerEnvironment:
        """
        What worker *number* inherits: of these settings the command line, the file,
        and what that said of all that a reload does not take on.
        """
        fixed = {name: given for name, given in self._from_file.items() if name not in LIVE}
        given, fixed_texts = (
            {name: [(each.text, each.place) for each in found] for name, found in which.items()}
            for which in (self._given, fixed)
        )
        config, path = self["config"] or "", list(sys.path)
        size = self["workers"]
        shared = line, mark, handoff_sockets, sockets
        return WorkerEnvironment(number, size, *shared, given, fixed_texts, config, path)

    def _inherit(self, inheritance: WorkerEnvironment | None) -> None:
        self.inheritance = inheritance
        if inheritance is not None:
            sys.path[:] = inheritance.path
            self._given = _given(inheritance.given)
            self["config"] = inheritance.config

    @property
    def folder(self) -> str:
        """
        Where relative paths of the settings begin.
        """
        return self._folder

    def given(self, name: str) -> bool:
        """
        Whether *name* is set at all, by file or command line.
        """
        return bool(self.places.get(name))

    def _read(self) -> None:
        for name, setting in SETTINGS.items():
            if not setting.repeated and self[name] is not None:
                self._give(name, self[name])
        from_file: dict[str, list[GivenValue]] = {}
        if self["config"]:
            for name, given in read_file(self["config"]):
                from_file.setdefault(name, []).append(given)
        if self.inheritance is not None:
            fixed = _given(self.inheritance.fixed)
            from_file = {name: each for name, each in from_file.items() if name in LIVE} | fixed
        self._from_file = from_file
        for name, setting in SETTINGS.items():
            # An empty value on the command line still overrides the file.
            found = self._given.get(name) or from_file.get(name) or []
            if setting.repeated:
                found = [given for given in found if given.text]
                defaults = [GivenValue(setting.default, "default")] if setting.default else []
                self[name] = [read_value(name, given) for given in found or defaults]
            else:
                last = found[-1:] if found and found[-1].text else []
                default = GivenValue(setting.default, "default")
                found = last
                value = last[0] if last else default
                self[name] = read_value(name, value) if value.text else None
            self.places[name] = [given.place for given in found]


def _given(texts: Texts) -> dict[str, list[GivenValue]]:
    return {name: [GivenValue(*each) for each in found] for name, found in texts.items()}
