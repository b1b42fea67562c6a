"""
Publish from Django after the transaction is committed.

Copy this into a module of your app, such as `shop/realtime.py`. Then call, anywhere:

    publish("orders", {"id": order.pk}, event="paid")

To publish every save of a model to the channel of its name, here `shop.order`:

    class ShopConfig(AppConfig):
        name = "shop"

        def ready(self):
            from shop.realtime import publish_saves_of

            publish_saves_of("shop.Order")

In a template (`onmessage` receives messages without an event type):

    const source = new EventSource("http://127.0.0.1:8080/?channels=shop.order");
    source.addEventListener("created", (event) => console.log(JSON.parse(event.data).id));

Two settings, both optional:

    REALTIME_URL = "http://127.0.0.1:8080/publish"
    REALTIME_KEY = os.environ["REALTIME_KEY"]
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any
from urllib.request import Request, urlopen

from django.conf import settings
from django.db import models, transaction
from django.db.models.signals import post_save

_log = logging.getLogger(__name__)


def publish(
    channel: str | Sequence[str], message: object, event: str = "", using: str | None = None
) -> None:
    """
    Send *message*, a string or a JSON value, when the current transaction is
    committed; without a transaction, send it at once.
    """
    body = {"channel": channel, "message": message, "event": event}
    transaction.on_commit(lambda: _send(body), using=using)


def publish_saves_of(model: str) -> None:
    """
    Publish the id of each *model*, such as `shop.Order`, that is saved.

    Enable models one by one: every client that can name a channel can subscribe to it, and
    the id of a Django session is the cookie of its user.
    """
    post_save.connect(_saved, sender=model)


def _saved(
    sender: type[models.Model], instance: models.Model, created: bool, using: str, **_: Any
) -> None:
    event = "created" if created else "changed"
    publish(sender._meta.label_lower, {"id": instance.pk}, event, using)


def _send(body: dict[str, object]) -> None:
    url = getattr(settings, "REALTIME_URL", "http://127.0.0.1:8080/publish")
    headers = {"Content-Type": "application/json"}
    if key := getattr(settings, "REALTIME_KEY", ""):
        headers["Authorization"] = f"Bearer {key}"
    request = Request(url, json.dumps(body).encode(), headers)
    try:
        urlopen(request, timeout=2).close()
    except OSError:  # HTTPError is an OSError; the transaction is already committed
        _log.exception("could not publish to %s", body["channel"])
