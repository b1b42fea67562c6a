"""
Builds the endpoints to listen on from the settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint

from rt_twisted.codecs.addresses import Networks
from rt_twisted.net.listeners import SharedPort, TcpPort
from rt_twisted.tap.announce import PROXIED
from rt_twisted.tap.options import Options
from rt_twisted.tap.setting_errors import setting_error
from rt_twisted.tap.setting_values import SettingError
from rt_twisted.tap.uwsgi_words import BACKLOG, quoted

MODE = "660"  # of unix sockets: for the user and the group of the daemon

_NAMED = re.compile(r"(?:\\.|[^\\=])*=")


def make_endpoints(
    options: Options, reactor: Any, protocols: Sequence[bytes]
) -> Iterator[tuple[str, IStreamServerEndpoint]]:
    """
    Yield each endpoint with its description.

    Args:
        options: every setting by name.
        reactor: that the endpoints listen with.
        protocols: offered to TLS clients (ALPN).

    Raises:
        SettingError: with file and line.
    """
    default = None
    strings = list(zip(options["endpoint"], options.places["endpoint"], strict=True))
    if not strings or options.given("port"):
        where = f"tcp:{options['port']}:interface={_interface(options['listen'])}:backlog={BACKLOG}"
        default = where, _plain(options, reactor, options["port"], _address(options["listen"]))
    if options["use-ssl"]:
        port, address = options["ssl-port"], _address(options["ssl-listen"])
        from rt_twisted.net.tls import TlsEndpoint

        plain = _plain(options, reactor, port, address)
        yield f"TLS port {port} of {address}", TlsEndpoint(plain, _tls(options, protocols), reactor)
    if options["rtmp-port"] is not None:
        port, address = options["rtmp-port"], _address(options["listen"])
        from rt_twisted.rtmp.port import RtmpPortEndpoint

        plain = _plain(options, reactor, port, address)
        yield f"RTMP port {port} of {address}", RtmpPortEndpoint(plain, options["port"])
    for protocol in ("rtsp", "icy"):
        port, address = options[f"{protocol}-port"], _address(options["listen"])
        if port is not None:
            where = f"{protocol.upper()} port {port} of {address}"
            yield where, _plain(options, reactor, port, address)
    yield from _given(options, reactor, strings)
    if default is not None:
        yield default


def _given(
    options: Options, reactor: Any, strings: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, IStreamServerEndpoint]]:
    """
    Yield the endpoints of the setting `endpoint`, each with its string.
    """
    if not strings:
        return
    # Not at module level: most daemons do without the endpoints of Twisted.
    from twisted.internet.endpoints import serverFromString

    from rt_twisted.http.proxy_endpoint import ProxiedEndpoint

    for string, place in strings:
        inner = string.removeprefix(PROXIED)
        try:
            endpoint = serverFromString(reactor, _with_mode(inner))
            if inner != string:
                senders = options["proxy-protocol-senders"] or Networks()
                endpoint = ProxiedEndpoint(endpoint, senders, reactor.seconds)
            yield string, endpoint
        except Exception as error:  # whatever the endpoint's own parser raises
            raise SettingError(f"{place}: cannot listen on {string}: {error}") from None


def _plain(options: Options, reactor: Any, port: int, address: str) -> IStreamServerEndpoint:
    # With workers, `ListenerBinder` shares the sockets with a second daemon.
    if options["reuse-port"] and options["workers"] == 1:
        return SharedPort(reactor, port, address, BACKLOG)
    return TcpPort(reactor, port, address, BACKLOG)


def _with_mode(string: str) -> str:
    """
    Return a `unix:` endpoint string with MODE, unless *string* has a mode.

    Twisted's default is 0666, and every process that can connect counts as this machine.
    """
    kind, *arguments = re.split(r"(?<!\\):", string)
    positional = [each for each in arguments if not _NAMED.match(each)]
    named = any(each.startswith("mode=") for each in arguments)
    return string if kind != "unix" or named or len(positional) > 1 else f"{string}:mode={MODE}"


def _tls(options: Options, protocols: Sequence[bytes]) -> Any:
    """
    Return the `TlsContexts` of the settings.
    """
    from rt_twisted.net.tls import TlsContexts

    files = options["ssl-cert"], options["ssl-key"]
    certificates, keys = (len(each) for each in files)
    if certificates != keys:
        text = f"{certificates} ssl-cert but {keys} ssl-key are set; each needs the other"
        raise setting_error(options, "ssl-cert", text)
    try:
        return TlsContexts(list(zip(*files, strict=True)), protocols)
    except ValueError as error:
        raise setting_error(options, "use-ssl", str(error)) from None


def _interface(address: str | None) -> str:
    return quoted(_address(address))


def _address(listen: str | None) -> str:
    return "0.0.0.0" if listen is None or listen == "0" else listen
