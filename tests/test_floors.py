"""
The plan of the house (docs/architecture.md, "The floors") holds.

If one of these fails, the design is wrong, not the test.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import twisted

import rt_twisted

HOUSE = Path(rt_twisted.__file__).parent

# From the roof down. The rooms of one row do not know each other; a package is
# one room. Some stand half a floor above the one they have to name.
FLOORS = (
    "tap doctor load",
    "daemon settings workers",
    "front",
    "routes",
    "actions brokers exporters",
    "house hubs",
    "hub",
    "entrance",
    "turns heartbeats",
    "channels",
    "subscriber history codecs media access template admission",
    "replay_frames",
    "reports interfaces wire logs supervisor dotted",
    "message counts clock lookups origins shares addresses signals log_filter",
)
FLOOR = {room: -number for number, row in enumerate(FLOORS) for room in row.split()}

PURE = {"message", "history", "codecs", "media"}  # never import Twisted
REACTOR = "twisted.internet.reactor"
ONLY_IN = {"txredisapi": "brokers", "txamqp": "brokers"}  # importing them installs a reactor

EMPTY_WORDS = {"handler", "manager", "processor", "engine", "helper", "util"}
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
FIELD_WORDS = re.compile("engine_?io", re.IGNORECASE)  # a protocol's name


@dataclass(frozen=True, slots=True)
class Module:
    """
    One source file.

    Args:
        name: dotted, below the package: `codecs.sse`, or "" for the package itself.
        tree: its syntax.
        source: its lines.
    """

    name: str
    tree: ast.Module
    source: list[str]

    @property
    def room(self) -> str:
        """
        The top-level module or package it belongs to.
        """
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Import:
    """
    One imported name.

    Args:
        target: absolute and dotted, with the last name: `rt_twisted.hub.Hub`.
        line: where.
        at_import: it happens when the module is imported, not later in a function.
        for_types: it never happens, it is for the type checker alone.
    """

    target: str
    line: int
    at_import: bool
    for_types: bool

    def of(self, package: str) -> bool:
        """
        Whether it comes from *package*.
        """
        return f"{self.target}.".startswith(f"{package}.")


def read(house: Path) -> list[Module]:
    """
    All modules of the package that lies in *house*.
    """
    modules = []
    for path in sorted(house.rglob("*.py")):
        parts = path.relative_to(house).with_suffix("").parts
        text = path.read_text()
        name = ".".join(part for part in parts if part != "__init__")
        modules.append(Module(name, ast.parse(text), text.splitlines()))
    return modules


def imports(module: Module, package: str) -> Iterator[Import]:
    """
    All imports of *module*, wherever they stand.
    """
    here = [package, *module.name.split(".")]

    def walk(node: ast.AST, at_import: bool, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(name.name, node.lineno, at_import, for_types)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(here[: -node.level]) + "." if node.level else ""
            for name in node.names:
                target = f"{start}{node.module + '.' if node.module else ''}{name.name}"
                yield Import(target, node.lineno, at_import, for_types)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                yield from walk(statement, at_import, True)
            for statement in node.orelse:
                yield from walk(statement, at_import, for_types)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, at_import and not inside, for_types)

    return walk(module.tree, True, False)


def stairs(module: Module, package: str = "rt_twisted") -> Iterator[str]:
    """
    Imports that go up, or next door. One for types alone counts as well: who
    has to name the other's class knows it.
    """
    if not module.name:
        return
    if module.room not in FLOOR:
        yield f"{module.name}: has no floor"
        return
    for one in imports(module, package):
        room = one.target.removeprefix(f"{package}.").partition(".")[0]
        if not one.of(package) or room == module.room or room not in FLOOR:
            continue
        if FLOOR[room] >= FLOOR[module.room]:
            way = "next door" if FLOOR[room] == FLOOR[module.room] else "up"
            yield f"{module.name}:{one.line}: goes {way} to {room}"


def purity(module: Module, package: str = "rt_twisted") -> Iterator[str]:
    """
    Twisted where only bytes and values should be, reactors and backends at the wrong place.
    """
    for one in imports(module, package):
        if one.for_types:
            continue
        if module.room in PURE and one.of("twisted"):
            yield f"{module.name}:{one.line}: imports Twisted"
        if one.at_import and one.of(REACTOR):
            yield f"{module.name}:{one.line}: installs a reactor when imported"
        for backend, room in ONLY_IN.items():
            if one.of(backend) and module.room != room:
                yield f"{module.name}:{one.line}: {backend} belongs into {room}"


def silence(module: Module, package: str = "rt_twisted") -> Iterator[str]:
    """
    Public modules, classes and functions without a docstring, or with one whose
    quotes do not stand on lines of their own.
    """

    def walk(node: ast.Module | ast.ClassDef, path: str) -> Iterator[str]:
        for child in node.body:
            if not isinstance(child, Definition) or child.name.startswith("_"):
                continue
            if not _is_further_part(child):
                yield from look(child, f"{path}.{child.name}")
            if isinstance(child, ast.ClassDef):
                yield from walk(child, f"{path}.{child.name}")

    def look(
        node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, path: str
    ) -> Iterator[str]:
        if ast.get_docstring(node) is None:
            yield f"{path}: has no docstring"
            return
        text = node.body[0]
        first, last = (
            module.source[number - 1].strip() for number in (text.lineno, text.end_lineno or 0)
        )
        if first.lstrip("r") != '"""' or last != '"""':
            yield f"{path}: quotes belong on lines of their own"

    name = f"{package}.{module.name}".rstrip(".")
    if module.tree.body:
        yield from look(module.tree, name)
    yield from walk(module.tree, name)


def _is_further_part(definition: Definition) -> bool:
    # An overload or a property's setter: the first definition has the words.
    ends = {ast.unparse(each).rpartition(".")[2] for each in definition.decorator_list}
    return bool(ends & {"overload", "setter", "deleter"})


def empty_words(module: Module, package: str = "rt_twisted") -> Iterator[str]:
    """
    Names of modules, classes and functions that say nothing.
    """
    names = [
        module.name.rpartition(".")[2],
        *(node.name for node in ast.walk(module.tree) if isinstance(node, Definition)),
    ]
    for name in names:
        for word in re.findall("[A-Z]?[a-z]+|[A-Z]+(?![a-z])", FIELD_WORDS.sub("", name)):
            if word.lower() in EMPTY_WORDS or word.lower().removesuffix("s") in EMPTY_WORDS:
                yield f"{package}.{module.name}: {word} in {name} says nothing"


def foreign_case(module: Module, package: str = "rt_twisted") -> Iterator[str]:
    """
    Names in camelCase that are not Twisted's, so that a reader sees who calls what.
    """
    for node in ast.walk(module.tree):
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.arg):
            names = [node.arg]
        elif isinstance(node, ast.ClassDef):
            targets = [target for each in node.body for target in _assigned(each)]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        for name in names:
            if re.search("[a-z][A-Z]", name) and name.lstrip("_") not in _words_of_twisted():
                yield f"{package}.{module.name}: {name} is not a name of Twisted's"


def _assigned(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.Assign):
        return statement.targets
    return [statement.target] if isinstance(statement, ast.AnnAssign) else []


@functools.cache
def _words_of_twisted() -> frozenset[str]:
    words: set[str] = set()
    for path in Path(twisted.__file__).parent.rglob("*.py"):
        if "test" not in path.parts:
            words.update(re.findall("[a-z]+[A-Z][A-Za-z]*", path.read_text()))
    return frozenset(words)


Rule = Callable[[Module], Iterator[str]]
RULES: tuple[Rule, ...] = (stairs, purity, silence, empty_words, foreign_case)


@pytest.mark.parametrize("rule", RULES, ids=["stairs", "purity", "silence", "words", "case"])
def test_the_house_is_in_order(rule: Rule) -> None:
    """
    No module of the package breaks a rule of the house.
    """
    assert [complaint for module in read(HOUSE) for complaint in rule(module)] == []


def test_what_is_pure_stays_so_in_company() -> None:
    """
    Whatever a pure module imports, Twisted does not come along.
    """
    pure = [module.name for module in read(HOUSE) if module.room in PURE]

    assert _loaded_by(pure, "twisted") == []


def test_the_plug_in_leaves_the_choice_of_the_reactor_to_twistd() -> None:
    """
    `twistd -r asyncio realtime` works: nothing installs another reactor before.
    """
    assert _loaded_by(["tap"], REACTOR) == []


def _loaded_by(names: list[str], unwanted: str) -> list[str]:
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[2:]:\n"
        "    importlib.import_module(f'rt_twisted.{name}')\n"
        "print(*(name for name in sys.modules if f'{name}.'.startswith(f'{sys.argv[1]}.')))"
    )
    command = [sys.executable, "-c", script, unwanted, *names]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    ("name", "text", "complaints"),
    [
        ("hub", "from rt_twisted.message import Message", []),
        ("hub", "import rt_twisted.routes", ["hub:1: goes up to routes"]),
        ("hub", "from rt_twisted import tap, history", ["hub:1: goes up to tap"]),
        ("codecs.sse", "from .chunked import Chunked", []),
        ("codecs.sse", "from rt_twisted.codecs import chunked", []),
        (
            "codecs.sse",
            "from ..history import History",
            ["codecs.sse:1: goes next door to history"],
        ),
        (
            "actions.sse",
            "def act():\n    from ..brokers import redis",
            ["actions.sse:2: goes next door to brokers"],
        ),
        (
            "message",
            "if TYPE_CHECKING:\n    from .interfaces import IBroker",
            ["message:2: goes up to interfaces"],
        ),
        ("hub", "from rt_twisted import __version__", []),
        ("lobby", "", ["lobby: has no floor"]),
    ],
)
def test_who_knows_whom_is_seen(name: str, text: str, complaints: list[str]) -> None:
    """
    However an import is written and wherever it stands, it is found.
    """
    assert list(stairs(_module(name, text))) == complaints


@pytest.mark.parametrize(
    ("name", "text", "complaints"),
    [
        ("codecs.sse", "import zope.interface, twistedly", []),
        ("codecs.sse", "import twisted", ["codecs.sse:1: imports Twisted"]),
        (
            "history",
            "def now():\n    from twisted.internet import task",
            ["history:2: imports Twisted"],
        ),
        ("media", "if TYPE_CHECKING:\n    from twisted.python.failure import Failure", []),
        (
            "hub",
            "if True:\n    from twisted.internet import reactor",
            ["hub:2: installs a reactor when imported"],
        ),
        ("hub", "async def wait():\n    from twisted.internet import reactor", []),
        ("tap", "def make():\n    import txredisapi", ["tap:2: txredisapi belongs into brokers"]),
        ("brokers.amqp", "from txamqp.client import TwistedDelegate", []),
    ],
)
def test_what_is_not_pure_is_seen(name: str, text: str, complaints: list[str]) -> None:
    """
    Twisted, the reactor and the backends are found where they must not be.
    """
    assert list(purity(_module(name, text))) == complaints


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("", []),
        ('"""\nThe hub.\n"""\ndef _join(): ...', []),
        ("x = 1", ["rt_twisted.hub: has no docstring"]),
        ('"""The hub."""', ["rt_twisted.hub: quotes belong on lines of their own"]),
        ('"""\nThe hub."""', ["rt_twisted.hub: quotes belong on lines of their own"]),
        (
            '"""\nThe hub.\n"""\nclass Hub:\n    async def join(self): ...',
            ["rt_twisted.hub.Hub: has no docstring", "rt_twisted.hub.Hub.join: has no docstring"],
        ),
        ('"""\nThe hub.\n"""\n@overload\ndef join(): ...', []),
    ],
)
def test_what_is_not_explained_is_seen(text: str, complaints: list[str]) -> None:
    """
    Public things without a docstring of the house's form are found.
    """
    assert list(silence(_module("hub", text))) == complaints


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("hub", "class Hub: ...", []),
        ("utils", "", ["utils"]),
        ("hub", "class HTTPHandler: ...", ["Handler"]),
        ("hub", "class Hub:\n    def _make_helpers(self): ...", ["helpers"]),
        ("codecs.engineio", "class EngineIO: ...", []),
        ("hub", "class Engine: ...", ["Engine"]),
    ],
)
def test_names_that_say_nothing_are_seen(name: str, text: str, words: list[str]) -> None:
    """
    The forbidden words are found in every way of writing; Engine.IO is a name.
    """
    complaints = list(empty_words(_module(name, text)))

    assert [complaint.split()[1] for complaint in complaints] == words


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def dataReceived(self, data): ...", []),
        ("class Options:\n    optParameters = []", []),
        ("def fetchEverything(self, maxCount): ...", ["fetchEverything", "maxCount"]),
        ("class Hub:\n    allReaders: int = 0", ["allReaders"]),
    ],
)
def test_camel_case_of_our_own_is_seen(text: str, names: list[str]) -> None:
    """
    Names of functions, arguments and attributes are Twisted's or in snake_case.
    """
    complaints = list(foreign_case(_module("hub", text)))

    assert sorted(complaint.split()[1] for complaint in complaints) == sorted(names)


def test_tests_are_in_order_too() -> None:
    """
    Each test says what it promises, and names are as in the house.
    """
    tests = read(Path(__file__).parent)

    said = [each for module in tests for each in silence(module, "tests")]
    named = [each for module in tests for each in (*empty_words(module), *foreign_case(module))]
    assert [each for each in said if ".test_" in each.rpartition(": ")[0][len("tests.") :]] == []
    assert named == []


def test_every_file_of_a_package_is_read(tmp_path: Path) -> None:
    """
    Modules are found in all depths, packages by their own name.
    """
    for path in ("__init__.py", "hub.py", "codecs/__init__.py", "codecs/sse.py"):
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.touch()

    assert [module.name for module in read(tmp_path)] == ["", "codecs", "codecs.sse", "hub"]


def _module(name: str, text: str) -> Module:
    return Module(name, ast.parse(text), text.splitlines())
