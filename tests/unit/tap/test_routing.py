"""
Own routes, the built-in ones, and both: `route = built-in`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rt_twisted.actions.chain import Route
from rt_twisted.routes import DEFAULT
from rt_twisted.tap.notes import notes
from rt_twisted.tap.routing import make_routes
from rt_twisted.tap.setting_values import SettingError
from tests.unit.tap.test_settings import ROOT, error_of, file, parse
from tests.unit.test_routes import CONTEXT


def lines(*arguments: str) -> list[str]:
    """
    Return the lines of the routes of a daemon with *arguments*.
    """
    return [
        entry.line for entry in make_routes(parse(*arguments), CONTEXT) if isinstance(entry, Route)
    ]


def test_without_routes_the_built_in_ones_are_used() -> None:
    """
    A daemon without routes of its own has the built-in ones; so has `route = built-in`.
    """
    assert lines() == lines("--route=built-in") == list(DEFAULT)


def test_the_page_shows_the_built_in_routes() -> None:
    """
    docs/configuration.md has the lines of the built-in routes, in their order.
    """
    page = (ROOT / "docs" / "configuration.md").read_text()

    assert "```ini\n" + "".join(f"route = {line}\n" for line in DEFAULT) + "```\n" in page


def test_own_routes_replace_the_built_in_ones() -> None:
    """
    One own route removes all built-in ones.
    """
    assert lines("--route=^/a$ sse:a") == ["^/a$ sse:a"]


def test_built_in_routes_stand_at_the_place_of_the_line() -> None:
    """
    Routes before `route = built-in` come before the built-in ones, others after them.
    """
    found = lines("--route=^/a$ sse:a", "--route= built-in ", "--route=^/b$ sse:b")

    assert found == ["^/a$ sse:a", *DEFAULT, "^/b$ sse:b"]


def test_the_admin_api_is_built_in_with_its_key() -> None:
    """
    With `admin-key`, the built-in routes have `/admin/`, as without routes of one's own.
    """
    assert lines("--route=built-in", "--admin-key=battery")[-1] == "^/admin/ admin"


def test_a_second_line_for_the_built_in_routes_is_an_error(tmp_path: Path) -> None:
    """
    The built-in routes can stand in one place only.
    """
    path = file(tmp_path, "route = built-in\nroute = ^/a$ sse:a\nroute = built-in\n")

    with pytest.raises(SettingError) as raised:
        make_routes(parse(f"--config={path}"), CONTEXT)
    assert str(raised.value) == f"{path}:3: route = built-in is set already, at {path}:1"


def test_a_jump_may_pass_the_built_in_routes(tmp_path: Path) -> None:
    """
    A label behind the built-in routes can be the target of a jump before them; the error about a
    missing one has the right line.
    """
    text = "route = ^/a$ goto:end\nroute = built-in\nroute-label = {}\nroute = ^/a$ sse:a\n"
    good, wrong = file(tmp_path, text.format("end")), tmp_path / "wrong.conf"
    wrong.write_text(text.format("start"))

    assert lines(f"--config={good}")[-1] == "^/a$ sse:a"
    sentence = error_of(make_routes, parse(f"--config={wrong}"), CONTEXT)
    assert sentence.startswith(f"{wrong}:1: route '^/a$ goto:end': no route-label 'end'")


@pytest.mark.parametrize(
    ("routes", "missing"),
    [
        ([], ""),
        (["^/a$ sse:a"], "/healthz, /readyz, /metrics, /realtime.js"),
        (["^/a$ sse:a", "built-in"], ""),
        (["^/healthz$ alive", "^/(readyz|metrics)$ ready", "route-label x"], "/realtime.js"),
        (["^/ wsgi:shop:application"], ""),
        (["route-run sse:a"], ""),
        (["route-run last:"], "/healthz, /readyz, /metrics, /realtime.js"),
        (["static-map /=public"], ""),
    ],
)
def test_a_check_names_what_own_routes_remove(routes: list[str], missing: str) -> None:
    """
    `--check` names the paths that other programs rely on and that have no route, and says how to
    add them.
    """
    found = [
        note for note in notes(parse(*(f"--route={line}" for line in routes))) if "own" in note
    ]

    assert [note.partition(": ")[2].partition(";")[0] for note in found] == [missing] * bool(
        missing
    )
    assert all(note.endswith("; route = built-in adds them") for note in found)


@pytest.mark.parametrize(
    ("lines", "note"),
    [
        (
            ["internal-route ^/-/(.*) sse:$1", "^/ stats"],
            "internal-route: no effect, as no route leads to an application by http:",
        ),
        (
            ["pull-header A B", "final-route-run sse:${B}", "^/ stats"],
            "final-route-run, pull-header: no effect, as no route leads to an application",
        ),
        (["internal-route ^/-/(.*) sse:$1", "wsgi-file clock.py"], ""),
        (["internal-route ^/-/(.*) sse:$1", "^/ http:127.0.0.1:8000"], ""),
        (["^/ stats"], ""),
        (
            ["final-route-if equal:${T};event/stream sse:x", "wsgi-file clock.py"],
            "a line tests for the type event/stream, which browsers do not accept",
        ),
        (
            [
                "final-route-if equal:${T};event/stream sse:x",
                "final-route-if equal:${T};text/event-stream sse:x",
                "wsgi-file clock.py",
            ],
            "",
        ),
    ],
)
def test_lines_about_responses_that_do_nothing(lines: list[str], note: str) -> None:
    """
    `--check` names the lines that no response can reach, and a type that browsers reject.
    """
    found = list(notes(parse(*(f"--route={line}" for line in lines))))
    about = [each for each in found if "own routes" not in each]

    assert [each[: len(note)] for each in about] == ([note] if note else [])
