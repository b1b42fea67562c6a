"""
Flask: a chat. Flask takes what people say and checks it; the daemon keeps their
connections.

    twistd -n realtime --port=8080
    flask --app flask_chat run
"""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

from flask import Flask, request

REALTIME = "http://127.0.0.1:8080"

PAGE = f"""<!doctype html>
<title>Chat</title>
<form method="post" action="/say" target="nowhere"><input name="text"><button>Say</button></form>
<iframe name="nowhere" hidden></iframe>
<ul id="said"></ul>
<script>
  const said = document.querySelector("#said");
  const source = new EventSource("{REALTIME}/?channels=chat&history=20");
  source.onmessage = (event) => {{
    said.append(Object.assign(document.createElement("li"), {{textContent: event.data}}));
  }};
  source.addEventListener("gap", () => {{ said.replaceChildren(); }});
</script>
"""

app = Flask(__name__)


@app.get("/")
def page() -> str:
    """
    The page; what was said lately comes by itself, as history.
    """
    return PAGE


@app.post("/say")
def say() -> tuple[str, int]:
    """
    Hand on what somebody says.
    """
    body = json.dumps({"channel": "chat", "message": request.form["text"]}).encode()
    headers = {"Content-Type": "application/json"}
    urlopen(Request(f"{REALTIME}/publish", body, headers), timeout=2).close()
    return "", 204
