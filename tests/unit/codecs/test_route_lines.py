"""
uWSGI's route lines: their parts, their tests, and what is wrong with others.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.route_lines import (
    METHOD,
    PATH,
    LineWord,
    join_word,
    parse_line,
    split_word,
)

GET: Mapping[str, str] = {METHOD: "GET", PATH: "/stream.webm"}


@pytest.mark.parametrize(
    ("test", "holds"),
    [
        ("equal:${REQUEST_METHOD};GET", True),
        ("equal:GET;${REQUEST_METHOD}", True),
        ("equal:${REQUEST_METHOD};POST", False),
        ("equal:${REQUEST_METHOD};get", False),
        ("equal:${PATH_INFO};/stream.webm", True),
        ("equal:${REQUEST_METHOD} ${PATH_INFO};GET", False),
        ("equal:${REQUEST_METHOD}-${PATH_INFO};GET-/stream.webm", True),
        ("equal:;", True),
        ("equal:a;a;a", False),
    ],
)
def test_equal_compares_two_texts(test: str, holds: bool) -> None:
    """
    Both sides of the first semicolon may have variables; letters compare by case.
    """
    if " " in test:
        with pytest.raises(ValueError, match="equal needs two texts"):
            parse_line(LineWord.IF, f"{test} sse:news")
        return
    line = parse_line(LineWord.IF, f"{test} sse:news")

    assert line.test is not None
    assert line.test.holds(GET) is holds
    assert (line.action, line.arguments) == ("sse", "news")
    assert line.pattern.search("/anything")


@pytest.mark.parametrize(
    ("test", "methods"),
    [
        ("equal:${REQUEST_METHOD};SOURCE", ["SOURCE"]),
        ("equal:PUT;${REQUEST_METHOD}", ["PUT"]),
        ("equal:${PATH_INFO};GET", []),
        ("equal:${REQUEST_METHOD}x;GETx", []),
        ("equal:${REQUEST_METHOD};${PATH_INFO}", []),
    ],
)
def test_the_methods_that_a_test_names(test: str, methods: list[str]) -> None:
    """
    They are known without a request, so that 405 and OPTIONS can list them.
    """
    found = parse_line(LineWord.IF, f"{test} sse:news").test

    assert found is not None
    assert list(found.constants(METHOD)) == methods


@pytest.mark.parametrize(
    ("word", "text", "method", "action", "arguments"),
    [
        (LineWord.ROUTE, "^/x$ goto:stream", None, "goto", "stream"),
        (LineWord.ROUTE, "GET ^/x$ webm:cam,burst=2", "GET", "webm", "cam,burst=2"),
        (LineWord.RUN, "last:", None, "last", ""),
        (LineWord.RUN, "last", None, "last", ""),
        (LineWord.IF, "equal:a;b  sse:a:b ", None, "sse", "a:b"),
        (LineWord.LABEL, "stream", None, "", "stream"),
        (LineWord.LABEL, " a label ", None, "", "a label"),
        (LineWord.STATIC_MAP, "/=tests/webm.html", None, "static", "tests/webm.html"),
        (LineWord.STATIC_MAP, "/a = b=c, d.html", None, "static", "b=c, d.html"),
    ],
)
def test_the_parts_of_a_line(
    word: LineWord, text: str, method: str | None, action: str, arguments: str
) -> None:
    """
    An action is a word, a colon and its arguments; further colons belong to them.
    """
    line = parse_line(word, text)

    assert (line.word, line.method, line.action, line.arguments) == (
        word,
        method,
        action,
        arguments,
    )


@pytest.mark.parametrize(
    ("prefix", "path", "matched"),
    [
        ("/", "/", "/"),
        ("/", "/any/path", "/"),
        ("/files", "/files/a.html", "/files"),
        ("/files/", "/files", "/files"),
        ("/files", "/files-of-others", None),
        ("/a.b", "/aXb", None),
    ],
)
def test_a_static_map_matches_whole_segments(prefix: str, path: str, matched: str | None) -> None:
    """
    The prefix is no regular expression.
    """
    found = parse_line(LineWord.STATIC_MAP, f"{prefix}=folder").pattern.search(path)

    assert (found and found[0]) == matched


@pytest.mark.parametrize(
    ("word", "text", "reason"),
    [
        (LineWord.ROUTE, "^/x$", "a route is '[METHOD] REGEX ACTION[:ARGUMENTS]', or built-in"),
        (LineWord.ROUTE, "( sse:news", "'(' is not a regular expression"),
        (LineWord.RUN, "", "a route-run is 'ACTION[:ARGUMENTS]'"),
        (LineWord.IF, "equal:a;b", "a route-if is 'TEST:ARGUMENTS ACTION[:ARGUMENTS]'"),
        (LineWord.IF, "equal:a sse:news", "equal needs two texts: equal:A;B"),
        (LineWord.IF, "same:a;b sse:news", "there is no test 'same'; there is: equal"),
        (LineWord.IF, "regexp:a;b sse:news", "the test 'regexp' is not built yet"),
        (LineWord.IF, "equal:${REQUEST_METHOD;GET sse:news", "a variable is not closed"),
        (LineWord.IF, "equal:${HTTP_HOST};a sse:news", "a test cannot use ${HTTP_HOST}, only"),
        (LineWord.LABEL, " ", "a route-label needs a name"),
        (LineWord.STATIC_MAP, "/", "a static-map is '/PREFIX=PATH'"),
        (LineWord.STATIC_MAP, "/=", "a static-map is '/PREFIX=PATH'"),
        (LineWord.STATIC_MAP, "files=path", "a static-map is '/PREFIX=PATH'"),
    ],
)
def test_a_wrong_line_is_an_error_of_one_sentence(word: LineWord, text: str, reason: str) -> None:
    """
    The sentence says what is wrong, or what the line should be.
    """
    with pytest.raises(ValueError) as raised:
        parse_line(word, text)

    assert str(raised.value).startswith(reason)
    assert "\n" not in str(raised.value)


@given(st.sampled_from(LineWord), st.text())
def test_any_text_is_a_line_or_a_value_error(word: LineWord, text: str) -> None:
    """
    No other exception escapes.
    """
    try:
        line = parse_line(word, text)
    except ValueError:
        return
    assert line.word is word


@given(st.sampled_from(LineWord), st.from_regex(r"[!-~][ -~]*", fullmatch=True))
def test_a_word_is_found_in_the_line_again(word: LineWord, text: str) -> None:
    """
    Lines of all words are stored as texts of one setting.
    """
    if word is LineWord.ROUTE and split_word(text)[0] is not word:
        return
    assert split_word(join_word(word, text)) == (word, text)
