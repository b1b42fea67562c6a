"""
Templates: values of requests are inserted as text, and never parsed.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.template import Template, parse_template


@dataclass
class FakeRequest:
    """
    The part of an exchange that templates read.
    """

    fields: Mapping[str, list[str]] = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    path: str = "/news/7"
    query_string: str = "a=%24%7BPATH_INFO%7D"
    address: str = "192.0.2.1"

    def query(self) -> Mapping[str, list[str]]:
        return self.fields

    def cookies(self) -> Mapping[str, str]:
        return self.sent

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


NEWS = Match(("/news/7", "7", None), "/rest")


def expand(source: str, request: FakeRequest | None = None, match: Match = NEWS) -> str:
    template = parse_template(source, len(match.groups) - 1)
    return template.expand(request or FakeRequest(), match)  # type: ignore[arg-type]  # it suffices


@pytest.mark.parametrize(
    ("source", "expanded"),
    [
        ("", ""),
        ("plain", "plain"),
        ("channel_$1", "channel_7"),
        ("$1$1", "77"),
        ("$12", "72"),
        ("$0!", "/news/7!"),
        ("[$2]", "[]"),
        ("$", "$"),
        ("$$1", "$7"),
        ("costs 5$", "costs 5$"),
        ("$x", "$x"),
        ("{PATH_INFO}", "{PATH_INFO}"),
        ("${PATH_INFO}", "/news/7"),
        ("<${QUERY_STRING}>", "<a=%24%7BPATH_INFO%7D>"),
        ("${REMOTE_ADDR} ${REQUEST_METHOD}", "192.0.2.1 GET"),
        ("${qs[name]}:", "ann:"),
        ("${qs[twice]}", "second"),
        ("${qs[empty]}${qs[none]}${qs[]}", ""),
        ("${qs[a b]}", "blank"),
        ("${qs[tricky]}", "$1 ${PATH_INFO},subscribe=x\\"),
        ("${cookie[who]}/${cookie[none]}", "bob/"),
        ("${HTTP_X_REAL_NAME}", "carl"),
        ("${HTTP_HOST}${HTTP_NONE}", "example.org"),
    ],
)
def test_variables(source: str, expanded: str) -> None:
    """
    uWSGI's variables are replaced; missing values are empty, and values are not parsed
    again.
    """
    request = FakeRequest(
        {
            "name": ["ann"],
            "twice": ["first", "second"],
            "empty": [""],
            "a b": ["blank"],
            "tricky": ["$1 ${PATH_INFO},subscribe=x\\"],
        },
        {"who": "bob"},
        {"x-real-name": "carl", "host": "example.org"},
    )

    assert expand(source, request) == expanded


def test_uuids_are_new_each_time() -> None:
    """
    Every request gets its own uuid.
    """
    first, second = (uuid.UUID(expand("${uwsgi[uuid]}")) for _ in range(2))

    assert first != second
    assert first.version == second.version == 4


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("$3", "$3 needs a pattern with 3 groups, this one has 2"),
        ("a$9", "$9 needs a pattern with 9 groups, this one has 2"),
        ("${}", "unknown variable ${}"),
        ("${path_info}", "unknown variable ${path_info}; there is ${PATH_INFO}"),
        ("${HTTP_}", "unknown variable ${HTTP_}"),
        ("${qs[name}", "unknown variable ${qs[name}"),
        ("${time[unix]}", "unknown variable ${time[unix]}"),
        ("${ PATH_INFO }", "unknown variable ${ PATH_INFO }"),
        ("${1}", "unknown variable ${1}"),
    ],
)
def test_errors_are_found_at_start(source: str, reason: str) -> None:
    """
    A wrong template is an error at start, not at the first request.
    """
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        parse_template(source, 2)


def test_an_unclosed_variable_is_an_error() -> None:
    """
    `${qs[name]` was meant as a variable, and must not become a channel's name.
    """
    with pytest.raises(ValueError):
        parse_template("${qs[name]", 0)


def test_templates_compare_by_source() -> None:
    """
    Settings that are read twice are equal.
    """
    assert parse_template("a", 0) == Template("a", ("a",))
    assert parse_template("a$1", 1) == parse_template("a$1", 1) != parse_template("b$1", 1)
    assert parse_template("", 0).parts == ()


@given(st.text(), st.text())
def test_values_of_requests_are_text(value: str, other: str) -> None:
    """
    Any value is inserted unchanged between the constant parts.
    """
    request = FakeRequest({"v": [value]}, {"c": other})

    assert expand("<${qs[v]}|${cookie[c]}>", request) == f"<{value}|{other}>"
    assert expand("<$1|$0>", match=Match((value, other), "")) == f"<{other}|{value}>"


@given(st.text(alphabet="${}[]qscookieHTTP_PATH_INFO0123 \\,=", max_size=30))
def test_any_source_is_parsed_or_rejected(source: str) -> None:
    """
    Any text is a template, or an error with a reason.
    """
    try:
        template = parse_template(source, 2)
    except ValueError as error:
        assert str(error)
    else:
        assert isinstance(template.expand(FakeRequest(), NEWS), str)  # type: ignore[arg-type]  # it suffices
