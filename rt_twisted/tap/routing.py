"""
The routes that the settings describe: own ones, the built-in ones, or both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rt_twisted.actions.chain import RouteEntry, RouteJump
from rt_twisted.actions.context import ActionContext
from rt_twisted.codecs.route_lines import BUILT_IN, mask_secrets, parse_line, split_word
from rt_twisted.routes import DEFAULT, parse_entry, parse_later, parse_route
from rt_twisted.tap.first_use import loads_all
from rt_twisted.tap.options import Options
from rt_twisted.tap.setting_errors import error_at, setting_error
from rt_twisted.tap.setting_values import SettingError

EAGER = frozenset(("admin", "alive", "publish", "ready", "sse"))  # small, or used by most


def make_routes(options: Options, context: ActionContext) -> list[RouteEntry]:
    """
    Return the routes of the settings; without any, the built-in ones. The last is that of the
    setting `upstream`.

    Raises:
        SettingError: with file and line.
    """
    lines = list(zip(options["route"], options.places["route"], strict=True))
    found: list[tuple[RouteEntry, str, str]] = []
    built_in_at = ""
    for line, place in lines or [(BUILT_IN, "default")]:
        if line.strip() == BUILT_IN:
            if built_in_at:
                raise SettingError(f"{place}: route = {BUILT_IN} is set already, at {built_in_at}")
            built_in_at = place
            found += [(entry, line, place) for entry in _built_in_routes(options, context)]
            continue
        try:
            found.append((parse_entry(line, context), line, place))
        except ValueError as error:
            raise _route_error(line, place, error) from None
    entries = [entry for entry, _, _ in found]
    for index, (entry, line, place) in enumerate(found):
        try:
            if isinstance(entry, RouteJump):
                entry.check(entries[index:])
        except ValueError as error:
            raise _route_error(line, place, error) from None
    return [*entries, *_upstream_route(options, context)]


def _upstream_route(options: Options, context: ActionContext) -> Iterator[RouteEntry]:
    given = options["upstream"]
    if given is None:
        return
    if options["app"] is not None:
        raise setting_error(options, "upstream", "app serves what no route does, too: unset one")
    word, colon, _ = given.partition(":")
    line = f"^/ {given}" if colon and word in ("http", "uwsgi") else f"^/ http:{given}"
    try:
        yield replace(parse_route(line, context), fallback=True)
    except ValueError as error:
        raise setting_error(options, "upstream", str(error)) from None


def _built_in_routes(options: Options, context: ActionContext) -> Iterator[RouteEntry]:
    admin = ("^/admin/ admin",) if options["admin-key"] else ()
    later = context.gate.is_open and not loads_all(options)
    for line in (*DEFAULT, *admin):
        word = parse_line(*split_word(line)).action
        try:
            yield (parse_later if later and word not in EAGER else parse_entry)(line, context)
        except ValueError as error:
            text = f"does not fit the default route {line!r}: {error}"
            raise error_at(options, "allow", -1, text) from None


def _route_error(line: str, place: str, error: ValueError) -> SettingError:
    word, text = split_word(line)
    return SettingError(f"{place}: {word} {mask_secrets(text)!r}: {error}")
