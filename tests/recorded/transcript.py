"""
A transcript of what was sent to the daemon and what it sent back.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

DATA = Path(__file__).parent / "data"

Replace = str | Callable[[re.Match[str]], str]

# In this order; each is about one thing that is another one in each run.
VARYING: Sequence[tuple[str, Replace]] = (
    (r"(?m)^(. [Dd]ate: ).*", r"\1DATE"),
    (r"(?m)^(. [Ll]ast-[Mm]odified: ).*", r"\1DATE"),
    (r"(?m)^(. [Ss]erver: TwistedWeb/).*", r"\1VERSION"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"(?m)^(< : \d{3} ).*", r"\1TEXT"),
    (r'("(?:reason|error)": ?)"(?:[^"\\]|\\.)*"', r'\1"TEXT"'),
)


class Transcript:
    """
    Lines of text: `# ` titles, `> ` what was sent, `< ` what was received.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._varying: list[tuple[str, Replace]] = []
        self._ids: dict[str, str] = {}

    def title(self, text: str) -> None:
        """
        Begin a section.
        """
        if self._lines:
            self._lines.append("")
        self._lines.append(f"# {text}")

    def sent(self, data: bytes | str) -> None:
        """
        Append what a client sent.
        """
        self._append(">", data)

    def received(self, data: bytes | str) -> None:
        """
        Append what the daemon sent.
        """
        self._append("<", data)

    def note(self, text: str) -> None:
        """
        Append what is neither, such as the end of a connection.
        """
        self._lines.append(f"({text})")

    def add(self, text: str) -> None:
        """
        Append lines as they are.
        """
        self._lines.extend(text.splitlines())

    def log(self, epoch: str, offset: int) -> None:
        """
        Replace positions of the log *epoch*, and count from *offset*.
        """

        def relative(found: re.Match[str]) -> str:
            return f"EPOCH.{int(found[1]) - offset}"

        self._varying.append((rf"\b{epoch}\.(\d+)\b", relative))
        self._varying.append((rf"\b{epoch}\b", "EPOCH"))

    def vary(self, pattern: str, replacement: Replace) -> None:
        """
        Replace what matches *pattern*, a regular expression.
        """
        self._varying.append((pattern, replacement))

    def name(self, value: str, name: str) -> None:
        """
        Replace *value*, which is another one in each run, by *name*.
        """
        if value:
            self._ids.setdefault(value, name)

    def identify(self, value: str, kind: str) -> None:
        """
        Replace *value* by *kind* and a number; the same value is always the same one.
        """
        if value not in self._ids:
            count = sum(name.startswith(kind) for name in self._ids.values())
            self._ids[value] = f"{kind}{count + 1}"

    def __str__(self) -> str:
        text = "\n".join(self._lines) + "\n"
        for value, name in self._ids.items():
            text = text.replace(value, name)
        for pattern, replacement in (*self._varying, *VARYING):
            text = re.sub(pattern, replacement, text)
        return text

    def _append(self, mark: str, data: bytes | str) -> None:
        text = data if isinstance(data, str) else data.decode(errors="backslashreplace")
        lines = text.split("\n")
        end = lines.pop()
        self._lines.extend(f"{mark} {_visible(line)}" if line else mark for line in lines)
        if end:
            self._lines.append(f"{mark} {_visible(end)}")
            self._lines.append(r"\ no line feed at the end")


def differences(recorded: str, found: str, name: str) -> str:
    """
    A unified diff, empty if both texts are the same.
    """
    lines = difflib.unified_diff(
        recorded.splitlines(), found.splitlines(), f"recorded {name}", f"now {name}", lineterm=""
    )
    return "\n".join(lines)


def _visible(line: str) -> str:
    line = re.sub(r"[\x00-\x1f\x7f]", lambda found: repr(found[0])[1:-1], line)
    line = re.sub(r"(.)\1{49,}", lambda found: f"{{{found[1]!r} x {len(found[0])}}}", line)
    return re.sub(r" +$", lambda found: f"{{blank x {len(found[0])}}}", line)
