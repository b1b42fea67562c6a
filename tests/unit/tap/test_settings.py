"""
Settings from the command line, the file and the defaults, and errors about wrong ones.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IService
from twisted.internet.testing import MemoryReactorClock
from twisted.python.threadpool import ThreadPool

from rt_twisted.access.keys import Key
from rt_twisted.access.secrets import secret as parse_secret
from rt_twisted.codecs.addresses import Networks
from rt_twisted.tap.build import build
from rt_twisted.tap.options import Options
from rt_twisted.tap.setting_values import GivenValue, SettingError, default_values, parse_values
from rt_twisted.tap.settings import SECTIONS, SETTINGS

ROOT = Path(__file__).parents[3]
TWISTD = (str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "realtime")
SECRETS = (
    "http-secret", "publish-key", "stats-key", "amqp-password", "redis-url", "redis-password"
)  # fmt: skip

# All that cyclone-sse 0.7.7 had, as its own file would say it.
CYCLONE = """\
--port=9000
--listen=127.0.0.1
--app=
--use-ssl=0
--ssl-port=8443
--ssl-listen=127.0.0.1
--ssl-cert=server.crt
--ssl-key=server.key
--broker=http
--http-secret=
--redis-host=127.0.0.1
--redis-port=6379
--amqp-host=127.0.0.1
--amqp-port=5672
--amqp-vhost=/
--amqp-spec=rabbit.xml
--amqp-username=guest
--amqp-password=guest
--amqp-exchange-name=sse-cyclone-server
--amqp-exchange-type=direct
--amqp-channel=1
--export=
--export-host=127.0.0.1
--export-port=0
--export-interval=60
--export-path=cyclone-sse
"""


def test_default_values_are_those_of_an_empty_command_line() -> None:
    """
    `default_values` returns what the settings are without a command line and a file.
    """
    options = parse()

    assert default_values() == {name: options[name] for name in SETTINGS}


def parse(*arguments: str) -> Options:
    """
    Return the options that `twistd realtime` makes of *arguments*.
    """
    options = Options()
    options.parseOptions(list(arguments))
    return options


def error_of(act: Callable[..., object], *arguments: Any) -> str:
    """
    Return the one sentence that *act* fails with for *arguments*.
    """
    with pytest.raises((SystemExit, SettingError)) as stopped:
        act(*arguments)
    sentence = str(stopped.value)
    assert "\n" not in sentence
    return sentence


def built(*arguments: str) -> IService:
    """
    Build the daemon of *arguments*, on a reactor in memory.
    """
    reactor: Any = MemoryReactorClock()
    reactor.getThreadPool = ThreadPool  # for WSGI; no thread is started
    return build(parse(*arguments), reactor)


def file(folder: Path, text: str) -> Path:
    """
    Write a settings file with *text*.
    """
    path = folder / "realtime.conf"
    path.write_text(text)
    return path


def uncommented(text: str) -> str:
    """
    Return etc/realtime.conf with every setting in force.
    """
    return re.sub(r"(?m)^# (?=[a-z-]+ =)", "", text)


# Documents.


def test_the_file_shows_every_setting_with_its_default() -> None:
    """
    etc/realtime.conf has all settings in the order of the table, each with its default.
    """
    text = (ROOT / "etc" / "realtime.conf").read_text()
    shown = re.findall(r"(?m)^# ([a-z-]+) =(?: (.*))?$", text)

    assert shown == [(one.name, one.default) for one in SETTINGS.values()]


def test_the_examples_of_the_file_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The lines that etc/realtime.conf shows for a setting are accepted, all together.
    """
    monkeypatch.setenv("DOOR_CAMERA", "rtsp://user:secret@192.0.2.1/stream")
    monkeypatch.setenv("SOURCE_PASSWORD", "secret")
    text = (ROOT / "etc" / "realtime.conf").read_text()
    examples = re.findall(r"(?m)^##     (route = .+)$", text)
    lines = "\n".join(examples).replace("/srv/uploads", str(tmp_path))

    assert len(examples) > 5
    assert built(f"--config={file(tmp_path, lines)}")


def test_the_page_shows_every_setting_with_its_default() -> None:
    """
    docs/configuration.md has all settings by section, with default and meaning.
    """
    text = (ROOT / "docs" / "configuration.md").read_text()

    for title, settings in SECTIONS:
        section = text.partition(f"### {title}\n")[2].partition("\n#")[0]
        rows = re.findall(r"(?m)^\| `([a-z-]+)`(?:, `-[a-z]`)? \| (.+?) \| (.+) \|$", section)
        assert rows == [
            (one.name, f"`{one.default}`" if one.default else "unset", one.help) for one in settings
        ]


def test_file_and_page_are_up_to_date() -> None:
    """
    extras/describe_settings.py would change nothing.
    """
    script = str(ROOT / "extras" / "describe_settings.py")
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_file_is_valid_with_and_without_comment_signs(tmp_path: Path) -> None:
    """
    Every default may be uncommented, which changes nothing.
    """
    example = ROOT / "etc" / "realtime.conf"
    everything = file(tmp_path, uncommented(example.read_text()))
    default = {name: parse()[name] for name in SETTINGS}

    for path in (example, everything):
        options = parse("--config", str(path))
        assert {name: options[name] for name in SETTINGS} == default
    assert all(options.given(name) == bool(SETTINGS[name].default) for name in SETTINGS)
    assert built("--config", str(everything))


# Reading.


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "0", 0),
        ("port", "65535", 65535),
        ("history", "0", 0),
        ("history", "1000000000", 10**9),
        ("max-batch", "1", 1),
        ("max-body", "0", 0),
        ("max-body", "65536", 65536),
        ("max-body", "64k", 65536),
        ("max-body", "64KB", 65536),
        ("max-body", "2m", 2 << 20),
        ("max-body", "1G", 1 << 30),
        ("history-age", "0", 0.0),
        ("history-age", "30", 30.0),
        ("history-age", "1.5s", 1.5),
        ("history-age", "10m", 600.0),
        ("history-age", "2h", 7200.0),
        ("history-age", "1D", 86400.0),
        ("head-seconds", "0.1", 0.1),
        ("use-ssl", "1", True),
        ("use-ssl", "Yes", True),
        ("use-ssl", "true", True),
        ("use-ssl", "on", True),
        ("use-ssl", "2", True),  # cyclone-sse: any number but 0
        ("use-ssl", "0", False),
        ("use-ssl", "no", False),
        ("use-ssl", "FALSE", False),
        ("use-ssl", "off", False),
        ("slow", "skip", "skip"),
        ("export-protocol", "tcp", "tcp"),
        ("listen", "::1", "::1"),
        ("channel-pattern", "[a-z]+", "[a-z]+"),
        ("origins", "https://a.example, https://b.example", {"https://a.example", "https://b.example"}),
        ("origins", "*", {"*"}),
        ("origins", "http://localhost:3000 null", {"http://localhost:3000", "null"}),
        ("websocket-origins", "same capacitor://localhost", {"same", "capacitor://localhost"}),
        ("trusted-proxies", "127.0.0.1 unix", Networks.of(("127.0.0.1", "unix"))),
        ("trusted-proxies", "0:0::1 10.0.0.0/8", Networks.of(("::1", "10.0.0.0/8"))),
        ("http-secret", "grandmother", "grandmother"),
    ],
)  # fmt: skip
def test_values_are_parsed(name: str, text: str, value: object) -> None:
    """
    Numbers, sizes, times, switches, words and patterns are parsed.
    """
    assert parse(f"--{name}={text}")[name] == value


@pytest.mark.parametrize(
    ("name", "text", "must_be"),
    [
        ("port", "65536", "a number from 0 to 65535, not '65536'"),
        ("port", "-1", "a number from 0 to 65535, not '-1'"),
        ("port", "http", "a number from 0 to 65535, not 'http'"),
        ("port", "٨٠", "a number from 0 to 65535, not '٨٠'"),
        ("max-batch", "0", "a number from 1 to 100000, not '0'"),
        ("history", "many", "a number from 0 to 1000000000, not 'many'"),
        ("max-body", "2 m", "a size such as 65536, 64k, 1m or 1g, not '2 m'"),
        ("max-body", "1t", "a size such as 65536, 64k, 1m or 1g, not '1t'"),
        ("history-age", "1w", "a time such as 30, 30s, 10m, 1h or 1d, not '1w'"),
        ("history-age", "-1", "a time such as 30, 30s, 10m, 1h or 1d, not '-1'"),
        ("head-seconds", "0", "a time from 0.1 s to 1d, not '0'"),
        ("use-ssl", "maybe", "1 or 0 (or yes or no), not 'maybe'"),
        ("slow", "wait", "disconnect or skip, not 'wait'"),
        ("channel-pattern", "(", "a regular expression (missing ), unterminated subpattern at "
         "position 0), not '('"),
        *((name, text, "origins such as https://www.example.org, in lower case, no path, "
           f"not '{text}'") for name in ("origins", "websocket-origins")
          for text in ("https://a.example/", "a.example", "https://A.example", "https://*.example")),
        *(("authorize-headers", text, "names of headers that questions do not have of their own, "
           f"not '{text}'") for text in ("X-Trace X-Channels", "host", "*")),
        *(("trusted-proxies", text, "addresses or networks such as 10.0.0.5 or 10.0.0.0/8, "
           f"not '{text}'") for text in ("10.0.0.1/8", "10.0.0.0/33", "nginx", "unix:/run/x")),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_sentence_with_its_place(
    name: str, text: str, must_be: str, tmp_path: Path
) -> None:
    """
    The error names the file and line or the option, the setting, and the values that are valid.
    """
    path = file(tmp_path, f"# a comment\n\n{name} = {text}\n")

    by_file = error_of(parse, "--config", str(path))
    assert by_file == f"realtime: {path}:3: {name} must be {must_be}"
    assert error_of(parse, f"--{name}={text}") == f"realtime: --{name} must be {must_be}"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("port 8080", "'port' is not 'name = value'"),
        ("histroy = 5", "there is no setting 'histroy'; did you mean 'history'?"),
        ("--ssl-prot=5", "there is no setting 'ssl-prot'; did you mean 'ssl-port'?"),
        ("Port = 80", "there is no setting 'Port'; did you mean 'port'?"),
        ("xyzzy = 5", "there is no setting 'xyzzy'"),
        ("config = other.conf", "there is no setting 'config'"),
        ("= 5", "there is no setting ''"),
    ],
)
def test_a_wrong_line_is_one_sentence_with_its_place(
    line: str, sentence: str, tmp_path: Path
) -> None:
    """
    The error about an unknown name suggests the most similar known one, if there is any.
    """
    path = file(tmp_path, f"port = 8080\n{line}\n")

    assert error_of(parse, "--config", str(path)) == f"realtime: {path}:2: {sentence}"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """
    The error names a file that is missing, a folder, or not text.
    """
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")

    missing = tmp_path / "missing"
    assert error_of(parse, f"--config={missing}") == (
        f"realtime: {missing}: No such file or directory"
    )
    assert error_of(parse, f"--config={tmp_path}") == f"realtime: {tmp_path}: Is a directory"
    assert error_of(parse, f"--config={binary}") == f"realtime: {binary}: not UTF-8"


def test_blanks_and_comments_are_ignored(tmp_path: Path) -> None:
    """
    Blanks around names and values are ignored; quotes and hash signs within a value belong to
    it.
    """
    path = file(tmp_path, '\n  # port = 1\n\tport=80 \r\nexport-path  =  "a#b"\n')
    options = parse("--config", str(path))

    assert (options["port"], options["export-path"]) == (80, '"a#b"')


# Precedence.


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    """
    The file overrides the default, and the command line both, wherever --config stands.
    """
    path = file(tmp_path, "history = 7\nretry = 8\n")

    for arguments in (["--history=9", f"--config={path}"], ["-c", str(path), "--history=9"]):
        options = parse(*arguments)
        assert (options["history"], options["retry"], options["linger"]) == (9, 8.0, 60.0)


def test_an_empty_value_is_an_unset_one(tmp_path: Path) -> None:
    """
    An empty value restores the default; on the command line it also overrides the file.
    """
    path = file(tmp_path, "history = 7\nhttp-secret = x\npublish-key = y news\nroute = ^/$ sse\n")
    options = parse(
        "--config", str(path), "--history=", "--http-secret=", "--publish-key=", "--route="
    )

    assert options["history"] == 256
    assert options["http-secret"] is None
    assert options["publish-key"] == options["route"] == []
    assert not any(map(options.given, ("history", "http-secret", "publish-key", "route")))


def test_the_last_value_counts(tmp_path: Path) -> None:
    """
    Of several values in one place the last counts, also an empty one.
    """
    path = file(tmp_path, "port = 1\nport = 2\nretry = 5\nretry =\n")
    options = parse("--config", str(path), "--history=3", "--history=4")

    assert (options["port"], options["retry"], options["history"]) == (2, 2.0, 4)


def test_repeated_settings_keep_their_order(tmp_path: Path) -> None:
    """
    All values come from the command line, or all from the file.
    """
    path = file(tmp_path, "route = ^/a$ sse:a\nport = 80\nroute = ^/b$ sse:b\n")
    from_file = parse("--config", str(path))
    overridden = parse("--config", str(path), "--route=^/c$ sse:c", "--route=^/d$ sse:d")

    assert from_file["route"] == ["^/a$ sse:a", "^/b$ sse:b"]
    assert from_file.places["route"] == [f"{path}:1", f"{path}:3"]
    assert overridden["route"] == ["^/c$ sse:c", "^/d$ sse:d"]


@pytest.mark.parametrize(
    ("arguments", "listening"),
    [
        ((), [8888]),
        (("--port=80",), [80]),
        (("-p", "80"), [80]),
        (("--endpoint=tcp:81",), [81]),
        (("--endpoint=tcp:81", "--endpoint=tcp:82"), [81, 82]),
        (("--endpoint=tcp:81", "--port=80"), [81, 80]),
        (("--endpoint=tcp:81", "--port="), [81]),
    ],
)
def test_ports_and_endpoints(arguments: tuple[str, ...], listening: list[int]) -> None:
    """
    The daemon listens on the port, or on the endpoints, and then on the port if it is set too.
    """
    reactor = MemoryReactorClock()
    service: Any = build(parse(*arguments), reactor)
    service.privilegedStartService()

    assert [port for port, *_ in reactor.tcpServers] == listening


@pytest.mark.parametrize(
    ("listen", "interface"),
    [("0", "0.0.0.0"), ("0.0.0.0", "0.0.0.0"), ("::", "::"), ("", "127.0.0.1"), ("::1", "::1")],
)
def test_addresses_to_bind(listen: str, interface: str) -> None:
    """
    `-l 0` is all of IPv4, as in cyclone-sse; colons need no escape.
    """
    reactor = MemoryReactorClock()
    service: Any = build(parse("-l", listen), reactor)
    service.privilegedStartService()

    assert reactor.tcpServers[0][3] == interface


# Secrets.


def test_a_secret_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Blanks at the ends of a file are not part of the secret; other prefixes are.
    """
    kept = tmp_path / "secret"
    kept.write_text("  from the file \n")
    monkeypatch.setenv("RT_SECRET", "from the environment")

    assert parse_secret(f"file:{kept}") == "from the file"
    assert parse_secret("env:RT_SECRET") == "from the environment"
    assert parse_secret("other:thing") == "other:thing"
    assert parse(f"--stats-key=file:{kept}")["stats-key"] == "from the file"
    assert parse("--amqp-password=env:RT_SECRET")["amqp-password"] == "from the environment"


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    """
    Some editors write one at the beginning of settings and secrets.
    """
    secret, config = tmp_path / "secret", tmp_path / "conf"
    secret.write_bytes(b"\xef\xbb\xbfhush\n")
    config.write_bytes(b"\xef\xbb\xbfstats-key = file:%s\n" % str(secret).encode())

    assert parse(f"--config={config}")["stats-key"] == "hush"


def test_a_publish_key_has_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The secret comes first, then the channels; `*` matches any characters.
    """
    monkeypatch.setenv("RT_SECRET", "battery")
    orders, everything = parse("--publish-key=env:RT_SECRET order-* stock", "--publish-key=x")[
        "publish-key"
    ]

    assert isinstance(orders, Key)
    assert orders.secret == b"battery"
    names = ("order-1", "stock", "stocks", "border-1")
    assert [orders.permits(name) for name in names] == [True, True, False, False]
    assert everything.permits("anything")


@pytest.mark.parametrize("name", SECRETS)
def test_a_missing_secret_is_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A missing file, an empty one and an unset variable are errors, never an empty secret.
    """
    monkeypatch.delenv("RT_SECRET", raising=False)
    empty = file(tmp_path, "\n")
    option = f"--{name}"

    for value, words in (
        ("env:RT_SECRET", "a secret: env:RT_SECRET is empty"),
        (f"file:{empty}", f"a secret: file:{empty} is empty"),
        ("file:/nowhere/it/is", "readable: file /nowhere/it/is: No such file or directory"),
    ):
        sentence = error_of(parse, f"{option}={value}")
        assert sentence == f"realtime: {option} must be {words}"


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_never_shown(name: str) -> None:
    """
    No error text and no repr contains a secret.
    """
    secret = "grandmother"
    value = parse_values(name, [GivenValue(secret, "here")])

    assert secret not in repr(value) or isinstance(value, str)
    options = (f"--{name}={secret}", "--port=x")
    assert secret not in error_of(parse, *options)
    assert secret not in error_of(built, f"--{name}={secret}", "--broker=nosuch")


def test_a_publish_key_of_blanks_is_an_error() -> None:
    """
    Quoted blanks are not a key.
    """
    sentence = error_of(parse, "--publish-key= ")

    assert sentence.startswith("realtime: --publish-key must be ")
    assert "unpack" not in sentence


# Wiring.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--redis-url=http://a", "--broker=redis"], "does not begin with http://"),
        (["--redis-url=a", "--redis-port=1", "--broker=redis"], "redis-port is set too"),
        (["--redis-ca=no.pem", "--broker=redis"], "no.pem: No such file"),
        (["--redis-plain-prefix=ab", "--redis-prefix=a", "--broker=redis"], "daemon's own"),
        (["--amqp-spec=no.xml", "--broker=amqp"], "no.xml: No such file"),
        (["--amqp-ca=x", "--broker=amqp"], "certificates need amqp-tls"),
        (["--amqp-ca=no.pem", "--amqp-tls=1", "--broker=amqp"], "no.pem: No such file"),
        (
            ["--amqp-port=1", "--amqp-url=amqp://a/", "--broker=amqp"],
            "amqp-url has this value already",
        ),
        (["--amqp-pattern=a.#", "--broker=amqp"], "only a topic exchange has patterns"),
        (
            ["--amqp-exchange-type=direct", "--amqp-stream=log", "--broker=amqp"],
            "a direct exchange has no binding for all channels",
        ),
        (["--broker=carrier"], "unknown broker 'carrier'; there are: amqp, http, memory, redis"),
        (
            ["--broker=no.such.Broker"],
            "no module 'no' is found: install it, or add its folder to PYTHONPATH",
        ),
        (["--broker=builtins.dict"], "builtins.dict:"),
        (["--export=statsd"], "unknown exporter 'statsd'; there are: graphite"),
        (["--export=graphite"], "graphite needs export-host"),
        (["--export=graphite", "--export-host=x"], "graphite needs export-port"),
        (
            ["--export=graphite", "--export-host=x", "--export-port=0"],
            "graphite needs export-port",
        ),
        (
            ["--export-path=a b", "--export=graphite", "--export-host=x", "--export-port=1"],
            "graphite's path is words with dots between, not 'a b'",
        ),
        (["--app=no.such.app"], "cannot load no.such.app"),
        (["--app=builtins.print"], "builtins.print: "),
        (["--credentials=1"], "credentials require a list of origins"),
        (["--access-log=/nowhere/at/all"], "/nowhere/at/all: No such file or directory"),
        (["--use-ssl=1", "--ssl-cert=/nowhere"], "/nowhere"),
        (["--endpoint=carrier:pigeon"], "cannot listen on carrier:pigeon: Unknown"),
        (["--endpoint=tcp"], "cannot listen on tcp: "),
        (
            ["--route=^/$"],
            "route '^/$': a route is '[METHOD] REGEX ACTION[:ARGUMENTS]', or built-in",
        ),
        (["--route=^/( sse:a"], "is not a regular expression"),
        (["--route=^/$ see:a"], "unknown action 'see'; there are: admin, "),
        (["--route=^/$ sse:$1"], "$1 needs a pattern with 1 groups, this one has 0"),
        (["--route=^/$ sse:${qs}"], "unknown variable ${qs}"),
        (["--route=^/$ sse:subscribe=a,history=x"], "history= must be a whole number, not 'x'"),
        (
            ["--route=^/$ sse:subscribe=a,slow=x"],
            "slow= must be one of disconnect, skip, sync, newest, not 'x'",
        ),
        (["--route=^/$ sse:subscribe=a,color=red"], "has no argument 'color'; it has: subscribe"),
        (["--route=^/$ page:a"], "page: has no file 'a'"),
        (["--route=^/$ static:/nowhere/at/all"], "there is no /nowhere/at/all"),
        (["--route=^/$ no.such.Action"], "cannot load no.such.Action"),
        (["--route=^/$ builtins.dict"], "builtins.dict is not a dataclass"),
        (["--route=^/$ wsgi:no.such:app"], "cannot load no.such.app"),
    ],
    ids=str,
)
def test_a_daemon_that_cannot_be_built_is_one_sentence(arguments: list[str], words: str) -> None:
    """
    The error names the option and the reason.
    """
    sentence = error_of(built, *arguments)

    assert sentence.startswith(arguments[0].partition("=")[0] + ": ")
    assert words in sentence


@pytest.mark.parametrize(
    "line",
    [
        "^/$ static:{folder}",
        "^/$ resource:twisted.web.resource.Resource",
        "^/$ wsgi:wsgiref.simple_server:demo_app",
        "^/$ page",
        "^/$ stats",
        "POST ^/$ publish:news",
        r"^/news$ sse:lotofnews",
        r"^/events/(\d+)$ sse:channel_$1",
        r"^/foobar sse:server=127.0.0.1:4040,subscribe=foobar",
        r"^/raw$ sseraw:subscribe=a\:b,subscribe=${qs[x]},history=3,retry=0,slow=skip,ids=no",
    ],
)
def test_every_route_word_can_be_used(line: str, tmp_path: Path) -> None:
    """
    Each word accepts the arguments that the documentation shows; lines of uWSGI work unchanged.
    """
    assert built("--route=" + line.replace("{folder}", str(tmp_path)))


def test_the_place_of_a_wrong_route_is_its_line(tmp_path: Path) -> None:
    """
    Of several routes the error names the line of the wrong one.
    """
    path = file(tmp_path, "route = ^/a$ sse:a\n\nroute = ^/b$ istream\n")

    assert error_of(built, "--config", str(path)) == (
        f"{path}:3: route '^/b$ istream': action 'istream' needs publish="
    )


# cyclone-sse.


def test_a_file_of_cyclone_sse_is_accepted(tmp_path: Path) -> None:
    """
    Its options mean the same by --config and on the command line.
    """
    path = file(tmp_path, CYCLONE)

    for arguments in (CYCLONE.split(), ["--config", str(path)]):
        options = parse(*arguments)
        assert options["port"] == 9000
        assert options["app"] is options["export"] is options["http-secret"] is None
        assert options["export-port"] == 0
        assert options["export-interval"] == 60.0
        assert built(*arguments)


def test_defaults_are_those_of_cyclone_sse() -> None:
    """
    Users of cyclone-sse who gave no option need none here.
    """
    options = parse()
    pairs = dict(line.removeprefix("--").split("=", 1) for line in CYCLONE.splitlines())
    named = {name: text for name, text in pairs.items() if text and name != "port"}
    del named["export-port"], named["export-host"]  # none there by default
    del named["amqp-spec"]  # ours comes with the package

    assert options["port"] == 8888
    for name, text in named.items():
        assert options[name] == parse_values(name, [GivenValue(text, "")]), name


# As a command.


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """
    Run the real twistd with *arguments*.
    """
    return subprocess.run(
        [*TWISTD, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_check_accepts_valid_settings(tmp_path: Path) -> None:
    """
    The exit status is 0, and nothing is started: the port may be in use.
    """
    path = file(tmp_path, uncommented((ROOT / "etc" / "realtime.conf").read_text()))
    done = run("--config", str(path), "--check", folder=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "realtime: the settings are right\n"


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["start", "check"])
@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--port=x", "realtime: --port must be a number from 0 to 65535, not 'x'\n"),
        (
            "--route=^/$ istream",
            "route '^/$ istream': action 'istream' needs publish=\n",
        ),
        ("--app=no.such.app", "no.such.app"),
        ("--access-log=/nowhere/at/all", "No such file or directory\n"),
    ],
)
def test_a_wrong_setting_ends_the_start(
    option: str, sentence: str, check: tuple[str, ...], tmp_path: Path
) -> None:
    """
    The sentence is on standard error without a traceback, and the exit status is 1.
    """
    done = run(option, *check, folder=tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("realtime: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--prot=80", "there is no setting 'prot'; did you mean 'port'?"),
        ("--logfile=x", "--logfile is an option of twistd: put it before the word realtime"),
        ("--port", "option --port requires argument"),
        ("my.conf", "'my.conf' is not an option"),
    ],
)
def test_an_unknown_option_ends_the_start(option: str, sentence: str, tmp_path: Path) -> None:
    """
    One sentence without the whole help, and exit status 1.
    """
    done = run(option, folder=tmp_path)

    assert (done.returncode, done.stderr) == (1, f"realtime: {sentence}\n")


def test_help_shows_every_setting(tmp_path: Path) -> None:
    """
    `twistd realtime --help` shows all settings with their defaults.
    """
    shown = run("--help", folder=tmp_path).stdout

    for name in SETTINGS:
        assert f"--{name}=" in shown
    assert "[default: 8888]" in shown


@pytest.mark.parametrize(
    ("endpoint", "mode"),
    [
        ("unix:/run/rt.sock", 0o660),
        ("unix:/run/rt.sock:lockfile=0", 0o660),
        (r"unix:/run/a\:mode\=7:backlog=9", 0o660),
        ("unix:address=/run/rt.sock", 0o660),
        ("haproxy:unix:/run/rt.sock", 0o660),
        ("unix:/run/rt.sock:mode=666", 0o666),
        ("unix:/run/rt.sock:600", 0o600),
        ("haproxy:unix:/run/rt.sock:mode=600", 0o600),
    ],
)
def test_unix_sockets_are_for_the_user_and_the_group(endpoint: str, mode: int) -> None:
    """
    The mode is 660 unless the endpoint has another: a process that can connect counts as this
    machine.
    """
    reactor: Any = MemoryReactorClock()
    build(parse(f"--endpoint={endpoint}"), reactor).privilegedStartService()

    assert [each[3] for each in reactor.unixServers] == [mode]
