"""What a server tells its client without being asked: each function gives (method, params) for the wire."""

from typing import Any, Final

from erlmcp.protocol._meta import SUBSCRIPTION_ID_KEY

SUBSCRIPTION_ID: Final = SUBSCRIPTION_ID_KEY
"""The `_meta` key that ties a message to the ``subscriptions/listen`` request with that id."""

Notification = tuple[str, dict[str, Any]]
"""A method and its parameters."""

_LISTS: Final = {
    "tools": "notifications/tools/list_changed",
    "prompts": "notifications/prompts/list_changed",
    "resources": "notifications/resources/list_changed",
}


def progress(
    token: int | str, done: float, total: float | None = None, message: str | None = None
) -> Notification:
    """How far a request is (basic/patterns/progress). `done` must grow from one to the next."""
    params: dict[str, Any] = {"progressToken": token, "progress": done}
    if total is not None:
        params["total"] = total
    if message is not None:
        params["message"] = message
    return "notifications/progress", params


def log_message(level: str, data: Any, logger: str | None = None) -> Notification:
    """A log message of one of `LOG_LEVELS`; `data` is any JSON value (server/utilities/logging)."""
    params: dict[str, Any] = {"level": level, "data": data}
    if logger is not None:
        params["logger"] = logger
    return "notifications/message", params


def subscriptions_acknowledged(accepted: dict[str, Any], subscription: int | str) -> Notification:
    """The first message of a subscription: the part of the filter that will be honoured."""
    params = {"_meta": {SUBSCRIPTION_ID: subscription}, "notifications": accepted}
    return "notifications/subscriptions/acknowledged", params


def list_changed(kind: str, subscription: int | str) -> Notification:
    """A list has changed; `kind` is ``tools``, ``prompts`` or ``resources``, else KeyError."""
    return _LISTS[kind], {"_meta": {SUBSCRIPTION_ID: subscription}}


def resource_updated(uri: str, subscription: int | str) -> Notification:
    """A resource has changed and may have to be read again."""
    return "notifications/resources/updated", {"_meta": {SUBSCRIPTION_ID: subscription}, "uri": uri}


def cancelled(request_id: int | str, reason: str | None = None) -> Notification:
    """The end of a subscription that the server tears down on a stream (basic/patterns/cancellation)."""
    params: dict[str, Any] = {"requestId": request_id}
    if reason is not None:
        params["reason"] = reason
    return "notifications/cancelled", params
