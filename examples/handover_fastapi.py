"""
Hand event streams over from FastAPI: the function decides, the daemon holds the connection.

Run both commands in this folder:

    uvicorn --port=8000 handover_fastapi:app
    twistd -n realtime --config=handover.conf

and follow a room:

    curl -N -H 'Authorization: Bearer ann' http://127.0.0.1:8080/rooms/kitchen/events
    curl -H 'Authorization: Bearer ann' -H 'Content-Type: application/json' \\
        -d '{"text": "hello"}' http://127.0.0.1:8080/rooms/kitchen/messages
"""

from __future__ import annotations

import json
from typing import Annotated
from urllib.request import Request as Publication
from urllib.request import urlopen

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

PUBLISH = "http://127.0.0.1:8080/publish"
ROOMS = {"ann": ("garden", "kitchen"), "bob": ("kitchen",)}  # a table of your database

app = FastAPI()


class Message(BaseModel):
    """
    The body of a request that publishes.
    """

    text: str


def user_of(room: str, request: Request) -> str:
    """
    Return the user, who may enter *room*; refuse others. The token is the name: this is an
    example.
    """
    scheme, _, user = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer":
        raise HTTPException(401)
    if room not in ROOMS.get(user, ()):
        raise HTTPException(403, "This room is not yours.")
    return user


User = Annotated[str, Depends(user_of)]


@app.get("/rooms/{room}/events")
async def events(room: str, user: User) -> Response:
    """
    Hand the connection over to the channel of *room*.
    """
    headers = {"X-Accel-Redirect": f"/-/sse/room-{room}?history=20", "X-User": user}
    return Response(headers=headers)


@app.post("/rooms/{room}/messages", status_code=204)
def send(room: str, user: User, message: Message) -> None:
    """
    Publish what a user says in *room*.
    """
    body = json.dumps({"channel": f"room-{room}", "message": f"{user}: {message.text}"}).encode()
    headers = {"Content-Type": "application/json"}
    urlopen(Publication(PUBLISH, body, headers), timeout=2).close()
