"""
The tests of uWSGI's `route-if` lines, and the texts in them.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.route_lines import METHOD
from rt_twisted.codecs.route_tests import NotTest, parse_test
from rt_twisted.codecs.route_texts import Variable, VariableText, parse_text

VALUES = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/stream.webm",
    "HTTP_X": "a;b",
    "qs[room]": "7",
    "X-SSE-OFFLOAD": "clock",
}


def value(name: str) -> str:
    return VALUES.get(name, "")


@pytest.mark.parametrize(
    ("test", "holds"),
    [
        ("equal:${REQUEST_METHOD};GET", True),
        ("isequal:${REQUEST_METHOD};GET", True),
        ("eq:${REQUEST_METHOD};GET", True),
        ("==:${REQUEST_METHOD};GET", True),
        ("equal:GET;${REQUEST_METHOD}", True),
        ("equal:${REQUEST_METHOD};POST", False),
        ("equal:${REQUEST_METHOD};get", False),
        ("equal:${PATH_INFO};/stream.webm", True),
        ("equal:${REQUEST_METHOD}-${PATH_INFO};GET-/stream.webm", True),
        ("equal:;", True),
        ("equal:a;a;a", False),
        ("equal:${HTTP_X};a;b", True),
        ("equal:$1;$1", True),
        ("empty:", True),
        ("empty:${NOT_SET}", True),
        ("empty:${NOT_SET}${HTTP_X}", False),
        ("empty:${X-SSE-OFFLOAD}", False),
        ("startswith:${PATH_INFO};/stream", True),
        ("startswith:${PATH_INFO};stream", False),
        ("endswith:${PATH_INFO};.webm", True),
        ("endswith:.webm;${PATH_INFO}", False),
        ("contains:${PATH_INFO};ream", True),
        ("contain:${PATH_INFO};x", False),
        ("regexp:${PATH_INFO};^/s.*m$", True),
        ("re:${PATH_INFO};^s", False),
        ("regexp:${qs[room]};^[0-9]+$", True),
    ],
)
def test_what_a_test_holds_for(test: str, holds: bool) -> None:
    """
    Both sides of the first semicolon may have variables; letters compare by case.
    """
    assert (parse_test(test).search(value) is not None) is holds
    assert (NotTest(parse_test(test)).search(value) is None) is holds


def test_the_groups_of_a_regexp_are_those_of_the_action() -> None:
    """
    Group 0 is the part that matched, and a group that did not take part is None.
    """
    test = parse_test("regexp:${PATH_INFO};/(s)tream(x)?")

    assert test.groups == 2
    assert test.search(value) == ("/stream", "s", None)
    assert NotTest(test).groups == 0


@pytest.mark.parametrize(
    ("test", "methods"),
    [
        ("equal:${REQUEST_METHOD};SOURCE", ["SOURCE"]),
        ("equal:PUT;${REQUEST_METHOD}", ["PUT"]),
        ("equal:${PATH_INFO};GET", []),
        ("equal:${REQUEST_METHOD}x;GETx", []),
        ("equal:${REQUEST_METHOD};${PATH_INFO}", []),
        ("startswith:${REQUEST_METHOD};P", []),
        ("empty:${REQUEST_METHOD}", []),
        ("regexp:${REQUEST_METHOD};GET", []),
    ],
)
def test_the_methods_that_a_test_names(test: str, methods: list[str]) -> None:
    """
    They are known without a request, so that 405 and OPTIONS can list them.
    """
    assert list(parse_test(test).constants(METHOD)) == methods
    assert list(NotTest(parse_test(test)).constants(METHOD)) == methods


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("equal:a", "equal needs two texts: equal:A;B"),
        ("regexp:a", "regexp needs two texts: regexp:A;REGEX"),
        ("regexp:a;(", "'(' is not a regular expression"),
        ("same:a;b", "there is no test 'same'; there is: equal, empty, startswith, endswith"),
        ("", "there is no test ''"),
        ("isdir:/x", "the test 'isdir' is not supported; there is: equal, empty"),
        ("ipv4in:${REMOTE_ADDR};10.0.0.0/8", "the test 'ipv4in' is not supported"),
        ("equal:${REQUEST_METHOD;GET", "a variable is not closed"),
        ("equal:${grant[sub]};a", "${grant[sub]} is not possible here: the grant is not known yet"),
        ("equal:${time[unix]};a", "unknown variable ${time[unix]}"),
        ("empty:${}", "unknown variable ${}"),
        ("empty:${path_info}", "unknown variable ${path_info}; there is ${PATH_INFO}"),
        ("empty:${qs}", "unknown variable ${qs}"),
    ],
)
def test_a_wrong_test_is_an_error_of_one_sentence(test: str, reason: str) -> None:
    """
    The sentence says what there is.
    """
    with pytest.raises(ValueError) as raised:
        parse_test(test)

    assert str(raised.value).startswith(reason)


def test_groups_of_texts() -> None:
    """
    Texts of actions insert groups; one that did not take part is empty.
    """
    text = parse_text("room-$1-${qs[room]}$2", 2)

    assert text.parts == ("room-", 1, "-", Variable("qs[room]"), 2)
    assert text.expand(value, ("/x", "b", None)) == "room-b-7"
    assert not text.is_fixed(["qs[room]"])
    assert parse_text("${A}.${B}").is_fixed(["A", "B"])
    assert not parse_text("${A}.${B}").is_fixed(["A"])
    assert parse_text("$1") == VariableText("$1", ("$1",))
    with pytest.raises(ValueError, match=r"^\$3 needs a pattern with 3 groups, this one has 2$"):
        parse_text("$3", 2)


@given(st.text(alphabet="equalregxp:;${}[]qsAB_-0123()*", max_size=30))
def test_any_text_is_a_test_or_a_value_error(text: str) -> None:
    """
    No other exception escapes, at start or later.
    """
    try:
        test = parse_test(text)
    except ValueError:
        return
    test.search(value)
