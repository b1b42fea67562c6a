"""
The applications of docs/access.md work when they are pasted: they make tokens, and are asked.
"""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, ROOT, StartDaemon, free_port
from tests.real.test_access import SECRET, request
from tests.real.test_admin import until


def block(name: str) -> str:
    """
    Return the code of docs/access.md that begins with the comment *name*.
    """
    text = (ROOT / "docs" / "access.md").read_text()
    found = re.search(rf"^```python\n({re.escape(name)}\n.*?)^```$", text, re.M | re.S)
    assert found is not None
    return found[1]


FLASK_LOGIN = """

@app.get("/login")
def login():
    session["user"] = "mia"
    return "in"
"""
DJANGO = """
import sys
from types import SimpleNamespace
from wsgiref.simple_server import make_server
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path
import views

def users(get_response):
    def middleware(request):
        name = request.COOKIES.get("session", "")
        request.user = SimpleNamespace(is_authenticated=bool(name), pk=name)
        return get_response(request)
    return middleware

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x",
                   MIDDLEWARE=["__main__.users"])
urlpatterns = [path(name, view) for name, view in
               (("realtime/may", getattr(views, "may", None)),
                ("token", getattr(views, "token", None))) if view]
make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application()).serve_forever()
"""
ENVIRONMENT = {"SECRET_KEY": "x" * 40, "TOKEN_KEY": SECRET, "PATH": "/usr/bin:/bin"}
COOKIES = {"django": "session=mia", "fastapi": "user=mia"}
UVICORN = ("-m", "uvicorn", "may_fastapi:app", "--log-level=error", "--port")


@contextmanager
def application(kind: str, page: str, folder: Path) -> Iterator[tuple[int, str]]:
    """
    Run an application of the documentation; yield its port, and the cookie of a user.

    Args:
        kind: flask, django or fastapi.
        page: may, or token.
        folder: for its files.
    """
    port = free_port()
    if kind == "flask":
        name = {"may": "may", "token": "app"}[page]
        login = FLASK_LOGIN if page == "may" else ""
        (folder / f"{name}.py").write_text(block(f"# {name}.py") + login)
        command = ["-m", "flask", "--app", name, "run", "-p", str(port)]
    elif kind == "fastapi":
        (folder / "may_fastapi.py").write_text(block("# may_fastapi.py"))
        command = [*UVICORN, str(port)]
    else:
        (folder / "views.py").write_text(block("# views.py" + (": may" if page == "may" else "")))
        (folder / "serve.py").write_text(DJANGO)
        command = ["serve.py", str(port)]
    command = [sys.executable, *command]
    with subprocess.Popen(
        command, cwd=folder, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    ) as running:
        try:
            until(lambda: request(port, "/login"))
            yield port, COOKIES.get(kind) or (_log_in(port) if page == "may" else "")
        finally:
            running.kill()


def _log_in(port: int) -> str:
    url = f"http://127.0.0.1:{port}/login"
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        return str(response.headers["Set-Cookie"].partition(";")[0])


@pytest.mark.limit(60)
@pytest.mark.parametrize("kind", ["flask", "django", "fastapi"])
def test_applications_of_the_documentation_are_asked(
    daemon: StartDaemon, tmp_path: Path, kind: str
) -> None:
    """
    They decide by their own sessions, and no client is admitted when they are gone.
    """
    with application(kind, "may", tmp_path) as (port, cookie):
        server = daemon("--allow=app", f"--authorize=http://127.0.0.1:{port}/realtime/may")
        given = ("-H", f"Cookie: {cookie}")
        assert request(server.port, "/poll?channels=news,user-mia", "", *given) == 200
        assert request(server.port, "/poll?channels=user-eve", "", *given) == 403
        assert request(server.port, "/poll?channels=news") == 401
    assert request(server.port, "/poll?channels=user-mia", "", *given) == 503


@pytest.mark.limit(60)
@pytest.mark.parametrize(("kind", "channel"), [("flask", "news"), ("django", "room-7")])
def test_tokens_of_the_documentation_are_accepted(
    daemon: StartDaemon, tmp_path: Path, kind: str, channel: str
) -> None:
    """
    The page that makes a token, and sets it as a cookie.
    """
    server = daemon("--allow=token", f"--token-key={SECRET}")
    with application(kind, "token", tmp_path) as (port, cookie):
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/token", headers={"Cookie": cookie})
        with urllib.request.urlopen(asked, timeout=PATIENCE) as response:
            made, set_cookie = response.read().decode(), response.headers["Set-Cookie"]
    assert request(server.port, f"/poll?channels={channel}", made) == 200
    assert request(server.port, "/poll?channels=other", made) == 403
    given = ("-H", f"Cookie: {set_cookie.partition(';')[0]}")
    assert request(server.port, f"/poll?channels={channel}", "", *given) == 200
