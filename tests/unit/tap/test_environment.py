"""
Settings from the environment: names, precedence, what has no effect, and workers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from rt_twisted.access.secrets import secret as parse_secret
from rt_twisted.tap import values
from rt_twisted.tap.environment import read_environment
from rt_twisted.tap.setting_values import GivenValue, parse_values, variable_name
from rt_twisted.tap.settings import SECTIONS, SETTINGS
from rt_twisted.tap.show_config import config_lines, mask
from rt_twisted.workers.environment import VARIABLE
from tests.unit.tap.test_settings import built, error_of, file, parse

SAMPLES = (
    "1", "2", "7", "30", "70k", "5m", "https://a.example", "10.0.0.0/8", "http://127.0.0.1:9000/may",
    "k" * 40, "[a-z]+", "amqp://guest@127.0.0.1/", "sample",
)  # fmt: skip


def sample(name: str) -> str:
    """
    Return a text that is valid for the setting *name*, and whose value is not its default.
    """
    default = parse_values(name, [])
    words: list[str] = []
    for text in (*SAMPLES, *words):
        try:
            value = SETTINGS[name].parse(text)
        except ValueError as error:
            words += re.findall(r"[a-z-]+", str(error))  # such as "text or json"
            continue
        if value not in (default, [default]) and [value] != default:
            return text
    for text in words:
        try:
            if SETTINGS[name].parse(text) != default:
                return text
        except ValueError:
            continue
    raise AssertionError(f"add a valid text for {name} to SAMPLES")


def set_all(environment: pytest.MonkeyPatch, **variables: str) -> None:
    """
    Set *variables* of the environment.
    """
    for name, text in variables.items():
        environment.setenv(name, text)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_a_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Each setting of the table is set by `RT_` and its name in capital letters, `-` as `_`.
    """
    variable = "RT_" + name.replace("-", "_").upper()
    text = sample(name)
    monkeypatch.setenv(variable, text)
    options = parse()

    assert options[name] == parse_values(name, [GivenValue(text, "")]) != parse_values(name, [])
    assert options.places[name] == [variable]
    assert options.given(name)


def test_the_command_line_overrides_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The environment overrides the file, and the command line both, also with an empty value.
    """
    set_all(monkeypatch, RT_PORT="81", RT_HISTORY="8", RT_RETRY="9")
    path = file(tmp_path, "port = 80\nhistory = 7\nlinger = 6\n")
    options = parse(f"--config={path}", "--history=9", "--retry=")

    assert [options[name] for name in ("port", "history", "linger", "retry")] == [81, 9, 6.0, 2.0]


def test_an_empty_variable_sets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Compose files pass variables on that are not set as empty ones: the key of the file stays.
    """
    set_all(monkeypatch, RT_HTTP_SECRET="", RT_ROUTE=" \n")
    path = file(tmp_path, "http-secret = battery\nroute = ^/a$ sse:a\n")
    options = parse(f"--config={path}")

    assert (options["http-secret"], options["route"]) == ("battery", ["^/a$ sse:a"])


def test_a_repeatable_setting_has_a_value_in_each_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Values in the environment replace those of the file. An error names variable and line.
    """
    set_all(
        monkeypatch, RT_ROUTE="^/a$ sse:a\n\n  route-if equal:${PATH_INFO};/b sse:b\nbuilt-in\n"
    )
    options = parse(f"--config={file(tmp_path, 'route = ^/c$ sse:c')}")

    assert options["route"] == ["^/a$ sse:a", "route-if equal:${PATH_INFO};/b sse:b", "built-in"]
    assert options.places["route"] == ["RT_ROUTE:1", "RT_ROUTE:3", "RT_ROUTE:4"]
    monkeypatch.setenv("RT_ROUTE", "built-in\n^/$ see:a")
    assert error_of(built).startswith("RT_ROUTE:2: route '^/$ see:a': unknown action 'see'")


def test_a_wrong_value_is_one_sentence_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The error names the variable, and no secret.
    """
    monkeypatch.setenv("RT_PORT", "http")
    assert error_of(parse) == "realtime: RT_PORT must be a number from 0 to 65535, not 'http'"
    monkeypatch.setenv("RT_PORT", "0")
    monkeypatch.setenv("RT_PUBLISH_KEY", "battery news\nfile:/nowhere")
    assert error_of(parse) == (
        "realtime: RT_PUBLISH_KEY:2 must be readable: file /nowhere: No such file or directory"
    )
    monkeypatch.setenv("RT_PUBLISH_KEY", "battery")
    monkeypatch.setenv("RT_HISTORY_FILE", "/a")
    monkeypatch.setenv("RT_BROKER", "redis")
    assert error_of(built) == "RT_HISTORY_FILE: the redis broker has its own history"


def test_the_file_may_be_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    `RT_CONFIG` is `--config`, which overrides it, also with an empty value.
    """
    other = tmp_path / "other.conf"
    other.write_text("port = 82\n")
    monkeypatch.setenv("RT_CONFIG", str(file(tmp_path, "port = 81\n")))

    assert [parse(*one)["port"] for one in ([], ["--config="], [f"--config={other}"])] == [
        81, 8888, 82,
    ]  # fmt: skip


def test_an_unknown_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The note suggests the right name. Variables that settings refer to, and those of worker
    processes, are no mistakes.
    """
    set_all(
        monkeypatch,
        RT_PROT="1", RT_XYZZY="1", RT_KEY="battery", RT_STATS_KEY="env:RT_KEY", RT_CONFG="a",
        RT_TWISTED_CRASH_LOG="3", RT_ORDERS="staple", RT_PUBLISH_KEY="env:RT_ORDERS orders-*",
    )  # fmt: skip

    assert parse().environment_notes() == [
        "RT_CONFG in the environment names no setting; did you mean RT_CONFIG?",
        "RT_PROT in the environment names no setting; did you mean RT_PORT?",
        "RT_XYZZY in the environment names no setting",
    ]


def test_links_to_services_are_ignored() -> None:
    """
    Kubernetes sets `RT_PORT=tcp://...` for a service `rt`, and `RT_REDIS_PORT` for `rt-redis`.
    """
    links = {
        "RT_PORT": "tcp://10.96.3.7:8080",
        "RT_PORT_8080_TCP": "tcp://10.96.3.7:8080",
        "RT_PORT_8080_TCP_ADDR": "10.96.3.7",
        "RT_REDIS_PORT": "tcp://10.96.3.8:6379",
        "RT_REDIS_SERVICE_HOST": "10.96.3.8",
        "RT_REDIS_SERVICE_PORT_MAIN": "6379",
        "RT_SERVICE_HOST": "10.96.3.7",
        "RT_SERVICE_PORT": "8080",
    }
    found = read_environment({**links, "RT_HISTORY": "7"})

    assert list(found.given) == ["history"]
    assert found.unknown == []
    assert list(found.notes(())) == [
        f"ignored links to services in the environment: {', '.join(links)}; "
        "Kubernetes sets none with enableServiceLinks: false"
    ]


def test_a_reload_keeps_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A reload reads files of secrets again; the environment of a process is that of its start.
    """
    key = tmp_path / "key"
    key.write_text("old")
    path = file(tmp_path, "history = 7\nlinger = 6\n")
    set_all(monkeypatch, RT_HISTORY="8", RT_STATS_KEY=f"file:{key}", RT_CONFIG=str(path))
    options = parse()
    monkeypatch.delenv("RT_HISTORY")
    monkeypatch.setenv("RT_LINGER", "5")
    key.write_text("new")
    path.write_text("history = 1\nlinger = 2\n")
    again = options.read_again()

    assert [again[name] for name in ("history", "linger", "stats-key")] == [8, 2.0, "new"]
    assert again.environment_notes() == options.environment_notes() == []


def test_workers_inherit_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A worker has the settings of its parent's environment, with their places, and its reloads too.
    """
    set_all(monkeypatch, RT_HISTORY="8", RT_ROUTE="^/a$ sse:a\nbuilt-in", RT_RETRY="5")
    environment: dict[str, str] = {}
    parse("--retry=3").worker_environment(1, 3, "id", [], []).put(environment)
    monkeypatch.delenv("RT_ROUTE")
    monkeypatch.setenv(VARIABLE, environment[VARIABLE])
    worker = parse()

    for options in (worker, worker.read_again()):
        assert (options["history"], options["retry"]) == (8, 3.0)
        assert options["route"] == ["^/a$ sse:a", "built-in"]
        assert options.places["route"] == ["RT_ROUTE:1", "RT_ROUTE:2"]


# Values of files.


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("port = 80 # the proxy's", "port", 80),
        ("port = 80\t#\tthe proxy's", "port", 80),
        ("export-path = a#b", "export-path", "a#b"),
        ("export-path = #b", "export-path", "#b"),
        ("export-path = a #b", "export-path", "a #b"),
        ("export-path = a# b", "export-path", "a# b"),
        ("http-secret = a#b # c # d", "http-secret", "a#b"),
        ("http-secret = # none", "http-secret", None),
        ("route = ^/a#b$ sse:a # news", "route", ["^/a#b$ sse:a"]),
        ("--port=80 # cyclone-sse", "port", 80),
    ],
)
def test_a_comment_may_stand_behind_a_value(
    line: str, name: str, value: object, tmp_path: Path
) -> None:
    """
    A `#` between blanks begins a comment; any other is part of the value.
    """
    assert parse(f"--config={file(tmp_path, line)}")[name] == value


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("${KEY}", "env:KEY: ${KEY} is not replaced"),
        ("$(KEY)", "env:KEY: $(KEY) is not replaced"),
        (
            "redis://:${PASSWORD}@redis/0",
            "env:PASSWORD, and that variable the whole value: ${PASSWORD} is not replaced",
        ),
    ],
)
def test_a_variable_in_a_secret_is_refused(
    value: str, right: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    `http-secret = ${KEY}` would be the secret itself; the error has the right spelling.
    """
    with pytest.raises(ValueError, match=re.escape(right)):
        parse_secret(value)
    path = file(tmp_path, f"\nhttp-secret = {value}\n")
    assert error_of(parse, f"--config={path}") == f"realtime: {path}:2: http-secret must be {right}"
    monkeypatch.setenv("RT_PUBLISH_KEY", f"{value} news")
    assert error_of(parse) == f"realtime: RT_PUBLISH_KEY must be {right}"


def test_other_dollar_signs_belong_to_a_secret() -> None:
    """
    Only `${NAME}`, and `$(NAME)` alone, are mistaken variables.
    """
    for text in ("a$b", "$2b$12$abc", "x$(y)", "${", "$KEY"):
        assert parse_secret(text) == text


def test_a_variable_as_a_value_is_refused(tmp_path: Path) -> None:
    """
    Other settings are set by their own variable.
    """
    path = file(tmp_path, "listen = ${ADDRESS}\n")

    assert error_of(parse, f"--config={path}") == (
        f"realtime: {path}:1: listen: ${{ADDRESS}} is not replaced; "
        "set RT_LISTEN in the environment"
    )


# --show-config.


def test_all_settings_are_shown_with_their_origins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    `--show-config` prints a settings file with every setting, and where each value comes from.
    """
    path = file(tmp_path, "history = 7\nlinger = 6\n")
    set_all(monkeypatch, RT_HISTORY="8", RT_ROUTE="^/a$ sse:a\nbuilt-in", RT_PROT="1")

    with pytest.raises(SystemExit) as stopped:
        parse(f"--config={path}", "--retry=3", "--show-config")
    out, err = capsys.readouterr()
    lines = out.splitlines()

    assert stopped.value.code == 0
    assert err.startswith("realtime: note: RT_PROT in the environment names no setting")
    assert [line[3:] for line in lines if line.startswith("## ")] == [one for one, _ in SECTIONS]
    for line in (
        "port = 8888 # default",
        "history = 8 # RT_HISTORY",
        f"linger = 6 # {path}:2",
        "retry = 3 # --retry",
        "route = ^/a$ sse:a # RT_ROUTE:1",
        "route = built-in # RT_ROUTE:2",
        "http-secret = # default",
    ):
        assert line in lines


def test_what_is_shown_is_a_settings_file(tmp_path: Path) -> None:
    """
    The output of `--show-config` can be used as a file, with the same values.
    """
    given = {name: [GivenValue(sample(name), "x")] for name in SETTINGS}
    open_ones = {
        name: each
        for name, each in given.items()
        if SETTINGS[name].parse not in values.CONFIDENTIAL
    }
    path = file(tmp_path, "\n".join(config_lines(open_ones)))
    options = parse(f"--config={path}")

    for name, each in open_ones.items():
        assert options[name] == parse_values(name, each)


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("http-secret", "battery", "***"),
        ("http-secret", "battery staple", "***"),
        ("http-secret", "env:KEY", "env:KEY"),
        ("http-secret", "file:/run/secrets/key", "file:/run/secrets/key"),
        ("publish-key", "battery order-* news", "*** order-* news"),
        ("publish-key", "env:KEY news", "env:KEY news"),
        ("token-key", "b" * 32 + " https://issuer.example", "*** https://issuer.example"),
        ("redis-url", "redis://user:battery@redis:6379/0", "redis://***@redis:6379/0"),
        ("redis-url", "redis://:bat/t@ery@redis/0?db=1&password=x", "redis://***@redis/0?***"),
        ("redis-url", "unix:///run/redis.sock?password=battery", "unix:///run/redis.sock?***"),
        ("redis-url", "redis://redis", "redis://redis"),
        ("redis-url", "battery", "***"),
        ("amqp-url", "amqps://u:battery@a,b/v", "amqps://***@a,b/v"),
        ("amqp-password", "guest", "***"),
        ("authorize", "http://u:battery@127.0.0.1/may", "http://***@127.0.0.1/may"),
        (
            "route",
            "^/a sse:a,server=redis://:battery@r,view_key=battery",
            "^/a sse:a,server=://***",
        ),
        ("helper", "./clock --key=battery --key battery", "./clock --key=*** --key ***"),
        ("helper", "sh -c 'PASSWORD=battery ./a'", "sh -c 'PASSWORD=*** ./a'"),
        ("listen", "a\nb\x1b", r"a b\x1b"),
    ],
)
def test_secrets_are_masked(name: str, text: str, shown: str) -> None:
    """
    Secrets are not shown; where they come from, and what they are for, is.
    """
    masked = mask(SETTINGS[name], text)

    assert masked == shown or (name == "route" and "battery" not in masked)


def test_confidential_settings_show_no_sample() -> None:
    """
    No setting with a secret shows its whole value, also one that is new.
    """
    for setting in SETTINGS.values():
        if setting.parse in values.CONFIDENTIAL and not setting.name.endswith("-url"):
            assert "k" * 40 not in mask(setting, "k" * 40)
    assert variable_name("http-secret") == "RT_HTTP_SECRET"


def test_the_daemon_is_built_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The ports of a daemon may come from the environment alone.
    """
    set_all(monkeypatch, RT_PORT="8081", RT_LISTEN="0")
    from rt_twisted.tap.build import build

    reactor: Any = MemoryReactorClock()
    service: Any = build(parse(), reactor)
    service.privilegedStartService()

    assert [(port, interface) for port, _, _, interface in reactor.tcpServers] == [
        (8081, "0.0.0.0")
    ]
