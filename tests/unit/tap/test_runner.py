"""
`twist` and `twistd`: what their options mean for the daemon, its first log line, and its help.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted import __version__ as twisted_version
from twisted.application.twist._options import TwistOptions
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent

from rt_twisted import __version__
from rt_twisted.tap.announce import address_of
from rt_twisted.tap.build import build
from rt_twisted.tap.options import Options
from rt_twisted.tap.runner import as_twistd, is_twist
from rt_twisted.tap.settings import SECTIONS, SETTINGS
from tests.unit.tap.test_settings import error_of, file, parse


def twist(*arguments: str) -> TwistOptions:
    """
    Return the options of `twist` after *arguments*, which have no plug-in.
    """
    options = TwistOptions()
    options["reactor"] = MemoryReactorClock()
    options.subCommand = "realtime"
    options.selectDefaultLogObserver()
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        getattr(options, f"opt_{name.replace('-', '_')}")(value)
    return options


def under(parent: Any, *arguments: str) -> Options:
    """
    Return the options of the daemon that *parent* runs with *arguments*.
    """
    options = Options()
    options.parent = parent
    options.parseOptions(list(arguments))
    return options


def test_options_of_twist_have_the_names_of_twistd(tmp_path: Path) -> None:
    """
    `twist` runs in the foreground, logs to standard output, standard error or a file, and never
    changes the user.
    """
    log = tmp_path / "log"

    assert as_twistd(None) is None
    assert as_twistd(parent := {"nodaemon": False, "logfile": None}) is parent
    assert not is_twist(parent)
    for argument, path in (("-", "-"), ("+", "+"), (str(log), str(log))):
        options = twist(f"--log-file={argument}")
        assert as_twistd(options) == {"nodaemon": True, "logfile": path, "reactor": None}
    options["logFile"].close()


@pytest.mark.parametrize(
    ("before", "after", "in_file", "level", "form"),
    [
        ((), (), "", "info", "json"),
        (("--log-format=text",), (), "", "info", "text"),
        (("--log-level=debug", "--log-format=text"), (), "", "debug", "text"),
        (("--log-level=critical",), (), "", "error", "json"),
        (("--log-level=debug",), ("--log-level=warn", "--log-format=text"), "", "warn", "text"),
        (("--log-level=debug",), (), "log-level = warn\nlog-format = text", "warn", "text"),
    ],
)
def test_log_options_of_twist_are_settings(
    before: tuple[str, ...], after: tuple[str, ...], in_file: str, level: str, form: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    """
    Level and format of the log come from `twist`, unless settings have them; also in workers.
    """
    options = under(twist(*before), *after, f"--config={file(tmp_path, in_file)}")

    assert (options["log-level"], options["log-format"]) == (level, form)
    again = options.read_again()
    assert (again["log-level"], again["log-format"]) == (level, form)
    fixed = options.worker_environment(1, 3, "id", [], []).fixed
    assert in_file or after or fixed["log-format"] == [(form, "--log-format of twist")]


def test_twist_logs_what_the_daemon_filters() -> None:
    """
    The observer of `twist` is the daemon's, which escapes control characters and limits repetition.
    """
    parent = twist()
    service: Any = build(under(parent, "--port=0"), MemoryReactorClock())

    assert parent["fileLogObserverFactory"](sys.stdout) is service.filter
    assert parent["logLevel"].name == "debug"


def test_ports_are_opened_by_twist_and_twistd() -> None:
    """
    `twistd` opens ports before it drops root; `twist` only starts services. Each port opens once.
    """
    for steps in (("startService",), ("privilegedStartService", "startService")):
        reactor = MemoryReactorClock()
        service: Any = build(parse("--port=80"), reactor)
        for step in steps:
            getattr(service, step)()
        assert [port for port, *_ in reactor.tcpServers] == [80]
        service.stopService()


def test_an_option_of_the_runner_behind_the_word_is_explained() -> None:
    """
    The error names the program whose option it is.
    """
    assert error_of(under, twist(), "--log-file=x") == (
        "realtime: --log-file is an option of twist: put it before the word realtime"
    )


# The first log line.


@pytest.mark.parametrize(
    ("description", "host", "url"),
    [
        ("tcp:80", IPv4Address("TCP", "127.0.0.1", 80), "http://127.0.0.1:80/"),
        ("tcp:80", IPv6Address("TCP", "::1", 80), "http://[::1]:80/"),
        ("TLS port 8443 of 0", IPv4Address("TCP", "0.0.0.0", 8443), "https://0.0.0.0:8443/"),
        ("ssl:8443", IPv4Address("TCP", "10.0.0.1", 8443), "https://10.0.0.1:8443/"),
        ("RTMP port 0 of ::", IPv6Address("TCP", "::", 1935), "rtmp://[::]:1935/"),
        ("RTSP port 0 of ::", IPv6Address("TCP", "::", 554), "rtsp://[::]:554/"),
        ("unix:a", UNIXAddress(b"/run/a.sock"), "unix:/run/a.sock"),
        ("haproxy:tcp:81", IPv4Address("TCP", "::1", 81), "http://[::1]:81/ (PROXY protocol)"),
        ("haproxy:unix:a", UNIXAddress(b"a"), "unix:a (PROXY protocol)"),
    ],
)  # fmt: skip
def test_addresses(description: str, host: object, url: str) -> None:
    """
    The log names each port by a URL that can be opened, or by its path.
    """
    assert address_of(description, host) == url


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "http://0.0.0.0:8888/; a page to try it: http://127.0.0.1:8888/try"),
        (
            ("--listen=0", "--port=80"),
            "http://0.0.0.0:80/; a page to try it: http://127.0.0.1:80/try",
        ),
        (
            ("--listen=::", "--port=80", "--rtmp-port=1935"),
            "rtmp://[::]:1935/, http://[::]:80/; a page to try it: http://[::1]:80/try",
        ),
        (
            ("--route=^/a$ sse:a", "--port=80", "--icy-port=81"),
            "icy://0.0.0.0:81/, http://0.0.0.0:80/",
        ),
        (("--route=^/a$ sse:a",), "http://0.0.0.0:8888/"),
        (("--route=^/a$ sse:a", "--route=^/t page"), "http://0.0.0.0:8888/; a page"),
        (("--route=built-in", "--endpoint=unix:{folder}/a"), "unix:{folder}/a"),
    ],
)
def test_the_first_line_names_version_and_addresses(
    arguments: tuple[str, ...], line: str, tmp_path: Path
) -> None:
    """
    The daemon logs its version, where it listens, and the address of the test page if that has a
    route. (The reactor of this test binds all addresses.)
    """
    arguments = tuple(each.replace("{folder}", str(tmp_path)) for each in arguments)
    service: Any = build(parse(*arguments), MemoryReactorClock())
    with capturedLogs() as events:
        service.privilegedStartService()
    texts = [formatEvent(event) for event in events]

    expected = f"rt_twisted {__version__}: listening on {line.replace('{folder}', str(tmp_path))}"
    assert texts[0] == expected or (expected.endswith("; a page") and texts[0].startswith(expected))


# --help and --version.


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_help_is_grouped_like_the_file(
    option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    `--help` has the sections of etc/realtime.conf with all settings, in their order.
    """
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        parse(option)
    text = capsys.readouterr().out

    assert not stopped.value.code
    titles = re.findall(r"(?m)^(\w.*):$", text)
    assert titles == ["Files, checks and versions", *(one for one, _ in SECTIONS), "Words of uWSGI"]
    options = re.findall(r"(?m)^  (?:-\w, )?--([\w-]+)=?$", text)
    assert [name for name in options if name in SETTINGS] == list(SETTINGS)
    assert {"config", "check", "show-config", "help", "version", "route-if"} <= set(options)
    assert max(map(len, text.splitlines())) <= 100
    assert " ".join(SETTINGS["port"].help.split()) in " ".join(text.split())


def test_each_help_stands_alone() -> None:
    """
    No help refers to the settings around it: `--help` and pages show single ones.
    """
    for setting in SETTINGS.values():
        assert not re.search(
            r"\b(such a|these origins|such pages|that file|next (two|six|setting))\b", setting.help
        ), setting.name


def test_versions_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """
    `--version` prints our version first, then Twisted's and Python's.
    """
    with pytest.raises(SystemExit) as stopped:
        parse("--version")

    assert not stopped.value.code
    python = ".".join(map(str, sys.version_info[:3]))
    assert capsys.readouterr().out == (
        f"rt_twisted {__version__}, Twisted {twisted_version}, Python {python}\n"
    )
