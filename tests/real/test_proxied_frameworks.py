"""
Django, Flask and FastAPI behind the daemon, with what docs/application.md says to paste.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, ROOT, Serve, StartDaemon, free_port, require_module
from tests.real.test_tls import Secure

_BLOCK = re.compile(r"^```(?:python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = "### Django, Flask and FastAPI"

DJANGO_SETTINGS = """
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop"
SECRET_KEY = "x" * 50
"""
DJANGO = """
import os

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path


def page(request):
    seen = request.META["HTTP_X_REAL_IP"]
    return JsonResponse({"url": request.build_absolute_uri(), "client": seen})


urlpatterns = [path("shop/page", page)]
app = get_wsgi_application()
"""
FLASK = """
from flask import Flask, request

app = Flask(__name__)
PASTED

@app.get("/page")
def page():
    return {"url": request.url, "client": request.remote_addr}
"""
FASTAPI = """
from fastapi import FastAPI, Request

app = FastAPI()


@app.get("/shop/page")
def page(request: Request):
    return {"url": str(request.url), "client": request.client.host}
"""


def pasted() -> dict[str, str]:
    """
    Return the blocks of the page by the framework that their first line names.
    """
    text = (ROOT / "docs" / "application.md").read_text().partition(PAGE)[2].partition("\n## ")[0]
    return {block[2:].partition("\n")[0].partition(":")[0]: block for block in _BLOCK.findall(text)}


@pytest.mark.limit(60)
@pytest.mark.parametrize("framework", ["Django", "Flask", "FastAPI"])
def test_frameworks_get_what_the_client_has_requested(
    framework: str, serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    URLs that they build are those of the client, and so is the address that they see.
    """
    block, port = pasted()[framework], free_port()
    require_module(framework.lower(), f"pip install {framework.lower()}")
    folder = tmp_path / "shop"
    folder.mkdir()
    bin = Path(sys.executable).parent
    command = [str(bin / "gunicorn"), f"--bind=127.0.0.1:{port}", "shop:app"]
    source, strip = DJANGO, ""
    if framework == "Django":
        (folder / "settings.py").write_text(DJANGO_SETTINGS + block)
    elif framework == "Flask":
        source, strip = FLASK.replace("PASTED", block), ",strip=/shop"
    else:
        source = FASTAPI
        line = block.splitlines()[-1]
        assert "--port 8000 " in line
        program, *options = shlex.split(line.replace("--port 8000", f"--port {port}"))
        command = [str(bin / program), *options]
    (folder / "shop.py").write_text(source)
    serve(command, port, folder, {"HOME": str(folder)})
    secure = Secure(daemon, tmp_path, f"--route=^/ http:to=127.0.0.1:{port}{strip}")
    url = f"{secure.url}/shop/page"
    curl = secure.curl("--interface", "127.0.0.2", "-H", "X-Forwarded-For: 203.0.113.9", url)
    answer = subprocess.run(curl, capture_output=True, timeout=PATIENCE, check=True).stdout
    assert json.loads(answer) == {"url": url, "client": "127.0.0.2"}
