"""
Every setting, once: its name, its default, what it means, how it is read.

The command line and the file of `--config` use the same words. The names of
cyclone-sse's options are its own, and mean what they meant there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rt_twisted.access.channel_names import CHANNEL_PATTERN
from rt_twisted.access.keys import Key
from rt_twisted.codecs.addresses import AddressHeader, Networks
from rt_twisted.codecs.amqp_url import AmqpUrl, parse_amqp_url
from rt_twisted.codecs.origins import is_origin

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DAY = 86400.0
_HEADER = re.compile(r"\*|[!#$%&'+.^_`|~0-9A-Za-z-]{1,200}")  # RFC 9110, 5.6.2
_TRUTH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


class SettingError(Exception):
    """
    One sentence: where, and what is wrong.
    """


@dataclass(frozen=True, slots=True)
class Setting:
    """
    One line of the table.

    Args:
        name: as on the command line, without the dashes.
        default: as a user would write it; "" for unset.
        read: text to value; raises ValueError with the rest of the sentence
            "NAME must be ...".
        help: one or two sentences.
        short: a letter, or "".
        repeated: may be given several times; its value is a list.
    """

    name: str
    default: str
    read: Callable[[str], Any]
    help: str
    short: str = ""
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class GivenValue:
    """
    A setting's value and where it stands, for error messages.
    """

    text: str
    place: str


def _text(value: str) -> str:
    return value


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", value) or not least <= int(value) <= most:
            raise ValueError(f"a number from {least} to {most}")
        return int(value)

    return read


_port = _number(0, 65535)
_count = _number(0, 10**9)


def _size(value: str) -> int:
    found = re.fullmatch(r"([0-9]{1,12})([kmg]?)b?", value.lower())
    if found is None:
        raise ValueError("a size such as 65536, 64k, 1m or 1g")
    return int(found[1]) * _UNITS[found[2]]


def _seconds(value: str) -> float:
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", value.lower())
    if found is None:
        raise ValueError("a time such as 30, 30s, 10m, 1h or 1d")
    return float(found[1]) * _SECONDS[found[2]]


def _some_seconds(value: str) -> float:
    seconds = _seconds(value)
    if not 0.1 <= seconds <= _DAY:
        raise ValueError("a time from 0.1 s to 1d")
    return seconds


def _from_a_second(value: str) -> float:
    seconds = _seconds(value)
    if not 1 <= seconds <= _DAY:
        raise ValueError("a time from 1 s to 1d")
    return seconds


def _never_or_from_two(value: str) -> float:
    seconds = _seconds(value)
    if seconds and not 2 <= seconds <= _DAY:
        raise ValueError("0, or a time from 2 s to 1d")
    return seconds


def _up_to_a_day(value: str) -> float:
    seconds = _seconds(value)
    if seconds > _DAY:
        raise ValueError("a time of up to 1d")
    return seconds


def _switch(value: str) -> bool:
    if value.isdigit():
        return int(value) != 0  # as cyclone-sse had it
    try:
        return _TRUTH[value.lower()]
    except KeyError:
        raise ValueError("1 or 0 (or yes or no)") from None


def _choice(*words: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in words:
            raise ValueError(" or ".join(words))
        return value

    return read


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:
        raise ValueError(f"a regular expression ({error})") from None
    return value


def _words(value: str) -> frozenset[str]:
    return frozenset(re.split(r"[\s,]+", value.strip()))


def _origins(*words: str) -> Callable[[str], frozenset[str]]:
    """
    Origins, or one of *words*. Written otherwise than browsers send it, such as with a
    slash behind it, an origin would never be met, and nobody would say so.
    """

    def read(value: str) -> frozenset[str]:
        found = _words(value)
        if not all(each in words or is_origin(each) for each in found):
            raise ValueError("origins such as https://www.example.org, in lower case, no path")
        return found

    return read


def _headers(value: str) -> frozenset[str]:
    found = _words(value)
    if not all(map(_HEADER.fullmatch, found)):
        raise ValueError("names of headers, separated by blanks, or *")
    return found


def _networks(value: str) -> Networks:
    try:
        return Networks.of(_words(value))
    except ValueError:
        raise ValueError("addresses or networks such as 10.0.0.5 or 10.0.0.0/8") from None


def read_secret(value: str) -> str:
    """
    A secret as it is, from a file (`file:PATH`), or from the environment
    (`env:NAME`).

    Raises:
        ValueError: there is no such file or variable, or it is empty.
    """
    kind, _, rest = value.partition(":")
    if kind == "file":
        try:
            secret = Path(rest).read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise ValueError(f"readable: file {rest}: {reason}") from None
    elif kind == "env":
        secret = os.environ.get(rest, "")
    else:
        return value
    if not secret:
        raise ValueError(f"a secret: {value} is empty")
    return secret


def _amqp_url(value: str) -> AmqpUrl:
    return parse_amqp_url(read_secret(value))


def _key(value: str) -> Key:
    if not value.strip():
        raise ValueError("a secret, then patterns of channel names")
    secret, *patterns = value.split()
    return Key.of(read_secret(secret), patterns)


# A table: the formatter would give each setting ten lines.
# fmt: off
SECTIONS: tuple[tuple[str, tuple[Setting, ...]], ...] = (
    ("Where it listens", (
        Setting("port", "8888", _port, short="p", help=
            "TCP port for plain HTTP; 0 takes any that is free."),
        Setting("listen", "127.0.0.1", _text, short="l", help=
            "Address to bind; 0 or 0.0.0.0 for all of IPv4, :: for IPv6 too."),
        Setting("endpoint", "", _text, repeated=True, help=
            "A Twisted endpoint to listen on, such as unix:/run/realtime.sock, "
            "systemd:domain=INET:index=0, tcp:8080 or haproxy:tcp:8081 (the PROXY protocol); may "
            "be repeated. The port is then listened on only if it is set too."),
        Setting("use-ssl", "0", _switch, help=
            "Also listen for TLS, with HTTP/2 and HTTP/1.1. SIGHUP reads certificates again."),
        Setting("ssl-port", "8443", _port, help=
            "TCP port for TLS."),
        Setting("ssl-listen", "127.0.0.1", _text, help=
            "Address to bind for TLS."),
        Setting("ssl-cert", "server.crt", _text, repeated=True, help=
            "Certificate file (PEM), the chain behind it; may be repeated, each with its "
            "ssl-key: the name a client asks for decides, the first is for all others."),
        Setting("ssl-key", "server.key", _text, repeated=True, help=
            "Key file (PEM)."),
        Setting("dead-after", "90", _some_seconds, help=
            "A peer that has not acknowledged anything for so long is gone."),
        Setting("stop-seconds", "5", _seconds, help=
            "On SIGTERM, the time that running requests have to finish."),
        Setting("reuse-port", "0", _switch, help=
            "Let a second daemon of the same user listen on the same ports, and take over all "
            "new connections: start the new one, then end the old one."),
        Setting("workers", "1", _number(1, 256), help=
            "Processes that share the ports, one for each core; more than one need a broker "
            "outside them, such as redis. What limits readers and memory is divided among them."),
        Setting("worker-timeout", "60", _never_or_from_two, help=
            "A worker that has said nothing to its parent for so long hangs: it is ended, and "
            "another takes its place. 0 waits for ever."),
        Setting("log-level", "info", _choice("debug", "info", "warn", "error"), help=
            "Lines of the daemon's log from this level on; debug has one for each attempt."),
        Setting("log-format", "text", _choice("text", "json"), help=
            "How the lines of the daemon's log look; where they go is twistd's --logfile."),
    )),
    ("What it serves", (
        Setting("route", "", _text, repeated=True, help=
            "[METHOD] REGEX ACTION[:ARGUMENTS], as in uWSGI; may be repeated, the first that "
            "matches decides. Without any: / streams, /ws is a websocket, /publish publishes, "
            "/stats and /metrics count, /healthz and /readyz say how it is, /try is a page to "
            "try it all."),
        Setting("app", "", _text, short="r", help=
            "Dotted name of a function that takes (settings, hub) and returns the twisted.web "
            "resource for what no route claims."),
        Setting("origins", "*", _origins("*", "null"), help=
            "Origins whose pages may read responses (CORS), separated by blanks; "
            "https://*.example.org for all subdomains of a host, file:// and null for files, "
            "* for every one."),
        Setting("credentials", "0", _switch, help=
            "Whether pages of these origins may send cookies; needs a list of origins."),
        Setting("allowed-headers", "*", _headers, help=
            "Request headers that pages of these origins may send beside those that the daemon "
            "reads itself, separated by blanks; * for those that a page asks for."),
        Setting("exposed-headers", "", _headers, help=
            "Response headers that such pages may read beside ETag and Retry-After, separated "
            "by blanks; * for all, which needs credentials = 0."),
        Setting("access-log", "", _text, help=
            "File to which a line per response is appended, without queries, cookies and keys; "
            "- for standard output."),
        Setting("trusted-proxies", "", _networks, help=
            "Addresses and networks (10.0.0.0/8) of proxies whose header with the client's address "
            "is used, separated by blanks; unix for those that come by a unix socket."),
        Setting("client-address-header", "x-forwarded-for", _choice(*AddressHeader), help=
            "The header in which trusted proxies give the client's address: x-forwarded-for, "
            "forwarded (RFC 7239) or x-real-ip. They must set it, or append to it."),
        Setting("proxy-protocol-senders", "127.0.0.1 ::1 unix", _networks, help=
            "Addresses and networks that may connect to haproxy: endpoints, separated by blanks: "
            "whoever sends a PROXY header can claim any client address."),
    )),
    ("Publishing", (
        Setting("http-secret", "", read_secret, help=
            "Key that may publish to every channel. This and every other secret may be "
            "file:PATH or env:NAME. Without any key only this machine may publish."),
        Setting("publish-key", "", _key, repeated=True, help=
            "SECRET [PATTERN ...]: a further key, for channels whose names match a pattern (* "
            "stands for any characters); may be repeated."),
        Setting("max-body", "2m", _size, help=
            "Bytes of a request's body, to publish or to an application behind."),
        Setting("max-message", "1m", _size, help=
            "Bytes of one message."),
        Setting("inbound-memory", "64m", _size, help=
            "Bytes of request bodies and websocket messages that are not complete yet, of all "
            "connections together. Above half of it reading pauses, and while others wait, "
            "input of which less than 4k a second comes is refused (503, or close code 1013), "
            "above it the oldest. 0 for no limit."),
        Setting("max-batch", "1000", _number(1, 100_000), help=
            "Messages in one request."),
        Setting("trim", "0", _switch, help=
            "Strip white space around messages and blank control characters in them, as "
            "cyclone-sse did."),
    )),
    ("Brokers", (
        Setting("broker", "http", _text, help=
            "What carries messages: http (or memory) is the one in the process; redis; amqp is "
            "RabbitMQ; or the dotted name of your own, called with (reactor, settings)."),
        Setting("redis-url", "", read_secret, help=
            "Where redis is: redis://user:password@host:port/db, rediss:// for TLS, "
            "unix:///path?db=0, or sentinel://host:port,host:port/master/db; instead of the next "
            "two settings."),
        Setting("redis-host", "127.0.0.1", _text, help=
            "Host of redis."),
        Setting("redis-port", "6379", _port, help=
            "Port of redis."),
        Setting("redis-username", "", _text, help=
            "User of redis, unless the URL has one."),
        Setting("redis-password", "", read_secret, help=
            "Password of redis, unless the URL has one."),
        Setting("redis-ca", "", _text, help=
            "File with the certificates (PEM) that may vouch for redis; without, the system's."),
        Setting("redis-client-cert", "", _text, help=
            "Certificate file (PEM), the chain behind it, that the daemon presents to redis "
            "(rediss://); read for each connection."),
        Setting("redis-client-key", "", _text, help=
            "Its key file (PEM); without, the key is in the file of redis-client-cert."),
        Setting("redis-prefix", "realtime:", _text, help=
            "What all keys in redis begin with; daemons with the same one share one log."),
        Setting("redis-plain", "1", _switch, help=
            "Whether a plain PUBLISH of redis reaches the channel of that name."),
        Setting("redis-plain-prefix", "", _text, help=
            "What stands in front of the channel's name there."),
        Setting("redis-wait", "0", _up_to_a_day, help=
            "How long a message waits for a redis that is away before its publisher gets 503."),
        Setting("redis-timeout", "5", _some_seconds, help=
            "How long redis may take to answer before the connection is given up."),
        Setting("amqp-url", "", _amqp_url, help=
            "Where the AMQP server is, amqp://user:password@host:port/vhost, or amqps:// for "
            "TLS; several hosts with commas between them; instead of the next six settings."),
        Setting("amqp-host", "127.0.0.1", _text, help=
            "Host of the AMQP server. Several, HOST or HOST:PORT with commas between them, are "
            "tried in this order, the next one after each failure."),
        Setting("amqp-port", "5672", _port, help=
            "Its port."),
        Setting("amqp-vhost", "/", _text, help=
            "Its virtual host."),
        Setting("amqp-username", "guest", _text, help=
            "AMQP user."),
        Setting("amqp-password", "guest", read_secret, help=
            "AMQP password."),
        Setting("amqp-tls", "0", _switch, help=
            "Whether to speak TLS to it; its certificate must be for the host's name."),
        Setting("amqp-ca", "", _text, help=
            "File with the certificates (PEM) that may vouch for it; without, the system's."),
        Setting("amqp-client-cert", "", _text, help=
            "Certificate file (PEM), the chain behind it, that the daemon presents to the AMQP "
            "server; read for each connection."),
        Setting("amqp-client-key", "", _text, help=
            "Its key file (PEM); without, the key is in the file of amqp-client-cert."),
        Setting("amqp-heartbeat", "10", _number(0, 65535), help=
            "Seconds between heartbeats; after two of them without a word the server is gone. "
            "0 for none."),
        Setting("amqp-exchange-name", "sse-cyclone-server", _text, help=
            "AMQP exchange; it is declared if it is not there."),
        Setting("amqp-exchange-type", "direct", _choice("direct", "topic", "fanout", "headers"),
            help=
            "Its type. With direct and topic the routing key is the channel, with headers the "
            "header named channel; with fanout every node gets everything. With a stream: topic "
            "unless it is set."),
        Setting("amqp-durable", "0", _switch, help=
            "Whether the exchange is declared to outlive the AMQP server's restarts. What is "
            "set here must be what it was declared with elsewhere."),
        Setting("amqp-passive", "0", _switch, help=
            "Whether the exchange has to be there already, however it was declared."),
        Setting("amqp-pattern", "", _text, help=
            "For a topic exchange: one pattern, such as news.#, that is bound for all channels, "
            "instead of a binding for each that is read."),
        Setting("amqp-persistent", "0", _switch, help=
            "Whether messages published here outlive the AMQP server's restarts, in others' "
            "queues; in a stream all do."),
        Setting("amqp-prefetch", "1000", _number(1, 65535), help=
            "Messages on their way to this node at once."),
        Setting("amqp-channel", "1", _number(1, 65534), help=
            "AMQP channel number."),
        Setting("amqp-spec", "", _text, help=
            "AMQP specification file; without, the one for 0-9-1 that comes along."),
        Setting("amqp-stream", "", _text, help=
            "Name of a RabbitMQ stream (3.9 or later) that keeps all messages, so that all nodes "
            "have the same positions, and a reader can go on at any of them."),
        Setting("amqp-stream-age", "1d", _seconds, help=
            "How long the stream keeps them; 0 for ever."),
        Setting("amqp-stream-bytes", "1g", _size, help=
            "Bytes it keeps, about; 0 for all."),
    )),
    ("History and replay", (
        Setting("history", "256", _count, help=
            "Messages each channel remembers; 0 for none."),
        Setting("history-bytes", "1m", _size, help=
            "Bytes each channel remembers."),
        Setting("history-age", "1h", _seconds, help=
            "How long it remembers them."),
        Setting("history-memory", "256m", _size, help=
            "Bytes all channels remember together; what was published to longest ago is "
            "forgotten first."),
        Setting("history-file", "", _text, help=
            "File in which the embedded broker keeps its log, so that it survives a restart."),
        Setting("history-file-size", "1g", _size, help=
            "Bytes of that file, about; what is oldest is forgotten first."),
        Setting("unwritable", "serve", _choice("serve", "refuse"), help=
            "What meets a message that cannot be written there: serve (readers get it, and its "
            "publisher is told that it is not durable) or refuse (503)."),
        Setting("replay-bytes", "8m", _size, help=
            "Bytes replayed to one reader that comes back: the newest; what is left out is a gap."),
        Setting("linger", "60", _seconds, help=
            "How long a channel without readers is kept in hand, for one that comes back."),
    )),
    ("Readers", (
        Setting("heartbeat", "30", _up_to_a_day, help=
            "Time between two signs of life on a stream; 0 for none."),
        Setting("retry", "2", _seconds, help=
            "After how long a reader that was cut off shall come back; 0 leaves it to the "
            "browser."),
        Setting("poll-seconds", "25", _some_seconds, help=
            "How long a long-poll waits for news; its client may ask for less."),
        Setting("poll-bytes", "256k", _size, help=
            "Bytes of messages in one answer to a poll, one message in any case; the next poll "
            "gets the rest."),
        Setting("slow", "disconnect", _choice("disconnect", "skip"), help=
            "What meets a reader that is too far behind: disconnect (it comes back and misses "
            "nothing that is remembered) or skip (it stays, is told of a gap, and goes on with "
            "the newest)."),
        Setting("backlog-bytes", "1m", _size, help=
            "How much may wait for one reader."),
        Setting("backlog-seconds", "30", _some_seconds, help=
            "How long a reader may take nothing of it, or less than 16 KiB."),
        Setting("max-readers", "0", _count, help=
            "Readers at once; 0 for as many as there are file descriptors, without those for idle "
            "connections and a hundred more."),
        Setting("max-readers-per-address", "0", _count, help=
            "Of those, from one address; 0 for no limit."),
        Setting("max-reader-channels", "100", _number(1, 10_000), help=
            "Channels of one reader."),
        Setting("join-rate", "0", _count, help=
            "New readers per second, when all come back at once; 0 for no limit."),
        Setting("join-queue", "10000", _count, help=
            "How many may wait for that; others are told when to come back."),
        Setting("channel-pattern", CHANNEL_PATTERN, _pattern, help=
            "Regular expression for whole channel names, for readers and publishers."),
    )),
    ("Websocket", (
        Setting("websocket-origins", "same", _origins("same", "*", "null"), help=
            "Origins whose pages may open a websocket, separated by blanks: same stands for "
            "pages of the host that is asked, whatever their port, https://*.example.org for "
            "subdomains of a host, file:// and null for files, * for every one. Programs "
            "that are no browsers name none and are let in."),
        Setting("websocket-message", "1m", _size, help=
            "Bytes of a message from a client, however it is cut or compressed; more closes "
            "the websocket (1009)."),
        Setting("websocket-message-seconds", "120", _some_seconds, help=
            "How long a client may take to send one; the same (1008)."),
        Setting("websocket-rate", "1000", _count, help=
            "Messages and other frames a client may send in a second, 0 for no limit; more "
            "closes the websocket (1008). Ten channels that it subscribes to, or leaves, count "
            "as one more."),
        Setting("websocket-bytes", "64m", _size, help=
            "Bytes a client may send in a second, inflated, 0 for no limit; the same."),
        Setting("websocket-tolerance", "20", _up_to_a_day, help=
            "How long a client may take to answer a ping, which goes out with each heartbeat; "
            "any byte from it will do. 0 for as long as it likes."),
        Setting("websocket-close-seconds", "5", _some_seconds, help=
            "How long it may take to answer our goodbye."),
        Setting("websocket-compress", "512", _size, help=
            "Bytes from which a message is compressed for clients that can "
            "(permessage-deflate), once for all of them; 0 for no compression."),
    )),
    ("Socket.IO", (
        Setting("socketio-ping-interval", "25", _from_a_second, help=
            "Time between two pings of a session."),
        Setting("socketio-ping-timeout", "20", _from_a_second, help=
            "How long the answer to one may take."),
        Setting("socketio-connect-seconds", "45", _from_a_second, help=
            "How long a client may take to join a namespace."),
        Setting("socketio-handshake-seconds", "10", _from_a_second, help=
            "How long a client that polls may take to send its second request."),
        Setting("socketio-max-pending", "1000", _number(1, 1_000_000), help=
            "Sessions by polling that have not sent a second request or joined a namespace: they "
            "do not count as readers. One more ends the oldest of the address that has most of "
            "them."),
        Setting("socketio-upgrade-seconds", "10", _from_a_second, help=
            "How long it may take to change from polling to a websocket."),
        Setting("socketio-max-payload", "1000000", _size, help=
            "Bytes of what a client posts at once, or of a message on a websocket."),
        Setting("socketio-recovery", "120", _up_to_a_day, help=
            "For how long a client that was cut off finds its channels and its id again; 0 for "
            "no connection state recovery."),
    )),
    ("Requests", (
        Setting("max-line", "8k", _size, help=
            "Bytes of a request target."),
        Setting("max-headers", "100", _number(1, 10_000), help=
            "Headers of a request."),
        Setting("max-header-bytes", "32k", _size, help=
            "Bytes of all of them."),
        Setting("head-seconds", "10", _some_seconds, help=
            "Time for a request's head."),
        Setting("body-seconds", "60", _some_seconds, help=
            "Time for its body; for a streamed one, between two pieces. By HTTP/2 also "
            "how long a client may take nothing of an answer."),
        Setting("idle-seconds", "75", _some_seconds, help=
            "Time between two requests on a connection."),
        Setting("max-idle-connections", "0", _count, help=
            "Connections on which no request is being answered. Above it the idlest are closed, "
            "of the address that has most of them. 0 for a tenth of the file descriptors, at "
            "least 50."),
    )),
    ("Numbers", (
        Setting("stats-key", "", read_secret, help=
            "Key that may see /stats and /metrics; without it only this machine may."),
        Setting("export", "", _text, help=
            "graphite, or the dotted name of your own exporter, called with (reactor, "
            "settings)."),
        Setting("export-host", "", _text, help=
            "Host of carbon; needed for graphite."),
        Setting("export-port", "", _port, help=
            "Its port for the protocol, plaintext or pickle; needed for graphite."),
        Setting("export-protocol", "udp", _choice("udp", "tcp", "pickle"), help=
            "How to reach it: lines by udp or tcp, or pickles, which are by TCP too."),
        Setting("export-interval", "60", _some_seconds, help=
            "Time between two exports."),
        Setting("export-path", "cyclone-sse", _text, help=
            "What all exported names begin with."),
        Setting("export-node", "", _text, help=
            "A word behind that, which tells daemons apart that share a path."),
    )),
)
# fmt: on

SETTINGS: Mapping[str, Setting] = {
    setting.name: setting for _, settings in SECTIONS for setting in settings
}


def read_file(path: str) -> Iterator[tuple[str, GivenValue]]:
    """
    The lines of a settings file: `name = value`, comments begin with `#`.
    cyclone-sse's `--name=value` lines are accepted as they are.

    Raises:
        WrongSetting: the file cannot be read, or a line is neither.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # editors write a byte order mark
    except OSError as error:
        raise SettingError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingError(f"{path}: not UTF-8") from None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        place = f"{path}:{number}"
        name, equals, value = line.partition("=")
        name = name.strip().removeprefix("--")
        if not equals:
            # The rest of it may be a secret.
            raise SettingError(f"{place}: {line.split()[0]!r} is not 'name = value'")
        if name not in SETTINGS:
            raise SettingError(f"{place}: there is no setting {name!r}{like(name)}")
        yield name, GivenValue(value.strip(), place)


def read_value(name: str, given: GivenValue) -> Any:
    """
    The value of the setting *name*.

    Raises:
        WrongSetting: it cannot be.
    """
    setting = SETTINGS[name]
    try:
        return setting.read(given.text)
    except ValueError as error:
        shown = "" if setting.read in (read_secret, _amqp_url, _key) else f", not {given.text!r}"
        raise SettingError(f"{at(name, given.place)} must be {error}{shown}") from None


def at(name: str, place: str) -> str:
    """
    How a sentence about the setting *name* begins: with its option, or with
    file, line and name.
    """
    return place if place.startswith("--") else f"{place}: {name}"


def like(name: str) -> str:
    """
    The end of a sentence about the unknown setting *name*: which one may be meant.
    """
    from difflib import get_close_matches

    near = get_close_matches(name, SETTINGS, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
