"""
The description of the admin API and of `/publish` (OpenAPI 3.1).
"""

from __future__ import annotations

from typing import Any

from rt_twisted import __version__

_TEXT: dict[str, Any] = {"type": "string", "maxLength": 200, "minLength": 1}
_NUMBER: dict[str, Any] = {"type": "number", "minimum": 0}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 999999999}
_REFUSALS = {
    "400": {"description": "The request is malformed."},
    "401": {"description": "The key is wrong, or missing."},
    "403": {"description": "No key is set, and the request comes from another machine."},
    "404": {"description": "There is no such thing."},
    "503": {"description": "Not available now."},
}


def document(prefix: str) -> dict[str, Any]:
    """
    Return the description as JSON values.

    Args:
        prefix: the path of the route, with a slash at the end.
    """
    filters = dict.fromkeys(("id", "channel", "sub", "jti", "address"), _TEXT)
    after, limit = _query("after", {"type": "string"}), _query("limit", _COUNT)
    listed = [*[_query(name, _TEXT) for name in filters], after]
    name = {"name": "name", "in": "path", "required": True, "schema": _TEXT}
    jti = {**name, "name": "jti"}
    one_of = {"type": "object", "properties": filters, "minProperties": 1}
    paths: dict[str, Any] = {
        "subscribers": {"get": _operation("List subscribers of all nodes", [*listed, limit])},
        "disconnect": {"post": _operation("Disconnect subscribers", body=one_of)},
        "unsubscribe": {
            "post": _operation(
                "Unsubscribe subscribers from a channel", body={**one_of, "required": ["channel"]}
            )
        },
        "revoke": {
            "post": _operation(
                "Revoke a token, or those of a sub that were made before a time",
                body={
                    "type": "object",
                    "properties": {"jti": _TEXT, "exp": _NUMBER, "sub": _TEXT, "before": _NUMBER},
                    "oneOf": [{"required": ["jti"]}, {"required": ["sub"]}],
                },
            )
        },
        "revoked": {"get": _operation("List what is revoked")},
        "revoked/{jti}": {"delete": _operation("Undo the revocation of a token", [jti], ok="204")},
        "channels": {"get": _operation("List channels", [after, limit])},
        "channels/{name}/history": {
            "get": _operation(
                "Read retained messages", [name, limit, _query("since", {"type": "string"})]
            ),
            "delete": _forget(name),
        },
    }
    described = {prefix + path: operations for path, operations in paths.items()}
    described["/publish"] = {"post": _publish()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "rt_twisted", "version": __version__},
        "paths": described,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}],
    }


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def _operation(
    summary: str,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
    ok: str = "200",
) -> dict[str, Any]:
    done = {"description": "Done."}
    if ok == "200":
        done = {**done, "content": {"application/json": {"schema": {"type": "object"}}}}  # type: ignore[dict-item]
    made: dict[str, Any] = {"summary": summary, "responses": {ok: done, **_REFUSALS}}
    if parameters:
        made["parameters"] = parameters
    if body is not None:
        content = {"application/json": {"schema": body}}
        made["requestBody"] = {"required": True, "content": content}
    return made


def _forget(name: dict[str, Any]) -> dict[str, Any]:
    made = _operation("Delete retained messages; subscribers get a gap", [name], ok="204")
    conflict = {"description": "The broker cannot delete messages."}
    made["responses"] = {**made["responses"], "409": conflict}
    return made


def _publish() -> dict[str, Any]:
    message = {
        "type": "object",
        "properties": {
            "channel": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
            "message": {},
            "event": {"type": "string", "maxLength": 100},
            "idempotency_key": {"type": "string", "maxLength": 100},
        },
        "required": ["channel", "message"],
    }
    schema = {"anyOf": [message, {"type": "array", "items": message}]}
    made = _operation("Publish messages", body=schema)
    made["responses"] = {
        **made["responses"],
        "411": {"description": "The request has no body."},
        "413": {"description": "A message or the batch is too large."},
        "415": {"description": "The type of the body is not supported."},
        "429": {"description": "The publisher publishes too much."},
    }
    return made
