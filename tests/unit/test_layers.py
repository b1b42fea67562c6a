"""
Rules of CONTRIBUTING.md that import-linter and ruff cannot check.

The layers and the absence of import cycles are checked by import-linter (pyproject.toml).
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import twisted
import twisted.internet.interfaces
import twisted.logger
import twisted.web.iweb
import twisted.web.resource
from zope.interface.interface import InterfaceClass

import rt_twisted

PACKAGE = Path(rt_twisted.__file__).parent

PURE = {"model", "codecs", "formats", "media"}  # never import Twisted
REACTOR = "twisted.internet.reactor"
ONLY_IN = {"txredisapi": "brokers", "txamqp": "brokers"}  # importing them installs a reactor

# Bases that document no methods; those of all others do (a library's, such as txamqp's delegate).
PLAIN_BASES = {"Enum", "Exception", "Generic", "Interface", "IntEnum", "Protocol", "StrEnum"}
EMPTY_WORDS = {"handler", "manager", "processor", "engine", "helper", "util"}
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.arg)
STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)
LEAVES = (ast.Name, ast.Constant, ast.expr_context, ast.operator)
FIELD_WORDS = re.compile("engine_?io", re.IGNORECASE)  # a protocol's name


@dataclass(frozen=True)
class Module:
    """
    A source file of the package.

    Args:
        name: dotted, below the package: `codecs.sse`, or "" for the package itself.
        tree: its syntax.
        source: its lines.
    """

    name: str
    tree: ast.Module
    source: list[str]

    @functools.cached_property
    def named(self) -> tuple[ast.AST, ...]:
        """
        The definitions and arguments in it, at any depth.
        """
        found: list[ast.AST] = []
        todo: list[ast.AST] = [self.tree]
        while todo:  # five times as fast as ast.walk, which visits names and constants, too
            node: Any = todo.pop()
            if isinstance(node, NAMED):
                found.append(node)
            for field in node._fields:
                value = getattr(node, field, None)
                if isinstance(value, list):
                    todo += [each for each in value if isinstance(each, ast.AST)]
                elif isinstance(value, ast.AST) and not isinstance(value, LEAVES):
                    todo.append(value)
        return tuple(found)

    @property
    def room(self) -> str:
        """
        The top-level module or package it belongs to.
        """
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Import:
    """
    An imported name.

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


@functools.cache
def read(folder: Path) -> tuple[Module, ...]:
    """
    Return all modules of the package in *folder*.
    """
    modules = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        text = path.read_text()
        name = ".".join(part for part in parts if part != "__init__")
        modules.append(Module(name, ast.parse(text), text.splitlines()))
    return tuple(modules)


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
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for child in ast.iter_child_nodes(node):
                if isinstance(child, STATEMENTS):  # expressions import nothing
                    yield from walk(child, at_import and not inside, for_types)

    return walk(module.tree, True, False)


def purity(module: Module, package: str = "rt_twisted") -> Iterator[str]:
    """
    Report imports of Twisted in pure modules, and of reactors and backends in the wrong place.
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


def missing_docstrings(module: Module, package: str = "rt_twisted") -> Iterator[str]:
    """
    Report public modules, classes and functions without a docstring of the agreed form.

    Methods that an interface, a Protocol, a base class or Twisted names need none: their contract
    is documented there.
    """

    def walk(node: ast.Module | ast.ClassDef, path: str) -> Iterator[str]:
        for child in node.body:
            if not isinstance(child, Definition) or child.name.startswith("_"):
                continue
            if not _is_further_part(child) and not _is_documented_elsewhere(node, child):
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


def _is_documented_elsewhere(node: ast.Module | ast.ClassDef, child: Definition) -> bool:
    if isinstance(node, ast.Module) or isinstance(child, ast.ClassDef):
        return False
    name = child.name
    inherited = {ast.unparse(base).partition("[")[0] for base in node.bases} - PLAIN_BASES
    if inherited or name in _interface_methods() or re.search("[a-z][A-Z]", name):
        return True
    decorators = (ast.unparse(each) for each in node.decorator_list)
    return name in _twisted_methods() and any(one.startswith("implementer(") for one in decorators)


@functools.cache
def _twisted_methods() -> frozenset[str]:
    modules = (twisted.internet.interfaces, twisted.web.iweb, twisted.web.resource, twisted.logger)
    found = (each for module in modules for each in vars(module).values())
    return frozenset(name for each in found if isinstance(each, InterfaceClass) for name in each)


@functools.cache
def _interface_methods() -> frozenset[str]:
    names: set[str] = set()
    for module in read(PACKAGE):
        for node in module.named:
            if not isinstance(node, ast.ClassDef):
                continue
            bases = {ast.unparse(base) for base in node.bases}
            if bases & {"Interface", "Protocol"} or re.match("I[A-Z][a-z]", node.name):
                names.update(each.name for each in node.body if isinstance(each, ast.FunctionDef))
                for target in chain.from_iterable(_assigned(each) for each in node.body):
                    names.add(ast.unparse(target))
    return frozenset(names)


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
        *(node.name for node in module.named if isinstance(node, Definition)),
    ]
    for name in names:
        for word in re.findall("[A-Z]?[a-z]+|[A-Z]+(?![a-z])", FIELD_WORDS.sub("", name)):
            if word.lower() in EMPTY_WORDS or word.lower().removesuffix("s") in EMPTY_WORDS:
                yield f"{package}.{module.name}: {word} in {name} says nothing"


def foreign_case(module: Module, package: str = "rt_twisted") -> Iterator[str]:
    """
    Names in camelCase that are not Twisted's, so that a reader sees who calls what.
    """
    for node in module.named:
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
RULES: tuple[Rule, ...] = (purity, missing_docstrings, empty_words, foreign_case)


@pytest.mark.limit(240)
@pytest.mark.parametrize("rule", RULES, ids=["purity", "docstrings", "words", "case"])
def test_the_package_keeps_the_rules(rule: Rule) -> None:
    """
    No module of the package breaks a rule.
    """
    assert [complaint for module in read(PACKAGE) for complaint in rule(module)] == []


def test_pure_modules_do_not_load_twisted() -> None:
    """
    Importing a pure module does not load Twisted, directly or through another module.
    """
    pure = [module.name for module in read(PACKAGE) if module.room in PURE]

    assert _loaded_by(pure, "twisted") == []


def test_the_plug_in_installs_no_reactor() -> None:
    """
    `twistd -r asyncio realtime` works: loading the plug-in installs no reactor.
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
        ("codecs.sse", "import zope.interface, twistedly", []),
        ("codecs.sse", "import twisted", ["codecs.sse:1: imports Twisted"]),
        (
            "model.retention",
            "def now():\n    from twisted.internet import task",
            ["model.retention:2: imports Twisted"],
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
def test_purity_reports_imports(name: str, text: str, complaints: list[str]) -> None:
    """
    Imports of Twisted, the reactor and the backends are reported where they must not be.
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
            '"""\nThe hub.\n"""\nclass Hub:\n    async def seek(self): ...',
            ["rt_twisted.hub.Hub: has no docstring", "rt_twisted.hub.Hub.seek: has no docstring"],
        ),
        ('"""\nThe hub.\n"""\n@overload\ndef join(): ...', []),
    ],
)
def test_missing_docstrings_are_reported(text: str, complaints: list[str]) -> None:
    """
    Public definitions without a docstring, or with one in another form, are reported.
    """
    assert list(missing_docstrings(_module("hub", text))) == complaints


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
def test_empty_words_are_reported(name: str, text: str, words: list[str]) -> None:
    """
    Forbidden words are found in every spelling; Engine.IO is the name of a protocol.
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
def test_camel_case_of_our_own_is_reported(text: str, names: list[str]) -> None:
    """
    Names of functions, arguments and attributes are those of Twisted or in snake_case.
    """
    complaints = list(foreign_case(_module("hub", text)))

    assert sorted(complaint.split()[1] for complaint in complaints) == sorted(names)


@pytest.mark.limit(240)
def test_tests_keep_the_rules() -> None:
    """
    Each test has a docstring, and names follow the rules of the package.
    """
    tests = read(Path(__file__).parents[1])

    missing = [each for module in tests for each in missing_docstrings(module, "tests")]
    named = [each for module in tests for each in (*empty_words(module), *foreign_case(module))]
    assert [
        each for each in missing if re.search(r"\.test_\w+\.(Test\w+\.)?test_\w+: ", each)
    ] == []
    assert named == []


def test_every_file_is_read(tmp_path: Path) -> None:
    """
    Modules are found at every depth; a package has the name of its folder.
    """
    for path in ("__init__.py", "hub.py", "codecs/__init__.py", "codecs/sse.py"):
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.touch()

    assert [module.name for module in read(tmp_path)] == ["", "codecs", "codecs.sse", "hub"]


def _module(name: str, text: str) -> Module:
    return Module(name, ast.parse(text), text.splitlines())
