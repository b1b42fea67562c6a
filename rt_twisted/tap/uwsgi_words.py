"""
Words of uWSGI's INI files, and the settings that they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rt_twisted.codecs.route_lines import WORDS, LineWord, join_word

SECTION = "[uwsgi]"
# Words that are accepted, and named in the log: what they ask for is always so, or never.
WITHOUT_EFFECT = frozenset(
    "enable-threads http-raw-body http-websockets master offload-threads plugin plugins processes "
    "threads".split()
)
BACKLOG = 4096  # connections that the kernel queues; Twisted's 50 lose some when all reconnect

_NAMES: Mapping[str, str] = {"attach-daemon": "helper", "mule": "helper"}
_ROUTES: Mapping[str, str] = {
    **{word: word for word in WORDS if word != LineWord.ROUTE.value},
    "response-header-collect": LineWord.COLLECT.value,
    "static-check": LineWord.CHECK_STATIC.value,
    "wsgi": LineWord.MODULE.value,
}
ROUTE_WORDS = frozenset(_ROUTES)
ACCEPTED = frozenset(("http-socket", *_NAMES, *_ROUTES, *WITHOUT_EFFECT))
_SOCKET = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:/\[\]]*)):(?P<port>[0-9]{1,5})")

_ALWAYS = "remove it, as this is always so"
_NEVER = "remove it, as there is nothing to set"
_TLS = "set use-ssl = 1, ssl-port, ssl-cert and ssl-key"
_LOG = "use --logfile of twistd, in front of the word realtime"
_EXTERN = "write http-socket = ADDRESS, and proxy_pass in nginx"
_RELOAD = "remove it, and send SIGHUP to reload"
# Words that are not accepted, and what to do instead.
INSTEAD: Mapping[str, str] = {
    "add-header": "write route-run = addheader:NAME: TEXT",
    "async": _NEVER,
    "attach-daemon2": "write attach-daemon = COMMAND",
    "asyncio": _NEVER,
    "auto-procname": _NEVER,
    "buffer-size": "set max-line and max-header-bytes",
    "callable": "write wsgi-file = FILE:NAME or module = MODULE:NAME",
    "chdir": "start twistd in this folder",
    "cheaper": _NEVER,
    "check-static-docroot": "write check-static = FOLDER",
    "chmod-socket": "write endpoint = unix:PATH:mode=660",
    "chown-socket": "write endpoint = unix:PATH:mode=660",
    "cron": "use cron, or helper = COMMAND for a program that runs all the time",
    "daemonize": "start twistd without -n, with --logfile",
    "del-header": "write route-run = delheader:NAME",
    "die-on-term": _ALWAYS,
    "disable-logging": "remove it, as there is no access log unless access-log is set",
    "emperor": "start a daemon for each file, by systemd",
    "env": "set the variable where twistd is started",
    "fastcgi-socket": _EXTERN,
    "gevent": _NEVER,
    "gid": "use --gid of twistd, in front of the word realtime",
    "harakiri": "set upstream-timeout, or wsgi-timeout for an application in the daemon",
    "home": "start twistd of this environment",
    "http": "write http-socket = ADDRESS",
    "http-chunked-input": _ALWAYS,
    "http-keepalive": _ALWAYS,
    "http-manage-rtsp": _ALWAYS,
    "http-manage-source": _ALWAYS,
    "http-timeout": "set body-seconds and idle-seconds; streams have no timeout",
    "http-to": "write route = ^/ uwsgi:ADDRESS",
    "http11-socket": "write http-socket = ADDRESS",
    "https": _TLS,
    "https-socket": _TLS,
    "include": "write the lines into this file",
    "ini": "write the lines into this file",
    "lazy": _NEVER,
    "lazy-apps": _NEVER,
    "limit-post": "set max-body",
    "logger": _LOG,
    "logto": _LOG,
    "logto2": _LOG,
    "manage-script-name": "remove it: the part of the path that a route matches is SCRIPT_NAME",
    "max-requests": _NEVER,
    "mount": "write route = ^/PATH wsgi:APPLICATION",
    "mules": "write mule = PROGRAM for each",
    "need-app": _ALWAYS,
    "pidfile": "use --pidfile of twistd, in front of the word realtime",
    "plugin-dir": _NEVER,
    "plugins-dir": _NEVER,
    "post-buffering": _ALWAYS,
    "procname": _NEVER,
    "py-autoreload": _RELOAD,
    "pyhome": "start twistd of this environment",
    "python-path": "set PYTHONPATH where twistd is started",
    "pythonpath": "set PYTHONPATH where twistd is started",
    "req-logger": "set access-log",
    "route-remote-user": "write route-if = equal:${HTTP_X_REMOTE_USER};NAME ACTION",
    "single-interpreter": _ALWAYS,
    "smart-attach-daemon": "write attach-daemon = COMMAND",
    "socket": _EXTERN,
    "spooler": "write helper = COMMAND, for a program of your own",
    "static-index": "remove it: index.html is served for its folder",
    "static-map2": "write static-map = /PREFIX=FOLDER/PREFIX",
    "static-safe": "write route = ^/PREFIX static:path=FOLDER,links=yes",
    "stats": "write route = ^/stats$ stats",
    "strict": _ALWAYS,
    "thunder-lock": _NEVER,
    "touch-reload": _RELOAD,
    "uid": "use --uid of twistd, in front of the word realtime",
    "uwsgi-socket": _EXTERN,
    "vacuum": _ALWAYS,
    "virtualenv": "start twistd of this environment",
    "websocket-max-size": "set websocket-message",
    "websocket-ping-freq": "set heartbeat",
    "websocket-pong-tolerance": "set websocket-tolerance",
    "websockets-max-size": "set websocket-message",
    "websockets-ping-freq": "set heartbeat",
    "websockets-pong-tolerance": "set websocket-tolerance",
}


def translate(name: str, text: str) -> tuple[str, str]:
    """
    Return the name and the text of the setting that a line `NAME = TEXT` stands for.

    Args:
        name: a word of uWSGI, or any other, which is returned as it is.
        text: its value; "" for unset.

    Raises:
        ValueError: the text cannot be translated; the end of the sentence "NAME must be ...".
    """
    if name in _ROUTES:
        return "route", join_word(_ROUTES[name], text)
    if name == "http-socket":
        return "endpoint", _endpoint(text) if text else ""
    return _NAMES.get(name, name), text


def advice(name: str) -> str | None:
    """
    Return what to do instead of a word of uWSGI that is not accepted; None for other words.
    """
    if name.startswith("error-route"):
        return f"write {name.replace('error', 'response', 1)}, for responses of the application"
    return INSTEAD.get(name)


def _endpoint(address: str) -> str:
    """
    Return the endpoint string for the address of a socket, as uWSGI writes it.
    """
    if "/" in address:
        return f"unix:{_quoted(address)}"
    found = _SOCKET.fullmatch(address)
    if found is None or int(found["port"]) > 65535:
        raise ValueError("[ADDRESS]:PORT, or the path of a unix socket")
    host = _quoted(found["six"] or found["host"] or "0.0.0.0")
    return f"tcp:{found['port']}:interface={host}:backlog={BACKLOG}"


def _quoted(text: str) -> str:
    return quoted(text).replace("=", r"\=")


def quoted(text: str) -> str:
    r"""
    Return *text* as one argument of an endpoint string: with a backslash before `:` and `\`.
    """
    return text.replace("\\", "\\\\").replace(":", "\\:")
