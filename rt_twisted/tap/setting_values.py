"""
The values of settings: the lines of files, the parsing of texts, and the errors about them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rt_twisted.tap import values
from rt_twisted.tap.settings import SETTINGS, Setting
from rt_twisted.tap.uwsgi_words import ACCEPTED, SECTION, WITHOUT_EFFECT, advice, translate

PREFIX = "RT_"  # of the variables of the environment that are settings

_COMMENT = re.compile(r"\s#\s")  # begins a comment behind a value
_VARIABLE = re.compile(r"\$\{\w+\}")
_PLACE_IN_ENVIRONMENT = re.compile(rf"{PREFIX}[A-Z0-9_]+(:\d+)?")


class SettingError(Exception):
    """
    A wrong setting; the text is one sentence that says where and what is wrong.
    """


@dataclass(frozen=True, slots=True)
class GivenValue:
    """
    The text of a setting, and where it was given, for error texts.
    """

    text: str
    place: str


def default_values() -> dict[str, Any]:
    """
    Return the value that each setting has when it is not given.
    """
    return {name: parse_values(name, []) for name in SETTINGS}


def read_file(path: str) -> Iterator[tuple[str, GivenValue]]:
    """
    Read the lines of a settings file: `name = value`, comments begin with `#` or `;`.

    A comment may stand behind a value: `name = value # comment`, with blanks around the `#`. Any
    other `#` is part of the value.

    Lines of cyclone-sse, `--name=value`, are accepted unchanged, and so is the section `[uwsgi]`
    of uWSGI's files. Words of `WITHOUT_EFFECT` are yielded too.

    Raises:
        SettingError: the file cannot be read, or a line is neither.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # editors write a byte order mark
    except OSError as error:
        raise SettingError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingError(f"{path}: not UTF-8") from None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(("#", ";")) or line == SECTION:
            continue
        place = f"{path}:{number}"
        if line.startswith("["):
            raise SettingError(f"{place}: there is no section {line!r}, only {SECTION}")
        name, equals, value = line.partition("=")
        name = name.strip().removeprefix("--")
        if not equals and name not in WITHOUT_EFFECT:  # uWSGI's switches may stand alone
            # Not the whole line: the rest may be a secret.
            raise SettingError(f"{place}: {line.split()[0]!r} is not 'name = value'")
        yield read_word(name, _COMMENT.split(value, maxsplit=1)[0].strip(), place)


def read_word(word: str, text: str, place: str) -> tuple[str, GivenValue]:
    """
    Return the setting that *word* names, or a word of `WITHOUT_EFFECT`, with its value.

    Args:
        word: the name of a setting, or a word of uWSGI for one.
        text: its value.
        place: where it was given.

    Raises:
        SettingError: there is no such setting, or a value of uWSGI is malformed.
    """
    try:
        name, text = translate(word, text)
    except ValueError as error:
        raise SettingError(f"{located(word, place)} must be {error}, not {text!r}") from None
    if name not in SETTINGS and name not in WITHOUT_EFFECT:
        raise SettingError(f"{place}: {unknown_setting(name)}")
    return name, GivenValue(text, place)


def parse_values(name: str, given: list[GivenValue]) -> Any:
    """
    Parse the value of the setting *name*, or its default.

    Args:
        name: of the setting.
        given: in order; empty texts are removed already. The last one counts, except
            for repeated settings.

    Returns:
        None if it is unset; for a repeated setting a list.

    Raises:
        SettingError: a value is not allowed.
    """
    setting = SETTINGS[name]
    if not given and setting.default:
        given = [GivenValue(setting.default, "default")]
    if setting.repeated:
        return [_parse(setting, each) for each in given]
    return _parse(setting, given[-1]) if given else None


def _parse(setting: Setting, given: GivenValue) -> Any:
    confidential = setting.parse in values.CONFIDENTIAL
    if _VARIABLE.fullmatch(given.text) and not confidential:
        reason = (
            f"{given.text} is not replaced; set {variable_name(setting.name)} in the environment"
        )
        raise SettingError(f"{located(setting.name, given.place)}: {reason}")
    try:
        return setting.parse(given.text)
    except ValueError as error:
        shown = "" if confidential else f", not {given.text!r}"
        raise SettingError(f"{located(setting.name, given.place)} must be {error}{shown}") from None


def located(name: str, place: str) -> str:
    """
    Return the beginning of an error text about *name*: its option, its variable, or file, line
    and name.
    """
    named = place.startswith("--") or _PLACE_IN_ENVIRONMENT.fullmatch(place)
    return place if named else f"{place}: {name}"


def variable_name(name: str) -> str:
    """
    Return the variable of the environment for the setting *name*.
    """
    return PREFIX + name.replace("-", "_").upper()


def unknown_setting(name: str) -> str:
    """
    Return the error text about the unknown setting *name*, with what to write instead.
    """
    from difflib import get_close_matches

    instead = advice(name)
    if instead is not None:
        return f"uWSGI's word {name!r} is not supported: {instead}"
    near = get_close_matches(name, sorted({*SETTINGS, *ACCEPTED}), 1)
    return f"there is no setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
