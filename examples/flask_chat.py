"""
A chat with Flask. Flask receives and checks the messages; the daemon holds the
connections.

Run both commands in this folder:

    twistd -n realtime --port=8080
    flask --app flask_chat run

and open http://127.0.0.1:5000/ in two windows.
"""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

from flask import Flask, request

REALTIME = "http://127.0.0.1:8080"

PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Chat</title>
<form id="form"><input name="text" autocomplete="off" autofocus> <button>Say</button></form>
<p id="state"></p>
<ul id="said"></ul>
<script>
  const at = (id) => document.getElementById(id);
  const source = new EventSource("{REALTIME}/?channels=chat&history=20");
  source.onmessage = (event) => {{
    at("said").prepend(Object.assign(document.createElement("li"), {{textContent: event.data}}));
  }};
  source.addEventListener("gap", () => at("said").replaceChildren());
  at("form").onsubmit = async (event) => {{
    event.preventDefault();
    const answer = await fetch("say", {{method: "POST", body: new FormData(at("form"))}});
    at("state").textContent = answer.ok ? "" : "Not sent. Try again.";
    if (answer.ok) at("form").reset();
  }};
</script>
"""

app = Flask(__name__)


@app.get("/")
def page() -> str:
    """
    Return the page; recent messages arrive by replay.
    """
    return PAGE


@app.post("/say")
def say() -> tuple[str, int]:
    """
    Publish the message of a form.
    """
    body = json.dumps({"channel": "chat", "message": request.form["text"]}).encode()
    headers = {"Content-Type": "application/json"}
    try:
        urlopen(Request(f"{REALTIME}/publish", body, headers), timeout=2).close()
    except OSError:
        app.logger.exception("could not publish")
        return "", 503
    return "", 204
