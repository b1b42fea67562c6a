"""
The language of the code: docstrings stand alone, class names are unique, retired words stay away.

The rules are those of CONTRIBUTING.md. Names that users write (settings, route words, fields of
`/stats`, metric names) are exempt: they are compatible, not pretty.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "rt_twisted"
FOLDERS = ("rt_twisted", "tests", "benchmarks", "examples", "extras", "twisted/plugins")
CODE = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if "node_modules" not in path.parts and path != Path(__file__)
)
# CHANGES.md quotes texts of former versions.
PROSE = sorted(
    path
    for pattern in ("docs/*.md", "*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGES.md"
)

# A docstring that begins with one of these needs the sentence before it to be understood.
BEGINNINGS = re.compile(r"(It|Nor|And|None|Who|Whoever|Nobody|Somebody)\b")

# Words of an older dialect, each with the word of the field that replaced it.
RETIRED = {
    "berth": "worker process",
    "vigil": "watchdog",
    "census": "statistics aggregator",
    "crew": "supervisor",
    "errand": "request",
    "last words": "crash log",
    "last_words": "crash_log",
    "let go of": "released, detached",
    "let in": "admitted",
    "is told": "is notified, is sent",
    "are told": "are notified, are sent",
    "was told": "was notified, was sent",
    "is heard": "is subscribed, is received",
    "nobody reads": "without subscribers",
    "whoever": "a client, a caller",
    "goodbye": "close",
    "hears": "receives, is notified",
    "hung up": "closed, disconnected",
    "hangs up": "closes, disconnects",
    "somebody": "a client, another process",
    "deaf": "stalled",
    "told of": "notified of, reported",
    "under way": "in flight, in progress",
}
_RETIRED = re.compile(r"\b(" + "|".join(map(re.escape, RETIRED)) + r")\b", re.IGNORECASE)

# Parts of identifiers, between underscores; `said` and `asked` are left to reviewers.
RETIRED_NAMES = {
    "berth": "worker process",
    "census": "statistics",
    "comer": "client",
    "comers": "clients",
    "crew": "supervisor",
    "deaf": "stalled",
    "ear": "receiver",
    "everybody": "all",
    "goodbye": "close",
    "hear": "receive",
    "heard": "received",
    "hears": "receives",
    "nobody": "no ...",
    "somebody": "a client",
    "told": "notified, sent",
    "vigil": "watchdog",
    "whoever": "any ...",
}
_RETIRED_NAME = re.compile(
    r"(?<![^\W_])(" + "|".join(RETIRED_NAMES) + r")(?![^\W_])", re.IGNORECASE
)


def docstrings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """
    Yield the docstrings in *node*; expressions, which have none, are not walked.
    """
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text is not None:
            yield node.body[0].lineno, text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from docstrings(child)


@pytest.mark.limit(240)
def test_docstrings_stand_alone() -> None:
    """
    A docstring is understood without the one before it, and says more than two words.
    """
    found = []
    for path in CODE:
        for line, text in docstrings(ast.parse(path.read_text())):
            first = text.split("\n\n")[0]
            if BEGINNINGS.match(first) or len(first.split()) < 3:
                found.append(f"{path.relative_to(ROOT)}:{line}: {first}")

    assert not found, "\n".join(found)


def test_class_names_are_unique() -> None:
    """
    A stack trace and a search name one class of the package each.
    """
    names = Counter(
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE)
    )
    assert names["Hub"] == 1

    assert [name for name, count in names.items() if count > 1] == []


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """
    Yield the comments and strings of a Python file, or the lines of another one.
    """
    if path.suffix != ".py":
        yield from enumerate(path.read_text().splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING}:
            for number, line in enumerate(token.string.splitlines()):
                yield token.start[0] + number, line


def _retired_words(path: Path) -> Iterator[str]:
    if not _RETIRED.search(path.read_text()):
        return  # to read tokens takes a hundred times as long
    for line, text in _texts(path):
        for match in _RETIRED.finditer(text):
            yield f"{path}:{line}: {match[0]} -> {RETIRED[match[0].lower()]}"


def test_retired_words_stay_away() -> None:
    """
    Code, messages and documentation use the words of the field.
    """
    found = [each for path in [*CODE, *PROSE] for each in _retired_words(path)]

    assert not found, "\n".join(found)


def _retired_names(path: Path) -> Iterator[str]:
    source = path.read_text()
    if not _RETIRED_NAME.search(source):
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            for word in RETIRED_NAMES.keys() & set(token.string.lower().split("_")):
                yield f"{path}:{token.start[0]}: {token.string}: {word} -> {RETIRED_NAMES[word]}"


def test_names_have_no_retired_words() -> None:
    """
    Identifiers use the words of the field, too, in tests and benchmarks as in the package.
    """
    found = [each for path in CODE for each in _retired_names(path)]

    assert not found, "\n".join(found)


def test_retired_words_are_found(tmp_path: Path) -> None:
    """
    The words are found in comments and strings, and in parts of names, but not in parts of words.
    """
    path = tmp_path / "crew.py"
    path.write_text('the_crew = "He hears it"\nnear = earring = 0  # under way\n')

    assert [each.partition(": ")[2] for each in _retired_words(path)] == [
        "hears -> receives, is notified",
        "under way -> in flight, in progress",
    ]
    assert [each.partition(": ")[2] for each in _retired_names(path)] == [
        "the_crew: crew -> supervisor"
    ]
    path.write_text("# Somebody\n")
    assert len(list(_retired_words(path))) == 1
    path = tmp_path / "page.md"
    path.write_text("the census\n")
    assert len(list(_retired_words(path))) == 1
