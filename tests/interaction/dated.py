"""Messages of the handshake revisions against each one's own JSON Schema, strictly where they are the server's.

The published schemas admit further properties nearly everywhere. What a server sends is held to more: a property that
the revision does not name is a failure, except where anything may stand (`_meta`, tools' schemas, data of others).
"""

import json
from functools import cache
from typing import Any

import jsonschema_rs

from tests import published_schemas

Json = dict[str, Any]

REQUESTS = {
    "initialize": "InitializeRequest",
    "ping": "PingRequest",
    "tools/list": "ListToolsRequest",
    "tools/call": "CallToolRequest",
    "resources/list": "ListResourcesRequest",
    "resources/templates/list": "ListResourceTemplatesRequest",
    "resources/read": "ReadResourceRequest",
    "resources/subscribe": "SubscribeRequest",
    "resources/unsubscribe": "UnsubscribeRequest",
    "prompts/list": "ListPromptsRequest",
    "prompts/get": "GetPromptRequest",
    "completion/complete": "CompleteRequest",
    "logging/setLevel": "SetLevelRequest",
}
RESULTS = {
    method: "EmptyResult"
    if method in {"ping", "resources/subscribe", "resources/unsubscribe", "logging/setLevel"}
    else name.removesuffix("Request") + "Result"
    for method, name in REQUESTS.items()
}
TOLD = {
    "notifications/cancelled": "CancelledNotification",
    "notifications/progress": "ProgressNotification",
    "notifications/message": "LoggingMessageNotification",
    "notifications/tools/list_changed": "ToolListChangedNotification",
    "notifications/prompts/list_changed": "PromptListChangedNotification",
    "notifications/resources/list_changed": "ResourceListChangedNotification",
    "notifications/resources/updated": "ResourceUpdatedNotification",
}
NOTED = {
    "notifications/initialized": "InitializedNotification",
    "notifications/cancelled": "CancelledNotification",
    "notifications/progress": "ProgressNotification",
    "notifications/roots/list_changed": "RootsListChangedNotification",
}
ASKED = {
    "sampling/createMessage": ("CreateMessageRequest", "CreateMessageResult"),
    "roots/list": ("ListRootsRequest", "ListRootsResult"),
    "elicitation/create": ("ElicitRequest", "ElicitResult"),
    "ping": ("PingRequest", "EmptyResult"),
}
#: properties that may hold what no revision names
FREE = {"inputSchema", "outputSchema", "_meta"}


def sent_problem(version: str, message: Json) -> str | None:
    """Why a client of this revision may not send a request or a notification; None if it may."""
    if "id" in message:
        return _whole(version, "JSONRPCRequest", message) or _part(version, REQUESTS, message)
    return _whole(version, "JSONRPCNotification", message) or _part(version, NOTED, message)


def answer_problem(version: str, method: str, result: Json) -> str | None:
    """Why a client may not answer a question with this result; None if it may."""
    return _problem(version, ASKED[method][1], result, closed=False)


def received_problem(version: str, message: Json, method: str | None) -> str | None:
    """Why a server may not send this; None if it may.

    Args:
        version: the revision.
        message: what came, one message.
        method: of the request that it answers, None if that is not known.
    """
    if "method" in message:
        asked = "id" in message
        kinds = {name: pair[0] for name, pair in ASKED.items()} if asked else TOLD
        return _whole(version, "JSONRPCRequest" if asked else "JSONRPCNotification", message) or _part(
            version, kinds, message, closed=True
        )
    if "error" in message:
        return _error_problem(version, message)
    kind = "JSONRPCResultResponse" if version == "2025-11-25" else "JSONRPCResponse"
    problem = _whole(version, kind, message)
    if problem is None and method is not None:
        problem = _problem(version, RESULTS[method], message["result"], closed=True)
    return problem


def _error_problem(version: str, message: Json) -> str | None:
    # Before 2025-11-25 the schema demands an id even where none could be read, which nobody can give.
    readable = message if "id" in message else {**message, "id": 0}
    kind = "JSONRPCErrorResponse" if version == "2025-11-25" else "JSONRPCError"
    problem = _whole(version, kind, readable)
    if problem is None and set(message["error"]) - {"code", "message", "data"}:
        problem = f"an error with more than code, message and data: {message}"
    if (
        problem is None
        and message["error"]["code"] in range(-32099, -32019)
        and message["error"]["code"] != -32042
    ):
        problem = f"a code of 2026-07-28: {message}"
    return problem


def _whole(version: str, kind: str, message: Json) -> str | None:
    extra = set(message) - set(published_schemas.definitions(version)[kind]["properties"])
    if extra:
        return f"a {kind} with {sorted(extra)}: {message}"
    return _problem(version, kind, message, closed=False)


def _part(version: str, kinds: dict[str, str], message: Json, *, closed: bool = False) -> str | None:
    name = kinds.get(message["method"])
    definition = None if name is None else published_schemas.definitions(version).get(name)
    if name is None or definition is None:
        return f"no message of {version}: {message['method']}"
    part = {key: value for key, value in message.items() if key in definition["properties"]}
    return _problem(version, name, part, closed=closed)


def _problem(version: str, name: str, value: Any, *, closed: bool) -> str | None:
    for error in _validator(version, name, closed).iter_errors(value):
        return f"no {name} of {version}: {error.message} at {error.instance_path}: {json.dumps(value)[:1500]}"
    return None


@cache
def _validator(version: str, name: str, closed: bool) -> Any:
    document = _closed_document(version) if closed else published_schemas.document(version)
    if "$defs" in document:
        whole = {**document, "$ref": f"#/$defs/{name}"}
        return jsonschema_rs.Draft202012Validator(whole, validate_formats=True, offline=True)
    whole = {"definitions": document["definitions"], "allOf": [{"$ref": f"#/definitions/{name}"}]}
    return jsonschema_rs.Draft7Validator(whole, validate_formats=True, offline=True)


@cache
def _closed_document(version: str) -> Json:
    document = published_schemas.document(version)
    where = "$defs" if "$defs" in document else "definitions"
    return {**document, where: {name: _close(one) for name, one in document[where].items()}}


def _close(schema: Any, *, part: bool = False) -> Any:
    """A schema whose objects have no properties but those that it names; not so where it is one part of several."""
    if isinstance(schema, list):
        return [_close(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed: Json = {}
    for key, value in schema.items():
        if key == "properties":
            closed[key] = {name: one if name in FREE else _close(one) for name, one in value.items()}
        elif key == "allOf":
            closed[key] = [_close(one, part=True) for one in value]
        else:
            closed[key] = _close(value)
    if schema.get("properties") and not part and schema.get("additionalProperties") in (None, {}, True):
        closed["additionalProperties"] = False
    return closed
