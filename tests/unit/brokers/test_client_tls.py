"""
Certificate files for TLS to a broker.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from rt_twisted.brokers.amqp.factory import build_broker as build_amqp
from rt_twisted.brokers.client_tls import ClientTls, ClientTlsEndpoint, WrongFile
from rt_twisted.brokers.redis.factory import build_broker as build_redis
from rt_twisted.model.settings import ConfigError
from rt_twisted.tap.options import Options
from tests.pems import Authority


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """
    The error is one sentence that begins with the path of the wrong file.
    """
    authority = Authority(tmp_path)
    mine, my_key = authority.pair("mine", "mine")
    _, other_key = authority.pair("other", "other")
    locked, locked_key = authority.pair("locked", "locked", passphrase=b"word")
    none = str(tmp_path / "none.pem")
    text = tmp_path / "text.pem"
    text.write_text("hello")
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n")

    ClientTls(authority.file, mine, my_key).check()
    for files, role, words in (
        (ClientTls(none), "ca", f"{none}: No such file"),
        (ClientTls(str(text)), "ca", f"{text}: no PEM certificate in it"),
        (ClientTls(str(broken)), "ca", f"{broken}: not PEM certificates"),
        (ClientTls("", none, my_key), "cert", f"{none}: No such file"),
        (ClientTls("", mine, none), "key", f"{none}: No such file"),
        (ClientTls("", mine, str(text)), "key", f"{text}: no PEM private key in it"),
        (ClientTls("", mine), "key", f"{mine}: no PEM private key in it"),
        (ClientTls("", mine, other_key), "key", f"{other_key}: not the key of the certificate in"),
        (ClientTls("", locked, locked_key), "key", f"{locked_key}: the private key is encrypted"),
    ):
        with pytest.raises(WrongFile) as caught:
            files.check()
        assert caught.value.role == role
        assert str(caught.value).startswith(words)


def test_files_are_read_for_each_connection(tmp_path: Path) -> None:
    """
    A file that is deleted fails the connection, not the daemon.
    """
    authority = Authority(tmp_path)
    endpoint = ClientTlsEndpoint(
        MemoryReactorClock(), "localhost", 1, ClientTls(authority.file), 5.0
    )
    failed: list[Any] = []
    Path(authority.file).unlink()
    connected: Deferred[Any] = endpoint.connect(Factory())
    connected.addErrback(failed.append)

    assert failed[0].check(WrongFile)


def options(**given: str) -> Options:
    """
    Return all settings, with those that are *given*.
    """
    found = Options()
    found.parseOptions([f"--{name.replace('_', '-')}={text}" for name, text in given.items()])
    return found


@pytest.mark.parametrize(
    ("given", "name", "words"),
    [
        ({"amqp_url": "amqps://h", "amqp_client_cert": "none"}, "amqp-client-cert", "No such file"),
        (
            {"amqp_url": "amqp://h", "amqp_client_cert": "none"},
            "amqp-client-cert",
            "certificates need",
        ),
        ({"amqp_url": "amqps://h", "amqp_client_key": "k"}, "amqp-client-key", "is not set"),
        ({"amqp_url": "amqp://h", "amqp_ca": "none"}, "amqp-ca", "certificates need amqp-tls"),
        ({"amqp_host": "a,,b"}, "amqp-host", "must be hosts such as"),
        ({"redis_url": "rediss://h", "redis_client_cert": "no"}, "redis-client-cert", "No such"),
        (
            {"redis_url": "redis://h", "redis_client_cert": "no"},
            "redis-client-cert",
            "needs rediss",
        ),
        ({"redis_url": "rediss://h", "redis_client_key": "k"}, "redis-client-key", "is not set"),
        ({"redis_url": "rediss://h", "redis_ca": "none"}, "redis-ca", "No such file"),
    ],
)
def test_wrong_settings(
    given: dict[str, str], name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The daemon does not start, and the error names the setting.
    """
    monkeypatch.chdir(tmp_path)
    if words in ("certificates need", "needs rediss") and name.endswith("cert"):
        given = {**given, name.replace("-", "_"): Authority(tmp_path).pair("a", "a")[0]}
        key = str(tmp_path / "a.key")
        given[name.replace("-", "_").replace("cert", "key")] = key
    build = build_amqp if name.startswith("amqp") else build_redis
    with pytest.raises(ConfigError, match=words) as caught:
        build(MemoryReactorClock(), options(**given))

    assert caught.value.name == name
