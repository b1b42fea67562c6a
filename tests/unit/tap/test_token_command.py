"""
The command that makes and explains tokens.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rt_twisted.access.tokens import TokenKey, TokenVerifier
from rt_twisted.tap.notes import notes
from rt_twisted.tap.options import Options
from rt_twisted.tap.token_command import main
from tests.unit.access.test_tokens import pem

SECRET = "0123456789abcdef" * 4
KEY = f"--token-key={SECRET} https://id/"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(arguments)
    return status, capsys.readouterr().out.strip()


def test_tokens_of_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Signed by the first secret of the settings, with its issuer.
    """
    status, token = run(
        capsys, KEY, "--sub=mia", "--subscribe=room-*", "--channel=news", "--for=1h"
    )
    grant = TokenVerifier([TokenKey.of(SECRET, "https://id/")]).verify(token)
    assert status == 0
    assert (grant.subject, grant.channels) == ("mia", ("news",))
    assert grant.covers("room-7") and not grant.permits("room-7")
    assert grant.token_id


def test_explanations(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Which key, which check fails, and what is permitted.
    """
    _, token = run(capsys, KEY, "--sub=mia", "--subscribe=room-*")
    other = f"--token-key={SECRET[::-1]}"
    status, text = run(capsys, other, KEY, f"--explain={token}", "--channel=room-7")
    assert status == 0
    assert "token-key 1: the token is not valid: " in text
    assert "token-key 2: verifies it" in text
    assert "channel room-7: subscribe yes, publish no" in text
    assert text.endswith("accepted")
    status, text = run(capsys, KEY, f"--explain={token}", "--channel=secret")
    assert status == 1
    assert "channel secret: subscribe no" in text
    status, text = run(capsys, KEY, f"--explain={token}", "--token-audience=shop")
    assert status == 1
    assert "refused: the token is not valid: it is for another audience" in text
    assert run(capsys, KEY, "--explain=nonsense")[0] == 1
    assert SECRET not in text


def test_private_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """
    A daemon has the public key only.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_text(pem(key))
    setting = f"--token-key=file:{public}"
    assert run(capsys, setting) == (1, "no token: no token-key is a secret; sign with --key FILE")
    _, token = run(capsys, setting, f"--key={private}", "--sub=mia")
    assert run(capsys, setting, f"--explain={token}")[0] == 0
    assert run(capsys, KEY, "--for=2d")[0] == 1


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ((KEY, "--admin-key=k"), "valid again after a restart"),
        ((KEY, "--admin-key=k", "--history-file=x.db"), ""),
        (("--authorize=http://127.0.0.1:8080/may", "--port=8080"), "leads back"),
        (("--authorize=http://127.0.0.1:8000/may", "--port=8080"), ""),
        (
            ("--port=8080", "--route=^/a$ sse:allow=app,authorize=http://[::1]:8080/may"),
            "leads back",
        ),
        (("--port=8080", "--route=^/a$ sse:allow=app,authorize=http://[::1]:8000/may"), ""),
    ],
)
def test_notes_of_check(settings: tuple[str, ...], note: str) -> None:
    """
    Settings that are valid, and may not do what was meant.
    """
    options = Options()
    options.parseOptions(settings)
    found = " ".join(notes(options))
    assert (note in found) if note else "leads back" not in found and "revoked" not in found
