"""
Reads the command line, the environment and the settings file.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, MutableMapping, Sequence
from itertools import chain
from typing import Any, NoReturn

from twisted import __version__ as twisted_version
from twisted.python import usage

from rt_twisted import __version__
from rt_twisted.tap.commands import REALTIME, Command
from rt_twisted.tap.environment import NOTHING, read_environment
from rt_twisted.tap.notes import notes
from rt_twisted.tap.runner import as_twistd, is_twist, log_settings
from rt_twisted.tap.setting_values import (
    GivenValue,
    SettingError,
    parse_values,
    read_file,
    read_word,
    unknown_setting,
)
from rt_twisted.tap.settings import SETTINGS
from rt_twisted.tap.start import settle_pid_file
from rt_twisted.tap.usage_text import usage_text
from rt_twisted.tap.uwsgi_words import ROUTE_WORDS, WITHOUT_EFFECT
from rt_twisted.workers.environment import SettingTexts, WorkerEnvironment

Given = dict[str, list[GivenValue]]


# Words of uWSGI that the help lists; others are in the documentation.
_LISTED = frozenset("route-if route-label route-run static-map".split())
_UNLISTED = ROUTE_WORDS - _LISTED


def _repeated(word: str, help: str = "") -> Callable[[Options, str], None]:
    """
    Return the method that usage.Options calls for an option that may be repeated.

    Args:
        word: the name of a setting, or a word of uWSGI.
        help: of the option; "" for that of the setting.
    """

    def give(self: Options, value: str) -> None:
        self._give(word, value)

    give.__doc__ = help or SETTINGS[word].help
    return give


class Options(usage.Options):
    """
    The command line of `twistd realtime`; after parsing, a mapping of setting names to values.

    Args:
        check: what `--check` does with valid settings; raises SystemExit if the
            daemon cannot be built from them.
        command: the word of twistd that these are the options of.

    Attributes:
        places: of each setting, where it was given.
        without_effect: words of uWSGI that were given and are not settings.
        inherited: what a worker process inherited; None elsewhere.
    """

    optParameters = [
        [setting.name, setting.short or None, None, f"{setting.help} [default: {setting.default}]"]
        for setting in SETTINGS.values()
        if not setting.repeated
    ] + [["config", "c", None, "Settings file, with one 'name = value' per line."]]
    optFlags = [
        ["check", None, "Check the settings, print notes about them, and exit."],
        ["show-config", None, "Print all settings with their origins, without secrets, and exit."],
    ]
    synopsis = "[options]"
    opt_attach_daemon = _repeated("attach-daemon", SETTINGS["helper"].help)
    opt_endpoint = _repeated("endpoint")
    opt_helper = _repeated("helper")
    opt_http_socket = _repeated("http-socket", "uWSGI's word for an endpoint: [ADDRESS]:PORT.")
    opt_mule = _repeated("mule", SETTINGS["helper"].help)
    opt_offload_threads = _repeated("offload-threads", "A word of uWSGI that has no effect here.")
    opt_plugin = _repeated("plugin", "A word of uWSGI that has no effect here.")
    opt_route = _repeated("route")
    opt_route_if = _repeated("route-if", "A route for requests that pass a test: TEST ACTION.")
    opt_route_label = _repeated("route-label", "A name among the routes, for goto:NAME.")
    opt_route_run = _repeated("route-run", "A route for all requests that come so far: ACTION.")
    opt_publish_key = _repeated("publish-key")
    opt_ssl_cert = _repeated("ssl-cert")
    opt_ssl_key = _repeated("ssl-key")
    opt_static_map = _repeated("static-map", "Files for paths without a route: /PREFIX=PATH.")
    opt_token_key = _repeated("token-key")
    opt_token_jwks = _repeated("token-jwks")

    # All other words of route lines, which the help does not list.
    for _word in sorted(ROUTE_WORDS):
        locals().setdefault(f"opt_{_word.replace('-', '_')}", _repeated(_word, "A route line."))
    del _word

    def __init__(
        self,
        check: Callable[[Options], object] = lambda options: None,
        command: Command = REALTIME,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._check = check
        self.command = command
        self._given: Given = {}
        self._from_file: Given = {}
        self._environment = NOTHING
        self._of_twist: Given = {}
        self._found: Given = {}
        self._folder = os.getcwd()
        self.places: dict[str, list[str]] = {}
        self.without_effect: frozenset[str] = frozenset()
        self.inherited: WorkerEnvironment | None = None

    def opt_version(self) -> None:
        """
        Print the versions of rt_twisted, Twisted and Python, and exit.
        """
        python = platform.python_version()
        _answer(f"rt_twisted {__version__}, Twisted {twisted_version}, Python {python}")

    def opt_help(self) -> None:
        """
        Print this help and exit.
        """
        _answer(str(self))

    opt_h = opt_help

    def getUsage(self, width: int | None = None) -> str:
        width = width or shutil.get_terminal_size().columns
        accepted = [str(name) for name in self.longOpt]
        options = [name for name in accepted if name.removesuffix("=") not in _UNLISTED]
        names = [name.removesuffix("=") for name in options]
        return usage_text(
            self.command,
            {name: self.docs[name] for name in names},
            {name: f"{name}=" in options for name in names},
            width,
        )

    def _give(self, word: str, value: str) -> None:
        try:
            name, given = read_word(word, value, f"--{word}")
        except SettingError as error:
            raise usage.UsageError(str(error)) from None
        self._given.setdefault(name, []).append(given)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        # twistd would print all of its help above the one sentence.
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            sys.exit(f"realtime: {self._explain(str(error))}")

    def parseArgs(self, *words: str) -> None:
        if words:
            raise usage.UsageError(f"{words[0]!r} is not an option")

    def _explain(self, reason: str) -> str:
        option = re.fullmatch("option --?(.+) not recognized", reason)  # getopt's text
        if option is None:
            return reason
        runner = self.parent.longOpt if self.parent is not None else ()
        if option[1] in (name.removesuffix("=") for name in runner):
            program = "twist" if is_twist(self.parent) else "twistd"
            word = self.command.word
            return f"--{option[1]} is an option of {program}: put it before the word {word}"
        return unknown_setting(option[1])

    def postOptions(self) -> None:
        # Raises SystemExit with one sentence about the first thing that is wrong.
        self._inherit(WorkerEnvironment.pop(os.environ))
        if self.inherited is None:
            self._environment = read_environment(os.environ)
            if self["config"] is None:
                self["config"] = self._environment.config
        try:
            self._of_twist = {
                name: [GivenValue(text, f"--{name} of twist")]
                for name, text in log_settings(self.parent).items()
            }
            self._read()
        except SettingError as error:
            sys.exit(f"realtime: {error}")
        if self["show-config"]:
            self._show()
        if self["check"]:
            self._check(self)
            found = (*self.environment_notes(), *notes(self))
            lines = [f"realtime: note: {note}" for note in found]
            _answer("\n".join((*lines, "realtime: the settings are right")))
        if self.parent is not None and not is_twist(self.parent):
            settle_pid_file(self.parent)

    @property
    def twistd(self) -> MutableMapping[str, Any] | None:
        """
        The options of the program that runs the daemon, under the names of twistd's; or None.
        """
        return as_twistd(self.parent)

    def _show(self) -> None:
        from rt_twisted.tap.show_config import config_lines  # needs all routes

        for note in self.environment_notes():
            sys.stderr.write(f"realtime: note: {note}\n")
        _answer("\n".join(config_lines(self._found)))

    def environment_notes(self) -> list[str]:
        """
        Return one sentence for each variable of the environment that has no effect.
        """
        given = chain.from_iterable(self._found.values())
        used = {name for each in given for name in re.findall(r"\benv:(\w+)", each.text)}
        return list(self._environment.notes(used))

    def read_again(self) -> Options:
        """
        Return options of the same command line and environment, with the file and the secrets
        as they are now.

        Raises:
            SettingError: with file and line.
        """
        fresh = Options(command=self.command)
        fresh.parent = self.parent
        fresh._given = self._given
        fresh._environment = self._environment
        fresh._of_twist = self._of_twist
        # A daemon has changed its working directory.
        fresh._folder = self._folder
        fresh["config"] = self["config"] and os.path.join(self._folder, self["config"])
        fresh.inherited = self.inherited
        fresh._read()
        return fresh

    def worker_environment(
        self,
        number: int,
        control_socket: int,
        daemon_id: str,
        handoff_sockets: Sequence[int],
        sockets: Sequence[tuple[int, int]],
    ) -> WorkerEnvironment:
        """
        Return what worker *number* inherits.

        Of these settings that is the command line, the environment, the name of the file, and
        those of the file's values that a reload does not apply.
        """
        fixed = {
            name: given for name, given in self._from_file.items() if not SETTINGS[name].reloadable
        }
        fixed.update(
            (name, self._of_twist[name]) for name in self._of_twist.keys() - self._from_file
        )
        return WorkerEnvironment(
            number,
            self["workers"],
            control_socket,
            daemon_id,
            handoff_sockets,
            sockets,
            _to_texts({**self._environment.given, **self._given}),
            _to_texts(fixed),
            self["config"] or "",
            list(sys.path),
        )

    def _inherit(self, inherited: WorkerEnvironment | None) -> None:
        self.inherited = inherited
        if inherited is not None:
            sys.path[:] = inherited.path
            self._given = _from_texts(inherited.given)
            self["config"] = inherited.config

    @property
    def folder(self) -> str:
        """
        The folder that relative paths of the settings begin at.
        """
        return self._folder

    def given(self, name: str) -> bool:
        """
        Return whether *name* is set by the file, the environment or the command line.
        """
        return bool(self.places.get(name))

    def _read(self) -> None:
        for name, setting in SETTINGS.items():
            if not setting.repeated and self[name] is not None:
                self._give(name, self[name])
        from_file: Given = {}
        if self["config"]:
            for name, given in read_file(self["config"]):
                from_file.setdefault(name, []).append(given)
        self.without_effect = WITHOUT_EFFECT & (from_file.keys() | self._given.keys())
        for name in self.without_effect:
            from_file.pop(name, None)
        if self.inherited is not None:
            reloadable = {
                name: each for name, each in from_file.items() if SETTINGS[name].reloadable
            }
            from_file = reloadable | _from_texts(self.inherited.fixed)
        self._from_file = from_file
        for name, setting in SETTINGS.items():
            # An empty value on the command line still overrides the others.
            found = self._given.get(name) or self._environment.given.get(name)
            found = found or from_file.get(name) or self._of_twist.get(name) or []
            if not setting.repeated:
                found = found[-1:]
            found = [given for given in found if given.text]
            default = self.command.defaults.get(name)
            usual = [GivenValue(default, "default")] if default is not None else []
            self[name] = parse_values(name, found or usual)
            self._found[name] = found or usual
            self.places[name] = [given.place for given in found]


def _answer(text: str) -> NoReturn:
    """
    Print *text* and exit.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at its end
    sys.exit(0)


def _to_texts(given: Given) -> SettingTexts:
    return {name: [(each.text, each.place) for each in found] for name, found in given.items()}


def _from_texts(texts: SettingTexts) -> Given:
    return {name: [GivenValue(*each) for each in found] for name, found in texts.items()}
