"""
Hand event streams over from Django: the view decides, the daemon holds the connection.

Run both commands in this folder:

    gunicorn --bind=127.0.0.1:8000 handover_django:application
    twistd -n realtime --config=handover.conf

and open http://127.0.0.1:8080/login/ann in two windows. In your own project, copy `events` and
`send` into views.py.
"""

from __future__ import annotations

import json
import secrets
from urllib.request import Request, urlopen

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

PUBLISH = "http://127.0.0.1:8080/publish"
ROOMS = {"ann": ("garden", "kitchen"), "bob": ("kitchen",)}  # a table of your database
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Kitchen</title>
<form method="post" action="/rooms/kitchen/messages"><input name="text"><button>Say</button></form>
<ul id="said"></ul>
<script>
  const source = new EventSource("/rooms/kitchen/events");
  source.onmessage = (event) => {
    said.prepend(Object.assign(document.createElement("li"), {textContent: event.data}));
  };
</script>
"""

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1", "localhost"],
        ROOT_URLCONF=__name__,
        SECRET_KEY=secrets.token_hex(),
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    )


def login(request: HttpRequest, user: str) -> HttpResponse:
    """
    Log in as *user*, without a password: this is an example.
    """
    request.session["user"] = user
    return HttpResponse(PAGE)


def events(request: HttpRequest, room: str) -> HttpResponse:
    """
    Hand the connection over to the channel of *room*, if the user may enter it.
    """
    user = request.session.get("user", "")
    if room not in ROOMS.get(user, ()):
        return HttpResponse("This room is not yours.\n", status=403)
    response = HttpResponse()
    response["X-Accel-Redirect"] = f"/-/sse/room-{room}?history=20"
    response["X-User"] = user  # for the admin API, which can end all streams of a user
    response["X-Expires-In"] = "3600"  # the stream ends then, and this view decides again
    return response


@csrf_exempt
def send(request: HttpRequest, room: str) -> HttpResponse:
    """
    Publish what a user says in *room*.
    """
    user = request.session.get("user", "")
    if room not in ROOMS.get(user, ()):
        return HttpResponse("This room is not yours.\n", status=403)
    message = f"{user}: {request.POST['text']}"
    body = json.dumps({"channel": f"room-{room}", "message": message}).encode()
    urlopen(Request(PUBLISH, body, {"Content-Type": "application/json"}), timeout=2).close()
    return HttpResponse(status=204)


urlpatterns = [
    path("login/<user>", login),
    path("rooms/<room>/events", events),
    path("rooms/<room>/messages", send),
]
application = get_wsgi_application()
