"""
Builds actions from the arguments of route lines.

A line is parsed once, at start, and each argument separately. Values from a request are inserted
later into the value of one argument, and are not parsed again: no request can add an argument or
change another one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import MISSING, Field, fields, replace
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_type_hints

from twisted.application.service import IService

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction
from rt_twisted.actions.template import Template, parse_template
from rt_twisted.codecs.route_lines import mask_secrets
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.load_object import check_interface

_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}
_TRUTH = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}


def build_action(
    action_class: type[Any],
    word: str,
    text: str,
    groups: int,
    context: ActionContext,
    modes: Collection[str] = (),
) -> tuple[Any, ActionContext | None]:
    """
    Build an action from the arguments in *text*.

    Args:
        action_class: a dataclass, whose fields are the arguments.
        word: of the action.
        text: the arguments, as they are written.
        groups: how many the pattern of the line has.
        context: the daemon's.
        modes: values of `as=` with which the word has another class.

    Returns:
        The action, and the context that it was given, if any.

    Raises:
        ValueError: one sentence on what is wrong with the arguments.
    """
    bare = getattr(action_class, "bare", "")
    if "=" in text:
        pairs = split_arguments(text, bare)
    else:
        if text and not bare:
            raise ValueError(f"action {word!r} takes no argument")
        pairs = [(bare, text)] if text else []
    given: dict[str, list[str]] = {}
    names = {argument.name for argument in fields(action_class)}
    for name, value in pairs:
        # max-body=, as settings are written, for the field max_body.
        underscored = name.replace("-", "_")
        given.setdefault(underscored if underscored in names else name, []).append(value)
    context = _context_of_route(given, action_class, context)
    try:
        hints = get_type_hints(action_class)
    except NameError as error:
        raise ValueError(
            f"{word}: the types of its arguments cannot be resolved: {error}"
        ) from None
    provided = {"context": context, "word": word}
    arguments: dict[str, Any] = {}
    accepted = [argument for argument in fields(action_class) if argument.init]
    for argument in accepted:
        if argument.name in provided:
            arguments[argument.name] = provided[argument.name]
            continue
        name = _written(argument)
        values = given.pop(name, None)
        if values is not None:
            kind = hints[argument.name]
            arguments[argument.name] = _convert(name, kind, values, groups)
        elif _required(argument):
            raise ValueError(f"action {word!r} needs {name}=")
    if given:
        known = ", ".join(_written(one) for one in accepted if one.name not in provided)
        others = f", and others with as={', '.join(modes)}" if modes else ""
        raise ValueError(
            f"action {word!r} has no argument {next(iter(given))!r}; it has: {known}{others}"
        )
    try:
        action = action_class(**arguments)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"action {word!r} cannot be built: {error!r}") from error
    check_interface(IAction, action, f"{word} is not an action")
    if IService.providedBy(action):
        check_interface(IService, action, f"{word} is not an action")
    return action, arguments.get("context")


def _context_of_route(
    given: dict[str, list[str]], action_class: type[Any], context: ActionContext
) -> ActionContext:
    """
    Return the context with the channels of `server=`, as in uWSGI, the copies of `out=`, and
    what clients need by `allow=`.

    Args:
        given: all arguments; those that are used here are removed.
        action_class: an action with `publishes` has `out=`; with `checks_grants`, `allow=`.
        context: the daemon's.
    """
    server = _take(given, "server")
    if server is not None:
        try:
            context = context.for_server(server, _take(given, "password") or "")
        except ValueError as error:
            raise ValueError(f"server={mask_secrets(server)}: {error}") from None
    context = _context_of_gate(given, action_class, context)
    out = _take(given, "out") if getattr(action_class, "publishes", False) else None
    if out is None:
        return context
    try:
        return context.for_out(out)
    except ValueError as error:
        raise ValueError(f"out={out}: {error}") from None


def _context_of_gate(
    given: dict[str, list[str]], action_class: type[Any], context: ActionContext
) -> ActionContext:
    """
    Return the context with what clients need by `allow=` and `authorize=`, or by the settings
    of these names.

    Raises:
        ValueError: the action does not check grants, or one of them is wrong.
    """
    checks = getattr(action_class, "checks_grants", False)
    own = _arguments(action_class)
    allow = given.pop("allow", None) if "allow" not in own else None
    url = _take(given, "authorize") if "authorize" not in own else None
    if checks:
        if allow is None and url is None:
            return context
        return replace(context, gate=context.gate.for_route(allow, url))
    if allow is not None or url is not None:
        name = "authorize" if allow is None else "allow"
        raise ValueError(f"{name}= is not possible here: this action does not check grants")
    if not context.gate.is_open and getattr(action_class, "counts_as", "") == SUBSCRIBERS:
        raise ValueError(
            "this action does not check grants: remove the route, or set allow = anyone and "
            "allow=token on other routes"
        )
    return context


def _arguments(action_class: type[Any]) -> set[str]:
    return {argument.name for argument in fields(action_class)}


def _take(given: dict[str, list[str]], name: str) -> str | None:
    values = given.pop(name, None)
    if values is not None and len(values) > 1:
        raise ValueError(f"{name}= is given twice")
    return values[0] if values else None


def split_arguments(text: str, bare: str = "") -> list[tuple[str, str]]:
    r"""
    Split arguments of the form `name=value,name=value`.

    A backslash escapes the next character. `\n`, `\r` and `\t` are a line feed, a
    carriage return and a tab.

    Args:
        text: the arguments.
        bare: the name of a first part without `=`; "" if there must be none.

    Raises:
        ValueError: a part without `=`, or a backslash at the end.
    """
    parts = [""]
    escaped = False
    for character in text:
        if escaped:
            parts[-1] += _CONTROLS.get(character, character)
            escaped = False
        elif character not in ",\\":
            parts[-1] += character
        elif character == "\\":
            escaped = True
        else:
            parts.append("")
    if escaped:
        raise ValueError("the arguments end with a backslash, which escapes nothing")
    pairs: list[tuple[str, str]] = []
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals and bare and part and not pairs:
            name, value = bare, part
        elif not equals:
            # The rest of a password with a comma is not shown.
            shown = "the text behind password=" if "password" in dict(pairs) else repr(part)
            raise ValueError(f"{shown} is not 'name=value'")
        pairs.append((name.strip(), value))
    return pairs


def _written(argument: Field[Any]) -> str:
    """
    Return an argument's name in route lines: the field `as_` is written `as=`.
    """
    return argument.name.removesuffix("_")


def _required(argument: Field[Any]) -> bool:
    return argument.default is MISSING and argument.default_factory is MISSING


def _convert(name: str, kind: Any, values: Sequence[str], groups: int) -> Any:
    if kind == tuple[Template, ...]:
        return tuple(parse_template(value, groups) for value in values)
    optional = [one for one in get_args(kind) if one is not NoneType]
    if len(optional) == 1:  # X | None: a given value is an X
        kind = optional[0]
    if len(values) > 1:
        raise ValueError(f"{name}= is given twice")
    value = values[0]
    try:
        if kind is Template:
            return parse_template(value, groups)
        if kind is bool:
            return _TRUTH[value.lower()]
        if isinstance(kind, type) and issubclass(kind, Enum | int | float | str):
            return kind(value)
    except (KeyError, ValueError) as error:
        if kind is Template:
            raise
        expected = {bool: "yes or no", int: "a whole number", float: "a number"}.get(kind)
        expected = getattr(kind, "expected", expected)
        if expected is None:
            expected = "one of " + ", ".join(member.value for member in kind)
        raise ValueError(f"{name}= must be {expected}, not {value!r}") from error
    raise ValueError(f"{name}= has a type that route lines do not support: {kind}")
