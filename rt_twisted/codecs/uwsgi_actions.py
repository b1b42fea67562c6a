"""
Actions of uWSGI's route lines that are not accepted, and what to write instead.
"""

from __future__ import annotations

from collections.abc import Mapping

_APPLICATION = "write a route with wsgi:APPLICATION for each application"
_AS_RECEIVED = "remove it: the application gets the request as the client sent it"
_CACHE = "let nginx cache, in front of the daemon or behind http:ADDRESS"
_ENCODE = "remove it, and let nginx compress"
_FILE = "write static:PATH"
_LOGIN = "write allow=app, or let the application or nginx ask for the password"
_NEVER = "remove it, as there is nothing to set"
_PART = "write addheader:NAME: TEXT for a header, or break:STATUS TEXT for a response"
_PROGRAM = "write http:ADDRESS or uwsgi:ADDRESS for a program that does it"

INSTEAD: Mapping[str, str] = {
    "access": "write route-if with a test, and break:403",
    "alarm": "write log:TEXT",
    "basicauth": _LOGIN,
    "basicauth-next": _LOGIN,
    "cache": _CACHE,
    "cache-continue": _CACHE,
    "cacheinc": _CACHE,
    "cacheset": _CACHE,
    "cachestore": _CACHE,
    "cache-store": _CACHE,
    "cachevar": _CACHE,
    "call": _PROGRAM,
    "cgi": _PROGRAM,
    "cgihelper": _PROGRAM,
    "chdir": _APPLICATION,
    "chunked": "remove it, as this is always so",
    "clearheaders": "write delheader:NAME for each header",
    "disableheaders": "write delheader:NAME for each header",
    "donotlog": "remove it, as there is no access log unless access-log is set",
    "donotoffload": _NEVER,
    "fastfile": _FILE,
    "file": _FILE,
    "file-next": _FILE,
    "fixcontentlength": "remove it, as this is always so",
    "flush": _NEVER,
    "gzip": _ENCODE,
    "harakiri": "set upstream-timeout, or wsgi-timeout for an application in the daemon",
    "hash": "write to=ADDRESS,to=ADDRESS behind http: or uwsgi:, which are used in turn",
    "httpconnect": _PROGRAM,
    "httpdumb": "write http:ADDRESS",
    "ldapauth": _LOGIN,
    "ldapauth-next": _LOGIN,
    "logvar": "write log:NAME=TEXT, as log lines have no format of their own",
    "memcached": _CACHE,
    "memcached-continue": _CACHE,
    "offload": _NEVER,
    "proxyhost": "write http:to=ADDRESS,host=NAME",
    "radius": _LOGIN,
    "redis": _CACHE,
    "rewrite": "write strip=/PREFIX behind http: or uwsgi:, or redirect:URL",
    "rewrite-last": "write strip=/PREFIX behind http: or uwsgi:, or redirect:URL",
    "rpc": _PROGRAM,
    "rpcblob": _PROGRAM,
    "rpcnext": _PROGRAM,
    "rpcraw": _PROGRAM,
    "rpcret": _PROGRAM,
    "rpcvar": _PROGRAM,
    "send": _PART,
    "send-crnl": _PART,
    "sendfile": _FILE,
    "setapp": _APPLICATION,
    "setdocroot": _AS_RECEIVED,
    "setfile": _APPLICATION,
    "sethome": _APPLICATION,
    "setmethod": _AS_RECEIVED,
    "setpathinfo": _AS_RECEIVED,
    "setprocname": _NEVER,
    "setremoteaddr": "set trusted-proxies, and address-header",
    "setremoteuser": _AS_RECEIVED,
    "setscheme": "set trusted-proxies",
    "setscriptname": "write strip=/PREFIX behind uwsgi:, which becomes SCRIPT_NAME",
    "seturi": _AS_RECEIVED,
    "setuser": _AS_RECEIVED,
    "signal": _PROGRAM,
    "simple-math": _AS_RECEIVED,
    "spnego": _LOGIN,
    "spool": _PROGRAM,
    "toupper": _PROGRAM,
    "xslt": _PROGRAM,
}


def action_advice(name: str) -> str | None:
    """
    Return what to write instead of an action of uWSGI; None for other words.
    """
    return INSTEAD.get(name)
