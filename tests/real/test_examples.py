"""
The examples for those who have an application already: put into a project as their
first lines say, and used as its visitors would.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from signal import SIGKILL
from textwrap import dedent
from typing import Any

import pytest

from tests.real.conftest import (
    PATIENCE,
    PAUSE,
    ROOT,
    Browser,
    Serve,
    Server,
    StartDaemon,
    free_port,
)

EXAMPLES = ROOT / "examples"
DAEMON = "http://127.0.0.1:8080"  # in the examples
SAVES = """
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone
from shop.models import Order
from shop.realtime import publish

User.objects.create_user("ann")
Session.objects.create(session_key="ann-is-logged-in", expire_date=timezone.now())
order = Order.objects.create()
try:
    with transaction.atomic():
        Order.objects.create()
        raise KeyError
except KeyError:
    pass
with transaction.atomic():
    order.save()
    publish("orders", "behind it")
"""


@pytest.mark.limit(180)
def test_django_publishes_changes_of_the_named_models(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Changes of the named models are published after their commit. A failed transaction publishes
    nothing. Other models are not published either: a session's id would let a reader act as its
    user.
    """
    server = daemon()
    source = (EXAMPLES / "django_publish.py").read_text()
    project = tmp_path / "project"
    project.mkdir()
    _python(project, "-m", "django", "startproject", "site1", ".")
    _python(project, "manage.py", "startapp", "shop")
    shop = project / "shop"
    (shop / "realtime.py").write_text(source)
    shown = ast.get_docstring(ast.parse(source)) or ""
    (config,) = re.findall(r"^    class ShopConfig.*?(?=^\S)", shown, re.MULTILINE | re.DOTALL)
    (shop / "apps.py").write_text(f"from django.apps import AppConfig\n\n{dedent(config)}")
    (shop / "models.py").write_text(
        "from django.db import models\n\nclass Order(models.Model):\n    pass\n"
    )
    with (project / "site1" / "settings.py").open("a") as settings:
        settings.write(f'INSTALLED_APPS += ["shop"]\nREALTIME_URL = "{server.url}/publish"\n')
    _python(project, "manage.py", "makemigrations", "shop")
    _python(project, "manage.py", "migrate")
    _python(project, "manage.py", "shell", "-c", SAVES)

    answer = _poll(server, "shop.order,orders")
    assert [(each["channel"], each.get("event"), each["data"]) for each in answer["messages"]] == [
        ("shop.order", "created", '{"id": 1}'),
        ("shop.order", "changed", '{"id": 1}'),
        ("orders", None, "behind it"),
    ]
    assert answer["position"].endswith(".3")  # nothing else on any channel


@pytest.mark.limit(90)
def test_the_flask_chat(
    serve: Serve, daemon: StartDaemon, browser: Browser, tmp_path: Path
) -> None:
    """
    A message that was sent is shown and the field is cleared; otherwise the text stays in it.
    """
    server = daemon()
    source = (EXAMPLES / "flask_chat.py").read_text().replace(DAEMON, server.url)
    (tmp_path / "flask_chat.py").write_text(source)
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "flask_chat", "run", f"--port={port}"]
    flask = serve(command, port, tmp_path)
    browser.open(f"{flask.url}/")
    shown_lines = (
        "[...document.querySelectorAll('#said li')].map(line => line.textContent).join('|')"
    )
    field = "document.querySelector('input').value"
    submit = (
        "(() => {{ {0} = {1}; document.querySelector('form').requestSubmit(); return true; }})()"
    )

    for words in ("hello", "<b>again"):
        browser.evaluate(submit.format(field, json.dumps(words)))
        browser.wait_for(f"{field} === ''")
    browser.wait_for(f"{shown_lines} === '<b>again|hello'")
    server.kill(SIGKILL)
    browser.evaluate(submit.format(field, "'lost?'"))
    browser.wait_for("document.querySelector('#state').textContent !== ''")
    assert browser.evaluate(field) == "lost?"
    server.start()


@pytest.mark.limit(90)
def test_the_inverter_publishes_only_inverted_messages(daemon: StartDaemon) -> None:
    """
    A gap is no message, and a daemon that is away for a moment does not end the program.
    """
    words = {"said": "sse:said", "publish": "publish", "poll": "poll"}
    server = daemon(*(f"--route=^/{path}$ {action}" for path, action in words.items()))
    command = [sys.executable, str(EXAMPLES / "inverter.py"), server.url]
    with subprocess.Popen(command) as inverter:
        try:
            for text in ("hello", "again"):
                while not _publish(server, "you: there?")["receivers"]:
                    time.sleep(PAUSE)
                _publish(server, f"me: {text}")
                answer = f"me: {text[::-1]}"
                while answer not in (received := _received_texts(server)):
                    time.sleep(PAUSE)
                assert received <= {answer, "you: ?ereht"}
                server.restart(SIGKILL)
            assert inverter.poll() is None
        finally:
            inverter.kill()


def _received_texts(server: Server) -> set[str]:
    return {each["data"] for each in _poll(server, "chat")["messages"]}


def _publish(server: Server, text: str) -> dict[str, Any]:
    form = urllib.parse.urlencode({"channel": "said", "message": text}).encode()
    return _answer(urllib.request.Request(f"{server.url}/publish", form))


def _poll(server: Server, channels: str) -> dict[str, Any]:
    return _answer(urllib.request.Request(f"{server.url}/poll?channels={channels}&since=all"))


def _answer(request: urllib.request.Request) -> dict[str, Any]:
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def _python(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    assert "could not publish" not in done.stdout, done.stdout
