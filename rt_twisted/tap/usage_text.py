"""
The text of `--help`: all options by section, as in etc/realtime.conf.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rt_twisted.tap.commands import Command
from rt_twisted.tap.settings import SECTIONS, Setting

GENERAL = "Files, checks and versions"
OF_UWSGI = "Words of uWSGI"

_PRECEDENCE = (
    "The command line overrides the environment (RT_PORT for --port), which overrides the file. "
    "An empty value unsets a setting."
)
_INDENT = " " * 8
_MOST = 100  # columns: longer lines are hard to read


def usage_text(
    command: Command,
    documents: Mapping[str, str],
    takes_value: Mapping[str, bool],
    width: int,
) -> str:
    """
    Return one paragraph for each option.

    Args:
        command: the word of twistd.
        documents: of each option, the sentences about it.
        takes_value: whether the option has a value.
        width: of the terminal, in columns.
    """
    names = {setting.name for _, settings in SECTIONS for setting in settings}
    others = [name for name in documents if name not in names and len(name) > 1]
    general = [
        name for name in others if name in ("config", "check", "show-config", "help", "version")
    ]
    parts = [
        textwrap.fill(f"{command.description} {_PRECEDENCE}", min(width, _MOST)) + "\n",
        f"{GENERAL}:\n",
        *_plain(general, documents, takes_value, width),
    ]
    for title, settings in SECTIONS:
        parts += [f"{title}:\n", *(_of_setting(one, command.defaults, width) for one in settings)]
    words = [name for name in others if name not in general]
    parts += [f"{OF_UWSGI}:\n", *_plain(words, documents, takes_value, width)]
    return "\n".join(parts)


def _of_setting(setting: Setting, defaults: Mapping[str, str], width: int) -> str:
    default = defaults.get(setting.name, setting.default)
    short = f"-{setting.short}, " if setting.short else ""
    suffix = f" [default: {default}]" if default else ""
    return f"  {short}--{setting.name}=\n{_wrap(setting.help + suffix, width)}"


def _plain(
    names: Sequence[str], documents: Mapping[str, str], takes_value: Mapping[str, bool], width: int
) -> Iterator[str]:
    shorts = {"config": "-c, ", "help": "-h, "}
    for name in names:
        equals = "=" if takes_value[name] else ""
        yield f"  {shorts.get(name, '')}--{name}{equals}\n{_wrap(documents[name], width)}"


def _wrap(text: str, width: int) -> str:
    filled = textwrap.fill(
        " ".join(text.split()), min(width, _MOST), initial_indent=_INDENT,
        subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return f"{filled}\n"
