"""
The description of the admin API and of `/publish` (OpenAPI 3.1).
"""

from __future__ import annotations

from typing import Any

from rt_twisted import __version__
from rt_twisted.access.grants import LATEST, MAX_NAME
from rt_twisted.actions.admin.acts import FILTERS
from rt_twisted.codecs.publication import MAX_EVENT, MAX_KEY, SERVER_EVENTS
from rt_twisted.model.message import UNIT

Schema = dict[str, Any]

_STRING: Schema = {"type": "string"}
_TEXT: Schema = {"type": "string", "maxLength": MAX_NAME, "minLength": 1}
_NUMBER: Schema = {"type": "number"}
_TIME: Schema = {"type": "number", "minimum": 0, "maximum": LATEST}
_COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 999999999}
_SINCE: Schema = {"type": "string", "pattern": r"^(all|0|[0-9]{1,9}[smhd]|[0-9a-z]+\.[0-9]+)$"}
_REFUSALS = {
    "400": {"description": "The request is malformed."},
    "401": {"description": "The key is wrong, or missing."},
    "403": {"description": "No key is set, and the request comes from another machine."},
    "404": {"description": "There is no such thing."},
    "503": {"description": "Not available now."},
}


def document(prefix: str, channel_pattern: str) -> dict[str, Any]:
    """
    Return the description as JSON values.

    Args:
        prefix: the path of the route, with a slash at the end.
        channel_pattern: a regular expression for the whole name of a channel.
    """
    channel = {"type": "string", "pattern": f"^(?:{channel_pattern})$"}
    after, limit = _query("after", _STRING), _query("limit", _COUNT)
    listed = [*[_query(name, _TEXT) for name in FILTERS], after, limit]
    name, jti = _path("name", channel), _path("jti", _TEXT)
    one_of = {"type": "object", "properties": dict.fromkeys(FILTERS, _TEXT), "minProperties": 1,
              "anyOf": [{"required": [name]} for name in FILTERS]}  # fmt: skip
    revoked = _object(
        {"jti": _STRING, "sub": _STRING, "before": _NUMBER, "until": _NUMBER}, ["until"]
    )
    count = _object({"count": _COUNT})
    paths: dict[str, Any] = {
        "openapi.json": {"get": _operation("Return this description", {"type": "object"})},
        "subscribers": {
            "get": _operation(
                "List subscribers of all nodes",
                _object({"subscribers": _list_of(_subscriber())}),
                listed,
            )
        },
        "disconnect": {"post": _operation("Disconnect subscribers", count, body=one_of)},
        "unsubscribe": {
            "post": _operation(
                "Unsubscribe subscribers from a channel",
                count,
                body={**one_of, "required": ["channel"]},
            )
        },
        "revoke": {
            "post": _operation(
                "Revoke a token, or those of a sub that were made before a time",
                _object({"revoked": revoked}),
                body={
                    "type": "object",
                    "properties": {"jti": _TEXT, "exp": _TIME, "sub": _TEXT, "before": _TIME},
                    "oneOf": [{"required": ["jti"]}, {"required": ["sub"]}],
                },
            )
        },
        "revoked": {
            "get": _operation("List what is revoked", _object({"revoked": _list_of(revoked)}))
        },
        "revoked/{jti}": {"delete": _operation("Undo the revocation of a token", None, [jti])},
        "channels": {
            "get": _operation(
                "List channels", _object({"channels": _list_of(_channel())}), [after, limit]
            )
        },
        "channels/{name}/history": {
            "get": _operation(
                "Read retained messages", _history(), [name, limit, _query("since", _SINCE)]
            ),
            "delete": _forget(name),
        },
    }
    described = {prefix + path: operations for path, operations in paths.items()}
    described["/publish"] = {"post": _publish(channel)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "rt_twisted", "version": __version__},
        "paths": described,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}],
    }


def _query(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "schema": schema}


def _path(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _object(properties: dict[str, Schema], required: list[str] | None = None) -> Schema:
    """
    Return the schema of a response: an object that has all *properties*, or the *required*.
    """
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": needed}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _subscriber() -> Schema:
    absent = {"type": ["number", "null"]}
    texts = dict.fromkeys(("id", "transport", "address", "sub", "jti"), _STRING)
    return _object(
        {**texts, "channels": _list_of(_STRING), "seconds": absent, "expires": absent,
         "waiting_bytes": _COUNT}
    )  # fmt: skip


def _channel() -> Schema:
    return _object(
        {"name": _STRING, "subscribers": _COUNT, "messages": _COUNT, "position": _STRING}
    )


def _history() -> Schema:
    message = _object({"channel": _STRING, "data": _STRING, "id": _STRING}, ["channel", "id"])
    return _object({"messages": _list_of(message), "position": _STRING})


def _operation(
    summary: str,
    response: Schema | None,
    parameters: list[Schema] | None = None,
    body: Schema | None = None,
) -> dict[str, Any]:
    """
    Describe a request.

    Args:
        summary: what it does.
        response: the schema of its JSON; None for 204.
        parameters: of the URL.
        body: the schema of the JSON that it needs.
    """
    done: dict[str, Any] = {"description": "Done."}
    if response is not None:
        done["content"] = {"application/json": {"schema": response}}
    status = "204" if response is None else "200"
    made: dict[str, Any] = {"summary": summary, "responses": {status: done, **_REFUSALS}}
    if parameters:
        made["parameters"] = parameters
    if body is not None:
        content = {"application/json": {"schema": body}}
        made["requestBody"] = {"required": True, "content": content}
    return made


def _forget(name: Schema) -> dict[str, Any]:
    made = _operation("Delete retained messages; subscribers get a gap", None, [name])
    conflict = {"description": "The broker cannot delete messages."}
    made["responses"] = {**made["responses"], "409": conflict}
    return made


def _publish(channel: Schema) -> dict[str, Any]:
    reserved = {"anyOf": [{"enum": sorted(SERVER_EVENTS)}, {"pattern": f"^{UNIT}"}]}
    event = {"type": "string", "maxLength": MAX_EVENT, "pattern": r"^[^\r\n\x00]*$"}
    properties = {
        "channel": {"anyOf": [channel, {"type": "array", "items": channel, "minItems": 1}]},
        "message": {},
        "event": {"anyOf": [{"type": "null"}, {**event, "not": reserved}]},
        "idempotency_key": {"type": ["string", "null"], "maxLength": MAX_KEY},
        "key": {"type": ["string", "null"]},
    }
    message = {
        "type": "object",
        "properties": properties,
        "required": ["channel", "message"],
        "additionalProperties": False,
    }
    schema = {"anyOf": [message, {"type": "array", "items": message, "minItems": 1}]}
    done = _object({"status": _STRING, "position": _STRING, "published": _COUNT}, ["status"])
    made = _operation("Publish messages", done, body=schema)
    made["responses"] = {
        **made["responses"],
        "411": {"description": "The request has no body."},
        "413": {"description": "A message or the batch is too large."},
        "415": {"description": "The type of the body is not supported."},
        "429": {"description": "The publisher publishes too much."},
    }
    return made
