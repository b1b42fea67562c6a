"""
Write docs/api.md from the docstrings of what rt_twisted.api exports.

    python extras/describe_api.py            write the page
    python extras/describe_api.py --check    exit with 1 if the page is out of date
"""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import UnionType

import rt_twisted.api

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
GROUPS = {
    "Actions": ["IAction", "Match", "Template", "IExchange", "ActionContext", "SharedState"],
    "Bodies and connections": ["IBodySink", "IChunkSink", "StreamHandle", "IPortProtocol",
                               "PeerInfo"],
    "Access": ["granted", "end_with_grant", "live_permit", "Grant", "Keys", "Key",
               "ChannelNames"],
    "Messages": ["Draft", "Message", "Position", "PublishResult", "Replay", "Since", "After",
                 "Newest", "Within", "Wildcard", "Sync", "Mark", "Hub"],
    "Formats": ["IFormat", "ISyncFormat", "SlowConsumerPolicy"],
    "Applications": ["IWebSocketApp", "WebSocket", "ISocketIOApp", "Socket"],
    "Brokers": ["IBroker", "IReceiver", "IHistory", "IForgetting", "IReady", "IRefusing",
                "ILimited", "IPatterns", "IReconfigurable", "ICopying", "IClaims", "IClaim",
                "ClaimTaken"],
    "Exporters": ["IExporter", "MetricValues"],
    "Errors": ["HttpError", "Unavailable"],
}  # fmt: skip
HEAD = """\
# Plug-in interface

A plug-in is a class in a module of your own, named by its dotted name in the settings. It imports
from `rt_twisted.api`; this page lists what that module has. Complete examples are in `examples/`:

| example | plug-in |
| --- | --- |
| [own_action.py](../examples/own_action.py) | an action: a word of your own for route lines |
| [own_tail.py](../examples/own_tail.py) | an action that is a service: it publishes lines appended to a file |
| [own_recorder.py](../examples/own_recorder.py) | an action for live publishers: it writes their streams to files |
| [own_format.py](../examples/own_format.py) | a format for streams: NDJSON |
| [own_app.py](../examples/own_app.py) | a web application for the paths without a route |
| [own_broker.py](../examples/own_broker.py) | a broker: messages in SQLite |
| [own_exporter.py](../examples/own_exporter.py) | an exporter: metrics in a JSON file |
| [echo.py](../examples/echo.py) | an application protocol on a websocket |
| [socketio_chat.py](../examples/socketio_chat.py) | an application for Socket.IO clients |

`extras/describe_api.py` writes this page from the docstrings.
"""  # noqa: E501  # rows of a table


def page() -> str:
    """
    Return the page as Markdown.
    """
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts.append(f"\n## {title}\n")
        parts += [f"\n### {name}\n\n```python\n{_stub(name)}```\n" for name in names]
    return "".join(parts)


def undescribed() -> list[str]:
    """
    Return the exported classes that no group has.
    """
    described = {name for names in GROUPS.values() for name in names}
    return [name for name in rt_twisted.api.__all__ if name not in described]


def _stub(name: str) -> str:
    """
    Return the function *name*, or the class with its public methods, without their code.
    """
    exported = getattr(rt_twisted.api, name)
    if isinstance(exported, UnionType):
        return f"{name} = {' | '.join(one.__name__ for one in exported.__args__)}\n"
    path = import_module(exported.__module__).__file__
    assert path is not None
    source = Path(path).read_text()
    lines = source.splitlines()
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    kinds = ast.ClassDef | functions
    [found] = [one for one in ast.parse(source).body if isinstance(one, kinds) and one.name == name]
    if isinstance(found, functions):
        return "\n".join(lines[found.lineno - 1 : found.body[0].end_lineno]) + "\n"
    interface = "Interface" in [ast.unparse(base) for base in found.bases]
    parts = [lines[found.lineno - 1 : found.body[0].end_lineno]]  # with the docstring
    for node in found.body[1:]:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            shown = not ast.unparse(node).startswith("_")
            end = node.end_lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None
            shown = not node.name.startswith("_") and (interface or documented)
            end = node.body[0].end_lineno
        else:
            continue
        if shown:
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
            parts.append(lines[first - 1 : end])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def main(arguments: list[str]) -> int:
    """
    Write the page, or compare it.

    Returns:
        The exit status.
    """
    if undescribed():
        print(f"extras/describe_api.py has no group for: {', '.join(undescribed())}")
        return 1
    text = page()
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    if "--check" in arguments:
        print(f"{PAGE.relative_to(ROOT)} is out of date: run extras/describe_api.py")
        return 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
