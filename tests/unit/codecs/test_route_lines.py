"""
uWSGI's route lines: their parts, and what is wrong with others.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.route_lines import WORDS, Chain, LineWord, join_word, parse_line, split_word

VALUES = {
    "REQUEST_METHOD": "GET",
    "REQUEST_URI": "/a%20b?c=d",
    "HTTP_HOST": "www.example.org",
    "QUERY_STRING": "c=d",
    "REMOTE_ADDR": "192.0.2.7",
    "HTTP_USER_AGENT": "curl/8",
    "HTTP_REFERER": "https://a.example/",
}


def value(name: str) -> str:
    return VALUES.get(name, "")


@pytest.mark.parametrize(
    ("word", "text", "method", "action", "arguments"),
    [
        ("route", "^/x$ goto:stream", None, "goto", "stream"),
        ("route", "GET ^/x$ webm:cam,burst=2", "GET", "webm", "cam,burst=2"),
        ("route", "ADMIN break:403 Not for you", None, "break", "403 Not for you"),
        ("route", "GET ^/x$ break:403 Forbidden", "GET", "break", "403 Forbidden"),
        ("route", "X addheader:X-A: b c", None, "addheader", "X-A: b c"),
        ("route-run", "last:", None, "last", ""),
        ("route-run", "last", None, "last", ""),
        ("route-if", "equal:a;b  sse:a:b ", None, "sse", "a:b"),
        ("route-if-not", "empty:${X} sse:${X}", None, "sse", "${X}"),
        ("route-label", "stream", None, "", "stream"),
        ("route-label", " a label ", None, "", "a label"),
        ("final-route-label", "x", None, "", "x"),
        ("static-map", "/=tests/webm.html", None, "static", "tests/webm.html"),
        ("static-map", "/a = b=c, d.html", None, "static", "b=c, d.html"),
        ("check-static", "public", None, "static", "public"),
        ("wsgi-file", r"/a,b\c=d.py:app", None, "wsgi", r"name=/a\,b\\c=d.py:app"),
        ("module", "shop.wsgi:app", None, "wsgi", "name=shop.wsgi:app"),
        ("collect-header", "Content-Type RESPONSE_TYPE", None, "content-type", "RESPONSE_TYPE"),
        ("pull-header", "X-SSE-Channel  X-SSE", None, "x-sse-channel", "X-SSE"),
        ("internal-route", "^/-/sse/(.+)$ sse:$1", None, "sse", "$1"),
    ],
)
def test_the_parts_of_a_line(
    word: str, text: str, method: str | None, action: str, arguments: str
) -> None:
    """
    An action is a word, a colon and its arguments; further colons belong to them.
    """
    line = parse_line(word, text)

    assert (line.method, line.action, line.arguments) == (method, action, arguments)
    assert (line.chain, line.word) == WORDS[word]


@pytest.mark.parametrize("chain", [Chain.REQUEST, Chain.RESPONSE, Chain.FINAL])
@pytest.mark.parametrize(
    ("word", "pattern", "groups"),
    [
        (LineWord.URI, "^/(a%20b)", ("/a%20b", "a%20b")),
        (LineWord.HOST, r"^(\w+)\.example\.org$", ("www.example.org", "www")),
        (LineWord.QUERY, "c=(.)", ("c=d", "d")),
        (LineWord.ADDRESS, r"^192\.0\.2\.", ("192.0.2.",)),
        (LineWord.AGENT, "^curl/", ("curl/",)),
        (LineWord.REFERER, "a.example", ("a.example",)),
        (LineWord.HOST, "^other", None),
    ],
)
def test_lines_about_other_texts_of_the_request(
    chain: Chain, word: LineWord, pattern: str, groups: tuple[str, ...] | None
) -> None:
    """
    Their pattern is searched in the variable, and its groups are those of the action.
    """
    line = parse_line(chain.value + word.value, f"{pattern} sse:news")

    assert line.test is not None
    assert line.test.search(value) == groups
    assert line.pattern.search("/anything")
    assert line.chain is chain


def test_a_line_about_the_status() -> None:
    """
    Only responses have one.
    """
    line = parse_line("response-route-status", "404 break:410 Gone")

    assert line.test is not None
    assert line.test.search(lambda name: "404") == ("",)
    assert line.test.search(lambda name: "4040") is None
    assert "route-status" not in WORDS


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
    found = parse_line("static-map", f"{prefix}=folder").pattern.search(path)

    assert (found and found[0]) == matched


@pytest.mark.parametrize(
    ("word", "text", "reason"),
    [
        ("route", "^/x$", "a route is '[METHOD] REGEX ACTION[:ARGUMENTS]', or built-in"),
        ("internal-route", "^/x$", "an internal-route is '[METHOD] REGEX ACTION[:ARGUMENTS]'"),
        ("route", "( sse:news", "'(' is not a regular expression"),
        ("route-host", "( sse:news", "'(' is not a regular expression"),
        ("final-route-host", "x", "a final-route-host is 'REGEX ACTION[:ARGUMENTS]'"),
        ("route-run", "", "a route-run is 'ACTION[:ARGUMENTS]'"),
        ("route-if", "equal:a;b", "a route-if is 'TEST:ARGUMENTS ACTION[:ARGUMENTS]'"),
        ("final-route-status", "2000 sse:x", "a final-route-status is 'STATUS ACTION[:ARGUMENTS]'"),
        ("route-label", " ", "a route-label needs a name"),
        ("static-map", "/", "a static-map is '/PREFIX=PATH'"),
        ("static-map", "/=", "a static-map is '/PREFIX=PATH'"),
        ("static-map", "files=path", "a static-map is '/PREFIX=PATH'"),
        ("wsgi-file", "", "a wsgi-file is 'FILE' or 'FILE:NAME'"),
        ("module", "", "a module is 'MODULE' or 'MODULE:NAME'"),
        ("check-static", "", "a check-static needs the path of a folder"),
        ("collect-header", "Content-Type", "a collect-header is 'HEADER VARIABLE'"),
        ("pull-header", "X: Y", "a pull-header is 'HEADER VARIABLE'"),
        ("pull-header", "X Y Z", "a pull-header is 'HEADER VARIABLE'"),
    ],
)
def test_a_wrong_line_is_an_error_of_one_sentence(word: str, text: str, reason: str) -> None:
    """
    The sentence says what is wrong, or what the line should be.
    """
    with pytest.raises(ValueError) as raised:
        parse_line(word, text)

    assert str(raised.value).startswith(reason)
    assert "\n" not in str(raised.value)


@given(st.sampled_from(sorted(WORDS)), st.text())
def test_any_text_is_a_line_or_a_value_error(word: str, text: str) -> None:
    """
    No other exception escapes.
    """
    try:
        line = parse_line(word, text)
    except ValueError:
        return
    assert (line.chain, line.word) == WORDS[word]


@given(st.sampled_from(sorted(WORDS)), st.from_regex(r"[!-~][ -~]*", fullmatch=True))
def test_a_word_is_found_in_the_line_again(word: str, text: str) -> None:
    """
    Lines of all words are stored as texts of one setting.
    """
    if word == "route" and split_word(text)[0] != word:
        return
    assert split_word(join_word(word, text)) == (word, text)
