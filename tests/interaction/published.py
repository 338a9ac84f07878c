"""Each message against the published JSON Schema of revision 2026-07-28, which lies beside CI's checkout."""

import json
from functools import cache
from typing import Any

import jsonschema_rs

from tests.skips import SCHEMAS

SCHEMA = SCHEMAS / "2026-07-28.json"

REQUESTS = {
    "server/discover": "DiscoverRequest",
    "tools/list": "ListToolsRequest",
    "tools/call": "CallToolRequest",
    "resources/list": "ListResourcesRequest",
    "resources/templates/list": "ListResourceTemplatesRequest",
    "resources/read": "ReadResourceRequest",
    "prompts/list": "ListPromptsRequest",
    "prompts/get": "GetPromptRequest",
    "completion/complete": "CompleteRequest",
    "subscriptions/listen": "SubscriptionsListenRequest",
}
RESULTS = {
    "server/discover": "DiscoverResult",
    "tools/list": "ListToolsResult",
    "tools/call": "CallToolResult",
    "resources/list": "ListResourcesResult",
    "resources/templates/list": "ListResourceTemplatesResult",
    "resources/read": "ReadResourceResult",
    "prompts/list": "ListPromptsResult",
    "prompts/get": "GetPromptResult",
    "completion/complete": "CompleteResult",
    "subscriptions/listen": "SubscriptionsListenResult",
}
ERRORS = {
    -32700: "ParseError",
    -32600: "InvalidRequestError",
    -32601: "MethodNotFoundError",
    -32602: "InvalidParamsError",
    -32603: "InternalError",
    -32020: "HeaderMismatchError",
    -32021: "MissingRequiredClientCapabilityError",
    -32022: "UnsupportedProtocolVersionError",
}
NOTIFICATIONS = {
    "notifications/cancelled": "CancelledNotification",
    "notifications/progress": "ProgressNotification",
    "notifications/message": "LoggingMessageNotification",
    "notifications/subscriptions/acknowledged": "SubscriptionsAcknowledgedNotification",
    "notifications/tools/list_changed": "ToolListChangedNotification",
    "notifications/prompts/list_changed": "PromptListChangedNotification",
    "notifications/resources/list_changed": "ResourceListChangedNotification",
    "notifications/resources/updated": "ResourceUpdatedNotification",
}


@cache
def _document() -> dict[str, Any] | None:
    if not SCHEMA.exists():
        return None
    document: dict[str, Any] = json.loads(SCHEMA.read_text())
    return document


@cache
def _validator(name: str) -> Any:
    document = _document()
    assert document is not None
    return jsonschema_rs.Draft202012Validator(
        {**document, "$ref": f"#/$defs/{name}"}, validate_formats=True, offline=True
    )


def available() -> bool:
    """Whether the schema is there."""
    return _document() is not None


def problem(name: str, value: Any) -> str | None:
    """Why `value` is no `name` of the schema; None if it is, or if the schema is not there."""
    if _document() is None:
        return None
    for error in _validator(name).iter_errors(value):
        return f"no {name}: {error.message} at {error.instance_path}: {json.dumps(value)[:2000]}"
    return None


def sent_problem(message: dict[str, Any]) -> str | None:
    """Why a client may not send this; None if it may."""
    method = message["method"]
    name = NOTIFICATIONS.get(method) or REQUESTS.get(method)
    return problem("JSONRPCRequest" if "id" in message else "JSONRPCNotification", message) or (
        None if name is None else problem(name, message)
    )


def received_problem(message: dict[str, Any], method: str | None) -> str | None:
    """Why a server may not send this; None if it may.

    Args:
        message: what came.
        method: of the request that it answers, if it is known.
    """
    if "method" in message:
        if "id" in message:
            return f"servers send no requests: {message}"
        name = NOTIFICATIONS.get(message["method"])
        if name is None:
            return f"no notification of this revision: {message['method']}"
        return problem(name, message)
    if "error" in message:
        if "result" in message:
            return f"result and error at once: {message}"
        name = ERRORS.get(message["error"].get("code"), "JSONRPCErrorResponse")
        # The named ones describe the response, or its error object alone: both are in the schema.
        return problem("JSONRPCErrorResponse", message) or _named_error(name, message)
    result = message.get("result")
    if isinstance(result, dict) and result.get("resultType") == "input_required":
        name = "InputRequiredResult"
    else:
        name = RESULTS.get(method or "", "Result")
    return problem("JSONRPCResultResponse", message) or problem(name, result)


def _named_error(name: str, message: dict[str, Any]) -> str | None:
    document = _document()
    if document is None or name == "JSONRPCErrorResponse":
        return None
    whole = "jsonrpc" in document["$defs"][name].get("properties", {})
    return problem(name, message if whole else message["error"])
