"""
Hand event streams over from Flask: the view decides, the daemon holds the connection.

Run both commands in this folder:

    gunicorn --bind=127.0.0.1:8000 handover_flask:app
    twistd -n realtime --config=handover.conf

and follow the room of a user:

    curl -N -u ann:secret http://127.0.0.1:8080/rooms/kitchen/events
    curl -u ann:secret -d text=hello http://127.0.0.1:8080/rooms/kitchen/messages
"""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

from flask import Flask, Response, abort, request

PUBLISH = "http://127.0.0.1:8080/publish"
ROOMS = {"ann": ("garden", "kitchen"), "bob": ("kitchen",)}  # a table of your database

app = Flask(__name__)


def user_of(room: str) -> str:
    """
    Return the user, who may enter *room*; refuse others.
    """
    login = request.authorization
    if login is None or login.password != "secret":
        abort(401, response=Response(status=401, headers={"WWW-Authenticate": "Basic"}))
    user = login.username or ""
    if room not in ROOMS.get(user, ()):
        abort(403, "This room is not yours.")
    return user


@app.get("/rooms/<room>/events")
def events(room: str) -> Response:
    """
    Hand the connection over to the channel of *room*; what is said here comes first.
    """
    user = user_of(room)
    headers = {"X-Accel-Redirect": f"/-/sse/room-{room}?history=20", "X-User": user}
    first = f"event: welcome\ndata: {user}\n\n"
    return Response(first, headers=headers, content_type="text/event-stream")


@app.post("/rooms/<room>/messages")
def send(room: str) -> tuple[str, int]:
    """
    Publish what a user says in *room*.
    """
    message = f"{user_of(room)}: {request.form['text']}"
    body = json.dumps({"channel": f"room-{room}", "message": message}).encode()
    urlopen(Request(PUBLISH, body, {"Content-Type": "application/json"}), timeout=2).close()
    return "", 204
