"""
Digest credentials, with the examples of the RFCs.
"""

from __future__ import annotations

import pytest

from rt_twisted.codecs.digest_auth import parse_digest, parse_parameters, write_challenge

NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
ANSWER = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", '
    f'algorithm={{}}, nonce="{NONCE}", nc=00000001, '
    'cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, response="{}"'
)
PROOFS = {
    "MD5": "8ca523f5e9506fed4657c9700eebdbec",
    "SHA-256": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
}


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_the_examples_of_rfc_7616(algorithm: str) -> None:
    """
    The password proves itself, and no other one does.
    """
    answer = parse_digest(ANSWER.format(algorithm, PROOFS[algorithm].upper()))

    assert answer is not None
    assert answer.proves("GET", b"Circle of Life")
    assert not answer.proves("GET", b"circle of life")
    assert not answer.proves("PUT", b"Circle of Life")


def test_without_qop() -> None:
    """
    As RFC 2069 has it; the algorithm is MD5 if none is named.
    """
    answer = parse_digest(
        'Digest username="Mufasa", realm="testrealm@host.com", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html", '
        'response="1949323746fe6a43ef61f9606e7febea", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )

    assert answer is not None
    assert answer.proves("GET", b"CircleOfLife")
    assert answer.qop == ""


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "Digest",
        "Basic YTpi",
        'Digest realm="a"',
        'Digest response="a", algorithm=MD5-sess',
        'Digest response="a", qop=auth-int',
    ],
)
def test_what_is_no_digest(text: str | None) -> None:
    """
    Other schemes, other algorithms, and credentials without a proof.
    """
    assert parse_digest(text) is None


def test_a_challenge() -> None:
    """
    Clients read its parameters, quoted or not.
    """
    written = write_challenge("live", "n", "MD5", True)

    assert written.startswith("Digest ")
    assert parse_parameters(written.partition(" ")[2]) == {
        "realm": "live",
        "nonce": "n",
        "algorithm": "MD5",
        "qop": "auth",
        "stale": "true",
    }
    assert parse_parameters(r'a="b\"c,d" , e = f') == {"a": 'b"c,d', "e": "f"}


@pytest.mark.parametrize("text", ["a" * 200_000, "a" + " " * 200_000, 'a="' + "\\a" * 100_000])
def test_parameters_take_linear_time(text: str) -> None:
    """
    A long word, long blanks and a string without end: no attempt is made at each character.
    """
    assert parse_parameters(text + ", b=c")["b"] == "c"
